//! Memory does not grow with what passes through: a blob of several gigabytes costs a node no more than a small one.

use crate::harness::{
    content::{blob, try_blob},
    large::LargeBlob,
    node::{Node, Plan},
};

/// What one transfer may take above idle, whatever its size.
const ALLOWED: u64 = 64 << 20;

/// Large enough that a node which keeps a twentieth of it is found out.
const BYTES: u64 = 3 << 30;

#[test]
fn a_blob_of_three_gigabytes_passes_in_bounded_memory() {
    let origin = Plan::origin().start();
    let edge = Plan::edge(origin.address).start();
    // Each has served something, so that what a first request sets up counts as idle.
    let small = LargeBlob::make("small", 1 << 20);
    small.push(origin.address, "team/app");
    blob(edge.address, "team/app", &small.digest);

    let large = LargeBlob::make("a_blob_of_three_gigabytes", BYTES);
    let peak = peak_above_idle(&origin, || drop(large.push(origin.address, "team/app")));
    assert!(peak <= ALLOWED, "the push took {} MiB", peak >> 20);
    let peak = peak_above_idle(&edge, || {
        let pulled = try_blob(edge.address, "team/app", &large.digest).expect("it comes whole");
        assert_eq!(pulled, (200, BYTES, large.digest.clone()));
    });
    assert!(peak <= ALLOWED, "the pull through the edge took {} MiB there", peak >> 20);
    let peak =
        peak_above_idle(&origin, || assert_eq!(blob(origin.address, "team/app", &large.digest), BYTES));
    assert!(peak <= ALLOWED, "the pull took {} MiB at the origin", peak >> 20);
}

/// How far resident memory rises above what it is now while something is done.
fn peak_above_idle(node: &Node, transfer: impl FnOnce()) -> u64 {
    let idle = node.memory("VmRSS");
    node.reset_peak_memory();
    transfer();
    let peak = node.memory("VmHWM").saturating_sub(idle);
    println!("{} MiB idle, {} MiB more at the peak", idle >> 20, peak >> 20);
    peak
}
