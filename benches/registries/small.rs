//! Many small blobs that the server has, all different: what an image of many small layers, or a registry of small
//! artifacts, asks for. Costs per request, and per file opened, decide.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::blob::{Blob, Filling};
use crate::goals::Goal;
use crate::node::Node;
use crate::peers::{Freshness, Peers, files};
use crate::registry::{blob_path, check_blob, check_manifest, push_put, put_manifest};
use crate::rounds::{Contender, Row, Unit, measure};
use crate::wire::{Connection, head_end, request};

const BLOBS: usize = 2000;
const CONNECTIONS: usize = 32;
const ROUNDS: usize = 5;
const SAMPLE: Duration = Duration::from_millis(1500);
/// Threads that push and check beforehand.
const WORKERS: usize = 8;
const TAG: &str = "small";

pub(crate) fn rows(peers: &Peers, filling: &Filling) -> Result<Vec<Row>> {
    let (nginx, origin) = (peers.nginx()?, peers.in_memory().origin()?);
    let (bare, edge) = (peers.bare_hyper(&nginx)?, peers.edge(origin.address, Freshness::Strict)?);
    let blobs: Vec<Blob> = (0..BLOBS).map(|at| filling.blob(&format!("small {at}"), size(at))).collect();
    each(&blobs, |blob| push_put(origin.address, filling, blob))?;
    let manifest = put_manifest(origin.address, TAG, &blobs.iter().collect::<Vec<_>>())?;
    let directory = files(nginx.directory()).join("small");
    fs::create_dir(&directory)?;
    each(&blobs, |blob| Ok(filling.write(blob, &mut File::create(directory.join(&blob.digest))?)?))?;
    check_manifest(&mut Connection::open(edge.address)?, edge.address, TAG, &manifest)?;
    each(&blobs, |blob| check_blob(edge.address, &blob_path(blob), blob))?;
    for node in [&nginx, &bare, &origin] {
        each(&blobs, |blob| check_blob(node.address, &path(node, blob), blob))?;
    }
    let nodes = [&nginx, &bare, &origin, &edge];
    let contenders = nodes.iter().map(|node| {
        let asked: Vec<Asked> = blobs.iter().map(|blob| Asked::new(node, blob)).collect();
        let contender = Contender::new(node.name, move |_| load(node.address, &asked));
        if node.name == "Roadstead edge" {
            return contender.goal(Goal::AtLeast { times: 1.0, of: "nginx" });
        }
        contender
    });
    let title = format!("{BLOBS} blobs of 1-64 kB, {CONNECTIONS} connections");
    let row = measure(&title, Unit::Requests, ROUNDS, &nodes, contenders.collect())?;
    let limit = format!(
        "A bare hyper server that opens the same files and does nothing else gives {:.2} of what nginx gives.",
        row.median("bare hyper") / row.median("nginx")
    );
    Ok(vec![row.limited(limit)])
}

/// From 1 to 64 kB, all sizes alike, in no order.
fn size(at: usize) -> u64 {
    1000 + (at as u64 * 40_503) % 63_001
}

fn path(node: &Node, blob: &Blob) -> String {
    match node.name {
        "nginx" | "bare hyper" => format!("/small/{}", blob.digest),
        _ => blob_path(blob),
    }
}

/// Does something to each, several at a time.
fn each<T: Sync>(all: &[T], work: impl Fn(&T) -> Result<()> + Sync) -> Result<()> {
    thread::scope(|scope| {
        let parts = all.chunks(all.len().div_ceil(WORKERS));
        let work = &work;
        let workers: Vec<_> = parts.map(|part| scope.spawn(move || part.iter().try_for_each(work))).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("no worker panics"))
    })
}

/// A request, and how long the body of its answer is.
struct Asked {
    request: Vec<u8>,
    size: u64,
}

impl Asked {
    fn new(node: &Node, blob: &Blob) -> Self {
        Self { request: request("GET", node.address, &path(node, blob)), size: blob.size }
    }
}

/// Requests a second from one thread that goes round its connections: takes one's answer, sends its next request, goes on,
/// over all blobs again and again.
fn load(address: SocketAddr, asked: &[Asked]) -> Result<f64> {
    let mut all = asked.iter().cycle();
    let mut waiting = VecDeque::new();
    for asked in all.by_ref().take(CONNECTIONS) {
        let mut client = Connection::open(address)?;
        client.stream().write_all(&asked.request)?;
        waiting.push_back((client, asked.size));
    }
    let mut buffer = vec![0; 8 << 10];
    let (begun, mut answered) = (Instant::now(), 0_u32);
    for asked in all {
        let (mut client, size) = waiting.pop_front().context("there is one for each connection")?;
        take(&mut client, size, &mut buffer)?;
        answered += 1;
        if (answered as usize).is_multiple_of(BLOBS) && begun.elapsed() >= SAMPLE {
            break;
        }
        client.stream().write_all(&asked.request)?;
        waiting.push_back((client, asked.size));
    }
    Ok(f64::from(answered) / begun.elapsed().as_secs_f64())
}

/// Takes an answer: its head is looked at, its body thrown away inside the kernel.
fn take(client: &mut Connection, size: u64, buffer: &mut [u8]) -> Result<()> {
    let mut filled = 0;
    let end = loop {
        let n = client.stream().read(&mut buffer[filled..])?;
        ensure!(n > 0, "the connection was closed");
        filled += n;
        if let Some(end) = head_end(&buffer[..filled]) {
            break end;
        }
    };
    ensure!(
        buffer.starts_with(b"HTTP/1.1 200 "),
        "not a 200: {}",
        String::from_utf8_lossy(&buffer[..filled])
    );
    let early = (filled - end) as u64;
    let mut left = size.checked_sub(early).context("more than was asked for")?;
    while left > 0 {
        let n = client.discard(left)?;
        ensure!(n > 0, "the body ended {left} bytes early");
        left -= n;
    }
    Ok(())
}
