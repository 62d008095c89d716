//! Several origins over one PostgreSQL and one object store: each goes on with what another began.

use crate::harness::{
    content::{Content, blob},
    http::{Connection, location_of, request, with_digest},
    image::{Image, Typed, push_blob, push_manifest},
    large::{LargeBlob, start_upload},
    node::{Node, Plan},
    postgres,
    s3::Bucket,
};

const OCTETS: (&str, &str) = ("Content-Type", "application/octet-stream");

#[test]
fn an_upload_begun_on_one_origin_goes_on_at_another() {
    let [first, second] = two_origins();
    let image = Image::make("an_upload_begun_on_one_origin", 1, 6 << 20);
    let layer = &image.blobs[1];
    let parts: Vec<&[u8]> = layer.bytes.chunks(layer.bytes.len() / 4 + 1).collect();
    let mut location = start_upload(first.address, "team/app");
    let mut sent = 0;
    for (part, node) in parts.iter().zip([&first, &second].into_iter().cycle()) {
        let range = format!("{sent}-{}", sent + part.len() - 1);
        let answer =
            request(node.address, "PATCH", &location, &[OCTETS, ("Content-Range", &range)], part).expect(202);
        sent += part.len();
        assert_eq!(answer.header("range"), Some(format!("0-{}", sent - 1).as_str()));
        location = location_of(&answer);
    }
    request(first.address, "PUT", &with_digest(&location, &layer.digest()), &[], &[]).expect(201);
    push_blob(second.address, "team/app", &image.blobs[0]);
    push_manifest(first.address, "team/app", "latest", &image.manifest);
    let content = Content::read(second.address, "team/app", "latest");
    assert_eq!(content.digest, image.digest());
    assert_eq!(Content::read(first.address, "team/app", "latest"), content);
}

#[test]
fn an_upload_whose_origin_was_killed_goes_on_at_another() {
    let [mut first, second] = two_origins();
    let big = LargeBlob::make("an_upload_whose_origin_was_killed", 24 << 20);
    let mut body = big.reader();
    let upload = start_upload(first.address, "team/app");
    let one = LargeBlobPart::read(&mut body, 8 << 20);
    let answer = request(first.address, "PATCH", &upload, &[OCTETS], &one.0).expect(202);
    let location = location_of(&answer);

    let two = LargeBlobPart::read(&mut body, 16 << 20);
    let mut connection = Connection::open(first.address).expect("the origin listens");
    let length = two.0.len().to_string();
    connection
        .send_head("PATCH", &location, &[OCTETS, ("Content-Length", &length)])
        .expect("a request can be sent");
    connection.send(&two.0[..10 << 20]).expect("most of the chunk can be sent");
    first.kill9();

    let status = request(second.address, "GET", &location, &[], &[]).expect(204);
    assert_eq!(status.header("range"), Some(format!("0-{}", (8 << 20) - 1).as_str()));
    let location = location_of(&status);
    let path = with_digest(&location, &big.digest);
    request(second.address, "PUT", &path, &[OCTETS], &two.0).expect(201);
    assert_eq!(blob(second.address, "team/app", &big.digest), big.length);
}

#[test]
fn one_blob_pushed_to_two_origins_at_once_is_there_for_both() {
    let nodes = two_origins();
    for round in 0..4 {
        let image = Image::make(&format!("one_blob_pushed_at_once {round}"), 1, 2 << 20);
        let layer: &Typed = &image.blobs[1];
        std::thread::scope(|scope| {
            for node in &nodes {
                for _ in 0..4 {
                    scope.spawn(|| push_blob(node.address, "team/app", layer));
                }
            }
        });
        for node in &nodes {
            assert_eq!(blob(node.address, "team/app", &layer.digest()), layer.bytes.len() as u64);
        }
    }
}

/// Both start at once on an empty database, which each of them would lay out.
fn two_origins() -> [Node; 2] {
    let (database, bucket) = (postgres::new_database(), Bucket::seaweedfs());
    let plans = [Plan::origin(), Plan::origin().listen("127.0.0.3:0")]
        .map(|plan| bucket.store_of(plan).set("database.url", &database));
    Plan::start_together(plans)
}

/// Some bytes of a larger body.
struct LargeBlobPart(Vec<u8>);

impl LargeBlobPart {
    fn read(from: &mut impl std::io::Read, length: usize) -> Self {
        let mut bytes = vec![0; length];
        from.read_exact(&mut bytes).expect("the body is longer");
        Self(bytes)
    }
}
