//! A 1 GiB blob that the server has: one connection, and four at once.

use std::fs::File;
use std::net::SocketAddr;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::blob::{Blob, Filling};
use crate::node::Node;
use crate::peers::{Freshness, Peers, files};
use crate::registry::{blob_path, check_blob, check_manifest, push_image};
use crate::rounds::{Contender, Goal, Row, Unit, measure};
use crate::wire::{Connection, request};
use crate::{GIB, speed};

const ROUNDS: usize = 5;

pub(crate) fn rows(peers: &Peers, filling: &Filling) -> Result<Vec<Row>> {
    let blob = filling.blob("warm", GIB);
    let config = filling.blob("warm config", 1024);
    let (docker, distribution, nginx, origin) =
        (peers.docker_registry()?, peers.distribution()?, peers.nginx()?, peers.origin()?);
    let edge = peers.edge(origin.address, Freshness::Strict)?;
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
    check_blob(nginx.address, "/blob", &blob)?;

    let nodes = [&docker, &distribution, &nginx, &origin, &edge];
    [1, 4].iter().map(|&connections| row(&nodes, &path, &blob, connections)).collect()
}

fn row(nodes: &[&Node], path: &str, blob: &Blob, connections: usize) -> Result<Row> {
    let contenders = nodes.iter().map(|node| {
        let path = if node.name == "nginx" { "/blob" } else { path };
        let contender = Contender::new(node.name, move |_| download(node.address, path, blob, connections));
        if node.name.starts_with("Roadstead") {
            return contender.goal(Goal::AtLeast { times: 1.2, of: "docker-registry" });
        }
        contender
    });
    measure(
        &format!("warm 1 GiB blob, connections: {connections}"),
        Unit::Speed,
        ROUNDS,
        nodes,
        contenders.collect(),
    )
}

/// All connections are open before the clock starts; each takes the whole blob.
pub(crate) fn download(address: SocketAddr, path: &str, blob: &Blob, connections: usize) -> Result<f64> {
    let request = request("GET", address, path);
    let start = Barrier::new(connections + 1);
    let elapsed = thread::scope(|scope| {
        let clients: Vec<_> = (0..connections)
            .map(|_| {
                scope.spawn(|| {
                    let connection = Connection::open(address);
                    start.wait();
                    connection?.download(&request, blob.size)
                })
            })
            .collect();
        start.wait();
        let begun = Instant::now();
        for client in clients {
            client.join().expect("a client does not panic").context("a download")?;
        }
        anyhow::Ok(begun.elapsed())
    })?;
    Ok(speed(blob.size * connections as u64, elapsed))
}
