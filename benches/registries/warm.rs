//! A 1 GiB blob that the server has: one connection, and four at once.

use std::fs::File;
use std::net::SocketAddr;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::blob::{Blob, Filling};
use crate::goals::Goal;
use crate::node::Node;
use crate::peers::{Freshness, Peers, files};
use crate::registry::{blob_path, check_blob, check_manifest, push_image};
use crate::rounds::{Contender, Row, Unit, measure};
use crate::wire::{Connection, request};
use crate::{GIB, speed};

const ROUNDS: usize = 5;

pub(crate) fn rows(peers: &Peers, filling: &Filling) -> Result<Vec<Row>> {
    let blob = filling.blob("warm", GIB);
    let config = filling.blob("warm config", 1024);
    let (docker, distribution, nginx, origin) =
        (peers.docker_registry()?, peers.distribution()?, peers.nginx()?, peers.origin()?);
    let edge = peers.edge(origin.address, Freshness::Strict)?;
    let bare = peers.bare_hyper(&nginx)?;
    filling.write(&blob, &mut File::create(files(nginx.directory()).join("blob"))?)?;
    for node in [&docker, &distribution, &origin] {
        push_image(node.address, filling, "warm", &[&config, &blob])?;
    }
    let manifest = crate::registry::manifest(&[&config, &blob]);
    check_manifest(&mut Connection::open(edge.address)?, edge.address, "warm", &manifest)?;
    let path = blob_path(&blob);
    for node in [&docker, &distribution, &origin, &edge] {
        check_blob(node.address, &path, &blob)?;
    }
    for node in [&nginx, &bare] {
        check_blob(node.address, "/blob", &blob)?;
    }

    let nodes = [&docker, &distribution, &nginx, &bare, &origin, &edge];
    [1, 4].iter().map(|&connections| row(&nodes, &path, &blob, connections)).collect()
}

fn row(nodes: &[&Node], path: &str, blob: &Blob, connections: usize) -> Result<Row> {
    let contenders = nodes.iter().map(|node| {
        let path = if matches!(node.name, "nginx" | "bare hyper") { "/blob" } else { path };
        let contender = Contender::new(node.name, move |_| download(node.address, path, blob, connections));
        match node.name {
            "Roadstead origin" => contender.goal(Goal::AtLeast { times: 1.2, of: "docker-registry" }),
            "Roadstead edge" => contender
                .goal(Goal::AtLeast { times: 1.3, of: "docker-registry" })
                .goal(Goal::AtLeast { times: 1.3, of: "Distribution 3" })
                .goal(Goal::AtLeast { times: 1.0, of: "nginx" })
                .goal(Goal::AtLeast { times: 0.9, of: "bare hyper" }),
            _ => contender,
        }
    });
    let title = format!("warm 1 GiB blob, connections: {connections}");
    let row = measure(&title, Unit::Speed, ROUNDS, nodes, contenders.collect())?;
    Ok(row.limited(
        "nginx hands pages of the page cache to the socket without copying them (sendfile); everything that reads a file \
         into memory first copies each byte once more, the bare hyper server too: its line is what is left.",
    ))
}

/// All connections are open before the clock starts; each takes the whole blob.
pub(crate) fn download(address: SocketAddr, path: &str, blob: &Blob, connections: usize) -> Result<f64> {
    let request = request("GET", address, path);
    let elapsed = at_once(
        connections,
        || Connection::open(address),
        |mut connection| connection.download(&request, blob.size).map(drop),
    )?;
    Ok(speed(blob.size * connections as u64, elapsed))
}

/// Has `clients` threads get ready, then work at once; how long until the last one is done.
pub(crate) fn at_once<T>(
    clients: usize,
    ready: impl Fn() -> Result<T> + Sync,
    work: impl Fn(T) -> Result<()> + Sync,
) -> Result<Duration> {
    let start = Barrier::new(clients + 1);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..clients)
            .map(|_| {
                scope.spawn(|| {
                    let prepared = ready();
                    start.wait();
                    work(prepared?)
                })
            })
            .collect();
        start.wait();
        let begun = Instant::now();
        for client in clients {
            client.join().expect("a client does not panic").context("a download")?;
        }
        Ok(begun.elapsed())
    })
}
