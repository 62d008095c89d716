//! A registry that says exactly what a test tells it to, byte for byte, and remembers what it was asked.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, LazyLock, Mutex},
};

use tokio::{
    io::{
        AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _,
        BufReader,
    },
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;
use url::Url;

/// The head of a request.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) body: String,
    headers: Vec<(String, String)>,
}

impl Request {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The address that this request reached.
    pub(super) fn host(&self) -> &str {
        self.header("host").expect("every request has a host")
    }

    /// The decoded value of a parameter of the query.
    pub(super) fn parameter(&self, name: &str) -> Option<String> {
        let (_, query) = self.target.split_once('?')?;
        let mut pairs = url::form_urlencoded::parse(query.as_bytes());
        pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }
}

/// What follows the bytes of an answer.
#[derive(Clone, Debug)]
enum Then {
    Close,
    Hang,
    Repeat(&'static [u8]),
}

/// An answer.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    head: String,
    body: Option<Vec<u8>>,
    then: Then,
}

impl Reply {
    /// A status line's code and reason.
    pub(super) fn new(status: &str) -> Self {
        Self {
            head: format!("HTTP/1.1 {status}\r\nConnection: close\r\n"),
            body: Some(Vec::new()),
            then: Then::Close,
        }
    }

    pub(super) fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self::new("200 OK").body(body)
    }

    /// A registry's error document.
    pub(super) fn error(status: &str, code: &str) -> Self {
        let document = format!(r#"{{"errors":[{{"code":"{code}","message":"…"}}]}}"#);
        Self::new(status).header("Content-Type", "application/json").body(document)
    }

    pub(super) fn redirect(status: &str, location: &str) -> Self {
        Self::new(status).header("Location", location)
    }

    /// Nothing, not even a head.
    pub(super) fn nothing() -> Self {
        Self::raw("")
    }

    /// A body without end.
    pub(super) fn endless(status: &str) -> Self {
        const CHUNK: usize = 0x4000;
        static PIECE: LazyLock<Vec<u8>> =
            LazyLock::new(|| [b"4000\r\n", &[b'a'; CHUNK][..], b"\r\n"].concat());
        Self::new(status).header("Transfer-Encoding", "chunked").repeating(&PIECE)
    }

    /// These bytes and no others.
    pub(super) fn raw(bytes: &str) -> Self {
        Self { head: bytes.to_owned(), body: None, then: Then::Close }
    }

    pub(super) fn header(mut self, name: &str, value: &str) -> Self {
        self.head.push_str(&format!("{name}: {value}\r\n"));
        self
    }

    pub(super) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Keeps the connection open and says no more.
    pub(super) fn hanging(mut self) -> Self {
        self.then = Then::Hang;
        self
    }

    /// Says the same again and again, for as long as it is listened to.
    pub(super) fn repeating(mut self, bytes: &'static [u8]) -> Self {
        self.then = Then::Repeat(bytes);
        self
    }

    fn bytes(&self, head_only: bool) -> Vec<u8> {
        let mut bytes = self.head.clone().into_bytes();
        if let Some(body) = &self.body {
            if !self.head.contains("Content-Length: ") && !self.head.contains("Transfer-Encoding: ") {
                bytes.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
            }
            bytes.extend_from_slice(b"\r\n");
            if !head_only {
                bytes.extend_from_slice(body);
            }
        }
        bytes
    }
}

type Script = Arc<dyn Fn(&Request) -> Reply + Send + Sync>;

/// A running registry; ends when it is dropped.
#[derive(Debug)]
pub(super) struct Registry {
    pub(super) address: SocketAddr,
    scheme: &'static str,
    seen: Arc<Mutex<Vec<Request>>>,
    _serving: AbortOnDropHandle<()>,
}

impl Registry {
    pub(super) async fn start(script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::listen(Arc::new(script), None).await
    }

    /// One whose certificate is `localhost.pem`.
    pub(super) async fn with_tls(
        tls: rustls::ServerConfig,
        script: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::listen(Arc::new(script), Some(TlsAcceptor::from(Arc::new(tls)))).await
    }

    async fn listen(script: Script, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bound");
        let address = listener.local_addr().expect("bound");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let scheme = if tls.is_some() { "https" } else { "http" };
        let serving = tokio::spawn(serve(listener, script, tls, seen.clone()));
        Self { address, scheme, seen, _serving: AbortOnDropHandle::new(serving) }
    }

    pub(super) fn url(&self) -> Url {
        format!("{}://{}", self.scheme, self.address).parse().expect("an address is a URL")
    }

    /// All requests so far.
    pub(super) fn requests(&self) -> Vec<Request> {
        self.seen.lock().expect("no panic").clone()
    }

    /// `METHOD target` of all requests so far.
    pub(super) fn asked(&self) -> Vec<String> {
        self.requests().iter().map(|request| format!("{} {}", request.method, request.target)).collect()
    }
}

async fn serve(
    listener: TcpListener,
    script: Script,
    tls: Option<TlsAcceptor>,
    seen: Arc<Mutex<Vec<Request>>>,
) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.expect("accepted");
        let (script, tls, seen) = (script.clone(), tls.clone(), seen.clone());
        connections.spawn(async move {
            match tls {
                None => answer(stream, &script, &seen).await,
                Some(tls) => match tls.accept(stream).await {
                    Ok(stream) => answer(stream, &script, &seen).await,
                    Err(error) => eprintln!("the scripted registry's handshake failed: {error}"),
                },
            }
        });
    }
}

async fn answer(stream: impl AsyncRead + AsyncWrite + Unpin, script: &Script, seen: &Mutex<Vec<Request>>) {
    let mut stream = BufReader::new(stream);
    let Some(request) = read_request(&mut stream).await else { return };
    seen.lock().expect("no panic").push(request.clone());
    let reply = script(&request);
    // The client may leave at any time: that is what some of the tests are about.
    let bytes = reply.bytes(request.method == "HEAD");
    let mut sent = stream.write_all(&bytes).await.and(stream.flush().await);
    match reply.then {
        Then::Close => {}
        Then::Hang => std::future::pending().await,
        Then::Repeat(bytes) => {
            while sent.is_ok() {
                sent = stream.write_all(bytes).await;
            }
        }
    }
    let _ = stream.shutdown().await;
}

async fn read_request(stream: &mut (impl AsyncBufRead + Unpin)) -> Option<Request> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let mut words = lines.first()?.split(' ').map(str::to_owned);
    let (method, target) = (words.next()?, words.next()?);
    let headers = lines[1..].iter().filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let mut request = Request { method, target, body: String::new(), headers };
    let length = request.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    request.body = String::from_utf8_lossy(&body).into_owned();
    Some(request)
}
