//! The system under real clients, real databases, real object stores and real faults.
//!
//! Every test starts the processes that it needs, in directories and on loopback addresses of its own, and ends them.
//! `tests/setup` installs what they call; a tool that is missing is a failure, never a skip.

/// What the tests stand on: processes, HTTP byte by byte, images made on the spot.
mod harness {
    pub(crate) mod authority;
    pub(crate) mod cache;
    pub(crate) mod content;
    pub(crate) mod engines;
    pub(crate) mod fault_proxy;
    pub(crate) mod http;
    pub(crate) mod image;
    pub(crate) mod large;
    pub(crate) mod metrics;
    pub(crate) mod namespace;
    pub(crate) mod network;
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
    mod black_hole;
    mod damage;
    mod full_disk;
    mod kills;
    mod operator;
}

/// What operators see of a node, and do to it.
mod operators {
    mod cache;
    mod command;
    mod doctor;
    mod doctor_files;
    mod identities;
    mod listener;
    mod login;
    mod proxy;
    mod status;
    mod tls_relay;
    mod watching;
}

/// What clients connect to: TLS and its certificates, HTTP/2, the addresses of operators, and what SIGHUP reads again.
mod serving {
    mod certificates;
    mod clients;
    mod http2;
    mod operators;
}

/// What befalls an edge, its upstream and its clients, and what those see of it.
mod faults {
    mod ask;
    mod brownout;
    mod chance;
    mod containerd;
    mod cuts;
    mod docker_hub;
    mod podman;
    mod pulls;
    mod soak;
    mod upstreams;
}

mod access;
mod cluster;
mod collection;
mod conformance;
mod durability;
mod forms;
mod lessons;
mod memory;
mod pool;
mod restart;
mod signals;
mod voyage;
