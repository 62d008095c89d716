//! `roadstead cache` against running edges.

use std::{fs::File, os::unix::fs::FileExt as _, path::PathBuf};

use super::command::{Operator, Said};
use crate::harness::{
    content::Content,
    http::get,
    image::Image,
    node::{Node, Plan},
    process::program,
};

/// An edge that holds all of `team/app:v1`, and its origin.
fn edge_with(image: &Image) -> (Node, Node) {
    let origin = Plan::origin().start();
    image.push(origin.address, "team/app", "v1");
    let edge = Plan::edge(origin.address).start();
    Content::read(edge.address, "team/app", "v1");
    edge.finishes_downloads();
    (edge, origin)
}

fn file_of(edge: &Node, digest: &str) -> PathBuf {
    let hex = digest.trim_start_matches("sha256:");
    edge.plan().data().join("blobs/sha256").join(&hex[..2]).join(hex)
}

#[test]
fn images_are_listed_in_a_table_and_as_one_array() {
    let image = Image::make("images_are_listed_in_a_table", 2, 300_000);
    let (edge, _origin) = edge_with(&image);
    let operator = Operator::new();
    let listed = operator.at(edge.address, &["cache", "ls", "--json"]).ends(0).json();
    let [line] = listed.as_array().expect("an array").as_slice() else { panic!("{listed}") };
    for field in ["image", "digest", "bytes", "last_used", "hits", "pinned", "complete"] {
        assert!(!line[field].is_null(), "{field} in {line}");
    }
    assert_eq!((&line["image"], &line["complete"]), (&"team/app:v1".into(), &true.into()));

    let table = operator.at(edge.address, &["cache", "ls"]).ends(0).out;
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 2, "{table}");
    for (title, cell) in [("DIGEST", &image.digest()[..19]), ("HERE", "complete"), ("IMAGE", "team/app:v1")] {
        let column = lines[0].find(title).expect("a title");
        assert!(lines[1][column..].starts_with(cell), "{title} stands above {cell}:\n{table}");
    }
    assert!(
        lines[1].contains(" KiB") && lines[1].contains(" ago") | lines[1].contains("just now"),
        "{table}"
    );
    assert!(!table.contains('\x1b'), "no colours to a pipe: {table:?}");
}

#[test]
fn an_image_is_pinned_by_every_name_that_a_client_gives_it() {
    let image = Image::make("an_image_is_pinned_by_every_name", 1, 50_000);
    let (edge, origin) = edge_with(&image);
    let (operator, digest, port) = (Operator::new(), image.digest(), edge.address.port());
    for name in [
        "team/app:v1".to_owned(),
        format!("{}/team/app:v1", origin.address),
        format!("{}/team/app:v1", edge.address),
        format!("{}/{}/team/app:v1", edge.address, origin.address),
        format!("localhost:{port}/team/app:v1"),
        format!("docker://{}/team/app:v1", edge.address),
        format!("team/app@{digest}"),
        format!("{}/team/app:v1@{digest}", edge.address),
    ] {
        let pinned = operator.at(edge.address, &["cache", "pin", &name, "--json"]).ends(0).json();
        assert_eq!(
            (&pinned["digest"], &pinned["complete"]),
            (&digest.as_str().into(), &true.into()),
            "{name}"
        );
        let listed = operator.at(edge.address, &["cache", "ls", "--json"]).ends(0).json();
        assert_eq!(listed[0]["pinned"], true, "{name}: {listed}");
        operator.at(edge.address, &["cache", "unpin", &name]).ends(0);
    }
    let listed = operator.at(edge.address, &["cache", "ls", "--json"]).ends(0).json();
    assert_eq!(listed[0]["pinned"], false, "{listed}");
}

#[test]
fn what_is_lacking_of_a_pinned_image_is_fetched_and_can_be_waited_for() {
    let mut origin = Plan::origin().start();
    // More blobs than are fetched at a time.
    let image = Image::make("what_is_lacking_of_a_pinned_image", 20, 100_000);
    image.push(origin.address, "team/app", "v1");
    let edge = Plan::edge(origin.address).start();
    get(edge.address, "/v2/team/app/manifests/v1").expect(200);
    let operator = Operator::new();
    let listed = operator.at(edge.address, &["cache", "ls"]).ends(0).out;
    assert!(listed.contains("partial, 0 %"), "{listed}");
    let said = operator.at(edge.address, &["cache", "pin", "team/app:v1", "--wait", "--json"]).ends(0);
    let pinned = said.json();
    assert_eq!(pinned["complete"], true, "{pinned}");
    assert_eq!(pinned["bytes"], pinned["bytes_total"], "{pinned}");
    assert!(said.err.contains("of 21 blobs"), "progress is told: {}", said.err);
    assert!(!said.err.contains('\x1b'), "in lines, to a pipe: {:?}", said.err);
    origin.kill9();
    let content = Content::read(edge.address, "team/app", "v1");
    assert_eq!(content.digest, image.digest(), "all of it is here");
}

