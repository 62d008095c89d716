use std::{
    future::pending,
    net::Ipv4Addr,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::TokioExecutor;
use prometheus_client::registry::Registry;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::AsyncReadExt as _,
    sync::{Notify, futures::OwnedNotified},
    task::JoinHandle,
};
use tokio_rustls::TlsConnector;

use super::*;
use crate::{
    http::{Body, BodyError, Check, FrontMetrics, RequestBody, Server, tls::tests::write_pair},
    settings::Span,
};

/// How long anything here may take that is to happen soon.
const SOON: Duration = Duration::from_secs(20);
/// More than a client takes that takes nothing.
const LARGE: usize = 8 << 20;

/// Answers `/hang` never, `/large` with 8 MiB, `/broken` with a body that fails, `/host` with the Host header, `/length` with
/// that of the body.
struct Sample {
    /// Told when a large body is over.
    over: Arc<Notify>,
    /// Lets a body fail.
    go: Arc<Notify>,
}

struct Over(Arc<Notify>);

impl crate::http::Watch for Over {
    fn sent(&mut self, _bytes: u64) {}
}

impl Drop for Over {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

impl Service for Sample {
    async fn call(&self, request: Request<RequestBody>) -> Response<Body> {
        let body = match request.uri().path() {
            "/hang" => pending().await,
            "/large" => Body::full(vec![7; LARGE]).watched(Over(self.over.clone())),
            "/broken" => {
                Body::stream(Broken { begun: false, go: Box::pin(self.go.clone().notified_owned()) })
            }
            "/host" => Body::full(request.headers()["host"].as_bytes().to_vec()),
            "/length" => match request.into_body().collect(64 << 20).await {
                Ok(body) => Body::full(body.len().to_string()),
                Err(error) => Body::full(error.to_string()),
            },
            _ => Body::full("fine"),
        };
        Response::new(body)
    }

    async fn checks(&self) -> Vec<Check> {
        Vec::new()
    }
}

/// Gives one piece of a body of two, and fails when it is told to.
struct Broken {
    begun: bool,
    go: Pin<Box<OwnedNotified>>,
}

impl http_body::Body for Broken {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if !std::mem::replace(&mut this.begun, true) {
            return Poll::Ready(Some(Ok(Frame::data(vec![1; 1000].into()))));
        }
        ready!(this.go.as_mut().poll(cx));
        Poll::Ready(Some(Err(BodyError::Short)))
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(2000)
    }
}

struct Running {
    address: SocketAddr,
    stop: CancellationToken,
    served: JoinHandle<()>,
    over: Arc<Notify>,
    go: Arc<Notify>,
}

fn start(limits: Limits, tls: Option<Arc<Tls>>, door: Door) -> Running {
    let (over, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let mut registry = Registry::default();
    let metrics = FrontMetrics::register(&mut registry);
    let front = Arc::new(
        Front::new(Sample { over: over.clone(), go: go.clone() }, registry, metrics).with_tls(tls.clone()),
    );
    let server = Server::bind(&[(Ipv4Addr::LOCALHOST, 0).into()], limits).expect("bound");
    let server = server.with_tls(tls).at_door(door);
    let address = server.local_addrs()[0];
    let stop = CancellationToken::new();
    let served = tokio::spawn(server.serve(front, stop.clone(), Duration::from_secs(10)));
    Running { address, stop, served, over, go }
}

fn short() -> Limits {
    let span = |millis| Span(Duration::from_millis(millis));
    Limits { header_timeout: span(300), idle_timeout: span(600), connections: 10 }
}

/// A node's certificate, and a client's settings that trust it.
struct Certified {
    _dir: tempfile::TempDir,
    tls: Arc<Tls>,
    client: ClientConfig,
}

fn certified() -> Certified {
    let dir = tempfile::tempdir().expect("temporary directory");
    let files = write_pair(dir.path(), "localhost");
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&files.certificate).expect("read")).expect("a certificate");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = ClientConfig::builder_with_provider(provider);
    let client = client.with_safe_default_protocol_versions().expect("versions");
    let client = client.with_root_certificates(roots).with_no_client_auth();
    Certified {
        _dir: dir,
        tls: Arc::new(Tls::load(files.certificate, files.key).expect("a good pair")),
        client,
    }
}

type Http2 = (SendRequest<Full<Bytes>>, JoinHandle<hyper::Result<()>>);

async fn http2(address: SocketAddr, window: u32) -> Http2 {
    let stream = TcpStream::connect(address).await.expect("connected");
    let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(window);
    let (send, connection) = builder.handshake(TokioIo::new(stream)).await.expect("HTTP/2");
    (send, tokio::spawn(connection))
}

fn get(path: &str) -> Request<Full<Bytes>> {
    Request::get(format!("http://node.example:5001{path}")).body(Full::default()).expect("a request")
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, future).await.unwrap_or_else(|_| panic!("not in time: {what}"))
}

