//! Who uses which image, noted without making a pull wait: a hit adds one to a number, and puts the image on a list if it is
//! not on it yet. Behind the pulls the list is emptied into the store's policy and the metadata.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use oci::digest::Digest;
use tokio::sync::mpsc;

use crate::{
    metadata::{ImageUse, Place},
    store::{Key, Store, now},
};

/// How many images can be on the list. Where it is full, a use is noted at the next hit.
const LIST: usize = 16_384;

/// The uses of one manifest in one place since they were last written down.
#[derive(Debug)]
pub(crate) struct Usage {
    place: Place,
    digest: Digest,
    children: Box<[Key]>,
    hits: AtomicU32,
    listed: AtomicBool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Uses {
    list: mpsc::Sender<Arc<Usage>>,
    listed: Mutex<mpsc::Receiver<Arc<Usage>>>,
}

impl Usage {
    /// Nothing noted yet, of a manifest that these belong to.
    pub(crate) fn new(place: Place, digest: Digest, children: Box<[Key]>) -> Self {
        Self { place, digest, children, hits: AtomicU32::new(0), listed: AtomicBool::new(false) }
    }
}

impl Uses {
    /// An empty list.
    pub(crate) fn new() -> Self {
        let (list, listed) = mpsc::channel(LIST);
        Self { list, listed: Mutex::new(listed) }
    }

    /// Notes one use.
    pub(crate) fn note(&self, usage: &Arc<Usage>) {
        usage.hits.fetch_add(1, Ordering::Relaxed);
        if !usage.listed.swap(true, Ordering::AcqRel) && self.list.try_send(usage.clone()).is_err() {
            usage.listed.store(false, Ordering::Release);
        }
    }

    /// Empties the list: tells the store that what belongs to the images is of use, and gives what is to be written down.
    pub(crate) fn collect(&self, store: &Store) -> Vec<ImageUse> {
        let mut listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        let mut uses = Vec::new();
        while let Ok(usage) = listed.try_recv() {
            // First off the list: a use that comes from now on puts it there again.
            usage.listed.store(false, Ordering::Release);
            let hits = usage.hits.swap(0, Ordering::AcqRel);
            store.favour(&usage.children);
            uses.push(ImageUse {
                place: usage.place.clone(),
                digest: usage.digest.clone(),
                used: now(),
                hits,
            });
        }
        uses
    }
}
