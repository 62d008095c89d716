//! A registry over real sockets that has any image one asks for, and answers in the mood that a test puts it into.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use oci::digest::Digest;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use url::Url;

/// How late a slow registry is.
pub(super) const SLOW: Duration = Duration::from_millis(250);

/// How a registry answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    Well,
    /// Nobody listens.
    Dead,
    /// Takes the request and says nothing.
    Hung,
    Slow,
    Unauthorized,
    Forbidden,
    /// A registry's own no.
    SaysNo,
    /// A proxy's no.
    NoSuchPage,
    Limited,
    Broken,
    /// A web page in place of everything, with 200.
    Page,
    RedirectLoop,
    /// Ends its side of the connection in place of an answer.
    HalfClosed,
}

/// What `latest` is in every repository, and what belongs to it.
pub(super) struct Image {
    pub(super) manifest: Bytes,
    pub(super) blob: Bytes,
}

impl Image {
    pub(super) fn of(repository: &str) -> Self {
        let blob: Bytes = format!("the layer of {repository}\n").repeat(500).into();
        let (digest, size) = (Digest::sha256(&blob), blob.len());
        let descriptor = format!(
            r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{digest}","size":{size}}}"#
        );
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{descriptor},"layers":[]}}"#
        );
        Self { manifest: manifest.into(), blob }
    }

    pub(super) fn manifest_digest(&self) -> Digest {
        Digest::sha256(&self.manifest)
    }

    pub(super) fn blob_digest(&self) -> Digest {
        Digest::sha256(&self.blob)
    }
}

type Script = dyn Fn(&str, &str) -> Option<Vec<u8>> + Send + Sync;

struct Shared {
    mood: Mutex<Mood>,
    asked: Mutex<Vec<String>>,
    /// Answers before the mood does: method and target to the bytes of an answer.
    script: Box<Script>,
}

/// A running registry; ends when it is dropped.
pub(super) struct Registry {
    shared: Arc<Shared>,
    address: SocketAddr,
    serving: Mutex<Option<JoinHandle<()>>>,
}

impl Registry {
    pub(super) async fn start() -> Self {
        Self::scripted(|_, _| None).await
    }

    /// One that gives the bytes that `script` has for a method and a target, and else answers in its mood.
    pub(super) async fn scripted(
        script: impl Fn(&str, &str) -> Option<Vec<u8>> + Send + Sync + 'static,
    ) -> Self {
        let shared = Arc::new(Shared {
            mood: Mutex::new(Mood::Well),
            asked: Mutex::default(),
            script: Box::new(script),
        });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bound");
        let address = listener.local_addr().expect("bound");
        let serving = Mutex::new(Some(tokio::spawn(accept(listener, shared.clone()))));
        Self { shared, address, serving }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn url(&self) -> Url {
        format!("http://{}", self.address).parse().expect("an address is a URL")
    }

    pub(super) async fn becomes(&self, mood: Mood) {
        *self.shared.mood.lock().expect("no panic") = mood;
        if mood == Mood::Dead {
            let serving = self.serving.lock().expect("no panic").take();
            if let Some(serving) = serving {
                serving.abort();
                let _ = serving.await;
            }
        }
    }

    /// Requests so far, as `METHOD target`.
    pub(super) fn asked(&self) -> Vec<String> {
        self.shared.asked.lock().expect("no panic").clone()
    }

    /// How many of them have `text` in them.
    pub(super) fn asked_for(&self, text: &str) -> usize {
        self.asked().iter().filter(|asked| asked.contains(text)).count()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        if let Some(serving) = self.serving.lock().expect("no panic").take() {
            serving.abort();
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        connections.spawn(answer(stream, shared.clone()));
    }
}

async fn answer(stream: TcpStream, shared: Arc<Shared>) -> Option<()> {
    let mut stream = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => head.push(line.to_owned()),
        }
    }
    let mut words = head.first()?.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    shared.asked.lock().expect("no panic").push(format!("{method} {target}"));
    let range = head
        .iter()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("range: bytes=").map(str::to_owned));
    let offset = range.and_then(|range| range.trim_end_matches('-').parse().ok()).unwrap_or(0);
    let mood = *shared.mood.lock().expect("no panic");
    let bytes = match (shared.script)(&method, &target) {
        Some(bytes) => bytes,
        None => in_mood(mood, &method, &target, offset, &mut stream).await?,
    };
    // The edge may have left.
    let _ = stream.write_all(&bytes).await;
    let _ = stream.shutdown().await;
    let _ = stream.read(&mut [0]).await;
    Some(())
}

