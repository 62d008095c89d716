//! The command line.

mod node;
mod operator;

use clap::{Parser, Subcommand};
use url::Url;

pub(crate) use node::NodeFlags;
pub(crate) use operator::{Access, CacheCommand, DoctorFlags, LoginFlags, Operator};

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
    #[command(flatten)]
    Operator(Operator),
}
