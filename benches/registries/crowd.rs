//! A thousand clients at once on a hundred images, half of which the edge has never seen: nobody may be turned away, and
//! memory must not grow with the crowd.

use std::cell::Cell;
use std::sync::Barrier;
use std::thread::{self, Builder};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::blob::{Blob, Filling};
use crate::goals::Goal;
use crate::node::Node;
use crate::peers::{Freshness, Peers};
use crate::registry::{Manifest, blob_path, check_blob, check_manifest, push_image};
use crate::rounds::{Contender, Row, Unit, measure};
use crate::wire::{Connection, request};

const CLIENTS: usize = 1000;
const IMAGES: usize = 100;
/// Layers of each image, in bytes.
const LAYERS: [u64; 2] = [512 << 10, 4 << 20];
/// What a client's thread needs; a thousand of them must not be much.
const STACK: usize = 256 << 10;
/// One client in so many hashes what it gets; the others leave the cores to the servers.
const HASHING: usize = 20;

/// Memory above what the edge took when it had just started.
const MOST: f64 = 128.0 * 1_048_576.0;

struct Image {
    tag: String,
    blobs: Vec<Blob>,
    manifest: Manifest,
}

pub(crate) fn rows(peers: &Peers, filling: &Filling) -> Result<Vec<Row>> {
    let origin = peers.in_memory().origin()?;
    let images = (0..IMAGES).map(|at| Image::push(&origin, filling, at)).collect::<Result<Vec<_>>>()?;
    let edge = peers.edge(origin.address, Freshness::Strict)?;
    let idle = edge.memory()?.now;
    for image in images.iter().step_by(2) {
        image.check(&edge)?;
    }
    let (failed, peak) = (Cell::new(0.0), Cell::new(0.0));
    let pull = |_| {
        edge.forget_peak()?;
        let (seconds, failures) = pull_all(&edge, &images)?;
        failed.set(failures as f64);
        peak.set(edge.memory()?.peak.saturating_sub(idle) as f64);
        Ok(seconds)
    };
    let title =
        format!("{CLIENTS} clients at once on {IMAGES} images, half of them cold: until all have theirs");
    let took = measure(&title, Unit::Seconds, 1, &[&origin, &edge], vec![Contender::new(edge.name, pull)])?;
    for image in &images {
        image.check(&edge)?;
    }
    let one = |title: &str, unit, value: f64, most| {
        let contender = Contender::new(edge.name, move |_| Ok(value)).goal(Goal::Within(most));
        measure(title, unit, 1, &[], vec![contender])
    };
    let failed = one("the same: pulls that failed", Unit::Count, failed.get(), 0.0)?;
    let memory =
        one("the same: resident memory at the most, above an idle edge's", Unit::Bytes, peak.get(), MOST)?;
    Ok(vec![took, failed, memory])
}

impl Image {
    fn push(origin: &Node, filling: &Filling, at: usize) -> Result<Self> {
        let mut blobs = vec![filling.blob(&format!("crowd {at} config"), 4096)];
        blobs.extend(LAYERS.iter().map(|&size| filling.blob(&format!("crowd {at} {size}"), size)));
        let tag = format!("crowd-{at}");
        let manifest = push_image(origin.address, filling, &tag, &blobs.iter().collect::<Vec<_>>())?;
        Ok(Self { tag, blobs, manifest })
    }

    fn check(&self, edge: &Node) -> Result<()> {
        check_manifest(&mut Connection::open(edge.address)?, edge.address, &self.tag, &self.manifest)?;
        self.blobs.iter().try_for_each(|blob| check_blob(edge.address, &blob_path(blob), blob))
    }

    /// The manifest by tag, then each blob of it.
    fn pull(&self, mut connection: Connection, edge: &Node, client: usize) -> Result<()> {
        check_manifest(&mut connection, edge.address, &self.tag, &self.manifest)?;
        for blob in &self.blobs {
            let request = request("GET", edge.address, &blob_path(blob));
            if client.is_multiple_of(HASHING) {
                connection.download_hashed(&request, blob)?;
            } else {
                connection.download(&request, blob.size)?;
            }
        }
        Ok(())
    }
}

/// All connections are open before the first request: the seconds until the last client has its image, and how many failed.
fn pull_all(edge: &Node, images: &[Image]) -> Result<(f64, usize)> {
    let start = Barrier::new(CLIENTS + 1);
    thread::scope(|scope| {
        let mut clients = Vec::new();
        for client in 0..CLIENTS {
            let (start, image) = (&start, &images[client % IMAGES]);
            let work = move || {
                let connection = Connection::open(edge.address);
                start.wait();
                image.pull(connection?, edge, client)
            };
            let spawned = Builder::new().stack_size(STACK).spawn_scoped(scope, work);
            clients.push(spawned.context("a client's thread")?);
        }
        start.wait();
        let begun = Instant::now();
        let mut errors = Vec::new();
        for client in clients {
            errors.extend(client.join().expect("no client panics").err());
        }
        let seconds = begun.elapsed().as_secs_f64();
        if let Some(error) = errors.first() {
            eprintln!("  {} clients failed, the first: {error:#}", errors.len());
        }
        ensure!(errors.len() < CLIENTS, "every client failed");
        Ok((seconds, errors.len()))
    })
}
