mod laws;

use std::os::unix::fs::FileExt as _;

use oci::settings::{Size, Span};
use prometheus_client::registry::Registry;

use super::*;
use crate::metadata::Metadata;

fn settings(capacity: u64) -> CacheSettings {
    CacheSettings {
        capacity: Some(Size(capacity)),
        keep_free: Some(Size(0)),
        keep_partial: Span(std::time::Duration::from_secs(60)),
        quarantine: Size(capacity),
        metadata_reserve: Size(0),
        ..CacheSettings::default()
    }
}

fn bare(data: &Path, capacity: u64) -> Arc<Store> {
    let metrics = StoreMetrics::register(&mut Registry::default());
    Store::open(data, &settings(capacity), metrics).expect("opened")
}

/// A store that has found that there are no rows.
fn open(data: &Path, capacity: u64) -> Arc<Store> {
    let store = bare(data, capacity);
    store.loaded();
    store
}

/// As a start does it: with the rows, and then the files.
async fn start(data: &Path, capacity: u64) -> (Arc<Store>, Metadata) {
    let metadata = metadata(data).await;
    let store = bare(data, capacity);
    load(&store, &metadata, || ()).await;
    (store, metadata)
}

async fn metadata(data: &Path) -> Metadata {
    Metadata::open(data, 0, Counter::default()).await.expect("opened")
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

fn path(store: &Store, digest: &Digest) -> PathBuf {
    store.path(&Key::of(digest))
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

#[track_caller]
fn adds_up(store: &Store) {
    assert_eq!(store.metrics.contradiction(), None);
}

#[test]
fn what_was_not_used_again_makes_room_and_the_capacity_holds() {
    let data = tempfile::tempdir().expect("directory");
    let store = open(data.path(), 300);
    let blobs: Vec<Digest> = (1..=3).map(|fill| put(&store, &[fill; 100]).expect("room")).collect();
    drop(store.get(&blobs[0]).expect("held"));
    let fourth = put(&store, &[4; 100]).expect("room");
    assert!(store.get(&blobs[0]).is_some(), "used again");
    assert!(store.get(&fourth).is_some(), "the newest");
    assert_eq!(blobs.iter().filter(|blob| store.size(blob).is_some()).count(), 2);
    assert_eq!(bytes_in(&data.path().join("blobs")), 300);
    assert_eq!(store.metrics.bytes(), 300);
    assert_eq!(store.metrics.evictions.get(), 1);
    adds_up(&store);
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
    adds_up(&store);
}

#[test]
fn a_pinned_blob_does_not_make_room_before_it_is_unpinned() {
    let data = tempfile::tempdir().expect("directory");
    let store = open(data.path(), 200);
    let pinned = Digest::sha256(&[1; 200]);
    store.set_pinned(HashSet::from([Key::of(&pinned)]));
    put(&store, &[1; 200]).expect("pinned before it came");
    assert!(store.reserve(1).is_none());
    assert_eq!(store.pinned_and_missing(), []);
    store.set_pinned(HashSet::new());
    assert!(store.reserve(1).is_some());
    assert!(store.size(&pinned).is_none());
    adds_up(&store);
}

#[tokio::test]
async fn a_start_finds_what_was_there_and_no_foreign_file() {
    let data = tempfile::tempdir().expect("directory");
    let store = open(data.path(), 1000);
    let digest = put(&store, b"content").expect("room");
    fs::write(path(&store, &digest).with_file_name("README"), "not ours").expect("written");
    fs::write(store.partial_path(&Digest::sha256(b"other")), "oth").expect("written");
    // No row was written: the file alone is found, and read whole.
    let (again, _) = start(data.path(), 1000).await;
    assert_eq!(again.size(&digest), Some(7));
    assert_eq!(again.metrics.bytes(), 10, "the partial blob is counted");
    assert!(path(&store, &digest).with_file_name("README").exists());
    adds_up(&again);
}

#[tokio::test]
async fn rows_bring_back_size_use_and_frequency_and_order() {
    let data = tempfile::tempdir().expect("directory");
    let (store, metadata) = start(data.path(), 300).await;
    let blobs: Vec<Digest> = (1..=3).map(|fill| put(&store, &[fill; 100]).expect("room")).collect();
    for _ in 0..5 {
        drop(store.get(&blobs[1]).expect("held"));
    }
    metadata.write_changes(&store.take_changes(100)).await.expect("written");
    assert!(store.take_changes(100).is_empty(), "written once");
    let (again, _) = start(data.path(), 300).await;
    put(&again, &[4; 100]).expect("room");
    put(&again, &[5; 100]).expect("room");
    assert!(again.size(&blobs[1]).is_some(), "used most often in the life before");
    adds_up(&again);
}

#[tokio::test]
async fn a_row_whose_file_is_gone_is_forgotten_and_one_asked_for_early_is_found() {
    let data = tempfile::tempdir().expect("directory");
    let (store, metadata) = start(data.path(), 1000).await;
    let gone = put(&store, b"gone").expect("room");
    let kept = put(&store, b"kept").expect("room");
    metadata.write_changes(&store.take_changes(100)).await.expect("written");
    fs::remove_file(path(&store, &gone)).expect("removed");

    let early = bare(data.path(), 1000);
    assert!(early.get(&kept).is_none(), "nothing is loaded yet");
    recall(&early, &metadata, &kept).await;
    assert_eq!(early.get(&kept).map(|found| found.size), Some(4));
    load(&early, &metadata, || ()).await;
    assert_eq!(early.size(&gone), None);
    assert_eq!(early.size(&kept), Some(4));
    metadata.write_changes(&early.take_changes(100)).await.expect("written");
    assert_eq!(metadata.count_blobs().await.expect("counted"), 1, "its row is gone too");
    adds_up(&early);
}

#[tokio::test]
async fn a_strange_file_with_wrong_bytes_is_not_taken_in() {
    let data = tempfile::tempdir().expect("directory");
    let store = open(data.path(), 1000);
    let digest = put(&store, b"content").expect("room");
    fs::write(path(&store, &digest), "CONTENT").expect("written");
    let (again, _) = start(data.path(), 1000).await;
    assert_eq!(again.size(&digest), None);
    assert_eq!(again.index().held.quarantined, 7);
    assert!(!path(&again, &digest).exists());
    adds_up(&again);
}

#[test]
fn a_blob_whose_file_has_another_length_is_never_served() {
    let data = tempfile::tempdir().expect("directory");
    let store = open(data.path(), 1000);
    let digest = put(&store, b"content").expect("room");
    File::options().write(true).open(path(&store, &digest)).expect("opened").set_len(3).expect("cut");
    assert!(store.get(&digest).is_none());
    assert!(!path(&store, &digest).exists());
    assert_eq!(store.size(&digest), None);
    assert_eq!(bytes_in(&data.path().join("quarantine")), 3, "set aside");
    adds_up(&store);
}

#[tokio::test]
async fn a_verification_sets_damaged_blobs_aside_and_names_them() {
    let data = tempfile::tempdir().expect("directory");
    let (store, _) = start(data.path(), 1000).await;
    let sound = put(&store, b"sound").expect("room");
    let damaged = put(&store, b"damaged").expect("room");
    fs::write(path(&store, &damaged), "damageD").expect("written");
    let scrubber = Scrubber::new(store.clone(), &settings(1000), tokio_util::sync::CancellationToken::new());
    assert!(scrubber.begin());
    assert!(!scrubber.begin(), "one at a time");
    scrubber.clone().verify().await;
    let report = scrubber.report();
    assert_eq!((report.checked, report.total, report.bytes_checked, report.bytes_total), (2, 2, 12, 12));
    assert_eq!(report.damaged, std::slice::from_ref(&damaged));
    assert!(!report.running && report.finished.is_some());
    assert!(store.get(&sound).is_some());
    assert!(store.get(&damaged).is_none());
    assert_eq!(bytes_in(&data.path().join("quarantine")), 7);
    adds_up(&store);
    put(&store, &[1; 995]).expect("room: what is in quarantine goes before anything else");
    assert_eq!(bytes_in(&data.path().join("quarantine")), 0);
    adds_up(&store);
}

#[test]
fn partial_blobs_are_counted_reaped_and_the_first_to_make_room() {
    let data = tempfile::tempdir().expect("directory");
    let store = open(data.path(), 100);
    let (old, new) = (Digest::sha256(b"old"), Digest::sha256(b"new"));
    for digest in [&old, &new] {
        fs::write(store.partial_path(digest), [0; 30]).expect("written");
        store.leave_partial(digest);
    }
    let whole = put(&store, &[1; 40]).expect("room");
    assert_eq!(store.metrics.bytes(), 100);
    assert!(store.claim_partial(&new), "taken up");
    let room = store.reserve(60).expect("the other one makes room");
    assert!(!store.partial_path(&old).exists());
    assert!(store.partial_path(&new).exists(), "somebody works on it");
    assert!(store.size(&whole).is_some());
    drop(room);
    store.leave_partial(&new);
    store.reap_partials(std::time::Duration::from_secs(60));
    assert!(store.partial_path(&new).exists(), "young");
    let an_hour_ago = SystemTime::now() - std::time::Duration::from_secs(3600);
    let file = File::options().write(true).open(store.partial_path(&new)).expect("opened");
    file.set_modified(an_hour_ago).expect("set");
    let again = open(data.path(), 100);
    assert!(!again.partial_path(&new).exists(), "older than the settings allow");
    adds_up(&store);
}
