//! containerd with the edge first in its `hosts.toml` and the origin second: whatever becomes of the edge, the pull ends
//! well.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use crate::{
    clients::{
        client::named,
        containerd::{assert_holds, edge_first},
    },
    harness::{
        content::Content,
        engines::Containerd,
        fault_proxy::{Fault, FaultProxy},
        image::Image,
        network::Network,
        node::Plan,
        process::{PATIENCE, wait_for},
    },
};

/// What a pull may cost more because the edge is a black hole.
const BLACK_HOLE: Duration = Duration::from_secs(2);

/// What the `hosts.toml` of our docs says: every request of a pull walks the list of hosts again, four in a row at the
/// least (resolve, manifest, configuration, layers), and each of them pays it once.
const DIAL_TIMEOUT: &str = "dial_timeout = \"300ms\"";

/// Bytes of blobs that containerd has received and not yet taken in.
fn ingested(engine: &Containerd) -> u64 {
    let ingests = engine.scratch().join("root/io.containerd.content.v1.content/ingest");
    let size = |path: &Path| fs::metadata(path.join("data")).map_or(0, |data| data.len());
    let ingests = fs::read_dir(ingests).into_iter().flatten().flatten();
    ingests.map(|ingest| size(&ingest.path())).max().unwrap_or(0)
}

#[test]
fn an_edge_killed_in_the_midst_of_a_blob_is_left_for_the_origin_at_the_byte_reached() {
    const LAYER: usize = 8 << 20;
    const REACHED: u64 = 5 << 20;
    let origin = Plan::origin().start();
    let image = Image::make("killed_in_the_midst_of_a_blob", 2, LAYER);
    image.push(origin.address, "team/app", "latest");
    let content = Content::read(origin.address, "team/app", "latest");
    // The upstream of the edge stops in the layer, and the edge with it, where the test wants it.
    let (proxy, layer) = (FaultProxy::before(origin.address), image.blobs[1].digest());
    proxy.spoils(move |asked| if asked.name() == layer { Fault::Stuck(REACHED) } else { Fault::Honest });
    let mut edge =
        Plan::edge_of(&origin.address.to_string(), proxy.address).set("download.stall", "2m").start();

    let engine = Containerd::start();
    let hosts = edge_first(&engine, origin.address, edge.address, "");
    let name = named(&origin.address.to_string(), "team/app", "latest");
    let mut pull = engine.ctr();
    pull.args(["images", "pull", "--hosts-dir", &hosts, &name]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let pull = pull.spawn().expect("ctr starts; run tests/setup");
    wait_for("containerd is in the midst of the layer", PATIENCE, || {
        (ingested(&engine) > REACHED / 2).then_some(())
    });
    let parts = || origin.metrics().count("roadstead_http_requests_total", &["status=\"206\""]);
    assert_eq!(parts(), 0);
    edge.kill9();
    let ended = pull.wait_with_output().expect("ctr ends");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    assert_holds(&engine, &content);
    // Of the other layer too, where the kill met that one on its way.
    assert!((1..=2).contains(&parts()), "the origin was asked for {} rests of layers", parts());
}

#[test]
fn an_edge_that_cannot_serve_sends_containerd_to_the_origin() {
    let origin = Plan::origin().start();
    let image = Image::make("an_edge_that_cannot_serve", 2, 100_000);
    image.push(origin.address, "team/app", "latest");
    let content = Content::read(origin.address, "team/app", "latest");
    let mut proxy = FaultProxy::before(origin.address);
    let edge = Plan::edge_of(&origin.address.to_string(), proxy.address).start();
    proxy.goes_down();
    let engine = Containerd::start();
    let hosts = edge_first(&engine, origin.address, edge.address, "");
    let name = named(&origin.address.to_string(), "team/app", "latest");
    let began = Instant::now();
    engine.run(&["images", "pull", "--hosts-dir", &hosts, &name]);
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    assert_holds(&engine, &content);
    let asked = edge.metrics().count("roadstead_http_requests_total", &["status=\"503\""]);
    // A 503 is not asked again: each request of the pull once, and no more.
    assert!((2..=8).contains(&asked), "the edge was asked {asked} times");
}

#[test]
fn a_black_holed_edge_costs_a_pull_less_than_two_seconds() {
    Network::isolated(|network| {
        let origin = Plan::origin().start();
        let edge = Plan::edge(origin.address).start();
        let engine = Containerd::start_current();
        network.swallow(edge.address);
        // The machine is shared with other tests: what counts is the best of a few rounds.
        let costs = (0..3).map(|round| {
            let without = pull(&engine, origin.address, &format!("without {round}"), origin.address);
            let with = pull(&engine, origin.address, &format!("with {round}"), edge.address);
            println!("a pull takes {without:?}, and {with:?} with a black hole in the way");
            with.saturating_sub(without)
        });
        assert!(costs.into_iter().any(|cost| cost < BLACK_HOLE), "more than {BLACK_HOLE:?} in every round");
        network.deliver(edge.address);
        assert_eq!(edge.metrics().count("roadstead_http_requests_total", &["route=\"manifest\""]), 0);
        pull(&engine, origin.address, "healed", edge.address);
        assert!(
            edge.metrics().count("roadstead_upstream_bytes_received_total", &[]) > 300_000,
            "by the edge again"
        );
    });
}

/// Pushes an image of its own and pulls it by way of a mirror; gives the time that the pull took.
fn pull(engine: &Containerd, origin: SocketAddr, what: &str, mirror: SocketAddr) -> Duration {
    let image = Image::make(what, 3, 100_000);
    let tag = what.replace(' ', "-");
    image.push(origin, "team/app", &tag);
    let hosts = edge_first(engine, origin, mirror, DIAL_TIMEOUT);
    let began = Instant::now();
    engine.run(&["images", "pull", "--hosts-dir", &hosts, &named(&origin.to_string(), "team/app", &tag)]);
    let took = began.elapsed();
    assert_holds(engine, &Content::read(origin, "team/app", &tag));
    took
}
