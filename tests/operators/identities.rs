//! What `/metrics` and `Cache-Status` say adds up: a ledger of what clients got, kept beside the edge's own, after every kind of
//! request.

use std::{collections::BTreeMap, fs, net::SocketAddr, path::Path, sync::Mutex};

use crate::harness::{
    content::ACCEPT,
    http::{Answer, Connection, request},
    image::{Image, Typed, push_blob},
    metrics::Metrics,
    node::{Node, Plan},
    noise::Noise,
    process::{PATIENCE, wait_for},
};

/// What clients got, by their own count.
#[derive(Debug, Default)]
struct Ledger {
    /// By kind of content, and by the word that the metric has for what `Cache-Status` said.
    answers: BTreeMap<(String, String), u64>,
    blob_bytes: u64,
}

struct Client<'a> {
    edge: SocketAddr,
    ledger: &'a Mutex<Ledger>,
}

impl Client<'_> {
    fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        let answer = request(self.edge, method, path, &[&[("Accept", ACCEPT)], headers].concat(), &[]);
        let bytes = if method == "GET" && answer.status < 300 { answer.body.len() as u64 } else { 0 };
        self.note(path, answer.header("cache-status"), bytes);
        answer
    }

    fn note(&self, path: &str, status: Option<&str>, bytes: u64) {
        let kind = if path.contains("/blobs/") { "blob" } else { "manifest" };
        let mut ledger = self.ledger.lock().expect("nobody panics");
        ledger.blob_bytes += if kind == "blob" { bytes } else { 0 };
        if let Some(status) = status {
            let (_node, said) = status.split_once("; ").expect("a node and what it did");
            *ledger.answers.entry((kind.to_owned(), word(said).to_owned())).or_default() += 1;
        }
    }
}

/// What the metric calls it.
fn word(said: &str) -> &'static str {
    match said {
        "hit" => "hit",
        "hit; detail=offline" => "offline",
        "fwd=stale; detail=revalidated" => "revalidated",
        "fwd=stale; stored; detail=changed" => "changed",
        "fwd=miss; stored" => "miss",
        "fwd=miss; collapsed" => "collapsed",
        "fwd=miss" => "passed",
        other => panic!("Cache-Status says {other:?}, for which this test has no word"),
    }
}

const WORDS: [&str; 7] = ["hit", "offline", "revalidated", "changed", "miss", "collapsed", "passed"];

/// Every answer that clients got is counted under its word, and no other.
fn assert_answers_add_up(metrics: &Metrics, ledger: &Ledger) {
    for kind in ["manifest", "blob"] {
        for word in WORDS {
            let labels = [format!("kind=\"{kind}\""), format!("status=\"{word}\"")];
            let counted = metrics.count("roadstead_cache_answers_total", &[&labels[0], &labels[1]]);
            let got = ledger.answers.get(&(kind.to_owned(), word.to_owned())).copied().unwrap_or(0);
            assert_eq!(counted, got, "{kind} {word}: {ledger:?}");
        }
        let by_kind = metrics.count("roadstead_cache_answers_total", &[&format!("kind=\"{kind}\"")]);
        let route = format!("route=\"{kind}\"");
        let good = ["200", "206", "304"].map(|status| {
            metrics.count("roadstead_http_requests_total", &[&route, &format!("status=\"{status}\"")])
        });
        assert_eq!(
            by_kind,
            good.iter().sum::<u64>(),
            "{kind}: every good answer has a Cache-Status, no other has"
        );
    }
}

/// The store is what its gauges, its counters and its directory say.
fn assert_store_adds_up(metrics: &Metrics, data: &Path) {
    let count = |name: &str, labels: &[&str]| metrics.count(&format!("roadstead_cache_{name}"), labels);
    assert_eq!(count("bytes", &[]), count("state_bytes", &[]));
    assert_eq!(count("blobs", &[]), count("blobs_added_total", &[]) - count("blobs_removed_total", &[]));
    assert_eq!(count("evictions_total", &[]), count("blobs_removed_total", &["why=\"evicted\""]));
    let files: Vec<u64> = fs::read_dir(data.join("blobs/sha256"))
        .expect("a directory")
        .flat_map(|shard| fs::read_dir(shard.expect("an entry").path()).expect("a directory"))
        .map(|file| file.expect("an entry").metadata().expect("it is there").len())
        .collect();
    assert_eq!(count("blobs", &[]), files.len() as u64);
    assert_eq!(count("state_bytes", &["state=\"whole\""]), files.iter().sum::<u64>());
}

fn noise(name: &str, bytes: usize) -> Typed {
    Typed { media_type: "application/octet-stream".into(), bytes: Noise::new(Noise::seed(name)).bytes(bytes) }
}

/// Manifests by tag and digest, by GET and HEAD, moved, unchanged, unknown, and with the digest that the client has already.
/// The bytes of the manifests that the edge had to fetch.
fn ask_for_manifests(client: &Client<'_>, origin: &Node) -> u64 {
    let images = ["first", "second"].map(|name| Image::make(&format!("counters {name}"), 1, 20_000));
    let digest = images[0].digest();
    images[0].push(origin.address, "team/app", "moving");
    let (by_tag, by_digest) = ("/v2/team/app/manifests/moving", format!("/v2/team/app/manifests/{digest}"));
    for (method, path) in [("HEAD", by_tag), ("GET", by_tag), ("GET", &by_digest), ("HEAD", &by_digest)] {
        client.ask(method, path, &[]).expect(200);
    }
    client.ask("GET", &by_digest, &[("If-None-Match", &format!("\"{digest}\""))]).expect(304);
    images[1].push(origin.address, "team/app", "moving");
    client.ask("GET", by_tag, &[]).expect(200);
    client.ask("GET", "/v2/team/app/manifests/unknown", &[]).expect(404);
    client.ask("PUT", by_tag, &[]).expect(405);
    images.iter().map(|image| image.manifest.bytes.len() as u64).sum()
}

