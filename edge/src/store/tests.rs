use std::os::unix::fs::FileExt as _;

use oci::settings::{Size, Span};
use prometheus_client::registry::Registry;

use super::*;

fn open(data: &Path, capacity: u64) -> Arc<Store> {
    let settings = CacheSettings {
        capacity: Some(Size(capacity)),
        keep_free: Some(Size(0)),
        keep_partial: Span(std::time::Duration::from_secs(60)),
    };
    Store::open(data, &settings, Metrics::register(&mut Registry::default())).expect("opened")
}

fn put(store: &Arc<Store>, content: &[u8]) -> Option<Digest> {
    let digest = Digest::sha256(content);
    let room = store.reserve(content.len() as u64)?;
    let file =
        File::options().create(true).truncate(true).read(true).write(true).open(store.partial_path(&digest));
    let file = file.expect("created");
    file.write_all_at(content, 0).expect("written");
    store.commit(&digest, &file, room).expect("committed");
    Some(digest)
}

fn bytes_in(directory: &Path) -> u64 {
    let mut total = 0;
    for entry in fs::read_dir(directory).expect("listed") {
        let entry = entry.expect("entry");
        let metadata = entry.metadata().expect("metadata");
        total += if metadata.is_dir() { bytes_in(&entry.path()) } else { metadata.len() };
    }
    total
}

#[test]
fn the_blob_used_longest_ago_makes_room_and_the_capacity_holds() {
    let data = tempfile::tempdir().expect("directory");
    let store = open(data.path(), 300);
    let blobs: Vec<Digest> = (1..=3).map(|fill| put(&store, &[fill; 100]).expect("room")).collect();
    drop(store.get(&blobs[0]).expect("held"));
    let fourth = put(&store, &[4; 100]).expect("room");
    assert!(store.get(&blobs[1]).is_none(), "used longest ago");
    for kept in [&blobs[0], &blobs[2], &fourth] {
        assert!(store.get(kept).is_some());
    }
    assert_eq!(bytes_in(&data.path().join("blobs")), 300);
    assert_eq!(store.metrics.cache_bytes.get(), 300);
    assert_eq!(store.metrics.evictions.get(), 1);
}

#[test]
fn a_blob_that_is_read_does_not_make_room() {
    let data = tempfile::tempdir().expect("directory");
    let store = open(data.path(), 200);
    let first = put(&store, &[1; 200]).expect("room");
    let reading = store.get(&first).expect("held");
    assert!(store.reserve(100).is_none(), "everything is being read");
    drop(reading);
    assert!(store.reserve(100).is_some());
    assert!(store.get(&first).is_none());
    assert!(store.reserve(201).is_none(), "more than the capacity");
}

#[test]
fn a_start_finds_what_was_there_and_no_foreign_file() {
    let data = tempfile::tempdir().expect("directory");
    let store = open(data.path(), 1000);
    let digest = put(&store, b"content").expect("room");
    fs::write(store.path(&digest).with_file_name("README"), "not ours").expect("written");
    fs::write(store.partial_path(&Digest::sha256(b"other")), "oth").expect("written");
    let again = open(data.path(), 1000);
    assert_eq!(again.size(&digest), Some(7));
    assert_eq!(again.metrics.cache_blobs.get(), 1);
    assert_eq!(again.metrics.cache_bytes.get(), 10, "the partial blob is counted");
    assert!(store.path(&digest).with_file_name("README").exists());
}

#[test]
fn a_blob_whose_file_has_another_length_is_never_served() {
    let data = tempfile::tempdir().expect("directory");
    let store = open(data.path(), 1000);
    let digest = put(&store, b"content").expect("room");
    File::options().write(true).open(store.path(&digest)).expect("opened").set_len(3).expect("cut");
    assert!(store.get(&digest).is_none());
    assert!(!store.path(&digest).exists());
    assert_eq!(store.size(&digest), None);
}