#[test]
fn an_eviction_tells_what_it_freed_and_spares_what_is_pinned() {
    let image = Image::make("an_eviction_tells_what_it_freed", 2, 300_000);
    let (edge, _origin) = edge_with(&image);
    let operator = Operator::new();
    operator.at(edge.address, &["cache", "pin", "team/app:v1"]).ends(0);
    operator.at(edge.address, &["cache", "evict", "team/app:v1"]).fails_saying(&["pinned", "unpin"]);
    assert!(
        operator.at(edge.address, &["cache", "ls"]).ends(0).out.contains("team/app:v1"),
        "it is still there"
    );
    operator.at(edge.address, &["cache", "unpin", "team/app:v1"]).ends(0);
    let held = edge.metrics().count("roadstead_cache_bytes", &[]);
    let gone = operator.at(edge.address, &["cache", "evict", "team/app:v1"]).ends(0).out;
    assert!(gone.contains("team/app:v1 is gone") && gone.contains("KiB freed"), "{gone}");
    assert!(held > 0 && edge.metrics().count("roadstead_cache_bytes", &[]) == 0);
    let empty = operator.at(edge.address, &["cache", "ls"]).ends(0);
    assert!(empty.out.is_empty() && empty.err.contains("holds no image"), "{empty:?}");
}

#[test]
fn a_verification_names_damaged_blobs_and_the_images_that_need_them() {
    let image = Image::make("a_verification_names_damaged_blobs", 2, 300_000);
    let (edge, _origin) = edge_with(&image);
    let operator = Operator::new();
    let sound = operator.at(edge.address, &["cache", "verify"]).ends(0);
    assert!(sound.out.contains("3 blobs") && sound.out.contains("every one is"), "{}", sound.out);
    assert!(sound.err.contains("verifying: ") && sound.err.contains("3 of 3 blobs"), "{}", sound.err);

    let damaged = image.blobs[1].digest();
    let file = File::options().write(true).open(file_of(&edge, &damaged)).expect("it is there");
    file.write_all_at(b"wrong", 1000).expect("it can be written");
    let found = operator.at(edge.address, &["cache", "verify"]).ends(1);
    assert!(found.out.contains(&damaged) && found.out.contains("team/app:v1"), "{}", found.out);
    Content::read(edge.address, "team/app", "v1");
    edge.finishes_downloads();
    let report = operator.at(edge.address, &["cache", "verify", "--json"]).ends(0).json();
    assert_eq!((&report["damaged"], &report["checked"]), (&serde_json::json!([]), &3.into()), "{report}");
}

#[test]
fn on_a_terminal_a_verification_draws_a_bar() {
    let image = Image::make("on_a_terminal_a_verification_draws_a_bar", 2, 300_000);
    let (edge, _origin) = edge_with(&image);
    // `script` gives the command a terminal, and what it draws there.
    let call = format!("{} cache verify --url http://{}", env!("CARGO_BIN_EXE_roadstead"), edge.address);
    let drawn =
        Said::of(program("script").args(["-qec", &call, "/dev/null"]).env("TERM", "xterm")).ends(0).out;
    assert!(drawn.contains('\x1b') && drawn.contains("verifying"), "{drawn:?}");
    assert!(drawn.contains("every one is what its digest says"), "{drawn:?}");
}

#[test]
fn figures_of_the_store_are_told_in_words_and_as_they_are() {
    let image = Image::make("figures_of_the_store", 2, 300_000);
    let (edge, _origin) = edge_with(&image);
    let operator = Operator::new();
    let figures = operator.at(edge.address, &["cache", "stats", "--json"]).ends(0).json();
    assert_eq!(figures["blobs"], 3, "{figures}");
    assert_eq!(figures["bytes"], edge.metrics().count("roadstead_cache_bytes", &[]), "{figures}");
    let page = operator.at(edge.address, &["cache", "stats"]).ends(0).out;
    assert!(page.contains("in 3 blobs") && page.contains("disk free"), "{page}");
}

#[test]
fn what_cannot_be_done_is_a_sentence_and_exit_code_1_and_a_wrong_call_is_2() {
    let image = Image::make("what_cannot_be_done_is_a_sentence", 1, 10_000);
    let (edge, _origin) = edge_with(&image);
    let operator = Operator::new();
    for verb in ["pin", "evict"] {
        operator
            .at(edge.address, &["cache", verb, "team/other:v1"])
            .fails_saying(&["team/other:v1", "not in this cache"]);
    }
    operator.at(edge.address, &["cache", "unpin", "team/app:v1"]).fails_saying(&["not pinned", "cache ls"]);
    operator.at(edge.address, &["cache", "pin", "Not An Image"]).fails_saying(&["names no image"]);
    operator
        .at(edge.address, &["cache", "pin", "quay.example/a:1"])
        .fails_saying(&["does not stand in front of"]);
    let dead = "127.0.0.2:1".parse().expect("an address");
    for arguments in
        [&["cache", "ls"][..], &["cache", "verify"], &["status"], &["cache", "pin", "a:1", "--wait"]]
    {
        operator.at(dead, arguments).fails_saying(&[
            "127.0.0.2:1",
            "cannot be reached",
            "see that the node runs",
        ]);
    }
    for wrong in [
        &["cache", "ls", "--url", "ftp://x"][..],
        &["cache"],
        &["cache", "pin"],
        &["cache", "ls", "--nonsense"],
    ] {
        operator.run(wrong).ends(2);
    }
}
