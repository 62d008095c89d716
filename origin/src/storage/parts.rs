//! Several objects, one behind the other, as one body. Each is opened when its turn comes.

use std::{
    collections::VecDeque,
    fmt,
    ops::Range,
    pin::Pin,
    sync::Mutex,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use oci::http::{Body, BodyError};

use super::{Storage, StorageError};
use crate::database::objects::{ObjectName, Part};

/// A piece of an object.
type Piece = (ObjectName, Range<u64>);

pub(super) async fn body(
    storage: Storage,
    parts: Vec<Part>,
    range: Range<u64>,
) -> Result<Body, StorageError> {
    let mut pieces = pieces(parts, range);
    let Some((object, range)) = pieces.pop_front() else { return Ok(Body::empty()) };
    let first = storage.object_body(object, range).await?;
    if pieces.is_empty() {
        return Ok(first);
    }
    let left =
        first.size_hint().lower() + pieces.iter().map(|(_, range)| range.end - range.start).sum::<u64>();
    Ok(Body::stream(Sequence { storage, current: State::Reading(first), pieces, left }))
}

/// Where `range` of the whole lies in its parts.
fn pieces(parts: Vec<Part>, range: Range<u64>) -> VecDeque<Piece> {
    let mut start = 0;
    let mut pieces = VecDeque::new();
    for part in parts {
        let end = start + part.size;
        let within = range.start.max(start)..range.end.min(end);
        if within.start < within.end {
            pieces.push_back((part.object, within.start - start..within.end - start));
        }
        start = end;
    }
    pieces
}

type Opening = Pin<Box<dyn Future<Output = Result<Body, StorageError>> + Send>>;

enum State {
    Reading(Body),
    /// The lock is never waited for; it makes the body `Sync`.
    Opening(Mutex<Opening>),
}

struct Sequence {
    storage: Storage,
    current: State,
    pieces: VecDeque<Piece>,
    left: u64,
}

impl fmt::Debug for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sequence({} bytes)", self.left)
    }
}

impl HttpBody for Sequence {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        loop {
            match &mut this.current {
                State::Opening(opening) => {
                    let opening = opening.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
                    match ready!(opening.as_mut().poll(cx)) {
                        Ok(body) => this.current = State::Reading(body),
                        Err(error) => return Poll::Ready(Some(Err(BodyError::Source(error.into())))),
                    }
                }
                State::Reading(body) => {
                    if let Some(frame) = ready!(Pin::new(body).poll_frame(cx)) {
                        if let Ok(data) = &frame {
                            this.left -= data.data_ref().map_or(0, |data| data.len() as u64).min(this.left);
                        }
                        return Poll::Ready(Some(frame));
                    }
                    let Some((object, range)) = this.pieces.pop_front() else { return Poll::Ready(None) };
                    let storage = this.storage.clone();
                    let opening = async move { storage.object_body(object, range).await };
                    this.current = State::Opening(Mutex::new(Box::pin(opening)));
                }
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_pieces_of_a_range_are_the_range(sizes in proptest::collection::vec(0_u64..50, 0..12), a in 0_u64..600, b in 0_u64..600) {
            let total: u64 = sizes.iter().sum();
            let range = a.min(b).min(total)..a.max(b).min(total);
            let parts: Vec<Part> = sizes.iter().map(|size| Part { object: ObjectName::new(), size: *size }).collect();
            // Every byte has a place of its own: (part, offset).
            let places: Vec<_> = parts.iter().flat_map(|p| (0..p.size).map(|i| (p.object.clone(), i))).collect();
            let expected = usize::try_from(range.start).expect("small")..usize::try_from(range.end).expect("small");
            let found: Vec<_> = pieces(parts, range).into_iter().flat_map(|(object, range)| range.map(move |i| (object.clone(), i))).collect();
            prop_assert_eq!(&found, &places[expected]);
        }
    }
}
