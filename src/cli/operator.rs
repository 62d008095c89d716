//! What the commands take that look at a running node, or change something in it.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use url::Url;

#[derive(Debug, Subcommand)]
pub(crate) enum Operator {
    /// Remember which node to administer, and as whom
    Login(LoginFlags),
    /// Show a node on one page: checks, cache, downloads, upstreams, alarms
    Status {
        #[command(flatten)]
        access: Access,
    },
    /// See and change what an edge holds
    #[command(subcommand)]
    Cache(CacheCommand),
    /// Say why a pull through a node or a registry would work, be slow or fail, and what to do about it
    Doctor(DoctorFlags),
}

/// How a node's API is reached.
#[derive(Args, Clone, Debug)]
pub(crate) struct Access {
    /// The node; by default the one that `roadstead login` remembered, or else http://127.0.0.1:5001
    #[arg(long, value_name = "URL", env = "ROADSTEAD_URL", value_parser = registry_url)]
    pub(crate) url: Option<Url>,
    /// Print one JSON document on standard output
    #[arg(long)]
    pub(crate) json: bool,
    /// A PEM file with certificates to trust besides those that the system trusts
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct LoginFlags {
    /// The node to administer
    #[arg(value_name = "URL", value_parser = registry_url)]
    pub(crate) url: Url,
    /// The user
    #[arg(short, long, value_name = "USER")]
    pub(crate) user: String,
    /// Read the password from standard input
    #[arg(long, required = true)]
    pub(crate) password_stdin: bool,
    /// A PEM file with certificates to trust besides those that the system trusts
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CacheCommand {
    /// List images: size, last use, hits, pins, whether all of it is here
    Ls {
        #[command(flatten)]
        access: Access,
    },
    /// Show how much is held, of what, and how much room is left
    Stats {
        #[command(flatten)]
        access: Access,
    },
    /// Keep an image from making room, and fetch what is lacking of it
    Pin {
        #[command(flatten)]
        access: Access,
        /// As a client names it: team/app:1.2, registry.example/team/app@sha256:…
        image: String,
        /// Wait until all of it is here
        #[arg(long)]
        wait: bool,
    },
    /// Let an image make room again
    Unpin {
        #[command(flatten)]
        access: Access,
        /// By the name that it was pinned by
        image: String,
    },
    /// Remove an image, and the blobs that no other image needs
    Evict {
        #[command(flatten)]
        access: Access,
        /// As a client names it
        image: String,
    },
    /// Read every stored blob again and compare it with its digest; exit 1 if one is damaged
    Verify {
        #[command(flatten)]
        access: Access,
    },
}

#[derive(Args, Debug)]
pub(crate) struct DoctorFlags {
    /// Edges, origins or other registries: http://edge:5001, https://registry.example
    #[arg(value_name = "URL", required = true, value_parser = registry_url)]
    pub(crate) urls: Vec<Url>,
    /// Pull this image, as a client names it there; by default one that the edge says it holds
    #[arg(long, value_name = "IMAGE")]
    pub(crate) image: Option<String>,
    /// Where the node's API is, if not at the URL itself
    #[arg(long, value_name = "URL", value_parser = registry_url)]
    pub(crate) api: Option<Url>,
    /// How clients reach the edge, for the files that are printed; by default the URL itself
    #[arg(long, value_name = "URL", value_parser = registry_url)]
    pub(crate) clients_use: Option<Url>,
    /// Print one JSON document on standard output
    #[arg(long)]
    pub(crate) json: bool,
    /// A PEM file with certificates to trust besides those that the system trusts
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
}

/// `http://host:port` or `https://host`.
///
/// # Errors
/// A sentence that says how to write one.
pub(crate) fn registry_url(text: &str) -> Result<Url, String> {
    let written = "write http://host:port or https://host";
    let url = Url::parse(text).map_err(|error| format!("{error}; {written}"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err(written.to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("leave user and password out; `roadstead login` takes them".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(written.to_owned());
    }
    Ok(url)
}
