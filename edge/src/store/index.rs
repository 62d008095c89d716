//! Which blobs there are, how large, when used and by whom; and who makes room first. No files are touched here.
//!
//! Made for a million blobs: some 120 bytes each, all told.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher as _, RandomState},
};

use hashbrown::HashTable;

use super::{
    key::Key,
    row::{Changes, Held, Row, Seconds},
};
use crate::policy::{Id, Policy};

#[derive(Debug)]
struct Slot {
    /// `None`: the slot is free.
    key: Option<Key>,
    used: Seconds,
    verified: Seconds,
    readers: u32,
    /// Which blob of its digest this is: one that was set aside or removed, and fetched again, is another one.
    serial: u32,
    /// Its row is to be written.
    dirty: bool,
    /// Its file was made, opened or listed in this life.
    seen: bool,
}

/// A partial blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Partial {
    pub(super) size: u64,
    /// When it was left.
    pub(super) since: Seconds,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Index {
    table: HashTable<Id>,
    hasher: RandomState,
    slots: Vec<Slot>,
    policy: Policy,
    pinned: HashSet<Key>,
    partials: HashMap<Key, Partial>,
    pub(super) held: Held,
    serial: u32,
    dirty: Vec<Id>,
    /// Blobs whose rows are to be removed.
    gone: Vec<Key>,
    /// While rows are loaded: the loaded ones, to be put into their order.
    loading: Option<Vec<(Seconds, Id)>>,
}

/// What makes room.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Victim {
    Blob(Key, u64),
    Partial(Key),
}

impl Index {
    /// An index whose rows are still to be loaded; until then nothing is evicted.
    pub(super) fn new(capacity: u64) -> Self {
        Self {
            table: HashTable::new(),
            hasher: RandomState::new(),
            slots: Vec::new(),
            policy: Policy::new(capacity),
            pinned: HashSet::new(),
            partials: HashMap::new(),
            held: Held::default(),
            serial: 0,
            dirty: Vec::new(),
            gone: Vec::new(),
            loading: Some(Vec::new()),
        }
    }

    fn find(&self, key: &Key) -> Option<Id> {
        let hash = self.hasher.hash_one(key);
        self.table.find(hash, |id| self.slots[id.index()].key.as_ref() == Some(key)).copied()
    }

    pub(super) fn is_loading(&self) -> bool {
        self.loading.is_some()
    }

    pub(super) fn reserve(&mut self, entries: usize) {
        let (slots, hasher) = (&self.slots, &self.hasher);
        self.table
            .reserve(entries, |id| hasher.hash_one(slots[id.index()].key.as_ref().expect("a live entry")));
        self.slots.reserve(entries);
        self.policy.reserve(entries);
    }

    /// Adds a row of an earlier life, unless the blob is known already. Whether it was not.
    pub(super) fn load(&mut self, row: Row) -> bool {
        if self.find(&row.key).is_some() {
            return false;
        }
        let hash = self.hasher.hash_one(&row.key);
        let id = self.policy.restore(hash, row.size, row.frequency);
        self.held.whole += row.size;
        let pinned = self.pinned.contains(&row.key);
        let slot = Slot {
            key: Some(row.key),
            used: row.used,
            verified: row.verified,
            readers: 0,
            serial: 0,
            dirty: false,
            seen: false,
        };
        self.place(id, hash, slot);
        match &mut self.loading {
            Some(loading) => loading.push((row.used, id)),
            None if pinned => {}
            None => self.policy.settle(id),
        }
        true
    }

