use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::*;

fn hash(n: u64) -> u64 {
    n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23).wrapping_mul(0xff51_afd7_ed55_8ccd)
}

/// A cache as the store makes one of a policy: by name, within a capacity.
struct Cache {
    policy: Policy,
    held: HashMap<u64, Id>,
    names: HashMap<Id, u64>,
    leased: HashSet<Id>,
    capacity: u64,
    used: u64,
}

impl Cache {
    fn new(capacity: u64) -> Self {
        Self {
            policy: Policy::new(capacity),
            held: HashMap::new(),
            names: HashMap::new(),
            leased: HashSet::new(),
            capacity,
            used: 0,
        }
    }

    /// Asks for `name`; whether it was there.
    fn ask(&mut self, name: u64, weight: u64) -> bool {
        if let Some(id) = self.held.get(&name) {
            self.policy.touch(*id);
            return true;
        }
        while self.used + weight > self.capacity {
            let Some(victim) = self.policy.victim(|id| !self.leased.contains(&id)) else { return false };
            self.drop(victim);
        }
        let id = self.policy.insert(hash(name), weight);
        self.used += weight;
        self.held.insert(name, id);
        self.names.insert(id, name);
        false
    }

    fn drop(&mut self, id: Id) {
        self.used -= self.policy.weight(id);
        self.policy.remove(id);
        let name = self.names.remove(&id).expect("a victim is held");
        self.held.remove(&name);
    }
}

#[test]
fn a_scan_does_not_push_out_what_is_asked_for_again_and_again() {
    let mut cache = Cache::new(1000);
    for round in 0..20 {
        for name in 0..80 {
            cache.ask(name, 10);
        }
        for scanned in 0..200 {
            cache.ask(1_000_000 + round * 1000 + scanned, 10);
        }
    }
    let kept = (0..80).filter(|name| cache.held.contains_key(name)).count();
    assert!(kept >= 75, "{kept} of 80");
}

#[test]
fn a_large_newcomer_does_not_displace_many_small_ones_that_are_in_use() {
    let mut cache = Cache::new(1000);
    for _ in 0..5 {
        for name in 0..90 {
            cache.ask(name, 10);
        }
    }
    cache.ask(500, 600);
    for name in 600..640 {
        cache.ask(name, 10);
    }
    let kept = (0..90).filter(|name| cache.held.contains_key(name)).count();
    assert!(!cache.held.contains_key(&500), "used once, and as large as 60 others");
    assert!(kept >= 30, "{kept} of 90");
}

#[test]
fn frequency_and_order_come_back_with_what_is_restored() {
    let mut policy = Policy::new(100);
    let rows = [(1, 0), (2, 9), (3, 1), (4, 12)];
    let ids: Vec<Id> = rows.iter().map(|(name, uses)| policy.restore(hash(*name), 20, *uses)).collect();
    assert_eq!(policy.victim(|_| true), None, "not settled yet");
    ids.iter().for_each(|id| policy.settle(*id));
    assert_eq!(policy.frequency(ids[3]), 12);
    let mut order = Vec::new();
    while let Some(id) = policy.victim(|_| true) {
        order.push(ids.iter().position(|one| *one == id).expect("ours"));
        policy.remove(id);
    }
    assert_eq!(order, [0, 2, 1, 3], "what was used once goes first, then the one used longest ago");
}

#[derive(Clone, Debug)]
enum Step {
    Ask { name: u64, weight: u64 },
    Favour(u64),
    Lease(u64),
    Release(u64),
    Pin(u64),
    Unpin(u64),
    Remove(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let name = 0_u64..40;
    prop_oneof![
        8 => (name.clone(), 1_u64..400).prop_map(|(name, weight)| Step::Ask { name, weight }),
        1 => name.clone().prop_map(Step::Favour),
        2 => name.clone().prop_map(Step::Lease),
        2 => name.clone().prop_map(Step::Release),
        1 => name.clone().prop_map(Step::Pin),
        1 => name.clone().prop_map(Step::Unpin),
        1 => name.prop_map(Step::Remove),
    ]
}

proptest! {
    #[test]
    fn never_above_the_capacity_and_neither_leased_nor_pinned_ones_go(steps in prop::collection::vec(step(), 1..400)) {
        let mut cache = Cache::new(1000);
        let mut pinned: HashSet<u64> = HashSet::new();
        for step in steps {
            let safe: Vec<u64> = cache
                .held
                .iter()
                .filter(|(name, id)| cache.leased.contains(id) || pinned.contains(name))
                .map(|(name, _)| *name)
                .collect();
            let id_of = |cache: &Cache, name: u64| cache.held.get(&name).copied();
            match step {
                Step::Ask { name, weight } => {
                    cache.ask(name, weight);
                    for name in &safe {
                        prop_assert!(cache.held.contains_key(name), "{name} went");
                    }
                }
                Step::Favour(name) => id_of(&cache, name).into_iter().for_each(|id| cache.policy.favour(id)),
                Step::Lease(name) => cache.leased.extend(id_of(&cache, name)),
                Step::Release(name) => if let Some(id) = id_of(&cache, name) {
                    cache.leased.remove(&id);
                },
                Step::Pin(name) => if let Some(id) = id_of(&cache, name) {
                    cache.policy.pin(id);
                    pinned.insert(name);
                },
                Step::Unpin(name) => if let Some(id) = id_of(&cache, name) {
                    cache.policy.unpin(id);
                    pinned.remove(&name);
                },
                Step::Remove(name) => if let Some(id) = id_of(&cache, name) {
                    cache.drop(id);
                    cache.leased.remove(&id);
                    pinned.remove(&name);
                },
            }
            prop_assert!(cache.used <= cache.capacity);
            prop_assert_eq!(cache.policy.len(), cache.held.len());
            let listed = cache.policy.window.weight() + cache.policy.main_weight();
            let unlisted: u64 = pinned.iter().filter_map(|name| cache.held.get(name)).map(|id| cache.policy.weight(*id)).sum();
            prop_assert_eq!(listed + unlisted, cache.used);
        }
    }
}
