//! Who stays when room is needed: W-TinyLFU over sizes, as pure data.
//!
//! A newcomer enters the *window*. When that is over its share, its oldest entry must be asked for more often than all
//! those together that would make room for it in the main part, or it goes itself: so neither a scan nor the images of a
//! CI run that nobody asks for again push out what is asked for every day. The main part is a segmented LRU: *probation*
//! for what came once, *protected* for what came again. How often something is asked for is estimated by a [`sketch`] that
//! forgets; how large the window is, is learnt from the hit ratio ([`climber`]).
//!
//! After Einziger, Friedman and Manes, "TinyLFU: A Highly Efficient Cache Admission Policy" and "Adaptive Software Cache
//! Management"; admission by size after Einziger, Eytan, Friedman and Manes, "Lightweight Robust Size Aware Cache
//! Management". Ours rather than a library's because the caller must be able to veto a victim that is being read.

mod climber;
mod lists;
mod sketch;

pub use lists::Id;

use climber::Climber;
use lists::{List, Nodes, Segment};
use sketch::Sketch;

/// Of the main part, in percent, what is protected.
const PROTECTED_PERCENT: u64 = 80;
/// The window's first share of the capacity, in parts of 1000.
const WINDOW_PERMILLE: u64 = 10;
/// How many entries of the main part are weighed against one newcomer. More would be a long time under a lock; by then
/// the sum of their uses says enough.
const MAX_RIVALS: usize = 256;

/// What is known of the use of everything that is held, and the order of leaving that follows.
#[derive(Debug)]
pub struct Policy {
    nodes: Nodes,
    window: List,
    probation: List,
    protected: List,
    sketch: Sketch,
    climber: Climber,
    capacity: u64,
    window_max: u64,
}

