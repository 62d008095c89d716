//! A 1 GiB blob that the server has, over TLS.

use std::fs::File;

use anyhow::{Result, ensure};

use crate::blob::{Blob, Filling};
use crate::goals::Goal;
use crate::node::Node;
use crate::peers::{Peers, files};
use crate::registry::{blob_path, manifest_path, push_image};
use crate::rounds::{Contender, Row, Unit, measure};
use crate::tls::Identity;
use crate::warm::at_once;
use crate::{GIB, speed};

const ROUNDS: usize = 5;

pub(crate) fn rows(peers: &Peers, filling: &Filling) -> Result<Vec<Row>> {
    let identity = Identity::new(peers.directory()?)?;
    let blob = filling.blob("warm", GIB);
    let config = filling.blob("warm config", 1024);
    let (nginx, origin) = (peers.nginx_tls(&identity)?, peers.in_memory().origin()?);
    let edge = peers.edge_tls(origin.address, &identity)?;
    filling.write(&blob, &mut File::create(files(nginx.directory()).join("blob"))?)?;
    let manifest = push_image(origin.address, filling, "warm", &[&config, &blob])?;
    let pulled = identity.fetch(edge.address, &manifest_path("warm"))?;
    ensure!(pulled == manifest.bytes, "the manifest came back with other bytes");
    let path = blob_path(&blob);
    identity.check_blob(edge.address, &path, &blob)?;
    identity.check_blob(nginx.address, "/blob", &blob)?;
    let nodes = [&nginx, &edge];
    [1, 4].iter().map(|&connections| row(&identity, &nodes, &path, &blob, connections)).collect()
}

fn row(identity: &Identity, nodes: &[&Node], path: &str, blob: &Blob, connections: usize) -> Result<Row> {
    let contenders = nodes.iter().map(|node| {
        let ours = node.name.starts_with("Roadstead");
        let path = if ours { path } else { "/blob" };
        let contender = Contender::new(node.name, move |_| {
            let elapsed = at_once(
                connections,
                || identity.connect(node.address),
                |connection| connection.download(node.address, path, blob.size),
            )?;
            Ok(speed(blob.size * connections as u64, elapsed))
        });
        if ours { contender.goal(Goal::AtLeast { times: 1.2, of: "nginx, TLS" }) } else { contender }
    });
    let title = format!("warm 1 GiB blob over TLS 1.3 (AES-128-GCM), connections: {connections}");
    measure(&title, Unit::Speed, ROUNDS, nodes, contenders.collect())
}