    /// All rows are loaded: gives them their order.
    pub(super) fn loaded(&mut self) {
        let mut order = self.loading.take().unwrap_or_default();
        order.sort_unstable();
        for (_, id) in order {
            // A blob may have gone meanwhile, and its number may be another's.
            if let Some(key) = &self.slots[id.index()].key
                && !self.pinned.contains(key)
            {
                self.policy.settle(id);
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    pub(super) fn size(&self, key: &Key) -> Option<u64> {
        self.find(key).map(|id| self.policy.weight(id))
    }

    /// A blob that has just become whole, verified. The size of the one that was there before.
    pub(super) fn insert(&mut self, key: Key, size: u64, now: Seconds) -> Option<u64> {
        let replaced = self.forget(&key);
        let hash = self.hasher.hash_one(&key);
        let id = self.policy.insert(hash, size);
        if self.pinned.contains(&key) {
            self.policy.pin(id);
        }
        self.held.whole += size;
        let slot = Slot {
            key: Some(key),
            used: now,
            verified: now,
            readers: 0,
            serial: 0,
            dirty: false,
            seen: true,
        };
        self.place(id, hash, slot);
        self.mark(id);
        replaced
    }

    fn place(&mut self, id: Id, hash: u64, mut slot: Slot) {
        self.serial = self.serial.wrapping_add(1);
        slot.serial = self.serial;
        match self.slots.get_mut(id.index()) {
            Some(free) => *free = slot,
            // Numbers are given out in order, so the next one is the length.
            None => self.slots.push(slot),
        }
        let (slots, hasher) = (&self.slots, &self.hasher);
        let rehash = |id: &Id| hasher.hash_one(slots[id.index()].key.as_ref().expect("a live entry"));
        self.table.insert_unique(hash, id, rehash);
    }

    fn mark(&mut self, id: Id) {
        let slot = &mut self.slots[id.index()];
        if !slot.dirty {
            slot.dirty = true;
            self.dirty.push(id);
        }
    }

    /// Notes a use and a reader; the size, and what [`Index::release`] is to be told.
    pub(super) fn acquire(&mut self, key: &Key, now: Seconds) -> Option<(u64, u32)> {
        let id = self.find(key)?;
        self.policy.touch(id);
        let slot = &mut self.slots[id.index()];
        slot.readers += 1;
        slot.used = now;
        let serial = slot.serial;
        self.mark(id);
        Some((self.policy.weight(id), serial))
    }

    /// A reader has ended.
    pub(super) fn release(&mut self, key: &Key, serial: u32) {
        if let Some(id) = self.find(key) {
            let slot = &mut self.slots[id.index()];
            if slot.serial == serial {
                slot.readers = slot.readers.saturating_sub(1);
            }
        }
    }

    /// Notes that an image was used which the blob belongs to.
    pub(super) fn favour(&mut self, key: &Key, now: Seconds) {
        if let Some(id) = self.find(key) {
            self.policy.favour(id);
            self.slots[id.index()].used = now;
            self.mark(id);
        }
    }

    /// Notes that the bytes were seen to be right.
    pub(super) fn verified(&mut self, key: &Key, now: Seconds) {
        if let Some(id) = self.find(key) {
            self.slots[id.index()].verified = now;
            self.mark(id);
        }
    }

    /// Takes a blob out; its size.
    pub(super) fn forget(&mut self, key: &Key) -> Option<u64> {
        let hash = self.hasher.hash_one(key);
        let entry =
            self.table.find_entry(hash, |id| self.slots[id.index()].key.as_ref() == Some(key)).ok()?;
        let (id, _) = entry.remove();
        let size = self.policy.weight(id);
        self.policy.remove(id);
        let slot = &mut self.slots[id.index()];
        (slot.key, slot.dirty) = (None, false);
        self.held.whole -= size;
        self.gone.push(key.clone());
        Some(size)
    }

    /// What is worth least: a partial blob nobody works on, the one left longest ago first; else the blob that the policy
    /// names, which is then taken out.
    pub(super) fn evict(&mut self) -> Option<Victim> {
        if let Some(key) = self.oldest_partial(Seconds::MAX) {
            return Some(Victim::Partial(key));
        }
        if self.is_loading() {
            return None;
        }
        let slots = &self.slots;
        let id = self.policy.victim(|id| slots[id.index()].readers == 0)?;
        let key = self.slots[id.index()].key.clone()?;
        let size = self.forget(&key)?;
        Some(Victim::Blob(key, size))
    }

    /// The partial blob that was left longest ago, if that was before `before`.
    pub(super) fn oldest_partial(&self, before: Seconds) -> Option<Key> {
        let old = self.partials.iter().filter(|(_, partial)| partial.since < before);
        old.min_by_key(|(_, partial)| partial.since).map(|(key, _)| key.clone())
    }

    /// A partial blob that nobody works on.
    pub(super) fn add_partial(&mut self, key: Key, partial: Partial) {
        self.drop_partial(&key);
        self.held.partial += partial.size;
        self.partials.insert(key, partial);
    }

    /// Whether there was one.
    pub(super) fn drop_partial(&mut self, key: &Key) -> bool {
        let dropped = self.partials.remove(key);
        self.held.partial -= dropped.map_or(0, |partial| partial.size);
        dropped.is_some()
    }

    pub(super) fn partial(&self, key: &Key) -> Option<u64> {
        self.partials.get(key).map(|partial| partial.size)
    }

    pub(super) fn partials(&self) -> usize {
        self.partials.len()
    }

    /// From now on these are pinned, and no others.
    pub(super) fn set_pinned(&mut self, pinned: HashSet<Key>) {
        let before = std::mem::replace(&mut self.pinned, pinned);
        let ids: Vec<Id> = self.pinned.iter().filter_map(|key| self.find(key)).collect();
        ids.into_iter().for_each(|id| self.policy.pin(id));
        let freed: Vec<Id> =
            before.iter().filter(|key| !self.pinned.contains(key)).filter_map(|key| self.find(key)).collect();
        for id in freed {
            match &mut self.loading {
                Some(loading) => loading.push((self.slots[id.index()].used, id)),
                None => self.policy.unpin(id),
            }
        }
    }

    pub(super) fn pinned(&self) -> &HashSet<Key> {
        &self.pinned
    }

    /// Rows to write and rows to remove, at most `limit` of each.
    pub(super) fn take_changes(&mut self, limit: usize) -> Changes {
        let mut changes = Changes::default();
        while changes.rows.len() < limit
            && let Some(id) = self.dirty.pop()
        {
            if self.slots[id.index()].dirty
                && let Some(row) = self.row(id)
            {
                self.slots[id.index()].dirty = false;
                changes.rows.push(row);
            }
        }
        while changes.gone.len() < limit
            && let Some(key) = self.gone.pop()
        {
            if self.find(&key).is_none() {
                changes.gone.push(key);
            }
        }
        changes
    }

    fn row(&self, id: Id) -> Option<Row> {
        let slot = &self.slots[id.index()];
        let key = slot.key.clone()?;
        Some(Row {
            key,
            size: self.policy.weight(id),
            used: slot.used,
            frequency: self.policy.frequency(id),
            verified: slot.verified,
        })
    }

    /// The file of a blob was found in a listing. Whether the blob is known.
    pub(super) fn see(&mut self, key: &Key) -> bool {
        let Some(id) = self.find(key) else { return false };
        self.slots[id.index()].seen = true;
        true
    }

    /// From `from` on, the next slots with a row for which `wanted(seen, verified)` holds, at most `limit` of them out of the
    /// next `look` slots; and where to go on, `None` at the end.
    pub(super) fn walk(
        &self,
        from: usize,
        look: usize,
        wanted: impl Fn(bool, Seconds) -> bool,
    ) -> (Vec<Row>, Option<usize>) {
        let end = self.slots.len().min(from.saturating_add(look));
        let live = self.table_ids(from, end);
        let rows = live.filter(|(_, slot)| wanted(slot.seen, slot.verified));
        let rows = rows.filter_map(|(id, _)| self.row(id)).collect();
        (rows, (end < self.slots.len()).then_some(end))
    }

    fn table_ids(&self, from: usize, end: usize) -> impl Iterator<Item = (Id, &Slot)> {
        let slots = self.slots.get(from..end).unwrap_or_default();
        slots
            .iter()
            .enumerate()
            .filter(|(_, slot)| slot.key.is_some())
            .filter_map(move |(at, slot)| Some((Id::from_index(from + at)?, slot)))
    }
}
