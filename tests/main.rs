//! The system under real clients, real databases, real object stores and real faults.
//!
//! Every test starts the processes that it needs, in directories and on loopback addresses of its own, and ends them.
//! `tests/setup` installs what they call; a tool that is missing is a failure, never a skip.

/// What the tests stand on: processes, HTTP byte by byte, images made on the spot.
mod harness {
    pub(crate) mod cache;
    pub(crate) mod content;
    pub(crate) mod engines;
    pub(crate) mod http;
    pub(crate) mod image;
    pub(crate) mod large;
    pub(crate) mod metrics;
    pub(crate) mod node;
    pub(crate) mod noise;
    pub(crate) mod postgres;
    pub(crate) mod process;
    pub(crate) mod s3;
    pub(crate) mod scratch;
}

/// One module for each client: how it pushes, how it is pointed at a mirror, how its pull is checked.
mod clients {
    pub(crate) mod buildah;
    pub(crate) mod client;
    pub(crate) mod containerd;
    pub(crate) mod crane;
    pub(crate) mod docker;
    pub(crate) mod oras;
    pub(crate) mod podman;
    pub(crate) mod skopeo;
}

/// What nobody should send: every kind of it, to real nodes, and upstreams that lie.
mod bad_input {
    mod configuration;
    mod edge_names;
    mod framing;
    mod lying_blobs;
    mod lying_manifests;
    mod manifests;
    mod names;
    mod refusal;
    mod slow;
    mod uploads;
    mod upstream;
}

/// The store of an edge: who watches it, and what it lives through.
mod cache {
    mod damage;
    mod full_disk;
    mod kills;
    mod operator;
}

mod access;
mod cluster;
mod collection;
mod conformance;
mod durability;
mod forms;
mod memory;
mod pool;
mod restart;
mod signals;
mod voyage;