/// The bytes of an answer; `None` where there is none.
async fn in_mood(
    mood: Mood,
    method: &str,
    target: &str,
    offset: usize,
    stream: &mut BufReader<TcpStream>,
) -> Option<Vec<u8>> {
    let json = "Content-Type: application/json\r\n";
    let html = "Content-Type: text/html\r\n";
    Some(match mood {
        Mood::Well => content(method, target, offset),
        Mood::Slow => {
            tokio::time::sleep(SLOW).await;
            content(method, target, offset)
        }
        Mood::Dead => return None,
        Mood::Hung => {
            // The edge leaves when it has had enough.
            let _ = stream.read(&mut [0]).await;
            return None;
        }
        Mood::Unauthorized => reply(method, "401 Unauthorized", json, error("UNAUTHORIZED")),
        Mood::Forbidden => reply(method, "403 Forbidden", json, error("DENIED")),
        Mood::SaysNo => reply(method, "404 Not Found", json, error("NAME_UNKNOWN")),
        Mood::NoSuchPage => reply(method, "404 Not Found", html, "<html>no such page"),
        Mood::Limited => {
            let headers =
                "Retry-After: 7\r\nRateLimit-Limit: 100;w=21600\r\nRateLimit-Remaining: 0;w=21600\r\n";
            reply(method, "429 Too Many Requests", headers, error("TOOMANYREQUESTS"))
        }
        Mood::Broken => reply(method, "500 Internal Server Error", json, error("UNKNOWN")),
        Mood::Page => reply(method, "200 OK", html, "<html>please log in"),
        Mood::RedirectLoop => reply(method, "302 Found", &format!("Location: {target}\r\n"), ""),
        Mood::HalfClosed => Vec::new(),
    })
}

/// The bytes of an answer with a body, which a HEAD does not get.
pub(super) fn reply(method: &str, status: &str, headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let length = body.len();
    let mut bytes =
        format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n")
            .into_bytes();
    if method != "HEAD" {
        bytes.extend_from_slice(body);
    }
    bytes
}

/// A registry's error document.
pub(super) fn error(code: &str) -> String {
    format!(r#"{{"errors":[{{"code":"{code}","message":"…"}}]}}"#)
}

/// What a registry that has every image answers.
fn content(method: &str, target: &str, offset: usize) -> Vec<u8> {
    let path = target.split('?').next().unwrap_or_default().trim_start_matches("/v2/");
    if let Some((repository, _)) = path.split_once("/manifests/") {
        return manifest_reply(method, &Image::of(repository).manifest);
    }
    let Some((repository, digest)) = path.split_once("/blobs/") else {
        return reply(method, "200 OK", "Content-Type: application/json\r\n", "{}");
    };
    let Image { blob, .. } = Image::of(repository);
    if Digest::sha256(&blob).as_str() != digest {
        return reply(method, "404 Not Found", "", error("BLOB_UNKNOWN"));
    }
    blob_reply(method, &blob, offset)
}

pub(super) fn manifest_reply(method: &str, manifest: &[u8]) -> Vec<u8> {
    let digest = Digest::sha256(manifest);
    let headers = format!(
        "Content-Type: application/vnd.oci.image.manifest.v1+json\r\nDocker-Content-Digest: {digest}\r\n"
    );
    reply(method, "200 OK", &headers, manifest)
}

pub(super) fn blob_reply(method: &str, blob: &[u8], offset: usize) -> Vec<u8> {
    if offset == 0 {
        return reply(method, "200 OK", "", blob);
    }
    let range = format!("Content-Range: bytes {offset}-{}/{}\r\n", blob.len() - 1, blob.len());
    reply(method, "206 Partial Content", &range, &blob[offset..])
}
