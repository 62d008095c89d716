//! A queue of work for a few threads, fair between those who ask.
//!
//! Whoever asks has a line of their own; lines take turns. When there is no room, the longest line gives up its last: a
//! flood from one address costs that address its place, and nobody else's.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    hash::Hash,
    sync::{Condvar, Mutex, PoisonError},
};

/// See the module. `K` is whoever asks, `J` what is to be done; a job that is given up is dropped.
pub(super) struct Queue<K, J> {
    state: Mutex<State<K, J>>,
    changed: Condvar,
    room: usize,
}

struct State<K, J> {
    lines: HashMap<K, VecDeque<J>>,
    turns: VecDeque<K>,
    waiting: usize,
    closed: bool,
}

/// There is no room, and the line of whoever asks is the longest, or the queue is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

impl<K, J> fmt::Debug for Queue<K, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("room", &self.room).finish_non_exhaustive()
    }
}

impl<K: Clone + Eq + Hash, J> Queue<K, J> {
    /// One for `room` jobs that wait.
    pub(super) fn new(room: usize) -> Self {
        let state = State { lines: HashMap::new(), turns: VecDeque::new(), waiting: 0, closed: false };
        Self { state: Mutex::new(state), changed: Condvar::new(), room }
    }

    /// Puts a job at the end of the line of `key`.
    pub(super) fn push(&self, key: K, job: J) -> Result<(), Full> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.closed {
            return Err(Full);
        }
        let given_up =
            if state.waiting >= self.room { Some(state.give_up_for(&key).ok_or(Full)?) } else { None };
        let line = state.lines.entry(key.clone()).or_default();
        let begins = line.is_empty();
        line.push_back(job);
        if begins {
            state.turns.push_back(key);
        }
        state.waiting += 1;
        drop(state);
        drop(given_up);
        self.changed.notify_one();
        Ok(())
    }

    /// The next job; waits for one. `None` when the queue is closed.
    pub(super) fn next(&self) -> Option<J> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if state.closed {
                return None;
            }
            if let Some(job) = state.take() {
                return Some(job);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).waiting
    }

    /// Gives up all that waits, and lets the threads go.
    pub(super) fn close(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.closed = true;
        let lines = std::mem::take(&mut state.lines);
        state.turns.clear();
        state.waiting = 0;
        drop(state);
        drop(lines);
        self.changed.notify_all();
    }
}

impl<K: Clone + Eq + Hash, J> State<K, J> {
    fn take(&mut self) -> Option<J> {
        let key = self.turns.pop_front()?;
        let line = self.lines.get_mut(&key)?;
        let job = line.pop_front();
        if line.is_empty() {
            self.lines.remove(&key);
        } else {
            self.turns.push_back(key);
        }
        self.waiting -= usize::from(job.is_some());
        job
    }

    /// The last job of the longest line, if that is longer than the line of `key` would become.
    fn give_up_for(&mut self, key: &K) -> Option<J> {
        let own = self.lines.get(key).map_or(0, VecDeque::len);
        let longest = self.lines.iter().max_by_key(|(_, line)| line.len()).map(|(key, _)| key.clone())?;
        let line = self.lines.get_mut(&longest)?;
        if line.len() <= own + 1 {
            return None;
        }
        let job = line.pop_back();
        self.waiting -= usize::from(job.is_some());
        job
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_take_turns() {
        let queue = Queue::new(10);
        for (key, job) in [('a', 1), ('a', 2), ('a', 3), ('b', 4), ('c', 5), ('b', 6)] {
            queue.push(key, job).expect("there is room");
        }
        let order: Vec<_> = (0..6).map(|_| queue.next().expect("a job")).collect();
        assert_eq!(order, [1, 4, 5, 2, 6, 3]);
        assert_eq!(queue.waiting(), 0);
    }

    #[test]
    fn a_flood_gives_up_its_own_places_only() {
        let queue = Queue::new(4);
        for job in 0..4 {
            queue.push('a', job).expect("there is room");
        }
        assert_eq!(queue.push('a', 9), Err(Full));
        queue.push('b', 10).expect("the flood makes room");
        queue.push('c', 11).expect("the flood makes room");
        assert_eq!(queue.push('b', 12), Err(Full), "two lines are longest, and one is its own");
        assert_eq!(queue.waiting(), 4);
        let order: Vec<_> = (0..4).map(|_| queue.next().expect("a job")).collect();
        assert_eq!(order, [0, 10, 11, 1]);
    }

    #[test]
    fn a_closed_queue_gives_up_what_waits_and_wakes_its_threads() {
        let queue = std::sync::Arc::new(Queue::<char, std::sync::mpsc::Sender<()>>::new(4));
        let (sender, receiver) = std::sync::mpsc::channel();
        queue.push('a', sender).expect("there is room");
        let first = queue.next();
        let waiter = std::thread::spawn({
            let queue = queue.clone();
            move || queue.next().is_none()
        });
        queue.close();
        assert!(waiter.join().expect("ended"), "the thread was let go");
        drop(first);
        assert!(receiver.recv().is_err(), "the job is gone");
        assert!(queue.push('a', std::sync::mpsc::channel().0).is_err());
    }
}
