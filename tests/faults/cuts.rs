//! An upstream that is cut off at random bytes, a thousand times in one run: each client sees one whole, right blob, and
//! no byte crosses the link twice. The seed is printed; `SEED=` sets it.

use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::{
    ask::{Known, Way},
    chance::Chance,
};
use crate::harness::{
    cache::Store,
    fault_proxy::{Asked, Fault, FaultProxy},
    image::{Typed, push_blob},
    node::Plan,
    process::PATIENCE,
};

const BLOBS: usize = 100;
const CUTS_EACH: usize = 10;
const CLIENTS: usize = 16;

/// Cuts each blob's answers until it has had its share.
struct Scissors {
    chance: Mutex<Chance>,
    left: Mutex<HashMap<String, Left>>,
}

struct Left {
    cuts: usize,
    length: usize,
}

impl Scissors {
    fn cut(&self, asked: &Asked) -> Fault {
        let mut all = self.left.lock().expect("nobody panics");
        let Some(left) = all.get_mut(asked.name()).filter(|left| left.cuts > 0 && asked.method == "GET")
        else {
            return Fault::Honest;
        };
        left.cuts -= 1;
        let mut chance = self.chance.lock().expect("nobody panics");
        // Short enough that all cuts fall inside of the blob.
        let rest = (left.length - asked.offset()).min(left.length / CUTS_EACH);
        let at = chance.below(rest) as u64;
        match chance.below(4) {
            0 if asked.offset() > 0 => Fault::Closed,
            0 | 1 => Fault::Cut(at),
            2 => Fault::Reset(at),
            _ => Fault::HalfClosed(at),
        }
    }
}

#[test]
fn a_thousand_cuts_at_random_bytes_leave_every_blob_whole_and_right() {
    let mut chance = Chance::seeded("a thousand cuts");
    let blobs: Vec<Typed> = (0..BLOBS)
        .map(|_| {
            let length = 100_000 + chance.below(200_000);
            Typed { media_type: "application/octet-stream".into(), bytes: chance.bytes(length) }
        })
        .collect();
    let origin = Plan::origin().start();
    blobs.iter().for_each(|blob| push_blob(origin.address, "team/app", blob));
    let proxy = FaultProxy::before(origin.address);
    let left = blobs.iter().map(|blob| (blob.digest(), Left { cuts: CUTS_EACH, length: blob.bytes.len() }));
    let scissors =
        std::sync::Arc::new(Scissors { chance: Mutex::new(chance), left: Mutex::new(left.collect()) });
    let cutting = scissors.clone();
    proxy.spoils(move |asked| cutting.cut(asked));

    let edge = Plan::edge(proxy.address).start();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                while let Some(blob) = blobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let what = format!("a blob of {} bytes", blob.bytes.len());
                    Known::blob("team/app", blob).ask(edge.address, Way::Get).right_within(PATIENCE, &what);
                }
            });
        }
    });
    let uncut: usize = scissors.left.lock().expect("nobody panics").values().map(|left| left.cuts).sum();
    assert_eq!(uncut, 0, "all {} cuts were made", BLOBS * CUTS_EACH);
    edge.finishes_downloads();
    let bytes: usize = blobs.iter().map(|blob| blob.bytes.len()).sum();
    let received = edge.metrics().count("roadstead_upstream_bytes_received_total", &[]);
    assert_eq!(received, bytes as u64, "each cut was resumed from the byte reached");
    assert_eq!(Store(edge.address).verify()["damaged"], serde_json::json!([]));
    assert_eq!(edge.metrics().count("roadstead_cache_blobs", &[]), BLOBS as u64);
    for blob in &blobs {
        let reply = Known::blob("team/app", blob).ask(edge.address, Way::Get);
        assert!(
            reply.right_within(PATIENCE, "kept").header("cache-status").is_some_and(|s| s.ends_with("; hit"))
        );
    }
}
