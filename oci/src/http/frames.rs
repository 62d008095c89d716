//! The memory of file bodies: buffers that are used again, and a bound for all of them together.
//!
//! Up to [`TOTAL_BYTES`] every body gets frames of [`FRAME_BYTES`], as many as its connection takes. Beyond that each gets one
//! frame of [`SMALL_BYTES`] at a time, the next when that one has been sent: a thousand slow clients cost a thousand small
//! frames, and none of them waits for another.
//!
//! The bound and the buffers are the process's, because its memory is: bodies of all services count together.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use bytes::Bytes;

/// The most bytes of one frame. Smaller ones pay for more system calls, larger ones fall out of the processor's cache.
pub const FRAME_BYTES: usize = 256 * 1024;
/// The bytes of a frame while memory is short, and of the smaller kind of buffer: most blobs that are no layers fit.
const SMALL_BYTES: usize = 32 * 1024;
/// What bodies hold, all together, before frames become small: 48 clients with two frames each, at full speed.
const TOTAL_BYTES: usize = 24 << 20;
/// Buffers of either kind that are kept for later: filling new ones with zeros costs as much as reading into them.
const SPARE_BUFFERS: usize = 16;

static PROCESS: Frames = Frames::new(TOTAL_BYTES);

#[derive(Debug)]
struct Frames {
    total: usize,
    held: AtomicUsize,
    small: Mutex<Vec<Box<[u8]>>>,
    large: Mutex<Vec<Box<[u8]>>>,
}

impl Frames {
    const fn new(total: usize) -> Self {
        let held = AtomicUsize::new(0);
        Self { total, held, small: Mutex::new(Vec::new()), large: Mutex::new(Vec::new()) }
    }

    /// The buffers of `room` bytes that nobody uses.
    fn spare(&self, room: usize) -> MutexGuard<'_, Vec<Box<[u8]>>> {
        let spare = if room == SMALL_BYTES { &self.small } else { &self.large };
        spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, room: usize) -> Box<[u8]> {
        self.held.fetch_add(room, Ordering::Relaxed);
        let kept = self.spare(room).pop();
        kept.unwrap_or_else(|| vec![0; room].into())
    }

    fn put(&self, bytes: Box<[u8]>) {
        self.held.fetch_sub(bytes.len(), Ordering::Relaxed);
        let mut spare = self.spare(bytes.len());
        if spare.len() < SPARE_BUFFERS {
            spare.push(bytes);
        }
    }
}

/// How many bytes a buffer for `wanted` bytes has.
fn room(wanted: usize) -> usize {
    if wanted <= SMALL_BYTES { SMALL_BYTES } else { FRAME_BYTES }
}

/// What one body holds of the memory.
#[derive(Clone, Debug)]
pub(super) struct Share {
    frames: &'static Frames,
    own: Arc<Own>,
}

#[derive(Debug, Default)]
struct Own {
    frames: AtomicUsize,
    waiting: Mutex<Option<Waker>>,
}

impl Share {
    /// Nothing yet, of the process's memory.
    pub(super) fn new() -> Self {
        Self { frames: &PROCESS, own: Arc::default() }
    }

    /// A buffer for up to `wanted` bytes; it may be for fewer. Waits only for frames of the same body.
    pub(super) fn poll_buffer(&self, wanted: usize, cx: &Context<'_>) -> Poll<Buffer> {
        if !self.is_short(wanted) {
            return Poll::Ready(Buffer::new(wanted, self));
        }
        *self.own.waiting.lock().unwrap_or_else(PoisonError::into_inner) = Some(cx.waker().clone());
        // Looked at only now that whoever gives a frame back will wake this body.
        if self.own.frames.load(Ordering::Acquire) > 0 {
            return Poll::Pending;
        }
        Poll::Ready(Buffer::new(wanted.min(SMALL_BYTES), self))
    }

    fn is_short(&self, wanted: usize) -> bool {
        self.frames.held.load(Ordering::Relaxed) + room(wanted) > self.frames.total
    }
}

/// Bytes to be read into. Comes back when it, or the frame made of it, is dropped.
#[derive(Debug)]
pub(super) struct Buffer {
    bytes: Box<[u8]>,
    wanted: usize,
    frames: &'static Frames,
    own: Arc<Own>,
}

impl Buffer {
    fn new(wanted: usize, share: &Share) -> Self {
        share.own.frames.fetch_add(1, Ordering::AcqRel);
        let bytes = share.frames.take(room(wanted));
        Self { bytes, wanted, frames: share.frames, own: share.own.clone() }
    }

    /// Where the bytes belong.
    pub(super) fn wanted(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.wanted]
    }

    /// The first `count` bytes as a frame.
    pub(super) fn filled(mut self, count: usize) -> Bytes {
        self.wanted = count;
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.wanted]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.frames.put(std::mem::take(&mut self.bytes));
        self.own.frames.fetch_sub(1, Ordering::AcqRel);
        let waiting = self.own.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waker) = waiting {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body_of(total: usize) -> Share {
        Share { frames: Box::leak(Box::new(Frames::new(total))), own: Arc::default() }
    }

    fn frame(share: &Share) -> Option<Bytes> {
        match share.poll_buffer(FRAME_BYTES, &Context::from_waker(Waker::noop())) {
            Poll::Ready(mut buffer) => {
                let length = buffer.wanted().len();
                Some(buffer.filled(length))
            }
            Poll::Pending => None,
        }
    }

    #[test]
    fn beyond_the_bound_each_body_has_one_small_frame_at_a_time() {
        let first = body_of(2 * FRAME_BYTES);
        let second = Share { frames: first.frames, own: Arc::default() };
        let held: Vec<Bytes> = (0..2).filter_map(|_| frame(&first)).collect();
        assert_eq!(held.iter().map(Bytes::len).sum::<usize>(), 2 * FRAME_BYTES);
        let small = frame(&second).expect("nobody waits for another body");
        assert_eq!(small.len(), SMALL_BYTES);
        assert!(frame(&first).is_none() && frame(&second).is_none(), "their frames are still being sent");
        drop(small);
        assert_eq!(frame(&second).map(|frame| frame.len()), Some(SMALL_BYTES), "it was sent");
        drop(held);
        assert_eq!(frame(&second).map(|frame| frame.len()), Some(FRAME_BYTES), "there is memory again");
        assert_eq!(first.frames.held.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn a_body_that_waits_goes_on_when_its_frame_was_sent() {
        let share = body_of(0);
        let sent = frame(&share).expect("each has one");
        let waiting = std::future::poll_fn(|cx| share.poll_buffer(FRAME_BYTES, cx).map(drop));
        let sender = async move {
            tokio::task::yield_now().await;
            drop(sent);
        };
        tokio::join!(waiting, sender);
        assert_eq!(share.frames.held.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn buffers_are_used_again() {
        let share = body_of(TOTAL_BYTES);
        drop((0..3).map(|_| frame(&share)).collect::<Vec<_>>());
        assert_eq!(share.frames.spare(FRAME_BYTES).len(), 3);
        drop(frame(&share));
        assert_eq!(share.frames.spare(FRAME_BYTES).len(), 3);
    }
}
