//! What a pull through an edge may rely on beyond right bytes: they come as they arrive, a kill costs only what was not yet
//! there, a hit is no slower than a miss, and what is asked for stays.

use std::{
    io,
    time::{Duration, Instant},
};

use super::ask::{Known, Way};
use crate::harness::{
    content::{Content, try_blob},
    fault_proxy::{Fault, FaultProxy},
    http::Connection,
    image::Image,
    large::LargeBlob,
    node::Plan,
    process::PATIENCE,
};

const LAYER: usize = 8 << 20;
const REACHED: u64 = 5 << 20;

#[test]
fn bytes_reach_the_client_while_the_upstream_still_has_the_rest() {
    let origin = Plan::origin().start();
    let image = Image::make("bytes_reach_the_client", 1, LAYER);
    image.push(origin.address, "team/app", "latest");
    let proxy = FaultProxy::before(origin.address);
    let edge = Plan::edge(proxy.address).set("download.stall", "1m").start();
    proxy.does(Fault::Stuck(REACHED));
    let layer = Known::blob("team/app", &image.blobs[1]);
    for range in [None, Some("bytes=1000000-4000000")] {
        let mut connection = Connection::open(edge.address).expect("the edge listens");
        let headers = range.map(|range| ("Range", range));
        connection.send_head("GET", &layer.path(), headers.as_slice()).expect("a request can be sent");
        let head = connection.read_head().expect("the answer begins");
        let mut body = Vec::new();
        // Nothing comes from upstream any more, and nothing else is held back but a byte.
        connection.read_exactly(3_000_001, &mut body).expect("so much has come");
        let first = if range.is_some() { 1_000_000 } else { 0 };
        assert_eq!(head.status, if range.is_some() { 206 } else { 200 });
        assert!(body == image.blobs[1].bytes[first..first + 3_000_001], "{range:?}");
    }
    let asked = proxy.take_asked().iter().filter(|asked| asked.is_for_blob()).count();
    assert_eq!(asked, 1, "both were served by one download");
}

#[test]
fn a_fill_that_was_killed_is_resumed_at_once_from_the_byte_reached() {
    let origin = Plan::origin().start();
    let image = Image::make("a_fill_that_was_killed", 1, LAYER);
    image.push(origin.address, "team/app", "latest");
    let proxy = FaultProxy::before(origin.address);
    let mut edge = Plan::edge(proxy.address).set("download.stall", "1m").start();
    proxy.does(Fault::Stuck(REACHED));
    let layer = Known::blob("team/app", &image.blobs[1]);
    let mut connection = Connection::open(edge.address).expect("the edge listens");
    connection.send_head("GET", &layer.path(), &[]).expect("a request can be sent");
    connection.read_head().expect("the answer begins");
    connection.read_exactly(REACHED - 1, &mut io::sink()).expect("so much comes");
    edge.restart();
    proxy.does(Fault::Honest);
    proxy.take_asked();
    layer.ask(edge.address, Way::Get).right_within(Duration::from_secs(5), "the blob after the kill");
    let offsets: Vec<usize> = proxy.take_asked().iter().map(|asked| asked.offset()).collect();
    // What a client has seen was written before, so it is there after a kill of the process.
    assert!(matches!(offsets[..], [offset] if offset as u64 >= REACHED - 1), "{offsets:?}");
}

#[test]
fn a_warm_blob_comes_no_slower_than_it_came_cold() {
    let origin = Plan::origin().start();
    let edge = Plan::edge(origin.address).start();
    // The machine is shared with other tests: what counts is the best of a few rounds.
    let ratios = (0..5).map(|round| {
        let blob = LargeBlob::make(&format!("warm and cold {round}"), 48 << 20);
        blob.push(origin.address, "team/app");
        let pull = || {
            let began = Instant::now();
            let pulled = try_blob(edge.address, "team/app", &blob.digest).expect("it comes whole");
            assert_eq!(pulled, (200, blob.length, blob.digest.clone()));
            began.elapsed().as_secs_f64()
        };
        let cold = pull();
        edge.finishes_downloads();
        let warm = pull();
        println!("cold {cold:.3} s, warm {warm:.3} s");
        warm / cold
    });
    assert!(ratios.into_iter().any(|ratio| ratio <= 1.0), "slower from the cache in every round");
}

#[test]
fn an_image_that_is_pulled_by_digest_alone_stays_while_others_pass() {
    let origin = Plan::origin().start();
    let proxy = FaultProxy::before(origin.address);
    let image = Image::make("pulled by digest alone", 2, 100_000);
    image.push(origin.address, "team/app", &image.digest());
    let edge = Plan::edge(proxy.address).set("cache.capacity", "8 MiB").set("cache.keep_free", "0").start();
    for number in 0..60 {
        Content::read(edge.address, "team/app", &image.digest());
        let passing = Image::make(&format!("one that passes {number}"), 2, 100_000);
        passing.push(origin.address, "team/other", &format!("v{number}"));
        Content::read(edge.address, "team/other", &format!("v{number}"));
        edge.finishes_downloads();
    }
    assert!(edge.metrics().count("roadstead_cache_evictions_total", &[]) > 0, "room had to be made");
    let asked = proxy.take_asked();
    for blob in &image.blobs {
        let times = asked.iter().filter(|asked| asked.name() == blob.digest()).count();
        assert_eq!(times, 1, "{} bytes of it crossed the link {times} times", blob.bytes.len());
    }
    proxy.does(Fault::Closed);
    Known::manifest("team/app", &image).ask(edge.address, Way::Get).right_within(PATIENCE, "offline");
}
