//! What an edge has must come faster than what it lacks. Here even the origin is on loopback, so a miss is as cheap as
//! it can be; a hit that is slower fails the whole bench.

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::Result;

use crate::blob::{Blob, Filling};
use crate::goals::Goal;
use crate::node::Node;
use crate::peers::{Freshness, Peers};
use crate::registry::{Manifest, blob_path, check_manifest, push_image};
use crate::rounds::{Contender, Row, Unit, measure};
use crate::wire::{Connection, request};

const MISS: &str = "Roadstead edge, miss";
const HIT: &str = "Roadstead edge, hit";

/// An image with one layer.
struct Image {
    tag: String,
    layer: Blob,
    manifest: Manifest,
}

pub(crate) fn rows(peers: &Peers, filling: &Filling) -> Result<Vec<Row>> {
    let origin = peers.origin()?;
    let edge = peers.edge(origin.address, Freshness::Strict)?;
    let large = images(&origin, filling, 5, 256 << 20)?;
    let small = images(&origin, filling, 31, 64 << 10)?;
    for image in &large {
        by_tag(edge.address, image)?;
    }
    Ok(vec![
        row("manifest by tag, strict, origin on loopback", &edge, &small, by_tag)?,
        row("64 KiB layer, origin on loopback", &edge, &small, layer)?,
        row("256 MiB layer, origin on loopback", &edge, &large, layer)?,
    ])
}

/// Each round has an image of its own, pulled twice.
fn row(
    what: &str,
    edge: &Node,
    images: &[Image],
    pull: fn(SocketAddr, &Image) -> Result<f64>,
) -> Result<Row> {
    let contenders = vec![
        Contender::new(MISS, |round| pull(edge.address, &images[round])),
        Contender::new(HIT, |round| pull(edge.address, &images[round])).goal(Goal::MustBeat { of: MISS }),
    ];
    measure(&format!("hit and miss: {what}"), Unit::Milliseconds, images.len(), &[edge], contenders)
}

fn by_tag(address: SocketAddr, image: &Image) -> Result<f64> {
    let mut connection = Connection::open(address)?;
    let begun = Instant::now();
    check_manifest(&mut connection, address, &image.tag, &image.manifest)?;
    Ok(begun.elapsed().as_secs_f64() * 1e3)
}

fn layer(address: SocketAddr, image: &Image) -> Result<f64> {
    let arrival = Connection::open(address)?
        .download(&request("GET", address, &blob_path(&image.layer)), image.layer.size)?;
    Ok(arrival.last_byte.as_secs_f64() * 1e3)
}

fn images(origin: &Node, filling: &Filling, count: usize, size: u64) -> Result<Vec<Image>> {
    (0..count)
        .map(|at| {
            let tag = format!("hit-{size}-{at}");
            let (config, layer) = (filling.blob(&format!("config {tag}"), 1024), filling.blob(&tag, size));
            let manifest = push_image(origin.address, filling, &tag, &[&config, &layer])?;
            Ok(Image { tag, layer, manifest })
        })
        .collect()
}
