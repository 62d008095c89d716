//! A manifest that the server has, asked for again and again: by tag, by digest, by `HEAD`.

use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::blob::{Blob, Filling};
use crate::goals::Goal;
use crate::node::Node;
use crate::peers::{Freshness, Peers, files};
use crate::registry::{check_manifest, manifest_path, push_image};
use crate::rounds::{Contender, Row, Unit, measure};
use crate::wire::{Connection, head_end, request};

const CONNECTIONS: usize = 64;
const ROUNDS: usize = 5;
/// Of those that are tens of times slower.
const OTHERS_ROUNDS: usize = 1;
const WARM_UP: Duration = Duration::from_millis(200);
const SAMPLE: Duration = Duration::from_millis(800);
/// Layers that make a manifest of 1.5 kB.
const LAYERS: usize = 8;
const TAG: &str = "latest";
/// The most requests a second that another registry gave on a machine like this.
const OTHERS: f64 = 16_400.0;

pub(crate) fn rows(peers: &Peers, filling: &Filling) -> Result<Vec<Row>> {
    let (docker, distribution, nginx, origin) =
        (peers.docker_registry()?, peers.distribution()?, peers.nginx()?, peers.origin()?);
    let blobs: Vec<Blob> = (0..=LAYERS).map(|at| filling.blob(&format!("layer {at}"), 4096)).collect();
    let blobs: Vec<&Blob> = blobs.iter().collect();
    let manifest = push_image(origin.address, filling, TAG, &blobs)?;
    for node in [&docker, &distribution] {
        push_image(node.address, filling, TAG, &blobs)?;
    }
    fs::write(files(nginx.directory()).join("manifest"), &manifest.bytes)?;
    let bare = peers.bare_hyper(&nginx)?;
    let proxy = peers.docker_registry_proxy(origin.address)?;
    let strict = peers.edge(origin.address, Freshness::Strict)?;
    let minute = peers.edge(origin.address, Freshness::Minute)?;
    let nodes = [&nginx, &bare, &docker, &distribution, &proxy, &origin, &strict, &minute];
    for node in &nodes[2..] {
        let mut connection = Connection::open(node.address)?;
        check_manifest(&mut connection, node.address, TAG, &manifest)?;
        check_manifest(&mut connection, node.address, &manifest.digest, &manifest)?;
    }
    let size = manifest.bytes.len();
    Ok(vec![
        row(&nodes, &format!("manifest of {size} bytes by tag, 64 connections"), "GET", TAG)?,
        row(&nodes, &format!("manifest of {size} bytes by digest, 64 connections"), "GET", &manifest.digest)?,
        row(&nodes, "manifest by tag, HEAD, 64 connections", "HEAD", TAG)?,
    ])
}

fn row(nodes: &[&Node], title: &str, method: &'static str, reference: &str) -> Result<Row> {
    let contenders = nodes.iter().map(|node| {
        let file = matches!(node.name, "nginx" | "bare hyper");
        let path = if file { "/manifest".to_owned() } else { manifest_path(reference) };
        let contender = Contender::new(node.name, move |_| load(node.address, method, &path));
        if node.name.starts_with("Roadstead edge") {
            return contender.goal(Goal::Rate { floor: OTHERS, times: 0.8, of: "nginx" });
        }
        if matches!(node.name, "docker-registry" | "Distribution 3" | "docker-registry proxy") {
            return contender.only(OTHERS_ROUNDS);
        }
        contender
    });
    measure(title, Unit::Requests, ROUNDS, nodes, contenders.collect())
}

/// Requests a second from one thread that goes round its connections: reads one's answer, sends its next request, goes
/// on. Two system calls a request, and always nearly as many requests under way as there are connections.
fn load(address: SocketAddr, method: &str, path: &str) -> Result<f64> {
    let request = request(method, address, path);
    let mut clients = (0..CONNECTIONS).map(|_| Connection::open(address)).collect::<Result<Vec<_>>>()?;
    for client in &mut clients {
        client.stream().write_all(&request)?;
    }
    let mut answers = Answers { bodies: method != "HEAD", length: 0, buffer: vec![0; 16 << 10] };
    let mut turn = |clients: &mut [Connection]| -> Result<()> {
        for client in clients {
            answers.take(client.stream())?;
            client.stream().write_all(&request)?;
        }
        Ok(())
    };
    let warm = Instant::now();
    while warm.elapsed() < WARM_UP {
        turn(&mut clients)?;
    }
    let (begun, mut turns) = (Instant::now(), 0);
    while begun.elapsed() < SAMPLE {
        turn(&mut clients)?;
        turns += 1;
    }
    Ok(f64::from(turns) * CONNECTIONS as f64 / begun.elapsed().as_secs_f64())
}

/// Reads whole answers of a 200, knowing how long the last one was.
struct Answers {
    bodies: bool,
    length: usize,
    buffer: Vec<u8>,
}

impl Answers {
    fn take(&mut self, stream: &mut impl Read) -> Result<()> {
        let mut filled = 0;
        loop {
            let n = stream.read(&mut self.buffer[filled..])?;
            ensure!(n > 0, "the connection was closed");
            filled += n;
            if filled == self.length {
                break;
            }
            if let Some(length) = self.whole(filled)? {
                ensure!(length >= filled, "more than one answer to one request");
                if length == filled {
                    self.length = length;
                    break;
                }
            }
        }
        ensure!(
            self.buffer.starts_with(b"HTTP/1.1 200 "),
            "not a 200: {}",
            String::from_utf8_lossy(&self.buffer[..filled])
        );
        Ok(())
    }

    /// The length of the answer at hand, once its head is there.
    fn whole(&self, filled: usize) -> Result<Option<usize>> {
        let Some(end) = head_end(&self.buffer[..filled]) else { return Ok(None) };
        if !self.bodies {
            return Ok(Some(end));
        }
        let head = String::from_utf8_lossy(&self.buffer[..end]).to_ascii_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length:"))
            .context("no Content-Length")?;
        Ok(Some(end + length.trim().parse::<usize>()?))
    }
}
