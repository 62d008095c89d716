//! Blobs to push: any size from a few megabytes of memory, each of its own, with the digest known beforehand.
//! A blob is a 64-byte name followed by one random block over and over: the sender's copy stays in the processor's
//! cache, so that making the load costs little beside serving it. No server tried looks into blobs.

use std::io::{self, Write};

use sha2::{Digest, Sha256};

/// The block that fills blobs.
const BLOCK: usize = 4 << 20;
/// Bytes per chunk of a chunked body: what docker's client writes at once.
const CHUNK: usize = 32 << 10;
/// The name at the start of a blob.
const NAME: usize = 64;

/// What all blobs are filled with, plain and as HTTP chunks.
#[derive(Debug)]
pub(crate) struct Filling {
    plain: Vec<u8>,
    chunked: Vec<u8>,
}

/// A blob: its size, digest and the name that makes it different from all others.
#[derive(Debug, Clone)]
pub(crate) struct Blob {
    pub(crate) size: u64,
    pub(crate) digest: String,
    name: [u8; NAME],
}

impl Filling {
    /// Random enough that nothing compresses it; the same in each run.
    pub(crate) fn new() -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut plain = Vec::with_capacity(BLOCK);
        while plain.len() < BLOCK {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            plain.extend_from_slice(&state.to_le_bytes());
        }
        let mut chunked = Vec::with_capacity(BLOCK + BLOCK / CHUNK * 8);
        for chunk in plain.chunks(CHUNK) {
            chunked.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            chunked.extend_from_slice(chunk);
            chunked.extend_from_slice(b"\r\n");
        }
        Self { plain, chunked }
    }

    /// A blob of `size` bytes that differs from each of another name.
    pub(crate) fn blob(&self, name: &str, size: u64) -> Blob {
        let mut bytes = [b'.'; NAME];
        let len = name.len().min(NAME);
        bytes[..len].copy_from_slice(&name.as_bytes()[..len]);
        let mut blob = Blob { size, digest: String::new(), name: bytes };
        let mut hasher = Hasher::new();
        self.write(&blob, &mut hasher).expect("hashing does not fail");
        blob.digest = hasher.digest();
        blob
    }

    /// Writes a blob's bytes.
    pub(crate) fn write(&self, blob: &Blob, to: &mut impl Write) -> io::Result<()> {
        let head = prefix(&blob.name, blob.size);
        to.write_all(head)?;
        fill(&self.plain, blob.size - head.len() as u64, to)
    }

    /// Writes a blob as a chunked body, ending included.
    pub(crate) fn write_chunked(&self, blob: &Blob, to: &mut impl Write) -> io::Result<()> {
        let head = prefix(&blob.name, blob.size);
        write!(to, "{:x}\r\n", head.len())?;
        to.write_all(head)?;
        to.write_all(b"\r\n")?;
        let left = blob.size - head.len() as u64;
        for _ in 0..left / BLOCK as u64 {
            to.write_all(&self.chunked)?;
        }
        let rest = prefix(&self.plain, left % BLOCK as u64);
        if !rest.is_empty() {
            write!(to, "{:x}\r\n", rest.len())?;
            to.write_all(rest)?;
            to.write_all(b"\r\n")?;
        }
        to.write_all(b"0\r\n\r\n")
    }
}

/// Writes `left` bytes of a block over and over.
fn fill(block: &[u8], mut left: u64, to: &mut impl Write) -> io::Result<()> {
    while left > 0 {
        let part = prefix(block, left);
        to.write_all(part)?;
        left -= part.len() as u64;
    }
    Ok(())
}

/// At most `length` bytes from the start.
fn prefix(bytes: &[u8], length: u64) -> &[u8] {
    &bytes[..usize::try_from(length).map_or(bytes.len(), |n| n.min(bytes.len()))]
}

/// sha256 as something to write to.
#[derive(Debug)]
pub(crate) struct Hasher(Sha256);

impl Hasher {
    pub(crate) fn new() -> Self {
        Self(Sha256::new())
    }

    /// The digest as registries write it.
    pub(crate) fn digest(self) -> String {
        let hex: String = self.0.finalize().iter().map(|b| format!("{b:02x}")).collect();
        format!("sha256:{hex}")
    }
}

impl Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
