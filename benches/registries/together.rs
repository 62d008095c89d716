//! Many clients at once on one layer that nobody has pulled yet: how often it crosses the link.

use std::cell::RefCell;
use std::time::Duration;

use anyhow::Result;

use crate::blob::{Blob, Filling};
use crate::node::Node;
use crate::peers::{Freshness, Peers};
use crate::registry::{Manifest, blob_path, check_blob, check_manifest, push_image};
use crate::relay::Relay;
use crate::rounds::{Contender, Goal, Row, Unit, measure};
use crate::warm::download;
use crate::wire::Connection;

const CLIENTS: usize = 64;
const SIZE: u64 = 256 << 20;
const ROUNDS: usize = 2;

pub(crate) fn rows(peers: &Peers, filling: &Filling) -> Result<Vec<Row>> {
    let origin = peers.origin()?;
    let layers: Vec<Blob> = (0..ROUNDS).map(|at| filling.blob(&format!("together {at}"), SIZE)).collect();
    let config = filling.blob("together config", 1024);
    let manifests: Vec<Manifest> = layers
        .iter()
        .enumerate()
        .map(|(at, layer)| push_image(origin.address, filling, &format!("together-{at}"), &[&config, layer]))
        .collect::<Result<_>>()?;
    let (edge_link, proxy_link) = (
        Relay::open(origin.address, None, Duration::ZERO)?,
        Relay::open(origin.address, None, Duration::ZERO)?,
    );
    let proxy = peers.docker_registry_proxy(proxy_link.address)?;
    let edge = peers.edge(edge_link.address, Freshness::Strict)?;

    let seconds = RefCell::new(Vec::new());
    let pull = |node: &Node, link: &Relay, round: usize| {
        let (layer, manifest) = (&layers[round], &manifests[round]);
        check_manifest(
            &mut Connection::open(node.address)?,
            node.address,
            &format!("together-{round}"),
            manifest,
        )?;
        link.settle()?;
        let before = link.carried();
        let megabytes_a_second = download(node.address, &blob_path(layer), layer, CLIENTS)?;
        seconds.borrow_mut().push((node.name, CLIENTS as f64 * SIZE as f64 / 1e6 / megabytes_a_second));
        link.settle()?;
        Ok((link.carried() - before) as f64 / SIZE as f64)
    };
    let crossed = measure(
        "64 clients at once, one cold 256 MiB layer: what leaves the upstream",
        Unit::Times,
        ROUNDS,
        &[&origin, &proxy, &edge],
        vec![
            Contender::new(proxy.name, |round| pull(&proxy, &proxy_link, round)),
            Contender::new(edge.name, |round| pull(&edge, &edge_link, round)).goal(Goal::Once),
        ],
    )?;
    for layer in &layers {
        check_blob(edge.address, &blob_path(layer), layer)?;
    }
    let taken = |name: &'static str| {
        let mut of: Vec<f64> =
            seconds.borrow().iter().filter(|(who, _)| *who == name).map(|(_, s)| *s).collect();
        Contender::new(name, move |_| Ok(of.remove(0)))
    };
    let whole = measure(
        "the same: until all 64 have it",
        Unit::Seconds,
        ROUNDS,
        &[],
        vec![taken(proxy.name), taken(edge.name)],
    )?;
    Ok(vec![crossed, whole])
}
