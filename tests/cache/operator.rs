//! What an operator sees of a store, and does to it.

use crate::harness::{
    cache::Store,
    content::{Content, try_blob},
    http::{Connection, get},
    image::{Image, Index},
    node::Plan,
    process::{PATIENCE, wait_for},
};

#[test]
fn images_are_listed_with_their_sizes_uses_and_pins() {
    let origin = Plan::origin().start();
    let image = Image::make("images_are_listed", 2, 300_000);
    image.push(origin.address, "team/app", "v1");
    let edge = Plan::edge(origin.address).start();
    let store = Store(edge.address);
    assert_eq!(store.images(), Vec::<serde_json::Value>::new());

    let content = Content::read(edge.address, "team/app", "v1");
    Content::read(edge.address, "team/app", "v1");
    edge.finishes_downloads();
    let listed = store.image("team/app:v1").expect("it was pulled");
    assert_eq!(listed["digest"], image.digest());
    assert_eq!(listed["bytes"], content.blob_bytes() + image.manifest.bytes.len() as u64);
    assert_eq!(listed["hits"], 2, "{listed}");
    assert_eq!(
        (&listed["pinned"], &listed["complete"], &listed["partial_bytes"]),
        (&false.into(), &true.into(), &0.into())
    );
    let last_used = listed["last_used"].as_str().expect("a time");
    assert!(last_used.starts_with("20") && last_used.ends_with('Z'), "{last_used}");

    store.post("pins", "team/app:v1").expect(200);
    assert_eq!(store.image("team/app:v1").expect("still there")["pinned"], true);
    let refused = store.post("evict", "team/app:v1").expect(409);
    assert_eq!(refused.header("content-type"), Some("application/problem+json"));
    assert!(refused.text().contains("unpin"), "{}", refused.text());
    store.unpin("team/app:v1").expect(204);
    store.unpin("team/app:v1").expect(404);
    store.post("pins", "team/other:v1").expect(404);
    store.post("pins", "Not An Image").expect(400);
}

#[test]
fn an_evicted_image_is_gone_with_what_no_other_needs_and_comes_again() {
    let origin = Plan::origin().start();
    let image = Image::make("an_evicted_image_is_gone", 2, 300_000);
    image.push(origin.address, "team/app", "v1");
    image.push(origin.address, "team/copy", "v1");
    let edge = Plan::edge(origin.address).start();
    let store = Store(edge.address);
    Content::read(edge.address, "team/app", "v1");
    Content::read(edge.address, "team/copy", "v1");
    edge.finishes_downloads();
    let held = edge.metrics().count("roadstead_cache_bytes", &[]);
    store.post("evict", "team/app:v1").expect(200);
    assert!(store.image("team/app:v1").is_none());
    assert_eq!(edge.metrics().count("roadstead_cache_bytes", &[]), held, "the copy needs them all");
    store.post("evict", "team/copy:v1").expect(200);
    assert_eq!(edge.metrics().count("roadstead_cache_bytes", &[]), 0);
    assert_eq!(edge.metrics().count("roadstead_cache_blobs", &[]), 0);
    store.post("evict", "team/copy:v1").expect(404);
    assert_eq!(Content::read(edge.address, "team/app", "v1").digest, image.digest());
}

#[test]
fn an_index_counts_as_what_was_pulled_of_it() {
    let origin = Plan::origin().start();
    let index = Index::make("an_index_counts_as_what_was_pulled_of_it");
    index.push(origin.address, "team/app", "v1");
    let edge = Plan::edge(origin.address).start();
    let store = Store(edge.address);
    get(edge.address, "/v2/team/app/manifests/v1").expect(200);
    assert_eq!(store.image("team/app:v1").expect("listed")["complete"], false, "none of its images is here");
    let one = &index.images[0];
    Content::read(edge.address, "team/app", &one.digest());
    edge.finishes_downloads();
    assert_eq!(store.images().len(), 1, "what belongs to an index is listed with it");
    assert_eq!(store.image("team/app:v1").expect("listed")["complete"], true);
}

#[test]
fn an_image_that_nobody_asks_for_goes_after_its_time_and_a_pinned_one_stays() {
    let origin = Plan::origin().start();
    let (image, pinned) = (Image::make("goes_after_its_time", 2, 1000), Image::make("stays", 2, 1000));
    image.push(origin.address, "team/app", "v1");
    pinned.push(origin.address, "team/app", "pinned");
    let edge = Plan::edge(origin.address).set("cache.keep_images", "2s").start();
    Content::read(edge.address, "team/app", "pinned");
    let store = Store(edge.address);
    store.post("pins", "team/app:pinned").expect(200);
    Content::read(edge.address, "team/app", "v1");
    edge.finishes_downloads();
    wait_for("the image is gone", PATIENCE, || store.image("team/app:v1").is_none().then_some(()));
    wait_for("its blobs are gone", PATIENCE, || {
        let held = edge.metrics().count("roadstead_cache_blobs", &[]);
        (held == pinned.blobs.len() as u64).then_some(())
    });
    assert_eq!(store.image("team/app:pinned").expect("it stays")["complete"], true);
}

#[test]
fn half_a_blob_is_shown_as_partial_and_survives_a_kill() {
    let mut origin = Plan::origin().start();
    let image = Image::make("half_a_blob_is_shown_as_partial", 1, 8 << 20);
    image.push(origin.address, "team/app", "v1");
    let mut edge = Plan::edge(origin.address).start();
    get(edge.address, "/v2/team/app/manifests/v1").expect(200);
    let layer = image.blobs[1].digest();
    let mut connection = Connection::open(edge.address).expect("the edge listens");
    connection.send_head("GET", &format!("/v2/team/app/blobs/{layer}"), &[]).expect("sent");
    connection.read_head().expect("an answer begins");
    connection.read_exactly(100_000, &mut std::io::sink()).expect("so much comes");
    edge.kill9();
    origin.kill9();
    edge.restart();
    let listed = Store(edge.address).image("team/app:v1").expect("listed");
    assert_eq!(listed["complete"], false);
    // A fast download may have been whole before the kill, and not yet renamed.
    assert!(listed["partial_bytes"].as_u64().expect("a number") >= 100_000, "{listed}");
    origin.restart();
    let whole = wait_for("the blob comes whole", PATIENCE, || {
        try_blob(edge.address, "team/app", &layer).ok().filter(|(status, ..)| *status == 200)
    });
    assert_eq!(whole.2, layer);
}

#[test]
fn a_data_directory_of_another_version_is_refused_with_a_sentence() {
    let origin = Plan::origin().start();
    let plan = Plan::edge(origin.address);
    drop(plan.start());
    let layout = plan.data().join("layout");
    let ours = std::fs::read_to_string(&layout).expect("it is written");
    std::fs::write(&layout, "edge 999\n").expect("it can be written");
    let (code, said) = plan.refused();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("another kind or version") && said.contains("edge 999"), "{said}");
    std::fs::write(&layout, ours).expect("it can be written");
    drop(plan.start());
}
