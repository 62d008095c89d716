//! The entries, and the lists that they are in: linked by number, so that moving one costs a few stores and no memory.

/// The number of an entry. Numbers are small, and used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(u32);

impl Id {
    /// As a place in a vector beside the policy's own.
    pub fn index(self) -> usize {
        self.0 as usize
    }

    /// The entry at that place.
    pub fn from_index(index: usize) -> Option<Self> {
        u32::try_from(index).ok().map(Self)
    }
}

/// No entry: the end of a list.
const NONE: u32 = u32::MAX;

/// Which list an entry is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    /// In none: pinned, or not settled yet.
    Unlisted,
    Window,
    Probation,
    Protected,
}

#[derive(Debug)]
struct Node {
    hash: u64,
    weight: u64,
    older: u32,
    newer: u32,
    segment: Segment,
}

/// All entries.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    all: Vec<Node>,
    free: Vec<u32>,
}

impl Nodes {
    pub(super) fn len(&self) -> usize {
        self.all.len() - self.free.len()
    }

    pub(super) fn reserve(&mut self, entries: usize) {
        self.all.reserve(entries.saturating_sub(self.all.len()));
    }

    /// Adds an entry that is in no list.
    ///
    /// # Panics
    /// There are 2^32 entries, which no memory holds.
    pub(super) fn add(&mut self, hash: u64, weight: u64) -> Id {
        let node = Node { hash, weight, older: NONE, newer: NONE, segment: Segment::Unlisted };
        if let Some(id) = self.free.pop() {
            self.all[id as usize] = node;
            return Id(id);
        }
        let id = u32::try_from(self.all.len()).expect("fewer than 2^32 entries fit into memory");
        self.all.push(node);
        Id(id)
    }

    /// Forgets an entry that is in no list.
    pub(super) fn remove(&mut self, id: Id) {
        self.free.push(id.0);
        self.all[id.index()].weight = 0;
    }

    pub(super) fn hash(&self, id: Id) -> u64 {
        self.all[id.index()].hash
    }

    pub(super) fn weight(&self, id: Id) -> u64 {
        self.all[id.index()].weight
    }

    pub(super) fn segment(&self, id: Id) -> Segment {
        self.all[id.index()].segment
    }

    /// Every number in use, and perhaps some that were in use.
    pub(super) fn ids(&self) -> impl Iterator<Item = Id> + use<> {
        (0..u32::try_from(self.all.len()).unwrap_or(NONE)).map(Id)
    }
}

/// One list, from the entry used longest ago to the newest.
#[derive(Debug)]
pub(super) struct List {
    segment: Segment,
    oldest: u32,
    newest: u32,
    weight: u64,
    len: usize,
}

impl List {
    pub(super) fn new(segment: Segment) -> Self {
        Self { segment, oldest: NONE, newest: NONE, weight: 0, len: 0 }
    }

    pub(super) fn weight(&self) -> u64 {
        self.weight
    }

    /// Adds an entry that is in no list, as the newest.
    pub(super) fn push(&mut self, nodes: &mut Nodes, id: Id) {
        let node = &mut nodes.all[id.index()];
        (node.older, node.newer, node.segment) = (self.newest, NONE, self.segment);
        self.weight += node.weight;
        self.len += 1;
        match nodes.all.get_mut(self.newest as usize) {
            Some(newest) => newest.newer = id.0,
            None => self.oldest = id.0,
        }
        self.newest = id.0;
    }

    /// Takes an entry out.
    pub(super) fn take(&mut self, nodes: &mut Nodes, id: Id) {
        let node = &mut nodes.all[id.index()];
        let (older, newer) = (node.older, node.newer);
        (node.older, node.newer, node.segment) = (NONE, NONE, Segment::Unlisted);
        self.weight -= node.weight;
        self.len -= 1;
        match nodes.all.get_mut(older as usize) {
            Some(node) => node.newer = newer,
            None => self.oldest = newer,
        }
        match nodes.all.get_mut(newer as usize) {
            Some(node) => node.older = older,
            None => self.newest = older,
        }
    }

    /// Makes an entry the newest.
    pub(super) fn refresh(&mut self, nodes: &mut Nodes, id: Id) {
        if self.newest != id.0 {
            self.take(nodes, id);
            self.push(nodes, id);
        }
    }

    /// The oldest entry that `may_go`. Those passed over become the newest: who is being read is in use.
    pub(super) fn oldest(&mut self, nodes: &mut Nodes, may_go: &impl Fn(Id) -> bool) -> Option<Id> {
        for _ in 0..self.len {
            let id = Id(self.oldest);
            if may_go(id) {
                return Some(id);
            }
            self.refresh(nodes, id);
        }
        None
    }

    /// From the oldest to the newest.
    pub(super) fn iter<'a>(&self, nodes: &'a Nodes) -> impl Iterator<Item = Id> + use<'a> {
        let mut next = self.oldest;
        std::iter::from_fn(move || {
            let node = nodes.all.get(next as usize)?;
            Some(Id(std::mem::replace(&mut next, node.newer)))
        })
    }
}
