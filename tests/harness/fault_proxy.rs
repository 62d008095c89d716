//! A registry that stands before a real one and spoils its answers as a test tells it: late, cut, wrong, or none at all.
//!
//! One request a connection. What a client that leaves in the midst does to a thread here is that thread's end.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rustix::net::sockopt::set_socket_linger;

use super::http::{Connection, Head};

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) target: String,
    headers: Vec<(String, String)>,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn is_for_blob(&self) -> bool {
        self.target.contains("/blobs/")
    }

    /// The first byte that is asked for.
    pub(crate) fn offset(&self) -> usize {
        let range = self.header("range").and_then(|range| range.strip_prefix("bytes=")?.split('-').next());
        range.map_or(0, |first| first.parse().expect("a number"))
    }

    /// The last element of the path: a digest or a tag.
    pub(crate) fn name(&self) -> &str {
        let path = self.target.split('?').next().unwrap_or_default();
        path.rsplit('/').next().unwrap_or_default()
    }
}

/// What becomes of an answer.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// Nothing: it is passed on.
    Honest,
    /// It begins after so long.
    Late(Duration),
    /// It never begins, and the connection stays.
    Silent,
    /// The connection is closed without a word.
    Closed,
    /// It ends after so many bytes of the body: the connection is closed.
    Cut(u64),
    /// As `Cut`, by a reset.
    Reset(u64),
    /// As `Cut`, by a FIN; this side goes on listening.
    HalfClosed(u64),
    /// It stops after so many bytes of the body, and the connection stays.
    Stuck(u64),
    /// So many bytes come at a time, with a pause between two.
    Slow(usize, Duration),
    /// This byte of the body is another one.
    Flipped(u64),
    /// `Content-Length` says a byte less than there is, and so much comes.
    Shorter,
    /// `Content-Length` says a byte more than there is, and that byte comes.
    Longer,
    /// These bytes come in place of the answer.
    Instead(Arc<[u8]>),
}

impl Fault {
    /// An error document of a registry, with a header line of one's own or an empty one.
    pub(crate) fn error(status: &str, code: &str, header: &str) -> Self {
        let body = format!(r#"{{"errors":[{{"code":"{code}","message":"…"}}]}}"#);
        Self::instead(status, "application/json", header, &body)
    }

    /// A page for people.
    pub(crate) fn page(status: &str) -> Self {
        Self::instead(status, "text/html", "", "<!doctype html><title>Welcome</title>please log in")
    }

    fn instead(status: &str, kind: &str, header: &str, body: &str) -> Self {
        let header = if header.is_empty() { String::new() } else { format!("{header}\r\n") };
        let length = body.len();
        let head =
            format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{header}");
        Self::Instead(format!("{head}Connection: close\r\n\r\n{body}").into_bytes().into())
    }

    /// The byte of the body before which the answer ends or stops.
    fn limit(&self) -> u64 {
        match self {
            Self::Cut(at) | Self::Reset(at) | Self::HalfClosed(at) | Self::Stuck(at) => *at,
            _ => u64::MAX,
        }
    }
}

type Script = Arc<dyn Fn(&Asked) -> Fault + Send + Sync>;

/// A running proxy.
#[derive(Debug)]
pub(crate) struct FaultProxy {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

struct Shared {
    registry: SocketAddr,
    script: Mutex<Script>,
    asked: Mutex<Vec<Asked>>,
    requests: AtomicUsize,
    over: AtomicBool,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} requests for {}", self.requests.load(Ordering::Relaxed), self.registry)
    }
}

impl FaultProxy {
    /// One that is honest until it is told otherwise.
    pub(crate) fn before(registry: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.3:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared {
            registry,
            script: Mutex::new(Arc::new(|_| Fault::Honest)),
            asked: Mutex::default(),
            requests: AtomicUsize::new(0),
            over: AtomicBool::new(false),
        });
        let accepting = Some(shared.clone().accept(listener));
        Self { address, shared, accepting }
    }

    /// From now on it does to each answer what the script says.
    pub(crate) fn spoils(&self, script: impl Fn(&Asked) -> Fault + Send + Sync + 'static) {
        *self.shared.script.lock().expect("no script panics") = Arc::new(script);
    }

    /// From now on it does this to every answer.
    pub(crate) fn does(&self, fault: Fault) {
        self.spoils(move |_| fault.clone());
    }

    /// Nobody listens any more: connections are refused.
    pub(crate) fn goes_down(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }

    /// Listens again, at the same address.
    pub(crate) fn comes_up(&mut self) {
        let listener = TcpListener::bind(self.address).expect("the port is ours");
        self.shared.over.store(false, Ordering::SeqCst);
        self.accepting = Some(self.shared.clone().accept(listener));
    }

    /// Forgets what was asked so far, and gives it.
    pub(crate) fn take_asked(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.shared.asked.lock().expect("nobody panics"))
    }

    /// How many requests came so far.
    pub(crate) fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.goes_down();
    }
}

