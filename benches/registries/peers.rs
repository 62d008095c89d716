//! How each server under test is started: loopback only, a directory of its own, no access log, otherwise as its
//! makers configure it. The binaries of others come from `benches/setup`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use std::net::SocketAddr;
use tempfile::TempDir;

use crate::bare;
use crate::node::{Node, free_address};
use crate::tls::Identity;

/// Where binaries are, and where the servers keep their data.
#[derive(Debug)]
pub(crate) struct Peers {
    binaries: PathBuf,
    roadstead: PathBuf,
    scratch: PathBuf,
}

/// How long an edge trusts a tag of its upstream.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Freshness {
    /// Each request by tag is confirmed upstream.
    Strict,
    /// Confirmed once a minute.
    Minute,
}

impl Peers {
    /// `TOOLS_CACHE` says where the peers are, `BENCH_BINARY` takes another build of ours, `TMPDIR` another disk.
    pub(crate) fn find() -> Result<Self> {
        let cache = match (env::var_os("TOOLS_CACHE"), env::var_os("XDG_CACHE_HOME")) {
            (Some(cache), _) => PathBuf::from(cache),
            (None, Some(cache)) => Path::new(&cache).join("roadstead"),
            (None, None) => {
                Path::new(&env::var_os("HOME").context("HOME is not set")?).join(".cache/roadstead")
            }
        };
        let roadstead = env::var_os("BENCH_BINARY")
            .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_roadstead")), PathBuf::from);
        let peers = Self { binaries: cache.join("bin"), roadstead, scratch: env::temp_dir() };
        for name in ["docker-registry", "distribution", "nginx"] {
            ensure!(peers.binaries.join(name).exists(), "{name} is not there: run benches/setup");
        }
        Ok(peers)
    }

    /// The same servers with their data in memory, where the disk would hide what a server itself costs.
    pub(crate) fn in_memory(&self) -> Self {
        Self {
            binaries: self.binaries.clone(),
            roadstead: self.roadstead.clone(),
            scratch: PathBuf::from("/dev/shm"),
        }
    }

    /// A fresh directory beside the servers' data.
    pub(crate) fn directory(&self) -> Result<TempDir> {
        Ok(tempfile::Builder::new().prefix("roadstead-bench-").tempdir_in(&self.scratch)?)
    }

    /// docker-registry 2.8.
    pub(crate) fn docker_registry(&self) -> Result<Node> {
        self.distribution_kind("docker-registry", "docker-registry", "")
    }

    /// docker-registry as a pull-through proxy.
    pub(crate) fn docker_registry_proxy(&self, upstream: SocketAddr) -> Result<Node> {
        self.distribution_kind(
            "docker-registry proxy",
            "docker-registry",
            &format!("proxy: {{ remoteurl: \"http://{upstream}\" }}\n"),
        )
    }

    /// Distribution 3 as a pull-through proxy.
    pub(crate) fn distribution_proxy(&self, upstream: SocketAddr) -> Result<Node> {
        self.distribution_kind(
            "Distribution 3 proxy",
            "distribution",
            &format!("proxy: {{ remoteurl: \"http://{upstream}\" }}\n"),
        )
    }

    /// Distribution 3.
    pub(crate) fn distribution(&self) -> Result<Node> {
        self.distribution_kind("Distribution 3", "distribution", "")
    }

    fn distribution_kind(&self, name: &'static str, binary: &str, more: &str) -> Result<Node> {
        let (directory, address) = (self.directory()?, free_address()?);
        let configuration = format!(
            "version: 0.1\n\
             log: {{ level: error, accesslog: {{ disabled: true }} }}\n\
             storage:\n  cache: {{ blobdescriptor: inmemory }}\n  filesystem: {{ rootdirectory: \"{}\" }}\n\
             http: {{ addr: \"{address}\" }}\n{more}",
            directory.path().join("registry").display()
        );
        let file = directory.path().join("config.yml");
        fs::write(&file, configuration)?;
        let mut command = Command::new(self.binaries.join(binary));
        command.arg("serve").arg(file).env("OTEL_TRACES_EXPORTER", "none");
        Node::start(name, directory, address, "/v2/", &mut command)
    }

    /// nginx with `sendfile`, one worker for each core, serving the directory `files` of its node.
    pub(crate) fn nginx(&self) -> Result<Node> {
        self.nginx_also_at("nginx", "")
    }

