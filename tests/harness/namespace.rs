//! Network namespaces of a test's own: what it drops or delays there reaches nobody else.

use std::{
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use super::process::{program, run};

/// A namespace with a loopback device that is up, and nothing else; gone with this value, once its processes are.
#[derive(Debug)]
pub(crate) struct Namespace(String);

impl Namespace {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("roadstead-test-{}-{number}", std::process::id());
        run(program("ip").args(["netns", "add", &name]));
        let made = Self(name);
        run(program("ip").args(["-n", &made.0, "link", "set", "lo", "up"]));
        made
    }

    /// What runs a program in it: see [`Plan::below`](super::node::Plan::below).
    pub(crate) fn wrapper(&self) -> [&str; 4] {
        ["ip", "netns", "exec", &self.0]
    }

    /// A program that will run in it.
    pub(crate) fn program(&self, name: &str) -> Command {
        let mut command = program("ip");
        command.args(["netns", "exec", &self.0, name]);
        command
    }

    /// From now on packets to this TCP port vanish.
    pub(crate) fn drop_packets_to(&self, port: u16) {
        self.iptables("-A", port);
    }

    /// From now on they arrive again.
    pub(crate) fn deliver_packets_to(&self, port: u16) {
        self.iptables("-D", port);
    }

    fn iptables(&self, action: &str, port: u16) {
        let port = port.to_string();
        let rule = ["INPUT", "-p", "tcp", "--dport", &port, "-j", "DROP"];
        run(self.program("iptables").args(["-w", action]).args(rule));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let removed = program("ip").args(["netns", "del", &self.0]).status();
        if !removed.is_ok_and(|status| status.success()) {
            eprintln!("the network namespace {} is left behind", self.0);
        }
    }
}
