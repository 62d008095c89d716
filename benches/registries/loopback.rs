//! The first pull of 1 GiB with nothing in the way: origin, mirror and client on loopback, where a mirror can only lose. To
//! a client that throws the bytes away, and to one that hashes them as every client of a registry does.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::net::SocketAddr;
use std::time::Instant;

use anyhow::Result;

use crate::Bench;
use crate::blob::{Blob, Filling, Hasher};
use crate::goals::Goal;
use crate::node::Node;
use crate::peers::Freshness;
use crate::registry::{blob_path, check_manifest};
use crate::rounds::{Contender, Row, Unit, measure};
use crate::stock::{IMAGES, Image};
use crate::wire::{Connection, request};

const DIRECT: &str = "direct";
const HASH: &str = "sha256, one thread";
const FILE: &str = "write of a file";
const TIMES: f64 = 1.5;

/// What a client does with a layer.
#[derive(Clone, Copy)]
enum Client {
    Discards,
    Hashes,
}

pub(crate) fn rows(bench: &Bench) -> Result<Vec<Row>> {
    Ok(vec![discarded(bench)?, hashed(bench)?])
}

fn discarded(bench: &Bench) -> Result<Row> {
    let upstream = bench.upstream()?;
    let (origin, images) = (&upstream.origin, &upstream.large);
    let docker = bench.peers.docker_registry_proxy(origin.address)?;
    let distribution = bench.peers.distribution_proxy(origin.address)?;
    let edge = bench.peers.edge(origin.address, Freshness::Strict)?;
    let scratch = bench.peers.directory()?;
    let filling = &bench.filling;
    let through = |node: &Node, round: usize| pull(node.address, &images[round], Client::Discards);
    let row = measure(
        "cold 1 GiB layer, all on loopback",
        Unit::Seconds,
        IMAGES,
        &[origin, &docker, &distribution, &edge],
        vec![
            Contender::new(DIRECT, |round| through(origin, round)),
            Contender::new(docker.name, |round| through(&docker, round)).only(1),
            Contender::new(distribution.name, |round| through(&distribution, round)).only(1),
            Contender::new(edge.name, |round| through(&edge, round))
                .goal(Goal::AtMost { times: TIMES, of: DIRECT }),
            Contender::new(HASH, |round| hash(filling, &images[round].layer)),
            Contender::new(FILE, |round| write(filling, &images[round].layer, &scratch.path().join("file"))),
        ],
    )?;
    let limit = format!(
        "No cache that gives out only verified bytes can end before it has hashed them: {} on one core of this machine, {:.2} \
         times what the origin takes to send them to a client that looks at none of them.",
        Unit::Seconds.show(row.median(HASH)),
        row.median(HASH) / row.median(DIRECT)
    );
    Ok(row.limited(limit))
}

fn hashed(bench: &Bench) -> Result<Row> {
    let upstream = bench.upstream()?;
    let (origin, images) = (&upstream.origin, &upstream.large);
    let edge = bench.peers.edge(origin.address, Freshness::Strict)?;
    let through = |node: &Node, round: usize| pull(node.address, &images[round], Client::Hashes);
    let row = measure(
        "the same, to a client that hashes what comes",
        Unit::Seconds,
        IMAGES,
        &[origin, &edge],
        vec![
            Contender::new(DIRECT, |round| through(origin, round)),
            Contender::new(edge.name, |round| through(&edge, round))
                .goal(Goal::AtMost { times: TIMES, of: DIRECT }),
        ],
    )?;
    Ok(row.limited(
        "Edge and client hash the same bytes at the same time, each on a core, while the origin and the kernel send and \
         write them on the same two cores.",
    ))
}

/// The manifest by tag, and then, timed, the layer. What pulls before left to write is written first.
fn pull(address: SocketAddr, image: &Image, client: Client) -> Result<f64> {
    rustix::fs::sync();
    let mut connection = Connection::open(address)?;
    check_manifest(&mut connection, address, &image.tag, &image.manifest)?;
    let request = request("GET", address, &blob_path(&image.layer));
    let took = match client {
        Client::Discards => connection.download(&request, image.layer.size)?.last_byte,
        Client::Hashes => connection.download_hashed(&request, &image.layer)?,
    };
    Ok(took.as_secs_f64())
}

fn hash(filling: &Filling, blob: &Blob) -> Result<f64> {
    let begun = Instant::now();
    filling.write(blob, &mut Hasher::new())?;
    Ok(begun.elapsed().as_secs_f64())
}

/// Into the page cache: nobody waits for the disk before the last byte is given out.
fn write(filling: &Filling, blob: &Blob, path: &std::path::Path) -> Result<f64> {
    rustix::fs::sync();
    let begun = Instant::now();
    let mut file = BufWriter::new(File::create(path)?);
    filling.write(blob, &mut file)?;
    file.flush()?;
    Ok(begun.elapsed().as_secs_f64())
}
