//! Garbage collection while people push and delete: nothing acknowledged is lost, and space is given back.

use std::{
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use crate::harness::{
    content::Content,
    http::request,
    image::{Image, Typed, push_blob},
    node::{Node, Plan},
    postgres,
    process::wait_for,
};

/// How long images are pushed and deleted while the collector runs each second.
const LOOP: Duration = Duration::from_secs(15);

/// How soon what nothing refers to is gone: the grace and the interval are a second each, and a quarantine may follow.
const COLLECTED: Duration = Duration::from_secs(30);

const LAYER: usize = 300_000;
const WRITERS: usize = 3;

#[test]
fn collecting_while_pushing_loses_nothing_on_sqlite() {
    loses_nothing(&Plan::origin());
}

#[test]
fn collecting_while_pushing_loses_nothing_on_postgresql() {
    loses_nothing(&Plan::origin().set("database.url", &postgres::new_database()));
}

#[test]
fn a_blob_collected_and_pushed_again_is_whole() {
    let origin = eager(&Plan::origin()).start();
    let image = Image::make("a_blob_collected_and_pushed_again", 2, LAYER);
    for _ in 0..3 {
        image.push(origin.address, "team/app", "latest");
        let content = Content::read(origin.address, "team/app", "latest");
        delete(origin.address, "team/app", &image);
        for digest in content.blobs.keys() {
            wait_for("the blob is collected", COLLECTED, || {
                (!has_blob(origin.address, "team/app", digest)).then_some(())
            });
        }
    }
    wait_for("the space is given back", COLLECTED, || {
        (bytes_below(&origin.plan().data()) < LAYER as u64).then_some(())
    });
}

fn eager(plan: &Plan) -> Plan {
    plan.clone().set("gc.grace", "1s").set("gc.interval", "1s")
}

fn loses_nothing(plan: &Plan) {
    let origin = eager(plan).start();
    let kept: Vec<Kept> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                scope.spawn({
                    let address = origin.address;
                    move || push_and_delete(address, writer)
                })
            })
            .collect();
        writers.into_iter().flat_map(|writer| writer.join().expect("a writer loses nothing")).collect()
    });
    assert!(kept.len() > 10, "only {} images were kept in {LOOP:?}", kept.len());
    // What is left to collect is collected, then everything that was acknowledged is read again.
    let wanted: u64 = unique_bytes(&kept);
    wait_for("what was deleted is given back", COLLECTED, || {
        (stored(&origin) < wanted + wanted / 4 + (4 << 20)).then_some(())
    });
    for Kept { repository, tag, content } in &kept {
        assert_eq!(Content::read(origin.address, repository, tag), *content);
    }
}

/// An image that was pushed and not deleted.
struct Kept {
    repository: String,
    tag: String,
    content: Content,
}

/// Pushes images that share layers with earlier ones, reads each at once, and deletes two of three.
fn push_and_delete(origin: SocketAddr, writer: usize) -> Vec<Kept> {
    let (began, repository) = (Instant::now(), format!("team/writer-{writer}"));
    // The same images come again and again: blobs are collected, pushed again, and collected again.
    let images: Vec<Image> =
        (0..9).map(|number| Image::make(&format!("writer {writer} image {number}"), 2, LAYER)).collect();
    let mut kept: Vec<Kept> = Vec::new();
    for round in 0_usize.. {
        if began.elapsed() > LOOP {
            break;
        }
        let fresh;
        let image = if round % 3 == 0 {
            fresh = Image::make(&format!("{writer} kept {round}"), 2, LAYER);
            &fresh
        } else {
            &images[round % images.len()]
        };
        let tag = format!("v{round}");
        push_as_clients_do(origin, &repository, &tag, image);
        let content = Content::read(origin, &repository, &tag);
        assert_eq!(content.digest, image.digest());
        if round % 3 == 0 {
            kept.push(Kept { repository: repository.clone(), tag, content });
        } else {
            delete(origin, &repository, image);
        }
        let old = &kept[round % kept.len()];
        assert_eq!(Content::read(origin, &old.repository, &old.tag), old.content, "what was kept is whole");
    }
    kept
}

/// Sends only the blobs that the registry says it lacks. A blob that it has said to have may be collected before the
/// manifest that refers to it comes, since nothing refers to it yet: the registry then says so, and clients begin anew.
fn push_as_clients_do(origin: SocketAddr, repository: &str, tag: &str, image: &Image) {
    for _ in 0..5 {
        for blob in image.blobs.iter().filter(|blob| !has_blob(origin, repository, &blob.digest())) {
            push_blob(origin, repository, blob);
        }
        let Typed { media_type, bytes } = &image.manifest;
        let path = format!("/v2/{repository}/manifests/{tag}");
        let answer = request(origin, "PUT", &path, &[("Content-Type", media_type)], bytes);
        if answer.status == 201 {
            return;
        }
        assert!(answer.text().contains("MANIFEST_BLOB_UNKNOWN"), "{} {}", answer.status, answer.text());
    }
    panic!("five times in a row a blob was collected between its push and its manifest's");
}

fn has_blob(origin: SocketAddr, repository: &str, digest: &str) -> bool {
    let answer = request(origin, "HEAD", &format!("/v2/{repository}/blobs/{digest}"), &[], &[]);
    assert!(matches!(answer.status, 200 | 404), "{answer:?}");
    answer.status == 200
}

fn delete(origin: SocketAddr, repository: &str, image: &Image) {
    request(origin, "DELETE", &format!("/v2/{repository}/manifests/{}", image.digest()), &[], &[])
        .expect(202);
}

fn unique_bytes(kept: &[Kept]) -> u64 {
    let blobs: std::collections::BTreeMap<_, _> = kept.iter().flat_map(|kept| &kept.content.blobs).collect();
    blobs.values().copied().sum()
}

/// Bytes of blobs on disk: the data directory less its database.
fn stored(origin: &Node) -> u64 {
    bytes_below(&origin.plan().data())
}

/// Bytes of all files but those of SQLite, which keeps what it once took.
fn bytes_below(directory: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else { return 0 };
    entries.flatten().map(|entry| bytes_of(&entry.path())).sum()
}

fn bytes_of(path: &Path) -> u64 {
    if path.is_dir() {
        return bytes_below(path);
    }
    let database = path.file_name().is_some_and(|name| {
        name.to_string_lossy().contains(".sqlite") || name.to_string_lossy().contains(".db")
    });
    // A file may be collected between the listing and the look at it.
    if database { 0 } else { path.metadata().map_or(0, |found| found.len()) }
}
