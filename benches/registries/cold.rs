//! The first pull of an image in a datacenter: through an edge or a proxy, and directly, over the same kind of link.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;

use crate::blob::{Blob, Filling};
use crate::node::Node;
use crate::peers::{Freshness, Peers};
use crate::registry::{Manifest, blob_path, check_blob, check_manifest, push_image};
use crate::relay::Relay;
use crate::rounds::{Contender, Goal, Row, Unit, measure};
use crate::wire::{Arrival, Connection, request};

/// The link's bytes a second.
const RATE: f64 = 50e6;
/// How far away the origin is in the last row, one way.
const DELAY: Duration = Duration::from_millis(5);
const ROUNDS: usize = 3;
/// A layer that takes seconds, for the whole time.
const LARGE: u64 = 256 << 20;
/// Layers for the first byte, of which each round takes one.
const SMALL: u64 = 1 << 20;
const SMALL_ROUNDS: usize = 15;

const DIRECT: &str = "direct";

/// One way to the origin, over a link of its own.
struct Way {
    relay: Relay,
    /// The mirror on this way, if there is one.
    mirror: Option<Node>,
}

/// An image with one layer to measure.
struct Image {
    tag: String,
    layer: Blob,
    manifest: Manifest,
}

impl Way {
    fn name(&self) -> &'static str {
        self.mirror.as_ref().map_or(DIRECT, |mirror| mirror.name)
    }

    fn address(&self) -> SocketAddr {
        self.mirror.as_ref().map_or(self.relay.address, |mirror| mirror.address)
    }

    /// Pulls the manifest by tag, as a client does, then the layer, and waits until the link is quiet again.
    fn pull(&self, image: &Image) -> Result<Arrival> {
        let address = self.address();
        let mut connection = Connection::open(address)?;
        check_manifest(&mut connection, address, &image.tag, &image.manifest)?;
        let arrival =
            connection.download(&request("GET", address, &blob_path(&image.layer)), image.layer.size)?;
        self.relay.settle()?;
        Ok(arrival)
    }
}

pub(crate) fn rows(peers: &Peers, filling: &Filling) -> Result<Vec<Row>> {
    let origin = peers.origin()?;
    let images = |count: usize, size: u64| {
        (0..count).map(|at| image(&origin, filling, size, at)).collect::<Result<Vec<_>>>()
    };
    let (large, small) = (images(ROUNDS, LARGE)?, images(SMALL_ROUNDS, SMALL)?);
    let near = ways(peers, &origin, Duration::ZERO)?;
    let watched = watch(&origin, &near);
    let whole = |arrival: Arrival| arrival.last_byte.as_secs_f64();
    let first = |arrival: Arrival| arrival.first_byte.as_secs_f64() * 1e3;
    let contenders = contend(&near, &large, whole, 1.1);
    let mut rows =
        vec![measure("cold 256 MiB layer over a 50 MB/s link", Unit::Seconds, ROUNDS, &watched, contenders)?];
    for way in &near {
        for image in &large {
            check_blob(way.address(), &blob_path(&image.layer), &image.layer)?;
        }
    }
    let title = "first byte of a cold layer over a 50 MB/s link";
    let contenders = contend(&near, &small, first, 1.3);
    rows.push(measure(title, Unit::Milliseconds, SMALL_ROUNDS, &watched, contenders)?);

    let far = ways(peers, &origin, DELAY)?;
    let title = "the same, 5 ms away";
    let contenders = contend(&far, &small, first, 1.3);
    rows.push(measure(title, Unit::Milliseconds, SMALL_ROUNDS, &watch(&origin, &far), contenders)?);
    Ok(rows)
}

/// Directly, and through a mirror of each kind that has nothing yet.
fn ways(peers: &Peers, origin: &Node, delay: Duration) -> Result<[Way; 3]> {
    let link = || Relay::open(origin.address, Some(RATE), delay);
    let (direct, proxy, edge) = (link()?, link()?, link()?);
    Ok([
        Way { mirror: None, relay: direct },
        Way { mirror: Some(peers.docker_registry_proxy(proxy.address)?), relay: proxy },
        Way { mirror: Some(peers.edge(edge.address, Freshness::Strict)?), relay: edge },
    ])
}

fn watch<'a>(origin: &'a Node, ways: &'a [Way]) -> Vec<&'a Node> {
    let mirrors = ways.iter().filter_map(|way| way.mirror.as_ref());
    [origin].into_iter().chain(mirrors).collect()
}

fn contend<'a>(
    ways: &'a [Way],
    images: &'a [Image],
    figure: fn(Arrival) -> f64,
    times: f64,
) -> Vec<Contender<'a>> {
    let contenders = ways.iter().map(|way| {
        let contender = Contender::new(way.name(), move |round| Ok(figure(way.pull(&images[round])?)));
        if way.name().starts_with("Roadstead") {
            return contender.goal(Goal::AtMost { times, of: DIRECT });
        }
        contender
    });
    contenders.collect()
}

fn image(origin: &Node, filling: &Filling, size: u64, at: usize) -> Result<Image> {
    let tag = format!("cold-{size}-{at}");
    let (config, layer) = (filling.blob(&format!("config {tag}"), 1024), filling.blob(&tag, size));
    let manifest = push_image(origin.address, filling, &tag, &[&config, &layer])?;
    Ok(Image { tag, layer, manifest })
}