    /// The same over TLS.
    pub(crate) fn nginx_tls(&self, identity: &Identity) -> Result<Node> {
        let address = free_address()?;
        let server = format!(
            "listen {address} ssl reuseport; ssl_protocols TLSv1.3; ssl_certificate {}; ssl_certificate_key {};",
            identity.certificate.display(),
            identity.key.display()
        );
        let mut node = self.nginx_also_at("nginx, TLS", &server)?;
        node.address = address;
        Ok(node)
    }

    fn nginx_also_at(&self, name: &'static str, more: &str) -> Result<Node> {
        let (directory, address) = (self.directory()?, free_address()?);
        let root = directory.path();
        fs::create_dir(files(root))?;
        fs::write(files(root).join("ready"), "ready")?;
        let privileged = rustix::process::geteuid().is_root();
        let configuration = format!(
            "{user}daemon off; worker_processes auto; pid {root}/pid; error_log stderr error;\n\
             events {{ worker_connections 2048; }}\n\
             http {{\n\
               access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000; default_type application/octet-stream;\n\
               client_body_temp_path {root}/t1; proxy_temp_path {root}/t2; fastcgi_temp_path {root}/t3; uwsgi_temp_path {root}/t4; scgi_temp_path {root}/t5;\n\
               server {{ listen {address} reuseport; {more} root {files}; }}\n\
             }}\n",
            user = if privileged { "user root; " } else { "" },
            root = root.display(),
            files = files(root).display(),
        );
        let file = root.join("nginx.conf");
        fs::write(&file, configuration)?;
        let mut command = Command::new(self.binaries.join("nginx"));
        command.args(["-e", "stderr", "-c"]).arg(file).arg("-p").arg(root);
        Node::start(name, directory, address, "/ready", &mut command)
    }

    /// A bare hyper server of the files of an nginx.
    pub(crate) fn bare_hyper(&self, nginx: &Node) -> Result<Node> {
        let mut command = Command::new(env::current_exe()?);
        command.arg(bare::COMMAND).arg(files(nginx.directory()));
        Node::start_announced("bare hyper", self.directory()?, &mut command)
    }

    /// Our binary, on its defaults whatever the environment says.
    fn ours(&self) -> Command {
        let mut command = Command::new(&self.roadstead);
        for (key, _) in env::vars_os().filter(|(key, _)| key.to_string_lossy().starts_with("ROADSTEAD_")) {
            command.env_remove(key);
        }
        command
    }

    /// A Roadstead origin on its embedded defaults.
    pub(crate) fn origin(&self) -> Result<Node> {
        let directory = self.directory()?;
        let mut command = self.ours();
        command.arg("origin").arg("--data").arg(directory.path().join("data")).args([
            "--listen",
            "127.0.0.1:0",
            "--no-auth",
        ]);
        Node::start_announced("Roadstead origin", directory, &mut command)
    }

    /// A Roadstead edge in front of one upstream.
    pub(crate) fn edge(&self, upstream: SocketAddr, freshness: Freshness) -> Result<Node> {
        let (name, freshness) = match freshness {
            Freshness::Strict => ("Roadstead edge", "strict"),
            Freshness::Minute => ("Roadstead edge, 60s", "60s"),
        };
        self.edge_with(name, &format!("{}freshness = \"{freshness}\"\n", default_upstream(upstream)))
    }

    /// The same over TLS.
    pub(crate) fn edge_tls(&self, upstream: SocketAddr, identity: &Identity) -> Result<Node> {
        let settings = format!(
            "{}[tls]\ncertificate = {:?}\nkey = {:?}\n",
            default_upstream(upstream),
            identity.certificate,
            identity.key
        );
        self.edge_with("Roadstead edge, TLS", &settings)
    }

    fn edge_with(&self, name: &'static str, settings: &str) -> Result<Node> {
        let directory = self.directory()?;
        let file = directory.path().join("edge.toml");
        fs::write(&file, settings)?;
        let mut command = self.ours();
        command
            .arg("edge")
            .arg("--config")
            .arg(file)
            .arg("--data")
            .arg(directory.path().join("data"))
            .args(["--listen", "127.0.0.1:0"]);
        Node::start_announced(name, directory, &mut command)
    }
}

fn default_upstream(upstream: SocketAddr) -> String {
    format!("[upstream.bench]\nurl = \"http://{upstream}\"\ndefault = true\n")
}

/// Where nginx finds what it serves.
pub(crate) fn files(directory: &Path) -> PathBuf {
    directory.join("files")
}
