use std::{future::pending, net::Ipv4Addr};

use http::{Request, Response};
use prometheus_client::registry::Registry;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{super::*, *};

/// Answers `/hang` never, `/slow` when told to, `/read` with the length of the body, everything else with its path.
struct Echo {
    go: Arc<tokio::sync::Notify>,
}

impl Service for Echo {
    async fn call(&self, request: Request<RequestBody>) -> Response<Body> {
        match request.uri().path() {
            "/hang" => pending().await,
            "/slow" => {
                self.go.notified().await;
                Response::new(Body::full("slow"))
            }
            "/refuse" => error_response(&ErrorCode::TooLarge.error("too large")),
            "/read" => match request.into_body().collect(1 << 20).await {
                Ok(bytes) => Response::new(Body::full(bytes.len().to_string())),
                Err(error) => error_response(&ErrorCode::BadRequest.error(error.to_string())),
            },
            path => Response::new(Body::full(path.to_owned())),
        }
    }

    async fn checks(&self) -> Vec<Check> {
        vec![Check { name: "echo", state: Ok(()), required: true }]
    }
}

use crate::error::ErrorCode;

struct Running {
    address: SocketAddr,
    stop: CancellationToken,
    go: Arc<tokio::sync::Notify>,
    served: tokio::task::JoinHandle<()>,
}

fn start(limits: Limits) -> Running {
    let go = Arc::new(tokio::sync::Notify::new());
    let mut registry = Registry::default();
    let metrics = FrontMetrics::register(&mut registry);
    let front = Arc::new(Front::new(Echo { go: go.clone() }, registry, metrics));
    let server = Server::bind(&[(Ipv4Addr::LOCALHOST, 0).into()], limits).expect("bound");
    let address = server.local_addrs()[0];
    let stop = CancellationToken::new();
    let served = tokio::spawn(server.serve(front, stop.clone(), Duration::from_secs(10)));
    Running { address, stop, go, served }
}

fn short() -> Limits {
    let span = |millis| Span(Duration::from_millis(millis));
    Limits { header_timeout: span(200), idle_timeout: span(400), connections: 2 }
}

/// Sends `bytes`, then reads until the server closes.
async fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connected");
    stream.write_all(bytes).await.expect("sent");
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await;
    read.expect("the server closes in time").expect("read");
    String::from_utf8(answer).expect("text")
}

#[tokio::test]
async fn operations_are_answered_beside_the_service() {
    let server = start(Limits::default());
    let get = |path| format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").into_bytes();
    assert!(exchange(server.address, &get("/livez")).await.starts_with("HTTP/1.1 200"));
    let ready = exchange(server.address, &get("/readyz")).await;
    assert!(
        ready.starts_with("HTTP/1.1 200") && ready.contains("\"echo\"") && ready.contains("\"since\""),
        "{ready}"
    );
    assert!(exchange(server.address, &get("/any")).await.ends_with("/any"));
    let metrics = exchange(server.address, &get("/metrics")).await;
    assert!(metrics.contains("roadstead_http_requests_total{route=\"livez\",status=\"200\"} 1"), "{metrics}");
    assert!(metrics.contains("x-request-id: "), "{metrics}");
}

#[tokio::test]
async fn a_request_that_is_not_http_gets_an_error_document() {
    let server = start(Limits::default());
    for (request, status) in [
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n".to_vec(), "400"),
        (b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n".to_vec(), "400"),
        (b"nonsense\r\n\r\n".to_vec(), "400"),
        (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n".to_vec(), "400"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n".to_vec(), "400"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n".to_vec(), "400"),
        (
            [b"GET / HTTP/1.1\r\nHost: a\r\nX: ".to_vec(), vec![b'x'; 80_000], b"\r\n\r\n".to_vec()].concat(),
            "431",
        ),
    ] {
        let answer = exchange(server.address, &request).await;
        let shown = String::from_utf8_lossy(&request[..request.len().min(60)]).into_owned();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{shown}: {answer}");
        assert!(answer.contains("{\"errors\":[{\"code\":\"BAD_REQUEST\""), "{shown}: {answer}");
    }
}

#[tokio::test]
async fn slow_and_silent_clients_are_dropped() {
    let server = start(short());
    // Silent from the start; a head that never ends; silent after an answer; a body that stops.
    assert_eq!(exchange(server.address, b"").await, "");
    assert_eq!(exchange(server.address, b"GET / HTTP/1.1\r\nHo").await, "");
    let answered = exchange(server.address, b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(answered.ends_with("/a"), "{answered}");
    let stalled =
        exchange(server.address, b"POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n123").await;
    assert!(stalled.contains("no byte of the body came"), "{stalled}");
}

#[tokio::test]
async fn one_connection_too_many_is_told_so() {
    let server = start(Limits { connections: 1, ..Limits::default() });
    let mut first = TcpStream::connect(server.address).await.expect("connected");
    first.write_all(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("sent");
    first.read_u8().await.expect("the first connection is served");
    let refused = exchange(server.address, b"").await;
    let (head, body) = refused.split_once("\r\n\r\n").expect("an answer");
    assert!(head.starts_with("HTTP/1.1 503") && head.contains("Retry-After: 1"), "{head}");
    assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
}

#[tokio::test]
async fn a_client_that_is_refused_while_it_sends_gets_to_read_why() {
    let server = start(Limits::default());
    let body = vec![0_u8; 4 << 20];
    let head = format!("POST /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
    let answer = exchange(server.address, &[head.into_bytes(), body].concat()).await;
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("too large"), "{answer}");
}

#[tokio::test]
async fn a_drain_lets_a_running_request_finish_and_closes_idle_connections() {
    let server = start(Limits::default());
    let mut idle = TcpStream::connect(server.address).await.expect("connected");
    idle.write_all(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("sent");
    idle.read_u8().await.expect("answered");
    let address = server.address;
    let slow = tokio::spawn(async move { exchange(address, b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await });
    // The request is in the service once its permit is waited for: a probe on the same server has then been answered.
    exchange(address, b"GET /b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    server.stop.cancel();
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).await.expect("the idle connection is closed");
    server.go.notify_one();
    assert!(slow.await.expect("no panic").ends_with("slow"));
    server.served.await.expect("the server has ended");
    assert!(TcpStream::connect(address).await.is_err(), "nothing listens any more");
}
