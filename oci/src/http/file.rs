//! A range of a file as the body of an answer.
//!
//! What lies in the page cache is read on the spot (`RWF_NOWAIT`), so that a hit costs no change of threads; what does
//! not is read on the blocking pool. Memory is bounded for all bodies together (`frames`), and none reads further than its
//! client takes.

use std::{
    fs::File,
    io::{ErrorKind, IoSliceMut},
    ops::Range,
    os::unix::fs::FileExt as _,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use rustix::io::{Errno, ReadWriteFlags};
use tokio::task::JoinHandle;

use super::{
    body::BodyError,
    frames::{Buffer, Share},
};

pub use super::frames::FRAME_BYTES;

/// See the module.
#[derive(Debug)]
pub(super) struct FileBody {
    reader: FrameReader,
    range: Range<u64>,
    reading: Option<JoinHandle<Result<Bytes, BodyError>>>,
}

impl FileBody {
    pub(super) fn new(file: Arc<File>, range: Range<u64>) -> Self {
        Self { reader: FrameReader::new(file), range, reading: None }
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.range.is_empty()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.range.end.saturating_sub(self.range.start))
    }

    pub(super) fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if this.range.is_empty() {
            return Poll::Ready(None);
        }
        let read = ready!(this.reader.poll_read(&mut this.reading, this.range.clone(), cx));
        let bytes = match read {
            Ok(bytes) => bytes,
            Err(error) => return Poll::Ready(Some(Err(error))),
        };
        this.range.start += bytes.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }
}

/// Reads a file frame by frame. While memory is short it waits with a frame until its last one has been sent.
#[derive(Clone, Debug)]
pub struct FrameReader {
    file: Arc<File>,
    share: Share,
}

impl FrameReader {
    /// A reader of `file`.
    pub fn new(file: Arc<File>) -> Self {
        Self { file, share: Share::new() }
    }

    /// The next frame of `range`, which must not be empty. `reading` holds a read that has gone to the blocking pool,
    /// between calls.
    fn poll_read(
        &self,
        reading: &mut Option<JoinHandle<Result<Bytes, BodyError>>>,
        range: Range<u64>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Bytes, BodyError>> {
        if reading.is_none() {
            let buffer = ready!(self.share.poll_buffer(frame_len(&range), cx));
            match self.read_cached(buffer, range.start) {
                Ok(result) => return Poll::Ready(result),
                Err(buffer) => {
                    let this = self.clone();
                    *reading = Some(tokio::task::spawn_blocking(move || this.read(buffer, range.start)));
                }
            }
        }
        let Some(task) = reading else { return Poll::Pending };
        let result = ready!(Pin::new(task).poll(cx));
        *reading = None;
        Poll::Ready(result.unwrap_or_else(|error| Err(BodyError::Read(std::io::Error::other(error)))))
    }

    /// The next frame of `range`, which must not be empty: at most [`FRAME_BYTES`] from its start.
    ///
    /// # Errors
    /// The file cannot be read, or ends within the range.
    pub async fn next(&self, range: Range<u64>) -> Result<Bytes, BodyError> {
        let mut reading = None;
        std::future::poll_fn(|cx| self.poll_read(&mut reading, range.clone(), cx)).await
    }

    /// What the page cache holds of the frame; the buffer again where the disk would have to be asked.
    fn read_cached(&self, mut buffer: Buffer, at: u64) -> Result<Result<Bytes, BodyError>, Buffer> {
        let count = {
            let mut slices = [IoSliceMut::new(buffer.wanted())];
            rustix::io::preadv2(&*self.file, &mut slices, at, ReadWriteFlags::NOWAIT)
        };
        match count {
            Ok(0) => Ok(Err(BodyError::Short)),
            Ok(count) => Ok(Ok(buffer.filled(count))),
            Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INTR) => Err(buffer),
            Err(error) => Ok(Err(BodyError::Read(error.into()))),
        }
    }

    fn read(&self, mut buffer: Buffer, at: u64) -> Result<Bytes, BodyError> {
        let wanted = buffer.wanted();
        let mut filled = 0;
        while filled < wanted.len() {
            match self.file.read_at(&mut wanted[filled..], at + filled as u64) {
                Ok(0) => return Err(BodyError::Short),
                Ok(count) => filled += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(buffer.filled(filled))
    }
}

fn frame_len(range: &Range<u64>) -> usize {
    usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX).min(FRAME_BYTES)
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::{super::Body, *};

    async fn read(body: Body) -> Result<Bytes, BodyError> {
        Ok(body.collect().await?.to_bytes())
    }

    #[tokio::test]
    async fn a_range_is_read_exactly_and_a_short_file_is_an_error() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("f");
        let content: Vec<u8> = (0_u8..251).cycle().take(FRAME_BYTES * 2 + 77).collect();
        std::fs::write(&path, &content).expect("written");
        let file = Arc::new(File::open(&path).expect("opened"));
        let length = content.len() as u64;
        assert_eq!(read(Body::file(file.clone(), 0..length)).await.expect("whole"), content);
        assert_eq!(
            read(Body::file(file.clone(), 5..length - 5)).await.expect("part"),
            content[5..content.len() - 5]
        );
        assert_eq!(read(Body::file(file.clone(), 9..9)).await.expect("empty"), "");
        assert!(matches!(read(Body::file(file, 0..length + 1)).await, Err(BodyError::Short)));
    }

    #[tokio::test]
    async fn a_frame_that_is_still_held_is_not_overwritten() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("f");
        std::fs::write(&path, [vec![1; FRAME_BYTES], vec![2; FRAME_BYTES], vec![3; FRAME_BYTES]].concat())
            .expect("written");
        let file = Arc::new(File::open(&path).expect("opened"));
        let mut body = Body::file(file, 0..3 * FRAME_BYTES as u64);
        let mut frames = Vec::new();
        while let Some(frame) = body.frame().await {
            frames.push(frame.expect("read").into_data().expect("data"));
        }
        let whole: Vec<u8> = frames.iter().flat_map(|f| f.iter().copied()).collect();
        assert!(
            whole[..FRAME_BYTES].iter().all(|b| *b == 1) && whole[2 * FRAME_BYTES..].iter().all(|b| *b == 3)
        );
    }
}
