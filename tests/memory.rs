//! Memory does not grow with what passes through: a blob of several gigabytes costs a node no more than a small one.

use crate::harness::{
    content::{self, Content, blob, try_blob},
    image::{Image, Typed, push_manifest},
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

#[test]
fn a_manifest_that_is_remembered_costs_its_own_bytes_and_not_the_buffer_it_came_in() {
    const MANIFESTS: usize = 1000;
    let origin = Plan::origin().start();
    let image = Image::make("a_manifest_that_is_remembered", 1, 1000);
    image.push(origin.address, "team/app", "v");
    let edge = Plan::edge(origin.address).start();
    Content::read(edge.address, "team/app", "v");
    let before = edge.memory("VmRSS");
    for number in 0..MANIFESTS {
        // The same image, and another document.
        let mut bytes = image.manifest.bytes.clone();
        bytes.extend(vec![b' '; number]);
        let manifest = Typed { media_type: image.manifest.media_type.clone(), bytes };
        push_manifest(origin.address, "team/app", &format!("v{number}"), &manifest);
        assert_eq!(manifest.digest(), content::manifest(edge.address, "team/app", &format!("v{number}")).0);
    }
    let grown = edge.memory("VmRSS").saturating_sub(before);
    println!("{MANIFESTS} manifests took {} MiB", grown >> 20);
    assert!(grown <= ALLOWED, "{MANIFESTS} manifests took {} MiB", grown >> 20);
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
