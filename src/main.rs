//! The command line: parse, wire, run.

mod cli;
mod command;
mod config;
mod doors;
mod node;
mod reload;
mod settings;

use std::{process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::Parser as _;
use oci::http::FrontMetrics;
use prometheus_client::registry::Registry;
use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};
use url::Url;

use crate::{
    cli::{Cli, Command, NodeFlags},
    config::{
        Loaded, Mistakes,
        layers::{self, Entry, Layer, Source},
    },
    doors::Doors,
    node::{DataDirectory, LogLevel, Node, Role, Signals},
    reload::{Reload, Settings},
    settings::NodeSettings,
};

/// The system's allocator gives large buffers back to the kernel after each use, and faults them in again for the next:
/// a fifth of the processor's time of a push (`make bench` measures pushes).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Called or configured wrongly.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        Command::Origin(flags) => run_origin(&flags),
        Command::Edge { node, upstream } => run_edge(&node, &upstream),
        Command::Operator(command) => return command::run(command),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<Mistakes>() => {
            eprintln!("{error}");
            ExitCode::from(EXIT_USAGE)
        }
        Err(error) => {
            eprintln!("roadstead: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run_origin(flags: &NodeFlags) -> anyhow::Result<()> {
    if flags.print_config {
        return print_config::<origin::settings::Settings>();
    }
    let read = {
        let flags = flags.clone();
        move || read_origin(&flags)
    };
    let loaded = read()?;
    if flags.check {
        return said_good();
    }
    run(async {
        let signals = Signals::catch()?;
        let Prepared { data, name, level, doors } = prepare(Role::Origin, &loaded.node)?;
        let reload = reload(level, &doors, &loaded, read);
        if flags.no_auth {
            tracing::warn!("--no-auth: whoever reaches this node may push, pull and delete");
        }
        let openness = if flags.no_auth { origin::Openness::Everybody } else { origin::Openness::Asking };
        let scheme = if doors.tls().is_some() { origin::Scheme::Https } else { origin::Scheme::Http };
        let reach = origin::Reach { openness, scheme };
        let mut metrics = Registry::default();
        let front_metrics = FrontMetrics::register(&mut metrics);
        doors.register(&mut metrics);
        let role = loaded.role.clone();
        let service = origin::Origin::start(role, &data.path, &name, reach, &mut metrics).await?;
        let running = Node {
            role: Role::Origin,
            name,
            service: service.clone(),
            metrics,
            front_metrics,
            doors,
            reload,
            drain: loaded.node.drain.0,
        };
        running.serve(signals, service.shutdown()).await;
        Ok(())
    })
}

fn run_edge(flags: &NodeFlags, upstreams: &[Url]) -> anyhow::Result<()> {
    if flags.print_config {
        return print_config::<edge::settings::Settings>();
    }
    let read = {
        let (flags, upstreams) = (flags.clone(), upstreams.to_vec());
        move || read_edge(&flags, &upstreams)
    };
    let loaded = read()?;
    if flags.check {
        return said_good();
    }
    run(async {
        let signals = Signals::catch()?;
        let Prepared { data, name, level, doors } = prepare(Role::Edge, &loaded.node)?;
        let reload = reload(level, &doors, &loaded, read);
        let openness = if flags.no_auth {
            tracing::warn!(
                "--no-auth: whoever reaches this node may pull everything that its upstreams give it"
            );
            edge::Openness::Everybody
        } else {
            edge::Openness::Listed
        };
        let mut metrics = Registry::default();
        let front_metrics = FrontMetrics::register(&mut metrics);
        doors.register(&mut metrics);
        let service = edge::Edge::start(&loaded.role, &data.path, &name, openness, &mut metrics).await?;
        let running = Node {
            role: Role::Edge,
            name,
            service: service.clone(),
            metrics,
            front_metrics,
            doors,
            reload,
            drain: loaded.node.drain.0,
        };
        running.serve(signals, service.shutdown()).await;
        Ok(())
    })
}

/// The settings of an origin, whole and without a mistake.
fn read_origin(flags: &NodeFlags) -> anyhow::Result<Loaded<NodeSettings, origin::settings::Settings>> {
    let loaded: Loaded<NodeSettings, origin::settings::Settings> = load(flags)?;
    let mut mistakes = loaded.node.validate();
    mistakes.extend(loaded.role.validate());
    let node = checked(Role::Origin, loaded.node, flags, mistakes)?;
    Ok(Loaded { node, role: loaded.role })
}

/// As [`read_origin`], for an edge.
fn read_edge(
    flags: &NodeFlags,
    upstreams: &[Url],
) -> anyhow::Result<Loaded<NodeSettings, edge::settings::Settings>> {
    let mut loaded: Loaded<NodeSettings, edge::settings::Settings> = load(flags)?;
    let mut mistakes = loaded.node.validate();
    mistakes.extend(upstreams.iter().filter_map(|url| loaded.role.add_upstream(url).err()));
    mistakes.extend(loaded.role.validate());
    if loaded.role.upstream.named.is_empty() && !loaded.role.upstream.allow_any && mistakes.is_empty() {
        mistakes.push(
            "an edge needs a registry to stand in front of: --upstream URL, or upstream.<name>.url"
                .to_owned(),
        );
    }
    let node = checked(Role::Edge, loaded.node, flags, mistakes)?;
    Ok(Loaded { node, role: loaded.role })
}

/// What SIGHUP reads again.
fn reload<R: Serialize>(
    level: LogLevel,
    doors: &Doors,
    loaded: &Loaded<NodeSettings, R>,
    read: impl Fn() -> anyhow::Result<Loaded<NodeSettings, R>> + Send + 'static,
) -> Reload {
    let reread = Box::new(move || read().map(|loaded| Settings::of(&loaded)));
    Reload { level, tls: doors.tls(), settings: Settings::of(loaded), reread }
}

/// Reads file, environment and flags.
fn load<R: DeserializeOwned>(flags: &NodeFlags) -> anyhow::Result<Loaded<NodeSettings, R>> {
    let mut mistakes = Vec::new();
    let mut layers = Vec::new();
    match flags.config.as_deref().map(layers::file).transpose() {
        Ok(layer) => layers.extend(layer),
        Err(mistake) => mistakes.push(mistake),
    }
    layers.push(layers::environment(std::env::vars()));
    match layers::flags(&flags.set) {
        Ok(mut entries) => {
            let data = flags.data.as_ref().map(|data| Entry::new(&["data"], data.display().to_string()));
            let listen: Vec<String> = flags.listen.iter().map(ToString::to_string).collect();
            entries.extend(data);
            entries.extend((!listen.is_empty()).then(|| Entry::new(&["listen"], listen)));
            entries.extend(flags.log.map(|form| Entry::new(&["log", "form"], form.as_str())));
            layers.push(Layer { source: Source::Flag, entries });
        }
        Err(more) => mistakes.extend(more),
    }
    match config::load(layers) {
        Ok(loaded) if mistakes.is_empty() => Ok(loaded),
        Ok(_) => Err(Mistakes(mistakes).into()),
        Err(Mistakes(more)) => {
            mistakes.extend(more);
            Err(Mistakes(mistakes).into())
        }
    }
}

/// Fills in what depends on the role, and reports all mistakes together.
fn checked(
    role: Role,
    mut node: NodeSettings,
    flags: &NodeFlags,
    mut mistakes: Vec<String>,
) -> anyhow::Result<NodeSettings> {
    if node.listen.is_empty() {
        node.listen.push(role.default_address());
    }
    if flags.no_auth && !node.auth.allow_open {
        for address in node.listen.iter().filter(|address| !address.ip().to_canonical().is_loopback()) {
            mistakes.push(format!(
                "listen: {address} is not a loopback address, and nobody is asked who they are; \
                 listen on 127.0.0.1, or accept it with --no-auth --set auth.allow_open=true"
            ));
        }
    }
    if mistakes.is_empty() { Ok(node) } else { Err(Mistakes(mistakes).into()) }
}

/// What a node has before its service starts.
struct Prepared {
    data: DataDirectory,
    name: String,
    level: LogLevel,
    doors: Doors,
}

/// Begins the log; takes the data directory and the addresses.
fn prepare(role: Role, node: &NodeSettings) -> anyhow::Result<Prepared> {
    let level = node::start_log(&node.log)?;
    node::raise_file_limit();
    let data = DataDirectory::take(role, node)?;
    let doors = Doors::open(node)?;
    Ok(Prepared { data, name: node::name(node), level, doors })
}

/// How long a disk that hangs may keep the process from ending.
const LAST_WRITES: Duration = Duration::from_secs(5);

/// Threads that may wait for disks. Each download that runs has one, and reads and commits need some too.
const MAX_THREADS: usize = 2048;

fn run(node: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .max_blocking_threads(MAX_THREADS)
        .enable_all()
        .build()
        .context("the threads cannot be started")?;
    let ended = runtime.block_on(node);
    runtime.shutdown_timeout(LAST_WRITES);
    ended
}

fn said_good() -> anyhow::Result<()> {
    println!("the configuration is good");
    Ok(())
}

fn print_config<R: JsonSchema + Serialize + Default>() -> anyhow::Result<()> {
    let mut page = String::new();
    config::reference::of::<NodeSettings>(&mut page);
    config::reference::of::<R>(&mut page);
    print!("{page}");
    Ok(())
}