/// Blobs missed, hit, asked for by many at once, in parts, beyond their end, by HEAD, and unknown.
fn ask_for_blobs(client: &Client<'_>, origin: &Node) {
    let large = noise("counters large", 3 << 20);
    push_blob(origin.address, "team/app", &large);
    let path = format!("/v2/team/app/blobs/{}", large.digest());
    client.ask("HEAD", &path, &[]).expect(200);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert!(client.ask("GET", &path, &[]).expect(200).body == large.bytes));
        }
    });
    wait_for("it is kept", PATIENCE, || {
        let metrics = Metrics::read(client.edge);
        (metrics.count("roadstead_downloads_running", &[]) == 0).then_some(())
    });
    client.ask("HEAD", &path, &[]).expect(200);
    client.ask("GET", &path, &[]).expect(200);
    for (range, status) in
        [("bytes=100-199", 206), ("bytes=-5000", 206), ("bytes=99999999-", 416), ("lines=1-2", 200)]
    {
        client.ask("GET", &path, &[("Range", range)]).expect(status);
    }
    client.ask("GET", &path, &[("If-None-Match", &format!("\"{}\"", large.digest()))]).expect(304);
    client.ask("GET", &format!("/v2/team/app/blobs/{}", noise("nowhere", 1).digest()), &[]).expect(404);
}

/// More than there is room for, twice over; the edge throws out and fetches again.
fn ask_for_more_than_fits(client: &Client<'_>, origin: &Node) {
    let blobs: Vec<Typed> = (0..8).map(|number| noise(&format!("counters {number}"), 900_000)).collect();
    blobs.iter().for_each(|blob| push_blob(origin.address, "team/other", blob));
    for blob in blobs.iter().chain(&blobs) {
        client.ask("GET", &format!("/v2/team/other/blobs/{}", blob.digest()), &[]).expect(200);
    }
}

#[test]
fn counters_add_up_after_a_load_of_every_kind() {
    let mut origin = Plan::origin().start();
    let edge = Plan::edge(origin.address).set("cache.capacity", "5 MiB").set("cache.keep_free", "0").start();
    let ledger = Mutex::new(Ledger::default());
    let client = Client { edge: edge.address, ledger: &ledger };
    let manifest_bytes = ask_for_manifests(&client, &origin);
    ask_for_blobs(&client, &origin);
    ask_for_more_than_fits(&client, &origin);
    edge.finishes_downloads();

    let metrics = edge.metrics();
    let served = |metrics: &Metrics| metrics.count("roadstead_blob_bytes_served_total", &[]);
    {
        let ledger = ledger.lock().expect("nobody panicked");
        assert_answers_add_up(&metrics, &ledger);
        assert_eq!(served(&metrics), ledger.blob_bytes, "every byte that clients got, from wherever it came");
        for (kind, word) in [("blob", "hit"), ("blob", "miss"), ("blob", "passed"), ("manifest", "changed")] {
            assert!(
                ledger.answers.contains_key(&(kind.to_owned(), word.to_owned())),
                "{kind} {word}: {ledger:?}"
            );
        }
    }
    assert!(metrics.count("roadstead_cache_evictions_total", &[]) > 0);
    assert_store_adds_up(&metrics, &edge.plan().data());
    let sent = origin.metrics().count("roadstead_blob_bytes_served_total", &[]) + manifest_bytes;
    assert_eq!(metrics.count("roadstead_upstream_bytes_received_total", &[]), sent, "what the upstream sent");

    // A client that leaves: what it took is counted, and at the most what it could have taken.
    let (before, took) = (served(&metrics), 700_000);
    let left = noise("counters left", 2 << 20);
    push_blob(origin.address, "team/app", &left);
    let path = format!("/v2/team/app/blobs/{}", left.digest());
    let mut connection = Connection::open(edge.address).expect("the edge listens");
    connection.send_head("GET", &path, &[]).expect("sent");
    let head = connection.read_head().expect("an answer begins");
    connection.read_exactly(took, &mut std::io::sink()).expect("so much comes");
    client.note(&path, head.header("cache-status"), 0);
    drop(connection);
    edge.finishes_downloads();
    wait_for("the edge notices", PATIENCE, || {
        (edge.metrics().count("roadstead_http_requests_running", &[]) == 1).then_some(())
    });
    let counted = served(&edge.metrics()) - before;
    assert!((took..=left.bytes.len() as u64).contains(&counted), "{counted}");

    origin.kill9();
    client.ask("GET", "/v2/team/app/manifests/moving", &[]).expect(200);
    client.ask("GET", "/v2/team/app/manifests/other", &[]).expect(503);
    let metrics = edge.metrics();
    assert_answers_add_up(&metrics, &ledger.lock().expect("nobody panicked"));
    assert_eq!(metrics.count("roadstead_cache_answers_total", &["status=\"offline\""]), 1);
    assert_store_adds_up(&metrics, &edge.plan().data());
}
