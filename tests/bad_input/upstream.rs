//! A registry that says exactly what a test tells it to, byte for byte: the one that edges are lied to by.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
};

use crate::harness::{
    content::digest_of,
    image::{Image, Typed},
};

/// The head of a request.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) method: String,
    pub(super) target: String,
    headers: Vec<(String, String)>,
}

impl Asked {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub(super) fn is_for_blob(&self) -> bool {
        self.target.contains("/blobs/")
    }

    /// The first byte that is asked for.
    pub(super) fn offset(&self) -> usize {
        let range = self.header("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
        range.map_or(0, |first| first.parse().expect("a number"))
    }
}

#[derive(Clone, Debug)]
enum Then {
    Close,
    Hang,
    Repeat(Vec<u8>),
}

/// An answer, and what follows it.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    bytes: Vec<u8>,
    has_length: bool,
    body: Option<Vec<u8>>,
    then: Then,
}

impl Reply {
    pub(super) fn new(status: &str) -> Self {
        let bytes = format!("HTTP/1.1 {status}\r\nConnection: close\r\n").into_bytes();
        Self { bytes, has_length: false, body: Some(Vec::new()), then: Then::Close }
    }

    pub(super) fn error(status: &str, code: &str) -> Self {
        let document = format!(r#"{{"errors":[{{"code":"{code}","message":"…"}}]}}"#);
        Self::new(status).header("Content-Type", "application/json").body(document)
    }

    pub(super) fn page(status: &str) -> Self {
        Self::new(status).header("Content-Type", "text/html").body("<html><body>please log in</body></html>")
    }

    /// These bytes and no others.
    pub(super) fn raw(bytes: &[u8]) -> Self {
        Self { bytes: bytes.to_vec(), has_length: true, body: None, then: Then::Close }
    }

    pub(super) fn header(mut self, name: &str, value: &str) -> Self {
        self.has_length |= name == "Content-Length" || name == "Transfer-Encoding";
        self.bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        self
    }

    pub(super) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Says no more, and keeps the connection.
    pub(super) fn hanging(mut self) -> Self {
        self.then = Then::Hang;
        self
    }

    /// Says the same for as long as it is listened to.
    pub(super) fn repeating(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.then = Then::Repeat(bytes.into());
        self
    }

    /// A body without a length and without an end.
    pub(super) fn endless() -> Self {
        let piece = [b"10000\r\n", &[b'x'; 0x10000][..], b"\r\n"].concat();
        Self::new("200 OK").header("Transfer-Encoding", "chunked").repeating(piece)
    }

    fn send(mut self, stream: &mut TcpStream, head_only: bool) -> std::io::Result<()> {
        if let Some(body) = self.body {
            if !self.has_length {
                self.bytes.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
            }
            self.bytes.extend_from_slice(b"\r\n");
            if !head_only {
                self.bytes.extend_from_slice(&body);
            }
        }
        stream.write_all(&self.bytes)?;
        match self.then {
            Then::Close => Ok(()),
            // The one who asked will leave.
            Then::Hang => stream.read(&mut [0]).map(drop),
            Then::Repeat(_) if head_only => Ok(()),
            Then::Repeat(bytes) => loop {
                stream.write_all(&bytes)?;
            },
        }
    }
}

type Script = Arc<dyn Fn(&Asked) -> Reply + Send + Sync>;

/// A running registry.
#[derive(Debug)]
pub(super) struct Upstream {
    pub(super) address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

struct Shared {
    script: Mutex<Script>,
    asked: Mutex<Vec<Asked>>,
    connections: AtomicUsize,
    over: AtomicBool,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} connections", self.connections.load(Ordering::Relaxed))
    }
}

impl Upstream {
    pub(super) fn start(script: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared {
            script: Mutex::new(Arc::new(script)),
            asked: Mutex::default(),
            connections: AtomicUsize::new(0),
            over: AtomicBool::new(false),
        });
        let serving = shared.clone();
        let accepting = std::thread::spawn(move || serving.accept(&listener));
        Self { address, shared, accepting: Some(accepting) }
    }

    /// From now on it says something else.
    pub(super) fn becomes(&self, script: impl Fn(&Asked) -> Reply + Send + Sync + 'static) {
        *self.shared.script.lock().expect("no script panics") = Arc::new(script);
    }

    /// All requests so far.
    pub(super) fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().expect("nobody panics").clone()
    }

    /// How many connections were made to it.
    pub(super) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

impl Shared {
    fn accept(self: Arc<Self>, listener: &TcpListener) {
        for stream in listener.incoming().map_while(Result::ok) {
            if self.over.load(Ordering::SeqCst) {
                return;
            }
            self.connections.fetch_add(1, Ordering::SeqCst);
            let shared = self.clone();
            std::thread::spawn(move || shared.answer(stream));
        }
    }

    fn answer(&self, mut stream: TcpStream) {
        let Some(asked) = read_request(&stream) else { return };
        self.asked.lock().expect("nobody panics").push(asked.clone());
        let script = self.script.lock().expect("no script panics").clone();
        // The edge may leave at any time: that is what some of the tests are about.
        let _ = script(&asked).send(&mut stream, asked.method == "HEAD");
    }
}

fn read_request(stream: &TcpStream) -> Option<Asked> {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let first = lines.next()?;
    let mut words = first.split(' ').map(str::to_owned);
    let (method, target) = (words.next()?, words.next()?);
    let headers = lines.take_while(|line| !line.is_empty());
    let headers = headers.filter_map(|line| line.split_once(": ").map(|(k, v)| (k.to_owned(), v.to_owned())));
    let headers = headers.collect();
    Some(Asked { method, target, headers })
}

/// What an honest registry answers about an image, under any repository and tag.
pub(super) fn honest(image: &Image, asked: &Asked) -> Reply {
    let name = asked.target.rsplit('/').next().unwrap_or_default();
    let name = name.split('?').next().unwrap_or_default();
    if asked.is_for_blob() {
        return match image.blobs.iter().find(|blob| blob.digest() == name) {
            Some(blob) => blob_reply(&blob.bytes, asked),
            None => Reply::error("404 Not Found", "BLOB_UNKNOWN"),
        };
    }
    if asked.target.contains("/manifests/") && (name == "latest" || name == image.digest()) {
        return manifest_reply(&image.manifest);
    }
    Reply::error("404 Not Found", "MANIFEST_UNKNOWN")
}

pub(super) fn manifest_reply(manifest: &Typed) -> Reply {
    let digest = digest_of(manifest.bytes.as_slice());
    let reply = Reply::new("200 OK").header("Content-Type", &manifest.media_type);
    reply.header("Docker-Content-Digest", &digest).body(manifest.bytes.clone())
}

/// The bytes that a request for a blob wants.
pub(super) fn blob_reply(bytes: &[u8], asked: &Asked) -> Reply {
    match asked.offset() {
        0 => Reply::new("200 OK").body(bytes),
        offset => {
            let range = format!("bytes {offset}-{}/{}", bytes.len() - 1, bytes.len());
            Reply::new("206 Partial Content").header("Content-Range", &range).body(&bytes[offset..])
        }
    }
}
