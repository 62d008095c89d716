//! HTTP/1.1 as the load side speaks it: blocking, one connection, requests as ready-made bytes.
//! It must cost far less than any server under test, so bodies are thrown away inside the kernel (`MSG_TRUNC`: not
//! copied), and nothing is parsed beyond the status, the length and the headers that a caller asks for.
//! Answers with a `Content-Length` only, which is what registries send for everything measured here.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::net::{RecvFlags, recv};

use crate::blob::{Blob, Hasher};

/// A peer that says nothing for this long has failed; cold pulls of a throttled link trickle, they do not pause.
const SILENCE: Duration = Duration::from_secs(60);
/// Bytes thrown away per system call at most: a call costs nothing beside so many, and a thousand clients may do it.
const GULP: usize = 1 << 20;
/// Bytes hashed at a time: what stays in the processor's cache.
const HASHED: usize = 256 << 10;

/// One keep-alive connection.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    scratch: Vec<u8>,
}

/// The head of an answer, and what of its body came in the same segment.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) length: u64,
    head: String,
    early: Vec<u8>,
}

/// When a body began and ended, both since the request was sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    pub(crate) first_byte: Duration,
    pub(crate) last_byte: Duration,
}

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))
            .with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE))?;
        stream.set_write_timeout(Some(SILENCE))?;
        Ok(Self::of(stream))
    }

    /// A connection over a socket that is open.
    pub(crate) fn of(stream: TcpStream) -> Self {
        Self { stream, scratch: Vec::new() }
    }

    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// The socket itself, for bodies that are written by the caller and for load that reads by itself.
    pub(crate) fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Sends a request and reads the head of its answer.
    pub(crate) fn ask(&mut self, request: &[u8]) -> Result<Answer> {
        self.stream.write_all(request)?;
        self.answer()
    }

    /// Reads the head of an answer; the body is still to be taken.
    pub(crate) fn answer(&mut self) -> Result<Answer> {
        let mut bytes = Vec::with_capacity(4096);
        let mut part = [0; 4096];
        let end = loop {
            let n = self.stream.read(&mut part).context("waiting for an answer")?;
            ensure!(n > 0, "the connection was closed before an answer");
            bytes.extend_from_slice(&part[..n]);
            if let Some(end) = head_end(&bytes) {
                break end;
            }
            ensure!(bytes.len() < 1 << 16, "an answer's head over 64 KiB");
        };
        let early = bytes.split_off(end);
        let head = String::from_utf8(bytes).context("a head that is not text")?;
        let status =
            head.get(9..12).and_then(|s| s.parse().ok()).with_context(|| format!("no status in {head:?}"))?;
        let mut answer = Answer { status, length: 0, head, early };
        answer.length = match answer.header("content-length") {
            Some(length) => length.parse().context("Content-Length")?,
            None if answer.header("transfer-encoding").is_some() => {
                bail!("a chunked answer: {}", answer.head)
            }
            None => 0,
        };
        Ok(answer)
    }

    /// Asks and takes the whole body, for small answers and for checks.
    pub(crate) fn fetch(&mut self, request: &[u8]) -> Result<(Answer, Vec<u8>)> {
        let answer = self.ask(request)?;
        let body = self.body(&answer)?;
        Ok((answer, body))
    }

    /// The body of an answer, in memory.
    pub(crate) fn body(&mut self, answer: &Answer) -> Result<Vec<u8>> {
        let mut body = answer.early.clone();
        let length = usize::try_from(answer.length)?;
        let from = body.len();
        body.resize(length, 0);
        self.stream.read_exact(&mut body[from..]).context("in the middle of a body")?;
        Ok(body)
    }

    /// Asks, expects a 200 of `length` bytes, throws the body away, and says when it came.
    pub(crate) fn download(&mut self, request: &[u8], length: u64) -> Result<Arrival> {
        let begun = Instant::now();
        let answer = self.ask(request)?;
        answer.expect(200)?;
        ensure!(answer.length == length, "{} bytes announced instead of {length}", answer.length);
        let mut left = length - answer.early.len() as u64;
        let mut first_byte = (!answer.early.is_empty()).then(|| begun.elapsed());
        while left > 0 {
            let n = self.discard(left)?;
            ensure!(n > 0, "the body ended {left} bytes early");
            first_byte.get_or_insert_with(|| begun.elapsed());
            left -= n;
        }
        let last_byte = begun.elapsed();
        Ok(Arrival { first_byte: first_byte.unwrap_or(last_byte), last_byte })
    }

    /// Asks for a blob and hashes it as it comes, as every client of a registry does.
    pub(crate) fn download_hashed(&mut self, request: &[u8], blob: &Blob) -> Result<Duration> {
        let begun = Instant::now();
        let answer = self.ask(request)?;
        answer.expect(200)?;
        let mut hasher = Hasher::new();
        hasher.write_all(&answer.early)?;
        let mut left = blob.size - answer.early.len() as u64;
        let mut buffer = vec![0; HASHED];
        while left > 0 {
            let n = self.stream.read(&mut buffer).context("in the middle of a body")?;
            ensure!(n > 0, "the body ended {left} bytes early");
            hasher.write_all(&buffer[..n])?;
            left -= n as u64;
        }
        ensure!(hasher.digest() == blob.digest, "a blob came with other bytes");
        Ok(begun.elapsed())
    }

    /// Throws away what comes until the server ends the connection; how much it was.
    pub(crate) fn discard_to_end(&mut self) -> Result<u64> {
        let mut taken = 0;
        loop {
            match self.discard(u64::MAX)? {
                0 => return Ok(taken),
                n => taken += n,
            }
        }
    }

    /// Throws away at most `left` of the bytes that come, without copying them out of the kernel; how many.
    pub(crate) fn discard(&mut self, left: u64) -> Result<u64> {
        if self.scratch.is_empty() {
            self.scratch = vec![0; GULP];
        }
        let want = usize::try_from(left.min(GULP as u64))?;
        let (_, n) = recv(&self.stream, &mut self.scratch[..want], RecvFlags::TRUNC)
            .context("in the middle of a body")?;
        Ok(n as u64)
    }
}

impl Answer {
    /// The value of a header, by its lower-case name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// # Errors
    /// Another status, with what the server said.
    pub(crate) fn expect(&self, status: u16) -> Result<()> {
        ensure!(
            self.status == status,
            "expected {status}, got: {}{}",
            self.head,
            String::from_utf8_lossy(&self.early)
        );
        Ok(())
    }
}

/// A request without a body, ready to be sent any number of times.
pub(crate) fn request(method: &str, address: SocketAddr, path: &str) -> Vec<u8> {
    format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nAccept: {MANIFEST}\r\n\r\n").into_bytes()
}

/// A request's head for a body of the given length, which the caller writes.
pub(crate) fn request_with_body(
    method: &str,
    address: SocketAddr,
    path: &str,
    kind: &str,
    length: u64,
) -> Vec<u8> {
    format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n").into_bytes()
}

/// The media type of every manifest here.
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Where the body begins, once the whole head is there.
pub(crate) fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4)
}
