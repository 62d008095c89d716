//! Many clients at once on one layer that nobody has pulled yet: how often it crosses the link, and how long all of them
//! take, beside the same clients on the same layer when it is there.

use std::cell::RefCell;
use std::time::Duration;

use anyhow::Result;

use crate::Bench;
use crate::goals::Goal;
use crate::node::Node;
use crate::peers::Freshness;
use crate::registry::{blob_path, check_blob, check_manifest};
use crate::relay::Relay;
use crate::rounds::{Contender, Row, Unit, measure};
use crate::stock::Image;
use crate::warm::download;
use crate::wire::Connection;

/// How many clients, and in how many rounds: 64 of them take 64 GiB, twice a round.
const CLIENTS: [(usize, usize); 4] = [(1, 3), (4, 2), (16, 2), (64, 1)];
/// So many share one download that it must not cost them much.
const CROWD: usize = 64;
/// The row in which others take part, once: more clients would take them minutes.
const OTHERS: usize = 4;

const COLD: &str = "Roadstead edge, cold";
const WARM: &str = "Roadstead edge, warm";

pub(crate) fn rows(bench: &Bench) -> Result<Vec<Row>> {
    let rows = CLIENTS.iter().map(|&(clients, rounds)| pair(bench, clients, rounds));
    Ok(rows.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}

/// A mirror behind a link that counts.
struct Way {
    mirror: Node,
    link: Relay,
}

/// The two rows of a number of clients; each round has an image of its own.
fn pair(bench: &Bench, clients: usize, rounds: usize) -> Result<[Row; 2]> {
    let upstream = bench.upstream()?;
    let (origin, images) = (&upstream.origin, &upstream.large);
    let link = || Relay::open(origin.address, None, Duration::ZERO);
    let (edge_link, proxy_link) = (link()?, link()?);
    let edge = Way { mirror: bench.peers.edge(edge_link.address, Freshness::Strict)?, link: edge_link };
    let proxy = Way { mirror: bench.peers.docker_registry_proxy(proxy_link.address)?, link: proxy_link };
    // The link's count is taken beside the time, and told in a row of its own.
    let crossed = RefCell::new(Vec::new());
    let cold = |way: &Way, round: usize| {
        let (seconds, times) = way.pull(&images[round], clients)?;
        crossed.borrow_mut().push((way.mirror.name, times));
        Ok(seconds)
    };
    let mut first = Contender::new(COLD, |round| cold(&edge, round));
    if clients == CROWD {
        first = first.goal(Goal::AtMost { times: 1.5, of: WARM });
    }
    let mut contenders = vec![first, Contender::new(WARM, |round| seconds(&edge, &images[round], clients))];
    let mut watched = vec![origin, &edge.mirror];
    if clients == OTHERS {
        contenders.push(Contender::new(proxy.mirror.name, |round| cold(&proxy, round)).only(1));
        watched.push(&proxy.mirror);
    }
    let title = format!("clients at once on a 1 GiB layer: {clients}: until all have it");
    let took = measure(&title, Unit::Seconds, rounds, &watched, contenders)?;
    for image in &images[..rounds] {
        check_blob(edge.mirror.address, &blob_path(&image.layer), &image.layer)?;
    }
    let crossed = crossed.into_inner();
    let counted = |way: &Way| {
        let name = way.mirror.name;
        let mut of = crossed.iter().filter(move |(who, _)| *who == name).map(|(_, times)| *times);
        Contender::new(name, move |_| Ok(of.next().expect("one for each round")))
    };
    let mut contenders = vec![counted(&edge).goal(Goal::Once)];
    if clients == OTHERS {
        contenders.push(counted(&proxy).only(1));
    }
    let title = format!("clients at once on one cold 1 GiB layer: {clients}: what leaves the upstream");
    let crossed = measure(&title, Unit::Times, rounds, &[], contenders)?;
    Ok([crossed, took])
}

impl Way {
    /// All clients pull a layer that is not there: the seconds, and how often its bytes crossed the link.
    fn pull(&self, image: &Image, clients: usize) -> Result<(f64, f64)> {
        let address = self.mirror.address;
        check_manifest(&mut Connection::open(address)?, address, &image.tag, &image.manifest)?;
        rustix::fs::sync();
        self.link.settle()?;
        let before = self.link.carried();
        let seconds = seconds(self, image, clients)?;
        self.link.settle()?;
        let carried = self.link.carried() - before;
        Ok((seconds, carried as f64 / image.layer.size as f64))
    }
}

fn seconds(way: &Way, image: &Image, clients: usize) -> Result<f64> {
    let speed = download(way.mirror.address, &blob_path(&image.layer), &image.layer, clients)?;
    Ok(clients as f64 * image.layer.size as f64 / 1e6 / speed)
}
