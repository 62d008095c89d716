//! dockerd and containerd, each instance with its own directories and nothing in it.
//!
//! They start in a quarter of a second, so every pull that has to be clean gets an engine of its own.

use std::{net::SocketAddr, path::PathBuf, process::Command};

use super::{
    process::{PATIENCE, Server, cached, dies_with_caller, program, run},
    scratch::Scratch,
};

/// Its own configuration in place of the machine's; the CRI plugin is not needed and would look for CNI.
const CONTAINERD_1: &str = "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n";

/// As [`CONTAINERD_1`], and nothing whose place is fixed, which all instances would share.
const CONTAINERD_2: &str = r#"version = 3
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime", "io.containerd.cri.v1.images",
    "io.containerd.nri.v1.nri", "io.containerd.internal.v1.opt", "io.containerd.podsandbox.controller.v1.podsandbox"]
"#;

/// What `ctr` says when its own connection to containerd broke, as it does once in some hundred starts on a busy machine:
/// nothing was asked of any registry then.
const CTR_LOST_ITS_ENGINE: [&str; 2] = ["transport is closing", "connection closed before server preface"];

/// A containerd.
#[derive(Debug)]
pub(crate) struct Containerd {
    scratch: Scratch,
    server: Server,
    ctr: PathBuf,
}

impl Containerd {
    /// Debian's: 1.6, whose `hosts.toml` has no `dial_timeout`.
    pub(crate) fn start() -> Self {
        Self::start_program("containerd".into(), "ctr".into(), CONTAINERD_1)
    }

    /// The current one.
    pub(crate) fn start_current() -> Self {
        Self::start_program(cached("containerd"), cached("ctr"), CONTAINERD_2)
    }

    fn start_program(containerd: PathBuf, ctr: PathBuf, config: &str) -> Self {
        let scratch = Scratch::new("containerd");
        let config = scratch.file("config.toml", config);
        let mut command = dies_with_caller(containerd);
        command.args(["--config", &config]);
        command.args([
            "--root",
            &scratch.text("root"),
            "--state",
            &scratch.text("state"),
            "--address",
            &scratch.text("socket"),
        ]);
        let mut server = Server::start("containerd", &scratch.join("log"), &mut command);
        let socket = scratch.text("socket");
        server.serves_when(|| succeeds(program(&ctr).args(["-a", &socket, "version"])));
        Self { scratch, server, ctr }
    }

    /// `ctr` on this engine, in the namespace `tests`.
    pub(crate) fn ctr(&self) -> Command {
        let mut command = program(&self.ctr);
        command.args(["-a", &self.scratch.text("socket"), "-n", "tests"]);
        command
    }

    /// Runs `ctr` with these arguments to its end; panics when it fails.
    pub(crate) fn run(&self, arguments: &[&str]) {
        let output = self.ctr().args(arguments).output().expect("ctr starts; run tests/setup");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if !output.status.success() && CTR_LOST_ITS_ENGINE.iter().any(|words| said.contains(words)) {
            run(self.ctr().args(arguments));
            return;
        }
        assert!(output.status.success(), "ctr {arguments:?} ended with {}\n{said}", output.status);
    }

    pub(crate) fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    fn socket(&self) -> String {
        self.scratch.text("socket")
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.server.terminate(PATIENCE);
        }
    }
}

/// A dockerd with the containerd below it.
#[derive(Debug)]
pub(crate) struct Docker {
    scratch: Scratch,
    server: Server,
    _containerd: Containerd,
}

impl Docker {
    pub(crate) fn start() -> Self {
        Self::start_with("{}", &[])
    }

    /// With this as its `daemon.json`.
    pub(crate) fn with_settings(settings: &str) -> Self {
        Self::start_with(settings, &[])
    }

    /// With `--registry-mirror` set to an edge.
    pub(crate) fn with_mirror(edge: SocketAddr) -> Self {
        Self::start_with("{}", &["--registry-mirror", &format!("http://{edge}")])
    }

    fn start_with(settings: &str, arguments: &[&str]) -> Self {
        let containerd = Containerd::start();
        let scratch = Scratch::new("dockerd");
        let config = scratch.file("daemon.json", settings);
        let mut command = dies_with_caller("dockerd");
        command.args([
            "--config-file",
            &config,
            "--data-root",
            &scratch.text("data"),
            "--exec-root",
            &scratch.text("exec"),
        ]);
        command.args([
            "--pidfile",
            &scratch.text("pid"),
            "--host",
            &format!("unix://{}", scratch.text("socket")),
        ]);
        command.args(["--containerd", &containerd.socket(), "--storage-driver", "overlay2"]);
        command.args(["--iptables=false", "--ip6tables=false", "--bridge=none"]).args(arguments);
        let server = Server::start("dockerd", &scratch.join("log"), &mut command);
        let mut docker = Self { scratch, server, _containerd: containerd };
        let (host, home) = (docker.host(), docker.scratch.text("home"));
        docker.server.serves_when(|| succeeds(cli(&host, &home).arg("version")));
        docker
    }

    /// `docker` on this engine, with no settings but its own.
    pub(crate) fn cli(&self) -> Command {
        cli(&self.host(), &self.scratch.text("home"))
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        run(self.cli().args(arguments))
    }

    pub(crate) fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    fn host(&self) -> String {
        format!("unix://{}", self.scratch.text("socket"))
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.server.terminate(PATIENCE);
        }
    }
}

fn cli(host: &str, home: &str) -> Command {
    let mut command = program("docker");
    // The classic builder runs in the daemon and needs no plugin.
    command.env("DOCKER_HOST", host).env("DOCKER_CONFIG", home).env("DOCKER_BUILDKIT", "0");
    command
}

fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}
