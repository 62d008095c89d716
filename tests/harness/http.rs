//! HTTP/1.1 as bytes on a socket: what is sent and what came is exactly what the test says and sees.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// No answer of a node takes longer between two bytes, whatever the test does to it.
const SILENCE: Duration = Duration::from_secs(60);

/// How much is moved at once.
const BUFFER: usize = 256 * 1024;

/// A status line and its headers.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
}

impl Head {
    /// The first header of that name, whatever its case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// All headers in their order.
    pub(crate) fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    fn length(&self) -> Option<u64> {
        self.header("content-length").map(|length| length.parse().expect("a number"))
    }
}

/// A whole answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    /// The body for messages.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Panics, with the answer, unless it has that status.
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{:?} {}", self.head, self.text());
        self
    }
}

/// One connection, used as the test likes.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
    host: SocketAddr,
}

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(SILENCE))?;
        stream.set_write_timeout(Some(SILENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::with_capacity(BUFFER, stream), host: address })
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Sends a request line and headers; `Host` is added, and the empty line.
    pub(crate) fn send_head(&mut self, method: &str, path: &str, headers: &[(&str, &str)]) -> io::Result<()> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", self.host);
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        self.send(head.as_bytes())
    }

    /// Sends exactly `length` bytes of a reader.
    pub(crate) fn send_from(&mut self, body: &mut impl Read, length: u64) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER];
        let mut left = length;
        while left > 0 {
            let want = usize::try_from(left).unwrap_or(BUFFER).min(BUFFER);
            let got = body.read(&mut buffer[..want])?;
            assert_ne!(got, 0, "the body has {left} bytes less than was said");
            self.send(&buffer[..got])?;
            left -= got as u64;
        }
        Ok(())
    }

    /// Reads an answer's head, past any `100 Continue`.
    pub(crate) fn read_head(&mut self) -> io::Result<Head> {
        loop {
            let head = self.read_one_head()?;
            if head.status != 100 {
                return Ok(head);
            }
        }
    }

    fn read_one_head(&mut self) -> io::Result<Head> {
        let status_line = self.read_line()?;
        let status = status_line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| bad(format!("no status in {status_line:?}")))?;
        let mut headers = Vec::new();
        loop {
            let line = self.read_line()?;
            if line.is_empty() {
                return Ok(Head { status, headers });
            }
            let (name, value) = line.split_once(':').ok_or_else(|| bad(format!("no colon in {line:?}")))?;
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    /// Copies the body that belongs to a head, by its length, its chunks or the end of the connection.
    pub(crate) fn read_body(&mut self, head: &Head, to: &mut impl Write) -> io::Result<u64> {
        if head.status == 204 || head.status == 304 {
            return Ok(0);
        }
        if head.header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
            return self.read_chunks(to);
        }
        match head.length() {
            Some(length) => self.read_exactly(length, to),
            None => io::copy(&mut self.stream, to),
        }
    }

    /// Reads that many bytes of a body; an error when fewer come.
    pub(crate) fn read_exactly(&mut self, length: u64, to: &mut impl Write) -> io::Result<u64> {
        let copied = io::copy(&mut (&mut self.stream).take(length), to)?;
        if copied < length {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("{copied} bytes of {length} came"),
            ));
        }
        Ok(copied)
    }

    fn read_chunks(&mut self, to: &mut impl Write) -> io::Result<u64> {
        let mut total = 0;
        loop {
            let line = self.read_line()?;
            let size = u64::from_str_radix(line.split(';').next().unwrap_or_default(), 16)
                .map_err(|error| bad(error.to_string()))?;
            total += self.read_exactly(size, to)?;
            self.read_line()?;
            if size == 0 {
                return Ok(total);
            }
        }
    }

    fn read_line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection was closed"));
        }
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    }

    /// Reads a whole answer into memory.
    pub(crate) fn read_answer(&mut self) -> io::Result<Answer> {
        let head = self.read_head()?;
        let mut body = Vec::new();
        self.read_body(&head, &mut body)?;
        Ok(Answer { status: head.status, head, body })
    }
}

/// Sends a request with a body in memory on a connection of its own, and reads the answer.
pub(crate) fn try_request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<Answer> {
    let mut connection = Connection::open(address)?;
    let length = body.len().to_string();
    let mut all = headers.to_vec();
    all.push(("Connection", "close"));
    if !body.is_empty() || matches!(method, "PUT" | "POST" | "PATCH") {
        all.push(("Content-Length", &length));
    }
    connection.send_head(method, path, &all)?;
    connection.send(body)?;
    if method == "HEAD" {
        let head = connection.read_head()?;
        return Ok(Answer { status: head.status, head, body: Vec::new() });
    }
    connection.read_answer()
}

/// As [`try_request`]; panics where the connection fails.
pub(crate) fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    try_request(address, method, path, headers, body)
        .unwrap_or_else(|error| panic!("{method} {path} at {address}: {error}"))
}

pub(crate) fn get(address: SocketAddr, path: &str) -> Answer {
    request(address, "GET", path, &[], &[])
}

/// The path of an answer's `Location`.
pub(crate) fn location_of(answer: &Answer) -> String {
    path_of(answer.header("location").expect("an upload has a location")).to_owned()
}

/// The path of a `Location`, which may name the host as well.
pub(crate) fn path_of(location: &str) -> &str {
    let Some((_, rest)) = location.split_once("://") else { return location };
    rest.find('/').map_or("/", |slash| &rest[slash..])
}

/// The path that ends an upload with a digest.
pub(crate) fn with_digest(location: &str, digest: &str) -> String {
    let separator = if location.contains('?') { '&' } else { '?' };
    format!("{location}{separator}digest={digest}")
}

fn bad(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}
