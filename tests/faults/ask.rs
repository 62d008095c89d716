//! A request for something that the test knows, and how it ended. Nothing here panics: what is a failure, the test decides.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use crate::harness::{
    content::{ACCEPT, digest_of},
    http::{Connection, Head},
    image::{Image, Typed},
};

/// What of it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Get,
    Head,
    /// From this byte to that one, both included.
    Range(usize, usize),
}

/// A path, and the bytes that belong there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known<'a> {
    pub(super) repository: &'a str,
    pub(super) place: Place<'a>,
    pub(super) bytes: &'a [u8],
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Place<'a> {
    Tag(&'a str),
    Manifest,
    Blob,
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// With what was asked for, every byte of it right.
    Right,
    /// 503 with `Retry-After` in seconds: the client goes to its next host.
    Refused(u64),
    /// The connection could not be made, or ended before the answer did; the client can tell.
    Broken(io::ErrorKind),
    /// A length, or a part of a blob, that is not the right one, and not out of the cache: nobody can prove those before the
    /// whole blob is there, so an upstream that lies is passed on.
    Unproven(String),
    /// With anything that a client must never see.
    Wrong(String),
}

/// The end of a request and what was seen on the way.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub(super) outcome: Outcome,
    pub(super) took: Duration,
    pub(super) head: Option<Head>,
}

impl<'a> Known<'a> {
    pub(super) fn tag(repository: &'a str, tag: &'a str, image: &'a Image) -> Self {
        Self { repository, place: Place::Tag(tag), bytes: &image.manifest.bytes }
    }

    pub(super) fn manifest(repository: &'a str, image: &'a Image) -> Self {
        Self { repository, place: Place::Manifest, bytes: &image.manifest.bytes }
    }

    pub(super) fn blob(repository: &'a str, blob: &'a Typed) -> Self {
        Self { repository, place: Place::Blob, bytes: &blob.bytes }
    }

    pub(super) fn path(&self) -> String {
        let Self { repository, bytes, .. } = self;
        match self.place {
            Place::Tag(tag) => format!("/v2/{repository}/manifests/{tag}"),
            Place::Manifest => format!("/v2/{repository}/manifests/{}", digest_of(*bytes)),
            Place::Blob => format!("/v2/{repository}/blobs/{}", digest_of(*bytes)),
        }
    }

    /// Asks for it.
    pub(super) fn ask(&self, edge: SocketAddr, way: Way) -> Reply {
        let began = Instant::now();
        let mut seen = None;
        let outcome = self.exchange(edge, way, &mut seen);
        let outcome = outcome.unwrap_or_else(|error| match error.kind() {
            io::ErrorKind::InvalidData => Outcome::Wrong(error.to_string()),
            kind => Outcome::Broken(kind),
        });
        Reply { outcome, took: began.elapsed(), head: seen }
    }

    fn exchange(&self, edge: SocketAddr, way: Way, seen: &mut Option<Head>) -> io::Result<Outcome> {
        let mut connection = Connection::open(edge)?;
        let range = match way {
            Way::Range(first, last) => format!("bytes={first}-{last}"),
            Way::Get | Way::Head => String::new(),
        };
        let mut headers = vec![("Accept", ACCEPT), ("Connection", "close")];
        if !range.is_empty() {
            headers.push(("Range", &range));
        }
        let method = if way == Way::Head { "HEAD" } else { "GET" };
        connection.send_head(method, &self.path(), &headers)?;
        let head = connection.read_head()?;
        *seen = Some(head.clone());
        let mut body = Vec::new();
        if way != Way::Head {
            connection.read_body(&head, &mut body)?;
        }
        Ok(self.judge(way, &head, &body))
    }

    fn judge(&self, way: Way, head: &Head, body: &[u8]) -> Outcome {
        if head.status == 503 {
            return match head.header("retry-after").and_then(|seconds| seconds.parse().ok()) {
                Some(seconds) => Outcome::Refused(seconds),
                None => Outcome::Wrong(format!("503 without Retry-After: {head:?}")),
            };
        }
        let (status, wanted): (u16, &[u8]) = match way {
            Way::Get => (200, self.bytes),
            Way::Head => (200, &[]),
            Way::Range(first, last) => (206, &self.bytes[first..=last]),
        };
        let digest = digest_of(self.bytes);
        let told = head.header("docker-content-digest");
        let length = head.header("content-length").and_then(|length| length.parse().ok());
        let unproven = way != Way::Get
            && matches!(self.place, Place::Blob)
            && !head.header("cache-status").is_some_and(|status| status.contains("; hit"));
        let wrong = if unproven { Outcome::Unproven } else { Outcome::Wrong };
        if head.status == 416 {
            wrong(format!("{head:?}"))
        } else if head.status != status || told != Some(digest.as_str()) {
            Outcome::Wrong(format!("{head:?} {}", String::from_utf8_lossy(body)))
        } else if body != wanted {
            wrong(format!("{} bytes that are not the {} right ones", body.len(), wanted.len()))
        } else if way == Way::Head && length != Some(self.bytes.len()) {
            wrong(format!("{} bytes are said to be {length:?}", self.bytes.len()))
        } else {
            Outcome::Right
        }
    }
}

impl Reply {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head.as_ref()?.header(name)
    }

    /// Panics unless it is right and came in time.
    #[track_caller]
    pub(super) fn right_within(&self, limit: Duration, what: &str) -> &Self {
        assert_eq!(self.outcome, Outcome::Right, "{what}: {:?}", self.head);
        assert!(self.took < limit, "{what} took {:?}", self.took);
        self
    }

    /// Panics unless it is the refusal that sends a client to its next host, in time.
    #[track_caller]
    pub(super) fn refused_within(&self, limit: Duration, what: &str) -> &Self {
        assert!(matches!(self.outcome, Outcome::Refused(1..=60)), "{what}: {self:?}");
        assert!(self.took < limit, "{what} was refused after {:?}", self.took);
        self
    }
}
