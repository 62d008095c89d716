//! What holds whatever is done to a store, in whatever order.

use proptest::prelude::*;

use super::*;

const CAPACITY: u64 = 500;

#[derive(Clone, Debug)]
enum Step {
    Fetch(u8),
    Read(u8),
    StopReading(u8),
    Pin(u8),
    UnpinAll,
    Favour(u8),
    Dismiss(u8),
    Condemn(u8),
    LeavePartial(u8),
    FlushRows,
}

fn step() -> impl Strategy<Value = Step> {
    let name = 0_u8..12;
    prop_oneof![
        6 => name.clone().prop_map(Step::Fetch),
        3 => name.clone().prop_map(Step::Read),
        2 => name.clone().prop_map(Step::StopReading),
        1 => name.clone().prop_map(Step::Pin),
        1 => Just(Step::UnpinAll),
        1 => name.clone().prop_map(Step::Favour),
        1 => name.clone().prop_map(Step::Dismiss),
        1 => name.clone().prop_map(Step::Condemn),
        1 => name.prop_map(Step::LeavePartial),
        1 => Just(Step::FlushRows),
    ]
}

/// Blobs of 40 to 150 bytes.
fn content(name: u8) -> Vec<u8> {
    vec![name; 40 + usize::from(name) * 10]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn the_capacity_holds_who_is_read_or_pinned_stays_and_the_figures_add_up(
        steps in prop::collection::vec(step(), 1..120)
    ) {
        let data = tempfile::tempdir().expect("directory");
        let store = open(data.path(), CAPACITY);
        let digest = |name: u8| Digest::sha256(&content(name));
        let mut reading: Vec<(u8, StoredBlob)> = Vec::new();
        let mut gone: Vec<(u8, StoredBlob)> = Vec::new();
        let mut pinned: HashSet<u8> = HashSet::new();
        for step in steps {
            match step {
                Step::Fetch(name) => {
                    let safe: Vec<u8> = reading
                        .iter()
                        .map(|(name, _)| *name)
                        .chain(pinned.iter().copied())
                        .filter(|name| store.size(&digest(*name)).is_some())
                        .collect();
                    if store.size(&digest(name)).is_none() {
                        store.claim_partial(&digest(name));
                        put(&store, &content(name));
                    }
                    for name in safe {
                        prop_assert!(store.size(&digest(name)).is_some(), "{name} made room");
                    }
                }
                Step::Read(name) => {
                    if let Some(stored) = store.get(&digest(name)) {
                        prop_assert_eq!(stored.size, content(name).len() as u64);
                        reading.push((name, stored));
                    }
                }
                Step::StopReading(name) => {
                    gone.retain(|(read, _)| *read != name);
                    reading.retain(|(read, _)| *read != name);
                }
                Step::Pin(name) => {
                    pinned.insert(name);
                    store.set_pinned(pinned.iter().map(|name| Key::of(&digest(*name))).collect());
                }
                Step::UnpinAll => {
                    pinned.clear();
                    store.set_pinned(HashSet::new());
                }
                Step::Favour(name) => store.favour(&[Key::of(&digest(name))]),
                Step::Dismiss(name) => {
                    store.dismiss(&Key::of(&digest(name)));
                    // Whoever reads it reads on, but one that is fetched later is another one.
                    gone.extend(reading.extract_if(.., |(read, _)| *read == name));
                }
                Step::Condemn(name) => {
                    store.condemn(&Key::of(&digest(name)));
                    gone.extend(reading.extract_if(.., |(read, _)| *read == name));
                }
                Step::LeavePartial(name) => {
                    if store.size(&digest(name)).is_none() && store.reserve(20).is_some() {
                        fs::write(store.partial_path(&digest(name)), [name; 20]).expect("written");
                        store.leave_partial(&digest(name));
                    }
                }
                Step::FlushRows => drop(store.take_changes(1000)),
            }
            prop_assert!(store.index().held.total() <= CAPACITY, "{:?}", store.index().held);
            prop_assert_eq!(store.metrics.contradiction(), None);
            let held = store.index().held;
            prop_assert_eq!(bytes_in(&data.path().join("blobs")), held.whole);
            prop_assert_eq!(bytes_in(&data.path().join("partial")), held.partial);
            prop_assert_eq!(bytes_in(&data.path().join("quarantine")), held.quarantined);
        }
    }
}
