//! An edge that is killed again and again, at any byte of a fill and of an eviction.

use crate::harness::{
    cache::Store,
    content::{Content, try_blob},
    http::{Connection, get},
    image::{Image, Typed, push_blob},
    node::{Node, Plan},
    noise::Noise,
};

const KILLS: usize = 200;
const BLOBS: usize = 12;
/// Room for a third of the blobs, beside the pinned image.
const CAPACITY: &str = "9 MiB";

fn random(noise: &mut Noise, limit: usize) -> usize {
    let bytes = noise.bytes(8);
    let number = u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
    usize::try_from(number % limit as u64).expect("below the limit")
}

/// Asks for a blob and takes so many bytes of it; what comes of the rest is nobody's business.
fn begin(edge: &Node, blob: &Typed, bytes: usize) -> Option<Connection> {
    let mut connection = Connection::open(edge.address).ok()?;
    connection.send_head("GET", &format!("/v2/team/app/blobs/{}", blob.digest()), &[]).ok()?;
    let head = connection.read_head().ok()?;
    assert_eq!(head.status, 200, "{head:?}");
    connection.read_exactly(bytes as u64, &mut std::io::sink()).ok()?;
    Some(connection)
}

#[test]
fn two_hundred_kills_leave_nothing_wrong_and_lose_nothing_pinned() {
    let origin = Plan::origin().start();
    let mut noise = Noise::new(Noise::seed("two_hundred_kills"));
    let blobs: Vec<Typed> = (0..BLOBS)
        .map(|_| {
            let length = 1_000_000 + random(&mut noise, 1_500_000);
            Typed { media_type: "application/octet-stream".into(), bytes: noise.bytes(length) }
        })
        .collect();
    blobs.iter().for_each(|blob| push_blob(origin.address, "team/app", blob));
    let image = Image::make("two_hundred_kills", 2, 200_000);
    image.push(origin.address, "team/app", "pinned");
    let mut edge =
        Plan::edge(origin.address).set("cache.capacity", CAPACITY).set("cache.keep_free", "0").start();
    Content::read(edge.address, "team/app", "pinned");
    edge.finishes_downloads();
    Store(edge.address).post("pins", "team/app:pinned").expect(200);

    for kill in 0..KILLS {
        // Two fills under way, each of which makes room; one of them is killed at the byte that it has reached.
        let picked = [random(&mut noise, BLOBS), random(&mut noise, BLOBS)];
        let at = picked.map(|pick| random(&mut noise, blobs[pick].bytes.len()));
        let _open = [begin(&edge, &blobs[picked[0]], at[0]), begin(&edge, &blobs[picked[1]], at[1])];
        edge.restart();
        let pulled = &blobs[picked[kill % 2]];
        let expected = (200, pulled.bytes.len() as u64, pulled.digest());
        assert_eq!(
            try_blob(edge.address, "team/app", &pulled.digest()).expect("it comes whole"),
            expected,
            "kill {kill}"
        );
        let layer = &image.blobs[1 + kill % 2];
        let answer = get(edge.address, &format!("/v2/team/app/blobs/{}", layer.digest())).expect(200);
        let status = answer.header("cache-status").unwrap_or_default();
        assert!(status.ends_with("; hit"), "kill {kill}: what is pinned was lost: {status}");
        assert!(answer.body == layer.bytes, "kill {kill}: what is pinned has other bytes");
    }
    for blob in &blobs {
        let expected = (200, blob.bytes.len() as u64, blob.digest());
        assert_eq!(try_blob(edge.address, "team/app", &blob.digest()).expect("it comes whole"), expected);
    }
    edge.finishes_downloads();
    let report = Store(edge.address).verify();
    assert_eq!(report["damaged"], serde_json::json!([]));
    let stats = Store(edge.address).stats();
    assert!(stats["bytes"].as_u64() <= stats["capacity"].as_u64(), "{stats}");
    assert_eq!(stats["reserved_bytes"], 0, "nothing of an earlier life is held: {stats}");
}
