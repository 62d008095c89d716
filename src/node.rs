//! The life of a node: its directory, its sockets, its signals.

use std::{
    fs::{self, File, TryLockError},
    io::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail};
use oci::http::{Front, FrontMetrics, Service};
use prometheus_client::registry::Registry;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::{
    doors::Doors,
    reload::Reload,
    settings::{LogForm, LogSettings, NodeSettings},
};

/// What a node is in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Origin,
    Edge,
}

impl Role {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Origin => "origin",
            Self::Edge => "edge",
        }
    }

    pub(crate) fn default_address(self) -> SocketAddr {
        let port = match self {
            Self::Origin => 5000,
            Self::Edge => 5001,
        };
        SocketAddr::from(([127, 0, 0, 1], port))
    }
}

/// The layout of data directories; a node refuses one of another layout.
const LAYOUT: u32 = 1;

/// A data directory that this process has for itself until it ends.
#[derive(Debug)]
pub(crate) struct DataDirectory {
    pub(crate) path: PathBuf,
    #[expect(dead_code, reason = "holds the lock until the process ends")]
    lock: File,
}

impl DataDirectory {
    /// Makes the directory if need be, and takes it.
    pub(crate) fn take(role: Role, settings: &NodeSettings) -> anyhow::Result<Self> {
        let from_systemd = || std::env::var_os("STATE_DIRECTORY").map(PathBuf::from);
        let path = settings.data.clone().or_else(from_systemd);
        let path = path.unwrap_or_else(|| PathBuf::from(format!("roadstead-{}", role.as_str())));
        let shown = path.display().to_string();
        fs::create_dir_all(&path).with_context(|| format!("the data directory {shown} cannot be made"))?;
        let path =
            path.canonicalize().with_context(|| format!("the data directory {shown} cannot be opened"))?;
        let lock =
            File::options().create(true).truncate(false).read(true).write(true).open(path.join("lock"));
        let lock = lock.with_context(|| format!("the data directory {shown} cannot be written to"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!("the data directory {shown} is in use by another process"),
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("the data directory {shown} cannot be locked"));
            }
        }
        check_layout(&path, role)?;
        Ok(Self { path, lock })
    }
}

/// A directory says whose it is, so that no node ever writes into another's.
fn check_layout(path: &Path, role: Role) -> anyhow::Result<()> {
    let file = path.join("layout");
    let ours = format!("{} {LAYOUT}\n", role.as_str());
    match fs::read_to_string(&file) {
        Ok(found) if found == ours => Ok(()),
        Ok(found) => bail!(
            "the data directory {} is of another kind or version ({:?}; this is {:?}); give another one with --data",
            path.display(),
            found.trim(),
            ours.trim()
        ),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let temporary = path.join("layout.new");
            let write = || {
                let mut new = File::create(&temporary)?;
                new.write_all(ours.as_bytes())?;
                new.sync_all()?;
                fs::rename(&temporary, &file)?;
                File::open(path)?.sync_all()
            };
            write().with_context(|| format!("{} cannot be written", file.display()))
        }
        Err(error) => Err(error).with_context(|| format!("{} cannot be read", file.display())),
    }
}

/// The name of this node.
pub(crate) fn name(settings: &NodeSettings) -> String {
    settings.node.name.clone().unwrap_or_else(|| {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        if host.is_empty() { "node".to_owned() } else { host }
    })
}

/// What is logged, changeable.
pub(crate) type LogLevel =
    tracing_subscriber::reload::Handle<tracing_subscriber::filter::Targets, tracing_subscriber::Registry>;

/// Begins to log on standard error; what is logged can be changed later.
pub(crate) fn start_log(settings: &LogSettings) -> anyhow::Result<LogLevel> {
    use tracing_subscriber::{Layer as _, layer::SubscriberExt as _, util::SubscriberInitExt as _};
    let filter: tracing_subscriber::filter::Targets = settings.level.parse()?;
    let (filter, level) = tracing_subscriber::reload::Layer::new(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let layer = match settings.form {
        LogForm::Human => lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).boxed(),
        LogForm::Json => lines.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry().with(layer.with_filter(filter)).try_init()?;
    Ok(level)
}

/// Lets this process have as many files open as it is allowed to ask for.
pub(crate) fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
    {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
}

/// The signals that end a node, caught before anything begins that would have to be ended.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    reload: Signal,
}

impl Signals {
    pub(crate) fn catch() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            reload: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for a signal to stop, and reloads at each SIGHUP meanwhile.
    async fn stop(&mut self, reload: &mut Reload) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.reload.recv() => reload.reload(),
            }
        }
    }
}

/// How long what runs behind the answers may take to end once the drain is over.
const SHUTDOWN: Duration = Duration::from_secs(10);

/// A node that has been built and is about to serve.
#[derive(Debug)]
pub(crate) struct Node<S> {
    pub(crate) role: Role,
    pub(crate) name: String,
    pub(crate) service: S,
    pub(crate) metrics: Registry,
    pub(crate) front_metrics: FrontMetrics,
    pub(crate) doors: Doors,
    pub(crate) reload: Reload,
    pub(crate) drain: Duration,
}

impl<S: Service> Node<S> {
    /// Serves until a signal comes, and then runs `shutdown`; a second signal ends the process at once.
    pub(crate) async fn serve(mut self, mut signals: Signals, shutdown: impl Future<Output = ()>) {
        let line = format!("ready role={} {} node={}", self.role.as_str(), self.doors.line(), self.name);
        let front = Front::new(self.service, self.metrics, self.front_metrics).with_tls(self.doors.tls());
        let front = Arc::new(front);
        let stop = CancellationToken::new();
        let serving = self.doors.serve(front.clone(), stop.clone(), self.drain);
        // Nobody may be reading; that is no reason not to serve.
        let _ = writeln!(std::io::stdout(), "{line}");
        tell_systemd(&[sd_notify::NotifyState::Ready]);
        signals.stop(&mut self.reload).await;
        tracing::info!(drain = ?self.drain, "stopping: no new connections, requests that run may finish");
        tell_systemd(&[sd_notify::NotifyState::Stopping]);
        front.drain();
        stop.cancel();
        let ended = async {
            if let Err(error) = serving.await {
                tracing::error!(%error, "the server failed");
            }
            if tokio::time::timeout(SHUTDOWN, shutdown).await.is_err() {
                tracing::warn!(waited = ?SHUTDOWN, "what was running did not end in time");
            }
        };
        tokio::select! {
            () = ended => {}
            () = signals.stop(&mut self.reload) => {
                tracing::warn!("a second signal: ending at once");
                std::process::exit(1);
            }
        }
    }
}

fn tell_systemd(state: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "systemd could not be told");
    }
}
