//! The command line.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use url::Url;

/// A pull-through caching edge mirror network for container images.
#[derive(Debug, Parser)]
#[command(name = "roadstead", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run an origin node: the authoritative registry
    Origin(NodeFlags),
    /// Run an edge node: a mirror in front of registries
    Edge {
        #[command(flatten)]
        node: NodeFlags,
        /// A registry to stand in front of, named after its host and port; the first one is the default
        #[arg(long, value_name = "URL")]
        upstream: Vec<Url>,
    },
}

/// What both roles take.
#[derive(Clone, Debug, Args)]
pub(crate) struct NodeFlags {
    /// Read settings from this TOML file
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Keep everything in this directory
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Serve clients at this address; may be given several times, port 0 lets the system choose
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Vec<SocketAddr>,
    /// Set any key; VALUE in TOML or as a bare word; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Ask nobody who they are
    #[arg(long)]
    pub(crate) no_auth: bool,
    /// The form of the log
    #[arg(long, value_name = "FORM")]
    pub(crate) log: Option<LogForm>,
    /// Read the configuration, report every mistake, and exit
    #[arg(long)]
    pub(crate) check: bool,
    /// Print every key, its default and what it does, and exit
    #[arg(long)]
    pub(crate) print_config: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogForm {
    Human,
    Json,
}

impl LogForm {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Human => "human",
            Self::Json => "json",
        }
    }
}
