//! The first pull of an image in a datacenter: through an edge or a proxy, and directly, over the same kind of link.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;

use crate::Bench;
use crate::goals::Goal;
use crate::node::Node;
use crate::peers::{Freshness, Peers};
use crate::registry::{blob_path, check_blob, check_manifest};
use crate::relay::Relay;
use crate::rounds::{Contender, Row, Unit, measure};
use crate::stock::{Image, image};
use crate::wire::{Arrival, Connection, request};

/// The link's bytes a second.
const RATE: f64 = 50e6;
/// How far away the origin is in the last row, one way.
const DELAY: Duration = Duration::from_millis(5);
/// Of 1 GiB, 21.5 s each for whoever fills the link; the proxy takes twice as long, once.
const ROUNDS: usize = 2;
const PROXY_ROUNDS: usize = 1;
/// Layers for the first byte, of which each round takes one.
const SMALL: u64 = 1 << 20;
const SMALL_ROUNDS: usize = 15;

const DIRECT: &str = "direct";
const HOP: &str = "one more hop";

/// One way to the origin, over a link of its own.
struct Way {
    name: &'static str,
    link: Relay,
    /// What stands before the link.
    before: Before,
}

enum Before {
    Nothing,
    Relay(Relay),
    Mirror(Node),
}

impl Way {
    fn address(&self) -> SocketAddr {
        match &self.before {
            Before::Nothing => self.link.address,
            Before::Relay(relay) => relay.address,
            Before::Mirror(mirror) => mirror.address,
        }
    }

    /// Pulls the manifest by tag, as a client does, then the layer, and waits until the link is quiet again.
    fn pull(&self, image: &Image) -> Result<Arrival> {
        let address = self.address();
        let mut connection = Connection::open(address)?;
        check_manifest(&mut connection, address, &image.tag, &image.manifest)?;
        let arrival =
            connection.download(&request("GET", address, &blob_path(&image.layer)), image.layer.size)?;
        self.link.settle()?;
        Ok(arrival)
    }
}

pub(crate) fn rows(bench: &Bench) -> Result<Vec<Row>> {
    let upstream = bench.upstream()?;
    let origin = &upstream.origin;
    let small = (0..SMALL_ROUNDS).map(|at| image(origin, &bench.filling, &format!("small-{at}"), SMALL));
    let small = small.collect::<Result<Vec<_>>>()?;
    let near = ways(&bench.peers, origin, Duration::ZERO)?;
    let watched = watch(origin, &near);
    let without_hop = near.iter().filter(|way| way.name != HOP);
    let whole = |arrival: Arrival| arrival.last_byte.as_secs_f64();
    let contenders = without_hop.map(|way| {
        let rounds = if way.name == "docker-registry proxy" { PROXY_ROUNDS } else { ROUNDS };
        contend(way, &upstream.large, whole, 1.1).only(rounds)
    });
    let title = "cold 1 GiB layer over a 50 MB/s link";
    let mut rows = vec![measure(title, Unit::Seconds, ROUNDS, &watched, contenders.collect())?];
    for way in near.iter().filter(|way| way.name != HOP) {
        check_blob(way.address(), &blob_path(&upstream.large[0].layer), &upstream.large[0].layer)?;
    }
    rows.push(first_byte("first byte of a cold layer over a 50 MB/s link", &watched, &near, &small)?);
    let far = ways(&bench.peers, origin, DELAY)?;
    rows.push(first_byte("the same, 5 ms away", &watch(origin, &far), &far, &small)?);
    Ok(rows)
}

fn first_byte(title: &str, watched: &[&Node], ways: &[Way], small: &[Image]) -> Result<Row> {
    let first = |arrival: Arrival| arrival.first_byte.as_secs_f64() * 1e3;
    let contenders = ways.iter().map(|way| contend(way, small, first, 1.2)).collect();
    let row = measure(title, Unit::Milliseconds, SMALL_ROUNDS, watched, contenders)?;
    let limit = format!(
        "A hop that only passes bytes on, a relay of two threads in front of the link, already takes {} where the origin, on \
         the same machine and next to no time away, answers in {}: the goal leaves less for an edge's work than a hop costs. \
         An upstream that is milliseconds away is the next row.",
        Unit::Milliseconds.show(row.median(HOP)),
        Unit::Milliseconds.show(row.median(DIRECT))
    );
    Ok(row.limited(limit))
}

/// Directly, over one more hop, and through a mirror of each kind that has nothing yet.
fn ways(peers: &Peers, origin: &Node, delay: Duration) -> Result<[Way; 4]> {
    let link = || Relay::open(origin.address, Some(RATE), delay);
    let way = |name, link, before| Way { name, link, before };
    let (direct, hop, proxy, edge) = (link()?, link()?, link()?, link()?);
    let relay = Relay::open(hop.address, None, Duration::ZERO)?;
    let docker = peers.docker_registry_proxy(proxy.address)?;
    let ours = peers.edge(edge.address, Freshness::Strict)?;
    Ok([
        way(DIRECT, direct, Before::Nothing),
        way(HOP, hop, Before::Relay(relay)),
        way(docker.name, proxy, Before::Mirror(docker)),
        way(ours.name, edge, Before::Mirror(ours)),
    ])
}

fn watch<'a>(origin: &'a Node, ways: &'a [Way]) -> Vec<&'a Node> {
    let mirrors = ways.iter().filter_map(|way| match &way.before {
        Before::Mirror(mirror) => Some(mirror),
        Before::Nothing | Before::Relay(_) => None,
    });
    [origin].into_iter().chain(mirrors).collect()
}

fn contend<'a>(way: &'a Way, images: &'a [Image], figure: fn(Arrival) -> f64, times: f64) -> Contender<'a> {
    let contender = Contender::new(way.name, move |round| Ok(figure(way.pull(&images[round])?)));
    if way.name.starts_with("Roadstead") {
        return contender.goal(Goal::AtMost { times, of: DIRECT });
    }
    contender
}
