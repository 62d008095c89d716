//! A mixed trace with faults, for as long as `SOAK_SECONDS` says: clients pull, push, hang up and stall while the upstream
//! falls ill in every way, the origin and one of two edges are killed, and the cache is too small for what is asked for.
//!
//! What holds all the time: what is pinned, and so was pulled before and is not evicted, is served as if nothing happened;
//! nobody ever gets a wrong byte, a wrong 404 or a 429; a tag without `Warning` is no older than its request. And at the
//! end: memory and open files have not grown, the store is within its bounds and undamaged, and everything is served.

mod clients;
mod watch;
mod weather;
mod world;

use std::time::{Duration, Instant};

use super::{
    ask::{Known, Outcome, Way},
    chance::Chance,
};
use crate::harness::{
    cache::Store,
    node::Node,
    process::{PATIENCE, wait_for},
};

use watch::Watch;
use weather::Weather;
use world::{CAPACITY, World};

/// Clients at a time.
const CLIENTS: usize = 8;

/// The form of it that belongs to the test suite; `make soak` takes ten minutes.
const SECONDS: u64 = 30;

#[test]
fn nothing_that_is_pinned_fails_and_nothing_grows_while_everything_else_goes_wrong() {
    let seconds = match std::env::var("SOAK_SECONDS") {
        Ok(seconds) => seconds.parse().unwrap_or_else(|_| panic!("SOAK_SECONDS={seconds:?} is no number")),
        Err(_) => SECONDS,
    };
    let mut chance = Chance::seeded("a mixed trace with faults");
    let (world, mut nodes) = World::make(&mut chance);
    let mut watch = Watch::new(&nodes.steady, Duration::from_secs(seconds));
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| Chance::new(chance.below(1 << 40) as u64)).collect();
        for mut chance in clients {
            let world = &world;
            scope.spawn(move || clients::pull_until_over(world, &mut chance));
        }
        let (world, mut writing) = (&world, Chance::new(chance.below(1 << 40) as u64));
        scope.spawn(move || clients::push_until_over(world, &mut writing));
        Weather::new(&mut nodes, world, &mut watch).until_over(&mut chance);
        world.ends();
    });
    world.print();
    assert_eq!(world.violations(), Vec::<String>::new());
    nodes.proxy.does(crate::harness::fault_proxy::Fault::Honest);
    for edge in [&nodes.killed, &nodes.steady] {
        edge.finishes_downloads();
        assert_is_whole(edge, &world);
    }
    watch.assert_nothing_grew(&nodes.steady);
}

/// Everything is served again, and the store is in order.
fn assert_is_whole(edge: &Node, world: &World) {
    let began = Instant::now();
    let images = world.images();
    for named in &images {
        let mut all = vec![Known::tag(&named.repository, &named.tag, &named.image)];
        all.extend(named.image.blobs.iter().map(|blob| Known::blob(&named.repository, blob)));
        for known in all {
            wait_for(&format!("{} is served again", known.path()), PATIENCE, || {
                let reply = known.ask(edge.address, Way::Get);
                assert!(!matches!(reply.outcome, Outcome::Wrong(_)), "{reply:?}");
                (reply.outcome == Outcome::Right).then_some(())
            });
        }
    }
    edge.finishes_downloads();
    let (store, metrics) = (Store(edge.address), edge.metrics());
    assert_eq!(store.verify()["damaged"], serde_json::json!([]));
    let held = metrics.count("roadstead_cache_bytes", &[]);
    assert!(held <= CAPACITY, "{held} bytes are held");
    assert_eq!(held, metrics.count("roadstead_cache_state_bytes", &[]), "the parts add up");
    for named in images.iter().filter(|named| named.pinned) {
        let listed = store.image(&format!("{}:{}", named.repository, named.tag)).expect("it is pinned");
        assert_eq!((&listed["pinned"], &listed["complete"]), (&true.into(), &true.into()), "{listed}");
    }
    println!(
        "  all {} images served again in {:?}, {} MB held",
        images.len(),
        began.elapsed(),
        held / 1_000_000
    );
}
