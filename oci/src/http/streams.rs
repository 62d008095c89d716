//! The streams of an HTTP/2 connection: each in a task, each with a deadline for a client that takes nothing of it.
//!
//! A client that opens no window keeps its socket empty, so the deadline of the connection does not see it. hyper tells
//! nobody whether a stream waits for its client or for its source; here the body tells, by having been asked for a piece or
//! not, and the task that polls both keeps the time.

use std::{
    cell::Cell,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::connection::Phase;

/// The most bytes that are handed to HTTP/2 at once: one DATA frame of the size that every client takes. A client that
/// does not take so many within `limits.idle_timeout` loses its stream.
const PIECE_BYTES: usize = 16 * 1024;

/// Whom a stream waits for, as far as its last poll has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// Nothing new: as before.
    Same,
    /// Its source, or its handler.
    Ours,
    /// A piece was handed over, and is to be taken by the client.
    Clients,
}

thread_local! {
    /// Set by the body, read by the task that polled it, within one poll.
    static TURN: Cell<Turn> = const { Cell::new(Turn::Same) };
}

/// Runs the streams of one connection.
#[derive(Clone, Debug)]
pub(super) struct Streams {
    pub(super) idle: Duration,
    pub(super) tasks: TaskTracker,
    pub(super) end: CancellationToken,
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let (idle, end) = (self.idle, self.end.clone());
        self.tasks.spawn(async move {
            tokio::select! {
                () = with_patience(stream, idle) => {}
                () = end.cancelled() => {}
            }
        });
    }
}

/// Runs `stream` until it ends, or its client has taken nothing for `idle`: it is dropped then, which resets it.
async fn with_patience(stream: impl Future<Output = ()>, idle: Duration) {
    let mut stream = pin!(stream);
    let mut deadline: Option<Pin<Box<Sleep>>> = None;
    std::future::poll_fn(|cx| {
        TURN.set(Turn::Same);
        if stream.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        match TURN.get() {
            Turn::Same => {}
            Turn::Ours => deadline = None,
            Turn::Clients => match &mut deadline {
                Some(deadline) => deadline.as_mut().reset(Instant::now() + idle),
                None => deadline = Some(Box::pin(tokio::time::sleep(idle))),
            },
        }
        let Some(deadline) = &mut deadline else { return Poll::Pending };
        ready!(deadline.as_mut().poll(cx));
        tracing::debug!(waited = ?idle, "a stream whose client took nothing of it was reset");
        Poll::Ready(())
    })
    .await;
}

/// A body as HTTP/2 is given it: in pieces, and with the connection broken off where it fails.
pub(super) struct Paced<B> {
    body: B,
    /// What is left of the frame that the body gave last.
    rest: Bytes,
    phase: Phase,
}

impl<B> Paced<B> {
    pub(super) fn new(body: B, phase: Phase) -> Self {
        Self { body, rest: Bytes::new(), phase }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Paced<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        if this.rest.is_empty() {
            TURN.set(Turn::Ours);
            match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => this.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                Some(Err(error)) => {
                    this.phase.break_off();
                    return Poll::Ready(Some(Err(error)));
                }
                None => return Poll::Ready(None),
            }
        }
        TURN.set(Turn::Clients);
        let piece = this.rest.split_to(this.rest.len().min(PIECE_BYTES));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.body.size_hint().exact() {
            Some(length) => SizeHint::with_exact(length + self.rest.len() as u64),
            None => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, Full};

    use super::*;

    const IDLE: Duration = Duration::from_millis(300);

    /// A stream as hyper runs it: hands pieces over while `window` says so.
    async fn send(mut body: Paced<Full<Bytes>>, mut window: tokio::sync::mpsc::Receiver<()>) {
        while let Some(Ok(_)) = body.frame().await {
            window.recv().await;
        }
    }

    fn body(bytes: usize) -> Paced<Full<Bytes>> {
        Paced::new(Full::new(vec![0; bytes].into()), Phase::new())
    }

    #[tokio::test]
    async fn a_stream_whose_client_takes_nothing_ends_after_the_idle_time() {
        let (_window, taken) = tokio::sync::mpsc::channel(1);
        let began = Instant::now();
        with_patience(send(body(1 << 20), taken), IDLE).await;
        assert!(began.elapsed() >= IDLE, "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn a_slow_client_and_a_slow_handler_may_take_as_long_as_they_take() {
        let began = Instant::now();
        let (window, taken) = tokio::sync::mpsc::channel(1);
        let (sent, client) = (64 * PIECE_BYTES, async move {
            let mut steady = tokio::time::interval(IDLE / 32);
            while window.send(()).await.is_ok() {
                steady.tick().await;
            }
        });
        let whole = Cell::new(false);
        let stream = async {
            send(body(sent), taken).await;
            whole.set(true);
        };
        tokio::join!(with_patience(stream, IDLE), client);
        assert!(whole.get() && began.elapsed() > IDLE, "{:?}", began.elapsed());

        let handled = Cell::new(false);
        let handler = async {
            tokio::time::timeout(IDLE * 2, std::future::pending::<()>()).await.expect_err("it waits");
            handled.set(true);
        };
        with_patience(handler, IDLE).await;
        assert!(handled.get());
    }

    #[tokio::test]
    async fn a_body_comes_in_pieces_and_whole() {
        let content: Vec<u8> = (0_u8..251).cycle().take(3 * PIECE_BYTES + 7).collect();
        let mut body = Paced::new(Full::<Bytes>::new(content.clone().into()), Phase::new());
        assert_eq!(body.size_hint().exact(), Some(content.len() as u64));
        let mut got = Vec::new();
        while let Some(frame) = body.frame().await {
            let piece = frame.expect("no error").into_data().expect("data");
            assert!(piece.len() <= PIECE_BYTES);
            got.extend_from_slice(&piece);
            assert_eq!(body.is_end_stream(), got.len() == content.len());
        }
        assert_eq!(got, content);
    }
}
