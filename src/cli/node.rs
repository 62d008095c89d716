//! What `roadstead origin` and `roadstead edge` take.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, ValueEnum};

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
