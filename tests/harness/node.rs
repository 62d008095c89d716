//! Nodes of ours as processes: started, watched, killed, and started again with the same data and the same address.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::PathBuf,
    process::Stdio,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use rustix::process::Signal;

use super::{
    metrics::Metrics,
    process::{PATIENCE, Server, dies_with_caller, wait_for},
    scratch::Scratch,
};

/// A node is ready within 5 s of its start; twice that, because tests share their cores.
const READY: Duration = Duration::from_secs(10);

/// How long a node may take to leave after SIGTERM when nothing runs in it.
const LEAVE: Duration = Duration::from_secs(10);

/// How to start a node: everything but its life.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    role: &'static str,
    data: Arc<Scratch>,
    listen: String,
    arguments: Vec<String>,
    wrapper: Vec<String>,
}

impl Plan {
    /// An origin that asks nobody who they are, on a free port of 127.0.0.1.
    pub(crate) fn origin() -> Self {
        Self::new("origin").argument("--no-auth")
    }

    /// An origin that asks everybody who they are, on a free port of 127.0.0.1.
    pub(crate) fn guarded_origin() -> Self {
        Self::new("origin")
    }

    /// An edge before the given registry, on a free port of 127.0.0.2.
    pub(crate) fn edge(upstream: SocketAddr) -> Self {
        Self::edge_before(&format!("http://{upstream}"))
    }

    /// As [`Plan::edge`], for a registry with any URL.
    pub(crate) fn edge_before(upstream: &str) -> Self {
        Self::new("edge").listen("127.0.0.2:0").argument("--upstream").argument(upstream)
    }

    /// An edge before one registry that clients call by a name, such as Docker Hub.
    pub(crate) fn edge_of(name: &str, upstream: SocketAddr) -> Self {
        let url = format!("http://{upstream}");
        Self::new("edge").listen("127.0.0.2:0").set(&format!("upstream.\"{name}\".url"), &url)
    }

    /// An edge with upstreams of a configuration file's, on a free port of 127.0.0.2.
    pub(crate) fn edge_with(toml: &str) -> Self {
        Self::new("edge").listen("127.0.0.2:0").config(toml)
    }

    fn new(role: &'static str) -> Self {
        let data = Arc::new(Scratch::new(role));
        Self { role, data, listen: "127.0.0.1:0".into(), arguments: Vec::new(), wrapper: Vec::new() }
    }

    pub(crate) fn listen(mut self, address: &str) -> Self {
        self.listen = address.to_owned();
        self
    }

    pub(crate) fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    pub(crate) fn set(self, key: &str, value: &str) -> Self {
        self.argument("--set").argument(&format!("{key}={value}"))
    }

    /// A configuration file besides the flags.
    pub(crate) fn config(self, toml: &str) -> Self {
        let path = self.data.file("config.toml", toml);
        self.argument("--config").argument(&path)
    }

    /// Runs the node below another program, such as strace.
    pub(crate) fn below(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().map(|&part| part.to_owned()).collect();
        self
    }

    /// An edge whose configuration says what it stands in front of.
    pub(crate) fn edge_without_upstream() -> Self {
        Self::new("edge").listen("127.0.0.2:0")
    }

    /// The directory that holds all that the node keeps.
    pub(crate) fn data(&self) -> PathBuf {
        self.data.join("data")
    }

    /// A file of the test's beside the node's data.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.data.join(name)
    }

    /// Starts the node and waits until it says that it serves.
    pub(crate) fn start(&self) -> Node {
        self.spawn().ready()
    }

    /// Starts nodes at one moment, and waits for all of them.
    pub(crate) fn start_together<const COUNT: usize>(plans: [Self; COUNT]) -> [Node; COUNT] {
        plans.map(|plan| plan.spawn()).map(Starting::ready)
    }

    /// Starts the node where it is expected to refuse: gives its exit code and what it said on standard error.
    pub(crate) fn refused(&self) -> (Option<i32>, String) {
        let Starting { mut server, .. } = self.spawn();
        let code = wait_for("the node refuses to start", READY, || server.ended());
        (code, server.log())
    }

    fn spawn(&self) -> Starting {
        let binary = env!("CARGO_BIN_EXE_roadstead").to_owned();
        let mut words = self.wrapper.iter().chain([&binary]);
        let mut command = dies_with_caller(words.next().expect("the binary at least"));
        command
            .args(words)
            .arg(self.role)
            .arg("--data")
            .arg(self.data())
            .args(["--listen", &self.listen])
            .args(&self.arguments);
        let log = self.data.join("stderr.log");
        let stderr =
            std::fs::File::options().create(true).append(true).open(&log).expect("a log can be written");
        let child =
            command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr).spawn();
        let mut child = child.expect("setpriv is on every Debian, and the binary was built");
        let stdout = child.stdout.take().expect("it was piped");
        let (sender, receiver) = mpsc::channel();
        // Reads to the end, so that the node never meets a closed pipe.
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Starting {
            plan: self.clone(),
            server: Server::adopt(self.role, &log, child),
            lines: receiver,
            began: Instant::now(),
        }
    }
}