/// Reads until the server closes.
async fn rest(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    soon("the server closes", stream.read_to_end(&mut answer)).await.expect("read");
    String::from_utf8(answer).expect("text")
}

#[tokio::test]
async fn http2_is_spoken_with_those_who_begin_with_it() {
    let server = start(Limits::default(), None, Door::Everything);
    let (mut send, _connection) = http2(server.address, 1 << 20).await;
    let answer = send.send_request(get("/host")).await.expect("an answer");
    assert_eq!((answer.status(), answer.version()), (StatusCode::OK, http::Version::HTTP_2));
    assert!(answer.headers().contains_key("x-request-id"));
    assert_eq!(answer.into_body().collect().await.expect("whole").to_bytes(), "node.example:5001");

    let mut two = get("/host");
    two.headers_mut().insert("host", "other.example".parse().expect("a value"));
    assert_eq!(send.send_request(two).await.expect("an answer").status(), StatusCode::BAD_REQUEST);
    let body =
        Request::post("http://node.example/length").body(Full::from(vec![1; 5 << 20])).expect("a request");
    let answer = send.send_request(body).await.expect("an answer");
    assert_eq!(answer.into_body().collect().await.expect("whole").to_bytes(), (5 << 20).to_string());
    // All are read at once: those that nobody reads would use up the client's window for all of them.
    let large: Vec<_> = (0..8)
        .map(|_| {
            let answer = send.send_request(get("/large"));
            tokio::spawn(async move { answer.await?.into_body().collect().await })
        })
        .collect();
    for body in large {
        let body = soon("a large body", body).await.expect("no panic").expect("whole").to_bytes();
        assert!(body.len() == LARGE && body.iter().all(|byte| *byte == 7));
    }
}

