//! Bits that flip and files that shrink under a running edge: no wrong byte is served, and what is damaged comes again.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use crate::harness::{
    cache::Store,
    content::Content,
    http::get,
    image::Image,
    node::Plan,
    process::{PATIENCE, wait_for},
};

fn file_of(data: &Path, digest: &str) -> PathBuf {
    let hex = digest.trim_start_matches("sha256:");
    data.join("blobs/sha256").join(&hex[..2]).join(hex)
}

fn flip(path: &Path) {
    let file = File::options().read(true).write(true).open(path).expect("the blob is there");
    let mut byte = [0];
    file.read_exact_at(&mut byte, 1000).expect("it is longer");
    file.write_all_at(&[byte[0] ^ 1], 1000).expect("it can be written");
}

#[test]
fn a_flipped_bit_is_found_by_a_verification_set_aside_and_fetched_again() {
    let origin = Plan::origin().start();
    let image = Image::make("a_flipped_bit_is_found", 2, 300_000);
    image.push(origin.address, "team/app", "v1");
    let edge = Plan::edge(origin.address).start();
    Content::read(edge.address, "team/app", "v1");
    edge.finishes_downloads();
    let damaged = image.blobs[1].digest();
    flip(&file_of(&edge.plan().data(), &damaged));
    let report = Store(edge.address).verify();
    assert_eq!(report["damaged"], serde_json::json!([damaged]));
    assert_eq!(report["checked"], report["total"]);
    assert_eq!(edge.metrics().count("roadstead_cache_quarantined_total", &[]), 1);
    assert_eq!(Store(edge.address).image("team/app:v1").expect("listed")["complete"], false);
    Content::read(edge.address, "team/app", "v1");
    edge.finishes_downloads();
    assert_eq!(Store(edge.address).verify()["damaged"], serde_json::json!([]));
    let aside = std::fs::read_dir(edge.plan().data().join("quarantine")).expect("listed").count();
    assert_eq!(aside, 1, "kept for somebody to look at");
}

#[test]
fn the_scrub_finds_a_flipped_bit_by_itself_and_what_is_pinned_comes_back_at_once() {
    let origin = Plan::origin().start();
    let image = Image::make("the_scrub_finds_a_flipped_bit", 2, 300_000);
    image.push(origin.address, "team/app", "v1");
    let plan = Plan::edge(origin.address).set("cache.scrub_interval", "0s").set("cache.scrub_rate", "64 MiB");
    let edge = plan.start();
    Content::read(edge.address, "team/app", "v1");
    edge.finishes_downloads();
    Store(edge.address).post("pins", "team/app:v1").expect(200);
    let damaged = image.blobs[2].digest();
    let file = file_of(&plan.data(), &damaged);
    flip(&file);
    wait_for("the scrub sets it aside", PATIENCE, || {
        (edge.metrics().count("roadstead_cache_quarantined_total", &[]) == 1).then_some(())
    });
    wait_for("it is fetched again with nobody asking", PATIENCE, || {
        (std::fs::read(&file).ok()? == image.blobs[2].bytes).then_some(())
    });
    assert!(edge.metrics().count("roadstead_cache_scrubbed_bytes_total", &[]) > 0);
}

#[test]
fn a_file_of_another_length_is_never_served() {
    let origin = Plan::origin().start();
    let image = Image::make("a_file_of_another_length", 1, 300_000);
    image.push(origin.address, "team/app", "v1");
    let edge = Plan::edge(origin.address).start();
    let content = Content::read(edge.address, "team/app", "v1");
    edge.finishes_downloads();
    for length in [0, 1000, 10 << 20] {
        let path = file_of(&edge.plan().data(), &image.blobs[1].digest());
        File::options().write(true).open(&path).expect("it is there").set_len(length).expect("it can be cut");
        assert_eq!(Content::read(edge.address, "team/app", "v1"), content, "with a file of {length} bytes");
        edge.finishes_downloads();
    }
    assert_eq!(get(edge.address, "/readyz").status, 200);
}