/// A node that has not yet said that it serves.
struct Starting {
    plan: Plan,
    server: Server,
    lines: mpsc::Receiver<String>,
    began: Instant,
}

impl Starting {
    fn ready(mut self) -> Node {
        let role = self.plan.role;
        let line = loop {
            match self.lines.recv_timeout(Duration::from_millis(20)) {
                Ok(line) => break line,
                Err(mpsc::RecvTimeoutError::Timeout)
                    if self.server.ended().is_none() && self.began.elapsed() < READY => {}
                Err(_) => {
                    panic!("the {role} is not ready after {:?}\n{}", self.began.elapsed(), self.server.log())
                }
            }
        };
        assert!(line.starts_with(&format!("ready role={role} ")), "{line:?}");
        let address = address_in(&line, "http=")
            .unwrap_or_else(|| panic!("no http= with an address in the ready line {line:?}"));
        let operators = address_in(&line, "admin=").unwrap_or(address);
        Node {
            plan: Plan { listen: address.to_string(), ..self.plan },
            address,
            operators,
            server: self.server,
        }
    }
}

/// A node that serves.
#[derive(Debug)]
pub(crate) struct Node {
    plan: Plan,
    pub(crate) address: SocketAddr,
    /// Where operators are served: the clients' address, unless `admin.listen` is set.
    pub(crate) operators: SocketAddr,
    server: Server,
}

impl Node {
    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    pub(crate) fn pid(&self) -> i32 {
        self.server.pid().as_raw_nonzero().get()
    }

    /// Dies at once, as in a power cut of the process.
    pub(crate) fn kill9(&mut self) {
        self.server.kill9();
    }

    /// Starts again: the same data, the same address. Whatever still runs is killed first.
    pub(crate) fn restart(&mut self) {
        self.kill9();
        *self = self.plan.clone().start();
    }

    pub(crate) fn sigterm(&self) {
        self.server.signal(Signal::TERM);
    }

    pub(crate) fn sighup(&self) {
        self.server.signal(Signal::HUP);
    }

    /// Its last words on standard error.
    pub(crate) fn log(&self) -> String {
        self.server.log()
    }

    /// SIGTERM, and wait; gives the exit code.
    pub(crate) fn leave(&mut self) -> Option<i32> {
        self.server.terminate(LEAVE)
    }

    pub(crate) fn ended(&mut self) -> Option<Option<i32>> {
        self.server.ended()
    }

    /// Waits until an edge has kept, or given up, all that it was fetching: clients have their bytes a moment before.
    pub(crate) fn finishes_downloads(&self) {
        wait_for("no download runs", PATIENCE, || {
            (self.metrics().count("roadstead_downloads_running", &[]) == 0).then_some(())
        });
    }

    pub(crate) fn metrics(&self) -> Metrics {
        Metrics::read(self.operators)
    }

    /// A figure of `/proc/<pid>/status` in bytes, such as `VmRSS` or `VmHWM`.
    pub(crate) fn memory(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the node runs");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))
            .expect("the kernel tells it");
        let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kibibytes * 1024
    }

    /// Lets the peak of resident memory (`VmHWM`) begin anew.
    pub(crate) fn reset_peak_memory(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.pid()), "5").expect("the node is ours");
    }
}

fn address_in(ready: &str, key: &str) -> Option<SocketAddr> {
    let list = ready.split(' ').find_map(|part| part.strip_prefix(key))?;
    list.split(',').next()?.parse().ok()
}
