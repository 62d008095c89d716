//! An upstream that is there and is not: slow to the second, or swallowed by the network. What is cached does not wait
//! for it, and is never called unknown.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::ask::{Known, Outcome, Way};
use crate::harness::{
    content::{ACCEPT, Content},
    fault_proxy::{Fault, FaultProxy},
    http::Connection,
    image::Image,
    network::Network,
    node::{Node, Plan},
    process::{PATIENCE, wait_for},
};

/// What the upstream may cost a pull that meets it ill: the budget of 300 ms, and a busy machine.
const MET: Duration = Duration::from_secs(2);

/// What half of the warm pulls take less than in a brown-out: the budget of one confirmation, and so none is waited for.
const BUDGET: Duration = Duration::from_millis(300);

/// What 99 of 100 warm manifests take at the most while the upstream is a black hole.
const WARM: Duration = Duration::from_millis(10);

fn warm(registry: SocketAddr, edge: &Node, name: &str) -> Image {
    let image = Image::make(name, 2, 200_000);
    image.push(registry, "team/app", "latest");
    Content::read(edge.address, "team/app", "latest");
    edge.finishes_downloads();
    image
}

#[test]
fn an_upstream_that_takes_three_seconds_for_each_answer_costs_warm_pulls_no_more_than_the_budget() {
    let origin = Plan::origin().start();
    let proxy = FaultProxy::before(origin.address);
    let edge = Plan::edge(proxy.address).start();
    let image = warm(origin.address, &edge, "a brown-out");
    proxy.does(Fault::Late(Duration::from_secs(3)));
    let mut pulls = Vec::new();
    for round in 0..20 {
        let began = Instant::now();
        let tag = Known::tag("team/app", "latest", &image).ask(edge.address, Way::Get);
        tag.right_within(MET, &format!("the tag in round {round}"));
        for blob in &image.blobs {
            Known::blob("team/app", blob).ask(edge.address, Way::Get).right_within(MET, "a blob");
        }
        pulls.push(began.elapsed());
    }
    pulls.sort();
    println!("warm pulls in a brown-out: median {:?}, slowest {:?}", pulls[10], pulls[19]);
    assert!(pulls[10] < BUDGET, "{pulls:?}");

    proxy.does(Fault::Honest);
    wait_for("the tag is confirmed again", PATIENCE, || {
        let reply = Known::tag("team/app", "latest", &image).ask(edge.address, Way::Get);
        assert_eq!(reply.outcome, Outcome::Right);
        reply.header("warning").is_none().then_some(())
    });
}

#[test]
fn a_dead_upstream_never_turns_a_cached_tag_into_a_404() {
    let mut origin = Plan::origin().start();
    let mut edge = Plan::edge(origin.address).start();
    let image = warm(origin.address, &edge, "a dead upstream");
    let tag = Known::tag("team/app", "latest", &image);
    for round in 0..3 {
        origin.kill9();
        if round == 1 {
            edge.restart();
        }
        for way in [Way::Get, Way::Head].into_iter().cycle().take(100) {
            tag.ask(edge.address, way).right_within(MET, &format!("round {round}, {way:?}"));
        }
        // Neither is what nobody has ever asked for: that the upstream would say no is not known.
        let never_seen = format!("never-seen-{round}");
        let unknown = Known::tag("team/app", &never_seen, &image);
        unknown.ask(edge.address, Way::Get).refused_within(MET, &never_seen);
        origin.restart();
        tag.ask(edge.address, Way::Get).right_within(MET, "back again");
    }
}

#[test]
fn warm_manifests_take_ten_milliseconds_while_all_packets_to_the_upstream_vanish() {
    Network::isolated(|network| {
        let origin = Plan::origin().start();
        let edge = Plan::edge(origin.address).start();
        let image = warm(origin.address, &edge, "a black hole");
        network.swallow(origin.address);
        let tag = Known::tag("team/app", "latest", &image);
        tag.ask(edge.address, Way::Get).right_within(MET, "the first that meets the black hole");
        // The machine is shared with other tests: what counts is the best of a few rounds.
        let rounds = (0..5).map(|_| percentile_99(edge.address, &image));
        let best = rounds.inspect(|slow| println!("p99: {slow:?}")).find(|slow| *slow < WARM);
        assert!(best.is_some(), "99 of 100 warm manifests took longer than {WARM:?} in every round");

        let unknown = Known::tag("team/app", "never-seen", &image);
        for _ in 0..5 {
            unknown.ask(edge.address, Way::Get).refused_within(MET, "what was never seen");
        }
        network.deliver(origin.address);
        wait_for("the tag is confirmed again", PATIENCE, || {
            tag.ask(edge.address, Way::Get).header("warning").is_none().then_some(())
        });
    });
}

/// How long 99 of 100 requests for a tag took, of some hundreds on one connection.
fn percentile_99(edge: SocketAddr, image: &Image) -> Duration {
    let mut connection = Connection::open(edge).expect("the edge listens");
    let mut times: Vec<Duration> = (0..400)
        .map(|_| {
            let began = Instant::now();
            connection
                .send_head("GET", "/v2/team/app/manifests/latest", &[("Accept", ACCEPT)])
                .expect("a request can be sent");
            let answer = connection.read_answer().expect("an answer comes").expect(200);
            assert_eq!(answer.body, image.manifest.bytes);
            began.elapsed()
        })
        .collect();
    times.sort();
    times[395]
}
