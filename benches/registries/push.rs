//! Pushes of 1 GiB: new to the registry, and there already.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::time::Instant;

use anyhow::Result;

use crate::blob::{Filling, Hasher};
use crate::goals::Goal;
use crate::node::Node;
use crate::peers::Peers;
use crate::registry::{blob_path, check_blob, push_post, push_put, push_streamed};
use crate::rounds::{Contender, Row, Unit, measure};
use crate::{GIB, speed};

const ROUNDS: usize = 2;

pub(crate) fn rows(peers: &Peers, filling: &Filling) -> Result<Vec<Row>> {
    Ok(vec![
        new(peers, filling, "push of a new 1 GiB blob, POST PATCH PUT, disk")?,
        new(&peers.in_memory(), filling, "push of a new 1 GiB blob, POST PATCH PUT, data in memory")?,
        again(peers, filling)?,
    ])
}

/// A blob of its own for each push; what the push before left in the page cache is written out beforehand.
fn new(peers: &Peers, filling: &Filling, title: &str) -> Result<Row> {
    let (docker, distribution, origin) = (peers.docker_registry()?, peers.distribution()?, peers.origin()?);
    let scratch = peers.directory()?;
    let push = |node: &Node, round: usize| {
        let blob = filling.blob(&format!("{} {round}", node.name), GIB);
        rustix::fs::sync();
        let begun = Instant::now();
        push_streamed(node.address, filling, &blob)?;
        let figure = speed(GIB, begun.elapsed());
        if round == 0 {
            check_blob(node.address, &blob_path(&blob), &blob)?;
        }
        Ok(figure)
    };
    let unregistered = filling.blob("bare", GIB);
    let bare = |_| {
        let path = scratch.path().join("bare");
        rustix::fs::sync();
        let begun = Instant::now();
        let mut file = BufWriter::new(File::create(&path)?);
        filling.write(&unregistered, &mut file)?;
        file.flush()?;
        file.get_ref().sync_all()?;
        Ok(speed(GIB, begun.elapsed()))
    };
    measure(
        title,
        Unit::Speed,
        ROUNDS,
        &[&docker, &distribution, &origin],
        vec![
            Contender::new(docker.name, |round| push(&docker, round)),
            Contender::new(distribution.name, |round| push(&distribution, round)),
            Contender::new(origin.name, |round| push(&origin, round))
                .goal(Goal::AtLeast { times: 1.2, of: "docker-registry" }),
            Contender::new("write and fsync of a file", bare),
        ],
    )
}

/// The digest is named before the body: nothing has to be written, only hashed.
fn again(peers: &Peers, filling: &Filling) -> Result<Row> {
    let (docker, origin) = (peers.docker_registry()?, peers.origin()?);
    let blob = filling.blob("again", GIB);
    for node in [&docker, &origin] {
        push_put(node.address, filling, &blob)?;
    }
    let timed = |work: &dyn Fn() -> Result<()>| {
        rustix::fs::sync();
        let begun = Instant::now();
        work()?;
        Ok(speed(GIB, begun.elapsed()))
    };
    let hash = || filling.write(&blob, &mut Hasher::new()).map_err(Into::into);
    measure(
        "push of a 1 GiB blob that is there, digest named first",
        Unit::Speed,
        ROUNDS,
        &[&docker, &origin],
        vec![
            Contender::new("sha256, one thread", |_| timed(&hash)),
            Contender::new("docker-registry", |_| timed(&|| push_put(docker.address, filling, &blob))),
            Contender::new("Roadstead origin", |_| timed(&|| push_post(origin.address, filling, &blob)))
                .goal(Goal::AtLeast { times: 0.8, of: "sha256, one thread" }),
        ],
    )
}
