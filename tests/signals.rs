//! SIGTERM: what runs is finished, nothing new is taken, the exit code is 0; a second one ends a node at once.

use std::{
    io,
    net::TcpStream,
    time::{Duration, Instant},
};

use crate::harness::{
    content::{Hasher, blob},
    http::{Answer, Connection, with_digest},
    image::{Typed, push_blob},
    large::start_upload,
    node::{Node, Plan},
    noise::Noise,
    process::{PATIENCE, wait_for},
};

/// More than the sockets between a node and a client hold, so that a transfer stands where the test leaves it.
const BYTES: usize = 48 << 20;

/// What "at once" may take on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(2);

#[test]
fn an_origin_told_to_stop_finishes_a_push() {
    let mut origin = Plan::origin().start();
    let blob = noise("an_origin_told_to_stop_finishes_a_push");
    let push = HalfPush::begin(&origin, &blob);
    origin.sigterm();
    refuses_connections(&origin);
    let answer = push.finish().expect("the push is let through to its end").expect(201);
    assert_eq!(answer.header("docker-content-digest"), Some(blob.digest().as_str()));
    assert_eq!(exit_code(&mut origin), Some(0));

    origin.restart();
    assert_eq!(
        self::blob(origin.address, "team/app", &blob.digest()),
        BYTES as u64,
        "what was acknowledged is there"
    );
}

#[test]
fn an_origin_told_to_stop_finishes_a_pull() {
    let origin = Plan::origin().start();
    let blob = noise("an_origin_told_to_stop_finishes_a_pull");
    push_blob(origin.address, "team/app", &blob);
    finishes_a_pull(origin, &blob);
}

#[test]
fn an_edge_told_to_stop_finishes_a_pull_that_is_still_arriving() {
    let origin = Plan::origin().start();
    let blob = noise("an_edge_told_to_stop_finishes_a_pull_that_is_still_arriving");
    push_blob(origin.address, "team/app", &blob);
    finishes_a_pull(Plan::edge(origin.address).start(), &blob);
}

#[test]
fn a_second_sigterm_ends_a_node_at_once() {
    let origin = Plan::origin().start();
    let blob = noise("a_second_sigterm_ends_a_node_at_once");
    push_blob(origin.address, "team/app", &blob);
    for mut node in [Plan::edge(origin.address).start(), origin] {
        let _stuck = HalfPull::begin(&node, &blob);
        node.sigterm();
        refuses_connections(&node);
        assert_eq!(node.ended(), None, "the pull holds it");
        node.sigterm();
        wait_for("the second SIGTERM ends the node", AT_ONCE, || node.ended());
    }
}

#[test]
fn a_node_waits_for_clients_no_longer_than_its_drain_time() {
    let origin = Plan::origin().set("drain", "1s").start();
    let blob = noise("a_node_waits_for_clients_no_longer_than_its_drain_time");
    push_blob(origin.address, "team/app", &blob);
    for mut node in [Plan::edge(origin.address).set("drain", "1s").start(), origin] {
        let _stuck = HalfPull::begin(&node, &blob);
        let told = Instant::now();
        assert_eq!(node.leave(), Some(0));
        assert!(told.elapsed() >= Duration::from_secs(1), "it left after {:?}", told.elapsed());
    }
}

fn finishes_a_pull(mut node: Node, blob: &Typed) {
    let pull = HalfPull::begin(&node, blob);
    node.sigterm();
    refuses_connections(&node);
    assert_eq!(pull.finish().expect("the pull is let through to its end"), blob.digest());
    assert_eq!(exit_code(&mut node), Some(0));
}

fn noise(name: &str) -> Typed {
    Typed { media_type: "application/octet-stream".into(), bytes: Noise::new(Noise::seed(name)).bytes(BYTES) }
}

fn exit_code(node: &mut Node) -> Option<i32> {
    wait_for("the node ends", PATIENCE, || node.ended())
}

fn refuses_connections(node: &Node) {
    wait_for("nothing new is accepted", PATIENCE, || TcpStream::connect(node.address).is_err().then_some(()));
}

/// A push of which half of the body was sent.
struct HalfPush<'a> {
    connection: Connection,
    rest: &'a [u8],
}

impl<'a> HalfPush<'a> {
    fn begin(node: &Node, blob: &'a Typed) -> Self {
        let path = with_digest(&start_upload(node.address, "team/app"), &blob.digest());
        let mut connection = Connection::open(node.address).expect("the node listens");
        let length = blob.bytes.len().to_string();
        let headers = [("Content-Type", "application/octet-stream"), ("Content-Length", length.as_str())];
        connection.send_head("PUT", &path, &headers).expect("a request can be sent");
        let (half, rest) = blob.bytes.split_at(blob.bytes.len() / 2);
        connection.send(half).expect("half of the body can be sent");
        Self { connection, rest }
    }

    fn finish(mut self) -> io::Result<Answer> {
        self.connection.send(self.rest)?;
        self.connection.read_answer()
    }
}

/// A pull of which a quarter of the body was read.
struct HalfPull {
    connection: Connection,
    hasher: Hasher,
    left: u64,
}

impl HalfPull {
    fn begin(node: &Node, blob: &Typed) -> Self {
        let mut connection = Connection::open(node.address).expect("the node listens");
        connection
            .send_head("GET", &format!("/v2/team/app/blobs/{}", blob.digest()), &[])
            .expect("a request can be sent");
        let head = connection.read_head().expect("an answer begins");
        assert_eq!(
            (head.status, head.header("content-length")),
            (200, Some(blob.bytes.len().to_string().as_str()))
        );
        let mut hasher = Hasher::default();
        let quarter = blob.bytes.len() as u64 / 4;
        connection.read_exactly(quarter, &mut hasher).expect("a quarter comes");
        Self { connection, hasher, left: blob.bytes.len() as u64 - quarter }
    }

    fn finish(mut self) -> io::Result<String> {
        self.connection.read_exactly(self.left, &mut self.hasher)?;
        Ok(self.hasher.digest())
    }
}
