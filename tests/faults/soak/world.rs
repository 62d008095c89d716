//! What the soak plays in: nodes, images, and what everybody has seen so far.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    faults::chance::Chance,
    harness::{
        cache::Store,
        content::Content,
        fault_proxy::FaultProxy,
        image::{Image, Typed, image_manifest},
        node::{Node, Plan},
    },
};

/// Room for about a third of the images.
pub(super) const CAPACITY: u64 = 6 << 20;

/// Images that are there from the start, over a few shared base layers; the first ones are pinned.
const IMAGES: usize = 40;
const BASES: usize = 4;
const PINNED: usize = 4;

/// Where the images are.
const REPOSITORY: &str = "team/app";

/// The processes, and what stands between them.
#[derive(Debug)]
pub(super) struct Nodes {
    pub(super) origin: Node,
    pub(super) proxy: FaultProxy,
    /// An edge that is killed now and then.
    pub(super) killed: Node,
    /// An edge that lives to the end.
    pub(super) steady: Node,
}

/// An image and its name.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) repository: String,
    pub(super) tag: String,
    pub(super) image: Image,
    pub(super) pinned: bool,
}

/// What all threads share.
#[derive(Debug)]
pub(super) struct World {
    pub(super) origin: SocketAddr,
    /// The edge that is killed now and then, and the one that is not.
    pub(super) edges: [SocketAddr; 2],
    images: Mutex<Vec<Arc<Named>>>,
    pub(super) moving: Moving,
    outages: Mutex<Vec<Outage>>,
    over: AtomicBool,
    counts: Mutex<BTreeMap<String, u64>>,
    pinned_times: Mutex<Vec<Duration>>,
    violations: Mutex<Vec<String>>,
}

/// A tag that is moved all the time: what it named in turn, and how many of these moves were acknowledged.
#[derive(Debug, Default)]
pub(super) struct Moving {
    history: Mutex<Vec<Image>>,
    acknowledged: AtomicUsize,
}

impl Moving {
    pub(super) const REPOSITORY: &str = "team/moving";

    /// From now on the tag may name it.
    pub(super) fn begins(&self, image: Image) -> usize {
        let mut history = locked(&self.history);
        history.push(image);
        history.len()
    }

    /// From now on the tag names it, or one that came later.
    pub(super) fn is_acknowledged(&self, number: usize) {
        self.acknowledged.fetch_max(number, Ordering::SeqCst);
    }

    pub(super) fn acknowledged(&self) -> usize {
        self.acknowledged.load(Ordering::SeqCst)
    }

    /// Which of the moves brought this manifest, counted from 1.
    pub(super) fn number_of(&self, manifest: &[u8]) -> Option<usize> {
        locked(&self.history).iter().position(|image| image.manifest.bytes == manifest).map(|at| at + 1)
    }
}

/// A time in which the first edge was not there.
#[derive(Clone, Copy, Debug, Default)]
struct Outage {
    ended: Option<Instant>,
}

impl World {
    /// Starts everything, pushes the images, pulls and pins the first ones at both edges.
    pub(super) fn make(chance: &mut Chance) -> (Self, Nodes) {
        let origin = Plan::origin().start();
        let proxy = FaultProxy::before(origin.address);
        let bases: Vec<Typed> =
            (0..BASES).map(|base| layer(&format!("soak: base {base}"), 500_000)).collect();
        let images: Vec<_> = (0..IMAGES)
            .map(|number| {
                let own = Image::make(&format!("soak: {number}"), 1, 100_000 + chance.below(400_000));
                let blobs = vec![own.blobs[0].clone(), bases[number % BASES].clone(), own.blobs[1].clone()];
                let image = Image { manifest: image_manifest(&blobs), blobs, layers: Vec::new() };
                image.push(origin.address, REPOSITORY, &format!("v{number}"));
                let (repository, tag) = (REPOSITORY.to_owned(), format!("v{number}"));
                Arc::new(Named { repository, tag, image, pinned: number < PINNED })
            })
            .collect();
        let [killed, steady] = [(); 2].map(|()| edge(&proxy, &images));
        let world = Self {
            origin: origin.address,
            edges: [killed.address, steady.address],
            images: Mutex::new(images),
            moving: Moving::default(),
            outages: Mutex::default(),
            over: AtomicBool::new(false),
            counts: Mutex::default(),
            pinned_times: Mutex::default(),
            violations: Mutex::default(),
        };
        (world, Nodes { origin, proxy, killed, steady })
    }

    pub(super) fn images(&self) -> Vec<Arc<Named>> {
        locked(&self.images).clone()
    }

    pub(super) fn adds(&self, named: Named) {
        locked(&self.images).push(Arc::new(named));
    }

    pub(super) fn counts(&self, what: impl Into<String>) {
        *locked(&self.counts).entry(what.into()).or_default() += 1;
    }

    pub(super) fn served_pinned(&self, took: Duration) {
        locked(&self.pinned_times).push(took);
    }

    /// Something that must never be seen was: it ends the soak.
    pub(super) fn is_violated(&self, what: String) {
        locked(&self.violations).push(what);
        self.ends();
    }

    pub(super) fn violations(&self) -> Vec<String> {
        locked(&self.violations).clone()
    }

    pub(super) fn ends(&self) {
        self.over.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    pub(super) fn outage_begins(&self) {
        locked(&self.outages).push(Outage::default());
    }

    pub(super) fn outage_ends(&self) {
        if let Some(last) = locked(&self.outages).last_mut() {
            last.ended = Some(Instant::now());
        }
    }

    /// Whether the first edge was not there at some time since `began`.
    pub(super) fn was_out_since(&self, began: Instant) -> bool {
        locked(&self.outages).iter().any(|outage| outage.ended.is_none_or(|ended| ended >= began))
    }

    /// What everybody did and saw.
    pub(super) fn print(&self) {
        for (what, count) in &*locked(&self.counts) {
            println!("  {count:>8}  {what}");
        }
        let mut times = locked(&self.pinned_times).clone();
        times.sort();
        let at =
            |share: usize| times.get(times.len() * share / 100).or(times.last()).copied().unwrap_or_default();
        println!(
            "  what is pinned, {} requests: median {:?}, 99 of 100 within {:?}, slowest {:?}",
            times.len(),
            at(50),
            at(99),
            at(100)
        );
    }
}

fn edge(proxy: &FaultProxy, images: &[Arc<Named>]) -> Node {
    let edge = Plan::edge(proxy.address)
        .set("cache.capacity", &CAPACITY.to_string())
        .set("cache.keep_free", "0")
        .set("download.first_byte", "1s")
        .set("download.stall", "1s")
        .set("limits.idle_timeout", "5s")
        .start();
    for named in images.iter().filter(|named| named.pinned) {
        Content::read(edge.address, &named.repository, &named.tag);
        edge.finishes_downloads();
        Store(edge.address).post("pins", &format!("{}:{}", named.repository, named.tag)).expect(200);
    }
    edge
}

pub(super) fn layer(name: &str, bytes: usize) -> Typed {
    Image::make(name, 1, bytes).blobs.swap_remove(1)
}

/// A violation is recorded, not thrown, so a poisoned lock is somebody else's panic, which the scope shows.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