impl Policy {
    /// A policy for entries that together weigh `capacity` at the most. The caller asks for victims when they weigh more.
    pub fn new(capacity: u64) -> Self {
        Self {
            nodes: Nodes::default(),
            window: List::new(Segment::Window),
            probation: List::new(Segment::Probation),
            protected: List::new(Segment::Protected),
            sketch: Sketch::new(),
            climber: Climber::new(capacity),
            capacity,
            window_max: capacity / 1000 * WINDOW_PERMILLE,
        }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes room in memory for so many entries.
    pub fn reserve(&mut self, entries: usize) {
        self.nodes.reserve(entries);
        self.grow_sketch(entries);
    }

    /// A newcomer. `hash` is evenly distributed, and the same whenever the entry comes again.
    pub fn insert(&mut self, hash: u64, weight: u64) -> Id {
        self.grow_sketch(self.len() + 1);
        self.sketch.increment(hash);
        self.count(Asked::Missed);
        let id = self.nodes.add(hash, weight);
        self.window.push(&mut self.nodes, id);
        id
    }

    /// An entry of an earlier life, asked for `frequency` times. It is in no list, and no victim, before
    /// [`Policy::settle`].
    pub fn restore(&mut self, hash: u64, weight: u64, frequency: u8) -> Id {
        self.grow_sketch(self.len() + 1);
        self.sketch.raise(hash, frequency);
        self.nodes.add(hash, weight)
    }

    /// Gives a restored entry its place; called for all of them, the one used longest ago first.
    pub fn settle(&mut self, id: Id) {
        if self.nodes.segment(id) != Segment::Unlisted {
            return;
        }
        if self.frequency(id) > 1 {
            self.protected.push(&mut self.nodes, id);
            self.demote();
        } else {
            self.probation.push(&mut self.nodes, id);
        }
    }

    /// The entry was asked for.
    pub fn touch(&mut self, id: Id) {
        self.count(Asked::Hit);
        self.sketch.increment(self.nodes.hash(id));
        self.age_if_due();
        self.favour(id);
    }

    /// The entry is of use, though nobody asked for it itself: somebody asked for an image that it belongs to. That keeps it
    /// where it would be had it been asked for, but is not counted: who asks for the image may ask for the entry next, and
    /// would count twice.
    pub fn favour(&mut self, id: Id) {
        match self.nodes.segment(id) {
            Segment::Unlisted => {}
            Segment::Window => self.window.refresh(&mut self.nodes, id),
            Segment::Protected => self.protected.refresh(&mut self.nodes, id),
            Segment::Probation => {
                self.probation.take(&mut self.nodes, id);
                self.protected.push(&mut self.nodes, id);
                self.demote();
            }
        }
    }

    /// The entry is no victim until it is released.
    pub fn pin(&mut self, id: Id) {
        self.unlist(id);
    }

    /// The entry is one like all others again.
    pub fn unpin(&mut self, id: Id) {
        self.settle(id);
    }

    /// Forgets the entry. Its id is given to another one later.
    pub fn remove(&mut self, id: Id) {
        self.unlist(id);
        self.nodes.remove(id);
    }

    /// What the entry weighs.
    pub fn weight(&self, id: Id) -> u64 {
        self.nodes.weight(id)
    }

    /// How often the entry was asked for of late, up to 15.
    pub fn frequency(&self, id: Id) -> u8 {
        self.sketch.estimate(self.nodes.hash(id))
    }

    /// The entry that makes room next, among those that `may_go`. It stays until it is removed.
    pub fn victim(&mut self, may_go: impl Fn(Id) -> bool) -> Option<Id> {
        while self.window.weight() > self.window_max {
            let Some(candidate) = self.window.oldest(&mut self.nodes, &may_go) else { break };
            let weight = self.weight(candidate);
            let main_max = self.capacity - self.window_max;
            let over = (self.main_weight() + weight).saturating_sub(main_max);
            if over == 0 {
                self.window.take(&mut self.nodes, candidate);
                self.probation.push(&mut self.nodes, candidate);
                continue;
            }
            let Some(rivals) = self.rivals(over, &may_go) else { return Some(candidate) };
            if u64::from(self.frequency(candidate)) <= rivals.uses {
                return Some(candidate);
            }
            self.window.take(&mut self.nodes, candidate);
            self.probation.push(&mut self.nodes, candidate);
            return Some(rivals.first);
        }
        let lists = [&mut self.probation, &mut self.protected, &mut self.window];
        lists.into_iter().find_map(|list| list.oldest(&mut self.nodes, &may_go))
    }

    /// Those of the main part that would make room for `weight`, oldest first.
    fn rivals(&self, weight: u64, may_go: &impl Fn(Id) -> bool) -> Option<Rivals> {
        let oldest_first = self.probation.iter(&self.nodes).chain(self.protected.iter(&self.nodes));
        let mut rivals: Option<Rivals> = None;
        let mut freed = 0;
        for id in oldest_first.filter(|id| may_go(*id)).take(MAX_RIVALS) {
            let uses = u64::from(self.frequency(id));
            rivals.get_or_insert(Rivals { first: id, uses: 0 }).uses += uses;
            freed += self.weight(id);
            if freed >= weight {
                break;
            }
        }
        rivals
    }

    fn main_weight(&self) -> u64 {
        self.probation.weight() + self.protected.weight()
    }

    fn demote(&mut self) {
        let max = (self.capacity - self.window_max) / 100 * PROTECTED_PERCENT;
        while self.protected.weight() > max {
            let Some(id) = self.protected.oldest(&mut self.nodes, &|_| true) else { return };
            self.protected.take(&mut self.nodes, id);
            self.probation.push(&mut self.nodes, id);
        }
    }

    fn unlist(&mut self, id: Id) {
        match self.nodes.segment(id) {
            Segment::Unlisted => {}
            Segment::Window => self.window.take(&mut self.nodes, id),
            Segment::Probation => self.probation.take(&mut self.nodes, id),
            Segment::Protected => self.protected.take(&mut self.nodes, id),
        }
    }

    fn count(&mut self, asked: Asked) {
        if let Some(change) = self.climber.count(asked, self.nodes.len()) {
            // A window of all would leave no main part to compare with.
            let window = self.window_max.saturating_add_signed(change);
            self.window_max = window.clamp(self.capacity / 1000, self.capacity / 5 * 4);
        }
    }

    fn age_if_due(&mut self) {
        self.sketch.age_if_due(self.nodes.len());
    }

    fn grow_sketch(&mut self, entries: usize) {
        if self.sketch.fits(entries) {
            return;
        }
        let mut grown = Sketch::for_entries(entries);
        for id in self.nodes.ids() {
            let hash = self.nodes.hash(id);
            grown.raise(hash, self.sketch.estimate(hash));
        }
        self.sketch = grown;
    }
}

/// Whether what was asked for was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Hit,
    Missed,
}

/// Who would make room, and how often they are asked for together.
struct Rivals {
    first: Id,
    uses: u64,
}

#[cfg(test)]
mod tests;