#[tokio::test]
async fn a_stream_of_which_nothing_is_taken_is_reset_and_its_neighbours_go_on() {
    let server = start(short(), None, Door::Everything);
    let (mut send, _connection) = http2(server.address, 1000).await;
    let stuck = send.send_request(get("/large")).await.expect("an answer");
    let hanging = tokio::spawn(send.send_request(get("/hang")));
    soon("the large body is given up", server.over.notified()).await;
    let error = soon("the stream is over", stuck.into_body().collect()).await.expect_err("it was reset");
    assert!(format!("{error:?}").contains("CANCEL"), "{error:?}");
    assert!(!hanging.is_finished(), "a request that waits for its answer is left alone");
    let answer = send.send_request(get("/a")).await.expect("the connection goes on");
    assert_eq!(answer.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_body_that_fails_ends_the_connection_and_does_not_pass_for_whole() {
    let server = start(Limits::default(), None, Door::Everything);
    let (mut send, connection) = http2(server.address, 1 << 20).await;
    let answer = send.send_request(get("/broken")).await.expect("an answer");
    assert_eq!(answer.headers()["content-length"], "2000");
    server.go.notify_one();
    soon("the body ends", answer.into_body().collect()).await.expect_err("it is not whole");
    // Not by GOAWAY: clients take that for the end of their pull, and a connection that is cut for a reason to go on.
    let ended = soon("the connection ends", connection).await.expect("no panic");
    assert!(ended.is_err(), "{ended:?}");
}

#[tokio::test]
async fn an_idle_connection_of_http2_is_closed() {
    let server = start(short(), None, Door::Everything);
    let (mut send, connection) = http2(server.address, 1 << 20).await;
    let answer = send.send_request(get("/a")).await.expect("an answer");
    answer.into_body().collect().await.expect("whole");
    soon("the idle connection is closed", connection).await.expect("no panic").ok();
    // One that never asks for anything, too.
    let (_send, connection) = http2(server.address, 1 << 20).await;
    soon("the silent connection is closed", connection).await.expect("no panic").ok();
}

/// A frame of HTTP/2 (RFC 9113, section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("small").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

#[tokio::test]
async fn requests_that_are_reset_as_soon_as_they_have_come_end_the_connection() {
    const CALM_DOWN: [u8; 4] = [0, 0, 0, 11];
    let server = start(Limits::default(), None, Door::Everything);
    let mut flood = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(4, 0, 0, &[])].concat();
    for stream in (1..2001).step_by(2) {
        // GET, http, /, and the authority x (RFC 7541, appendix A); then RST_STREAM.
        flood.extend(frame(1, 5, stream, &[0x82, 0x86, 0x84, 0x41, 1, b'x']));
        flood.extend(frame(3, 0, stream, &[0, 0, 0, 8]));
    }
    let mut connection = TcpStream::connect(server.address).await.expect("connected");
    connection.write_all(&flood).await.expect("sent");
    let mut answer = Vec::new();
    soon("the connection ends", connection.read_to_end(&mut answer)).await.expect("read");
    let mut rest = &answer[..];
    let mut told = false;
    while let [_, high, low, kind, _, _, _, _, _, ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        told |= *kind == 7 && rest[13..17] == CALM_DOWN;
        rest = &rest[9 + length..];
    }
    assert!(told, "no GOAWAY with ENHANCE_YOUR_CALM in {answer:?}");
}

#[tokio::test]
async fn a_drain_lets_streams_finish_and_closes_idle_connections() {
    let server = start(Limits::default(), None, Door::Everything);
    let (mut send, connection) = http2(server.address, 1000).await;
    let (mut idle, idle_connection) = http2(server.address, 1000).await;
    let running = send.send_request(get("/large")).await.expect("an answer");
    idle.send_request(get("/a")).await.expect("an answer").into_body().collect().await.expect("whole");
    server.stop.cancel();
    soon("the idle connection is closed", idle_connection).await.expect("no panic").expect("cleanly");
    let body = soon("the running stream", running.into_body().collect()).await.expect("whole");
    assert_eq!(body.to_bytes().len(), LARGE);
    soon("its connection is closed", connection).await.expect("no panic").expect("cleanly");
    soon("the server ends", server.served).await.expect("no panic");
}

#[tokio::test]
async fn a_client_of_tls_gets_the_protocol_that_it_asks_for() {
    let certified = certified();
    let server = start(Limits::default(), Some(certified.tls.clone()), Door::Everything);
    for (offered, spoken) in
        [(&[&b"h2"[..], b"http/1.1"][..], http::Version::HTTP_2), (&[], http::Version::HTTP_11)]
    {
        let mut client = certified.client.clone();
        client.alpn_protocols = offered.iter().map(|name| name.to_vec()).collect();
        let stream = TcpStream::connect(server.address).await.expect("connected");
        let name = ServerName::try_from("localhost").expect("a name");
        let stream = TlsConnector::from(Arc::new(client)).connect(name, stream).await.expect("TLS");
        let io = TokioIo::new(stream);
        let answer = if spoken == http::Version::HTTP_2 {
            let (mut send, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.expect("HTTP/2");
            tokio::spawn(connection);
            send.send_request(get("/large")).await
        } else {
            let (mut send, connection) = hyper::client::conn::http1::handshake(io).await.expect("HTTP/1.1");
            tokio::spawn(connection);
            let request = Request::get("/large").header("host", "localhost").body(Full::<Bytes>::default());
            send.send_request(request.expect("a request")).await
        };
        let answer = answer.expect("an answer");
        assert_eq!(answer.version(), spoken);
        assert_eq!(answer.into_body().collect().await.expect("whole").to_bytes().len(), LARGE);
    }
}

#[tokio::test]
async fn a_client_that_comes_without_tls_is_told_what_to_do() {
    let certified = certified();
    let server = start(Limits::default(), Some(certified.tls.clone()), Door::Everything);
    let mut stream = TcpStream::connect(server.address).await.expect("connected");
    stream.write_all(b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("sent");
    let answer = rest(stream).await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("this port speaks HTTPS"), "{answer}");
}

#[tokio::test]
async fn a_handshake_that_does_not_end_is_dropped() {
    let certified = certified();
    let server = start(short(), Some(certified.tls.clone()), Door::Everything);
    // Nothing; the beginning of a record; a record that is no handshake.
    for begun in [&b""[..], b"\x16\x03\x01\x02\x00\x01"] {
        let mut stream = TcpStream::connect(server.address).await.expect("connected");
        stream.write_all(begun).await.expect("sent");
        assert_eq!(rest(stream).await, "", "{begun:?}");
    }
    let mut registry = Registry::default();
    certified.tls.register(&mut registry);
    let mut page = String::new();
    prometheus_client::encoding::text::encode(&mut page, &registry).expect("metrics are text");
    assert!(page.contains("roadstead_tls_handshakes_failed_total 2"), "{page}");
}

#[tokio::test]
async fn operators_and_clients_are_served_at_their_own_doors() {
    let clients = start(Limits::default(), None, Door::Clients);
    let operators = start(Limits::default(), None, Door::Operators);
    for (path, of_operators) in [
        ("/livez", true),
        ("/readyz", true),
        ("/metrics", true),
        ("/api/v1/cache", true),
        ("/api", true),
        ("/apis", false),
        ("/v2/", false),
        ("/a", false),
    ] {
        for (server, served) in [(&operators, of_operators), (&clients, !of_operators)] {
            let (mut send, _connection) = http2(server.address, 1000).await;
            let status = send.send_request(get(path)).await.expect("an answer").status();
            assert_eq!(status == StatusCode::OK, served, "{path} {status}");
            assert!(served || status == StatusCode::NOT_FOUND, "{path} {status}");
        }
    }
}
