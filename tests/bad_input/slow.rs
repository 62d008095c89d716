//! Clients that are slow on purpose: dropped after the time that the limits give, while others are served.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use super::refusal::{Stored, assert_serves, push_blob};
use crate::harness::{
    http::{get, location_of, request},
    node::{Node, Plan},
    process::{PATIENCE, wait_for},
};

/// Connections that are held open at a time.
const CONNECTIONS: usize = 300;
/// How long anybody else may have to wait meanwhile.
const PROMPT: Duration = Duration::from_secs(1);

struct Slow(TcpStream);

impl Slow {
    fn open(node: &Node, first: &[u8]) -> Self {
        let mut stream = TcpStream::connect(node.address).expect("connected");
        stream.set_nonblocking(true).expect("a socket");
        stream.write_all(first).expect("the socket takes it");
        Self(stream)
    }

    /// Sends one more byte; whether the node has closed the connection.
    fn drip(&mut self, byte: u8) -> bool {
        let mut answer = [0; 4096];
        match self.0.read(&mut answer) {
            Ok(0) => return true,
            Ok(_) => return false,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return true,
        }
        match self.0.write_all(&[byte]) {
            Ok(()) => false,
            Err(error) => error.kind() != ErrorKind::WouldBlock,
        }
    }
}

/// Drips a byte into each connection again and again until the node has closed all of them, and looks after an honest
/// client meanwhile.
fn outlast(node: &Node, mut slow: Vec<Slow>, byte: u8, patience: Duration) {
    let began = Instant::now();
    wait_for(&format!("{} slow connections are closed", slow.len()), patience, || {
        slow.retain_mut(|connection| !connection.drip(byte));
        let asked = Instant::now();
        get(node.address, "/v2/").expect(200);
        assert!(asked.elapsed() < PROMPT, "an honest client waited {:?}", asked.elapsed());
        slow.is_empty().then_some(())
    });
    assert!(began.elapsed() > Duration::from_millis(500), "they were given no time at all");
}

#[test]
fn heads_that_never_end_are_dropped_while_others_are_served() {
    let origin = Plan::origin().set("limits.header_timeout", "1s").set("limits.idle_timeout", "2s").start();
    let slow =
        (0..CONNECTIONS).map(|_| Slow::open(&origin, b"GET /v2/ HTTP/1.1\r\nHost: x\r\nX-Slow: ")).collect();
    outlast(&origin, slow, b'z', PATIENCE);
    let silent = (0..CONNECTIONS).map(|_| Slow::open(&origin, b"")).collect::<Vec<_>>();
    let began = Instant::now();
    let mut silent = silent;
    wait_for("silent connections are closed", PATIENCE, || {
        silent.retain_mut(|connection| !matches!(connection.0.read(&mut [0; 16]), Ok(0)));
        silent.is_empty().then_some(())
    });
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_serves(&origin);
}

#[test]
fn more_slow_clients_than_connections_do_not_lock_the_others_out_for_long() {
    let limits =
        [("limits.header_timeout", "1s"), ("limits.idle_timeout", "2s"), ("limits.connections", "50")];
    let origin = limits.iter().fold(Plan::origin(), |plan, (key, value)| plan.set(key, value)).start();
    let slow: Vec<Slow> =
        (0..50).map(|_| Slow::open(&origin, b"GET /v2/ HTTP/1.1\r\nHost: x\r\nX-Slow: ")).collect();
    // Refused with a word while they hold everything, served as soon as they are dropped.
    let answer = wait_for("somebody is served again", PATIENCE, || {
        let answer = crate::harness::http::try_request(origin.address, "GET", "/v2/", &[], &[]).ok()?;
        assert!(matches!(answer.status, 200 | 503), "{}", answer.text());
        (answer.status == 200).then_some(answer)
    });
    assert_eq!(answer.status, 200);
    drop(slow);
}

#[test]
fn bodies_that_stop_coming_are_dropped_and_leave_nothing() {
    let origin = Plan::origin().set("limits.idle_timeout", "1s").start();
    let before = Stored::of(&origin);
    let began = request(origin.address, "POST", "/v2/a/blobs/uploads/", &[], &[]).expect(202);
    let session = location_of(&began);
    let head = format!("PATCH {session} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nabc");
    let mut stuck: Vec<Slow> = (0..50).map(|_| Slow::open(&origin, head.as_bytes())).collect();
    wait_for("stuck bodies are closed", PATIENCE, || {
        stuck.retain_mut(|connection| !matches!(connection.0.read(&mut [0; 4096]), Ok(0)));
        let asked = Instant::now();
        get(origin.address, "/v2/").expect(200);
        assert!(asked.elapsed() < PROMPT, "an honest client waited {:?}", asked.elapsed());
        stuck.is_empty().then_some(())
    });
    before.assert_nothing_more(&origin);
    let stands = request(origin.address, "GET", &session, &[], &[]).expect(204);
    assert_eq!(stands.header("range"), Some("0-0"));
}

#[test]
fn clients_that_take_no_byte_of_their_answer_are_dropped() {
    let origin = Plan::origin().set("limits.idle_timeout", "1s").start();
    let digest = push_blob(&origin, "a", &vec![7; 32 << 20]);
    let path = format!("/v2/a/blobs/{digest}");
    let running = || origin.metrics().count("roadstead_http_requests_running", &[]);
    let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
    let deaf: Vec<Slow> = (0..50).map(|_| Slow::open(&origin, head.as_bytes())).collect();
    wait_for("all of them are being answered", PATIENCE, || (running() > 50).then_some(()));
    // The one that is left is the question itself.
    wait_for("all of them are dropped", PATIENCE, || (running() == 1).then_some(()));
    assert_eq!(get(origin.address, &path).expect(200).body.len(), 32 << 20);
    drop(deaf);
}
