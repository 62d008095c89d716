//! The caches that are compared.

use std::collections::{BTreeMap, HashMap};

use edge::policy::{Id, Policy};

/// A cache of blobs by number.
pub(crate) trait Cache {
    /// Asks for a blob, which is kept where the cache keeps it; whether it was there.
    fn ask(&mut self, blob: usize, size: u64) -> bool;

    /// An image was asked for that these belong to.
    fn manifest(&mut self, _blobs: &[usize]) {}
}

/// What was asked for, and what was there.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    requests: u64,
    hits: u64,
    bytes: u64,
    hit_bytes: u64,
}

impl Tally {
    pub(crate) fn count(&mut self, size: u64, hit: bool) {
        self.requests += 1;
        self.bytes += size;
        self.hits += u64::from(hit);
        self.hit_bytes += if hit { size } else { 0 };
    }

    pub(crate) fn requests_hit(self) -> f64 {
        self.hits as f64 * 100.0 / self.requests as f64
    }

    pub(crate) fn bytes_hit(self) -> f64 {
        self.hit_bytes as f64 * 100.0 / self.bytes as f64
    }
}

/// What was used longest ago leaves.
#[derive(Debug)]
pub(crate) struct Lru {
    capacity: u64,
    used: u64,
    clock: u64,
    held: HashMap<usize, (u64, u64)>,
    order: BTreeMap<u64, usize>,
}

impl Lru {
    pub(crate) fn new(capacity: u64) -> Self {
        Self { capacity, used: 0, clock: 0, held: HashMap::new(), order: BTreeMap::new() }
    }
}

impl Cache for Lru {
    fn ask(&mut self, blob: usize, size: u64) -> bool {
        self.clock += 1;
        let before = self.held.insert(blob, (self.clock, size));
        self.order.insert(self.clock, blob);
        if let Some((at, _)) = before {
            self.order.remove(&at);
            return true;
        }
        self.used += size;
        while self.used > self.capacity
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.used -= self.held.remove(&oldest).map_or(0, |(_, size)| size);
        }
        false
    }
}

/// The library, as it comes; it weighs in 32 bits, so in KiB.
#[derive(Debug)]
pub(crate) struct Moka(moka::sync::Cache<usize, u64>);

impl Moka {
    pub(crate) fn new(capacity: u64) -> Self {
        let weigh = |_: &usize, size: &u64| u32::try_from(size.div_ceil(1024)).unwrap_or(u32::MAX);
        Self(moka::sync::Cache::builder().max_capacity(capacity / 1024).weigher(weigh).build())
    }
}

impl Cache for Moka {
    fn ask(&mut self, blob: usize, size: u64) -> bool {
        let hit = self.0.get(&blob).is_some();
        if !hit {
            self.0.insert(blob, size);
        }
        // What it would do behind the requests.
        self.0.run_pending_tasks();
        hit
    }
}

/// What the use of an image means for its blobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Images {
    Ignored,
    Favoured,
}

/// The edge's policy, used as its store does.
#[derive(Debug)]
pub(crate) struct Ours {
    policy: Policy,
    capacity: u64,
    used: u64,
    held: HashMap<usize, Id>,
    names: HashMap<Id, usize>,
    images: Images,
}

impl Ours {
    pub(crate) fn new(capacity: u64, images: Images) -> Self {
        let (held, names) = (HashMap::new(), HashMap::new());
        Self { policy: Policy::new(capacity), capacity, used: 0, held, names, images }
    }
}

impl Cache for Ours {
    fn ask(&mut self, blob: usize, size: u64) -> bool {
        if let Some(id) = self.held.get(&blob) {
            self.policy.touch(*id);
            return true;
        }
        if size > self.capacity {
            return false;
        }
        while self.used + size > self.capacity {
            let Some(victim) = self.policy.victim(|_| true) else { return false };
            self.used -= self.policy.weight(victim);
            self.policy.remove(victim);
            if let Some(name) = self.names.remove(&victim) {
                self.held.remove(&name);
            }
        }
        let id = self.policy.insert(hash(blob as u64), size);
        self.used += size;
        self.held.insert(blob, id);
        self.names.insert(id, blob);
        false
    }

    fn manifest(&mut self, blobs: &[usize]) {
        if self.images == Images::Favoured {
            blobs.iter().filter_map(|blob| self.held.get(blob)).for_each(|id| self.policy.favour(*id));
        }
    }
}

/// Evenly distributed, as the store's hash is: the last step of splitmix64.
fn hash(number: u64) -> u64 {
    let z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