/// What is remembered of what was asked: a soak asks for long.
const REMEMBERED: usize = 10_000;

impl Shared {
    fn accept(self: Arc<Self>, listener: TcpListener) -> JoinHandle<()> {
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if self.over.load(Ordering::SeqCst) {
                    return;
                }
                let shared = self.clone();
                thread::spawn(move || shared.serve(stream));
            }
        })
    }

    /// Errors are connections that broke, here or there: the one who asked sees his end of it.
    fn serve(&self, stream: TcpStream) {
        let Some(asked) = read_request(&stream) else { return };
        self.requests.fetch_add(1, Ordering::SeqCst);
        let mut list = self.asked.lock().expect("nobody panics");
        if list.len() < REMEMBERED {
            list.push(asked.clone());
        }
        drop(list);
        let script = self.script.lock().expect("no script panics").clone();
        let _ = self.answer(stream, &asked, script(&asked));
    }

    fn answer(&self, mut stream: TcpStream, asked: &Asked, fault: Fault) -> io::Result<()> {
        match &fault {
            Fault::Closed => return Ok(()),
            Fault::Silent => return until_left(&stream),
            Fault::Instead(bytes) => {
                stream.write_all(without_body(bytes, asked))?;
                return stream.shutdown(Shutdown::Write);
            }
            Fault::Late(time) => thread::park_timeout(*time),
            _ => {}
        }
        let mut registry = Connection::open(self.registry)?;
        let mut headers: Vec<(&str, &str)> =
            asked.headers.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        headers.retain(|(name, _)| {
            !name.eq_ignore_ascii_case("host") && !name.eq_ignore_ascii_case("connection")
        });
        headers.push(("Connection", "close"));
        registry.send_head(&asked.method, &asked.target, &headers)?;
        let head = registry.read_head()?;
        let length = head.header("content-length").and_then(|length| length.parse::<u64>().ok());
        stream.write_all(head_text(&head, &fault).as_bytes())?;
        if asked.method == "HEAD" {
            return Ok(());
        }
        // A piece at a time, so that what was cut off is not what a buffer still held.
        let limit = fault.limit().min(if matches!(fault, Fault::Shorter) {
            length.unwrap_or(1) - 1
        } else {
            u64::MAX
        });
        let mut body = Body { stream: &mut stream, fault: &fault, limit, sent: 0 };
        let copied = registry.read_body(&head, &mut body);
        let reached = body.sent >= limit;
        match (&fault, reached) {
            (Fault::Longer, _) => stream.write_all(b"x"),
            (Fault::Stuck(_), true) => until_left(&stream),
            (Fault::HalfClosed(_), true) => {
                stream.shutdown(Shutdown::Write)?;
                until_left(&stream)
            }
            (Fault::Reset(_), true) => Ok(set_socket_linger(&stream, Some(Duration::ZERO))?),
            _ => copied.map(drop),
        }
    }
}

/// Waits until the other side closes.
fn until_left(mut stream: &TcpStream) -> io::Result<()> {
    while stream.read(&mut [0; 1024])? > 0 {}
    Ok(())
}

fn without_body<'a>(answer: &'a [u8], asked: &Asked) -> &'a [u8] {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").map_or(answer.len(), |at| at + 4);
    if asked.method == "HEAD" { &answer[..end] } else { answer }
}

fn head_text(head: &Head, fault: &Fault) -> String {
    let mut text = format!("HTTP/1.1 {} As The Registry Says\r\n", head.status);
    for (name, value) in head.headers() {
        let value = match (name.to_ascii_lowercase().as_str(), fault, value.parse::<u64>()) {
            ("connection" | "transfer-encoding", ..) => continue,
            ("content-length", Fault::Shorter, Ok(length)) => (length - 1).to_string(),
            ("content-length", Fault::Longer, Ok(length)) => (length + 1).to_string(),
            _ => value.to_owned(),
        };
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("Connection: close\r\n\r\n");
    text
}

/// A body on its way through a fault.
struct Body<'a> {
    stream: &'a mut TcpStream,
    fault: &'a Fault,
    limit: u64,
    sent: u64,
}

impl Write for Body<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let rest = usize::try_from(self.limit - self.sent).unwrap_or(usize::MAX);
        if rest == 0 {
            return Err(io::Error::from(io::ErrorKind::WriteZero));
        }
        let mut piece = bytes[..bytes.len().min(rest)].to_vec();
        match self.fault {
            Fault::Slow(size, pause) => {
                piece.truncate(*size);
                thread::park_timeout(*pause);
            }
            Fault::Flipped(at) if (self.sent..self.sent + piece.len() as u64).contains(at) => {
                let at = usize::try_from(at - self.sent).expect("it is in the piece");
                piece[at] ^= 1;
            }
            _ => {}
        }
        self.stream.write_all(&piece)?;
        self.sent += piece.len() as u64;
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
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
