//! What befalls upstream, origin and edge in turn, with fair weather in between.

use std::{
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use super::{
    watch::Watch,
    world::{Nodes, World},
};
use crate::{faults::chance::Chance, harness::fault_proxy::Fault};

/// Who makes the weather: the thread that the nodes belong to.
#[derive(Debug)]
pub(super) struct Weather<'a> {
    nodes: &'a mut Nodes,
    world: &'a World,
    watch: &'a mut Watch,
}

impl<'a> Weather<'a> {
    pub(super) fn new(nodes: &'a mut Nodes, world: &'a World, watch: &'a mut Watch) -> Self {
        Self { nodes, world, watch }
    }

    pub(super) fn until_over(mut self, chance: &mut Chance) {
        while !self.world.is_over() && !self.watch.is_over() {
            match chance.below(10) {
                0 => self.kill_origin(chance),
                1 => self.kill_edge(chance),
                2 => self.upstream_down(chance),
                _ => self.upstream_ill(chance),
            }
            self.lasts(500, chance);
        }
    }

    fn kill_origin(&mut self, chance: &mut Chance) {
        self.world.counts("weather: the origin is killed");
        self.nodes.origin.kill9();
        self.lasts(300, chance);
        self.nodes.origin.restart();
    }

    fn kill_edge(&mut self, chance: &mut Chance) {
        self.world.counts("weather: the first edge is killed");
        self.world.outage_begins();
        self.nodes.killed.kill9();
        self.lasts(50, chance);
        self.nodes.killed.restart();
        self.world.outage_ends();
    }

    fn upstream_down(&mut self, chance: &mut Chance) {
        self.world.counts("weather: the upstream refuses connections");
        self.nodes.proxy.goes_down();
        self.lasts(300, chance);
        self.nodes.proxy.comes_up();
    }

    /// Some or all requests meet a fault for a while.
    fn upstream_ill(&mut self, chance: &mut Chance) {
        let (name, fault) = fault(chance);
        self.world.counts(format!("weather: the upstream is {name}"));
        let share = [30, 60, 100][chance.below(3)];
        let dice = Mutex::new(Chance::new(chance.below(1 << 40) as u64));
        self.nodes.proxy.spoils(move |_| {
            let hit = dice.lock().expect("nobody panics with it").happens(share);
            if hit { fault.clone() } else { Fault::Honest }
        });
        self.lasts(500, chance);
        self.nodes.proxy.does(Fault::Honest);
    }

    /// Lets some time pass, twice `least` milliseconds on average, and looks at the steady edge meanwhile.
    fn lasts(&mut self, least: u64, chance: &mut Chance) {
        let until = Instant::now() + Duration::from_millis(least + chance.below(1000) as u64);
        while Instant::now() < until && !self.world.is_over() {
            thread::park_timeout(Duration::from_millis(50));
            self.watch.look(&self.nodes.steady);
        }
    }
}

/// A fault, and what it is called.
fn fault(chance: &mut Chance) -> (&'static str, Fault) {
    let at = chance.below(200_000) as u64;
    match chance.below(14) {
        0 => ("hung", Fault::Silent),
        1 => ("closing at once", Fault::Closed),
        2 => ("late", Fault::Late(Duration::from_millis(100 + at % 2000))),
        3 => ("slow", Fault::Slow(16 * 1024, Duration::from_millis(20))),
        4 => ("cut", Fault::Cut(at)),
        5 => ("reset", Fault::Reset(at)),
        6 => ("half closed", Fault::HalfClosed(at)),
        7 => ("stuck", Fault::Stuck(at)),
        8 => ("flipping a bit", Fault::Flipped(at)),
        9 => ("a byte short", Fault::Shorter),
        10 => ("rate limited", Fault::error("429 Too Many Requests", "TOOMANYREQUESTS", "Retry-After: 1")),
        11 => ("a web page with 200", Fault::page("200 OK")),
        12 => ("in pieces", Fault::error("500 Internal Server Error", "UNKNOWN", "")),
        _ => ("a web page with 404", Fault::page("404 Not Found")),
    }
}
