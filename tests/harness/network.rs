//! A network of a test's own: nothing in it but loopback, and packets that vanish where the test says so.
//!
//! It is a namespace of the kernel. It belongs to a process that ends with the test, and is gone when the last process in
//! it is.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    os::fd::AsFd as _,
    panic::resume_unwind,
    process::{Child, Command, Stdio},
    thread,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::process::{dies_with_caller, program, run};

/// Holds the namespace, with loopback up, until it is killed.
const HOLD: &str = "ip link set lo up && echo up && exec sleep infinity";

/// A network namespace.
#[derive(Debug)]
pub(crate) struct Network {
    holder: Child,
}

impl Network {
    /// Runs a test on a thread whose sockets, and whose processes, are in a network of their own.
    pub(crate) fn isolated<T: Send>(test: impl FnOnce(&Self) -> T + Send) -> T {
        let network = Self::new();
        let ran = thread::scope(|scope| {
            let inside = scope.spawn(|| {
                network.enter();
                test(&network)
            });
            inside.join()
        });
        ran.unwrap_or_else(|panic| resume_unwind(panic))
    }

    fn new() -> Self {
        let mut command = dies_with_caller("unshare");
        command.args(["--net", "sh", "-c", HOLD]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut holder = command.spawn().expect("setpriv and unshare are on every Debian");
        let mut line = String::new();
        let stdout = holder.stdout.take().expect("it was piped");
        BufReader::new(stdout).read_line(&mut line).expect("it says when the network is up");
        assert_eq!(line, "up\n", "a network namespace could not be made; run the tests as root");
        Self { holder }
    }

    /// Moves the calling thread into it, for good.
    fn enter(&self) {
        let link = File::open(format!("/proc/{}/ns/net", self.holder.id())).expect("its holder runs");
        move_into_link_name_space(link.as_fd(), Some(LinkNameSpaceType::Network)).expect("root may enter it");
    }

    /// From now on every packet to this address vanishes: nobody refuses, nobody answers.
    pub(crate) fn swallow(&self, address: SocketAddr) {
        run(&mut self.rule("-I", address));
    }

    /// Packets to this address arrive again.
    pub(crate) fn deliver(&self, address: SocketAddr) {
        run(&mut self.rule("-D", address));
    }

    /// Adds or removes the rule of one address; by way of the holder, whoever calls.
    fn rule(&self, change: &str, address: SocketAddr) -> Command {
        let (host, port) = (address.ip().to_string(), address.port().to_string());
        let mut command = program("nsenter");
        command.args(["--net", "-t", &self.holder.id().to_string(), "--", "iptables", "-w", change, "INPUT"]);
        command.args(["-p", "tcp", "-d", &host, "--dport", &port, "-j", "DROP"]);
        command
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
