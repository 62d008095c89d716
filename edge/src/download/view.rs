//! What operators see of the downloads that run.

use oci::digest::Digest;

use super::{Download, Downloads, State};
use crate::metadata::Place;

/// A download at one moment.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) digest: Digest,
    pub(crate) place: Place,
    /// Bytes that came, of how many, where that is known.
    pub(crate) written: u64,
    pub(crate) length: Option<u64>,
}

impl Downloads {
    /// How many run, and the first `limit` of them in the order of their digests.
    pub(crate) fn views(&self, limit: usize) -> (usize, Vec<View>) {
        let running = self.0.running();
        let mut all: Vec<_> = running.values().cloned().collect();
        drop(running);
        all.sort_by(|a, b| a.digest.cmp(&b.digest));
        (all.len(), all.iter().take(limit).map(|download| download.view()).collect())
    }

    /// Bytes that the download of `digest` has brought so far; 0 where none runs.
    pub(crate) fn written(&self, digest: &Digest) -> u64 {
        self.running(digest).map_or(0, |download| download.view().written)
    }
}

impl Download {
    fn view(&self) -> View {
        let progress = self.progress.borrow();
        View {
            digest: self.digest.clone(),
            place: self.place.clone(),
            written: progress.written,
            length: progress.length,
        }
    }

    /// Waits for the end; whether the blob is whole.
    pub(crate) async fn ended(&self) -> bool {
        let mut progress = self.progress.subscribe();
        let over = |state: &State| matches!(state, State::Whole | State::NoRoom(_) | State::Failed(_));
        let ended = progress.wait_for(|progress| over(&progress.state)).await;
        ended.is_ok_and(|progress| matches!(progress.state, State::Whole))
    }
}
