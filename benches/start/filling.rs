//! What an edge is filled with: tiny blobs as files, and a registry that has one blob.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::Result;
use sha2::{Digest as _, Sha256};

/// Writes `count` blobs of eight bytes each, as an edge keeps them.
pub(crate) fn fill(directory: &Path, count: u64) -> Result<()> {
    for number in 0..count {
        let content = number.to_le_bytes();
        let hex = hex(&content);
        fs::write(directory.join(&hex[..2]).join(&hex), content)?;
    }
    Ok(())
}

fn hex(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A registry of one blob, in every repository.
#[derive(Debug)]
pub(crate) struct Registry {
    pub(crate) address: SocketAddr,
    pub(crate) digest: String,
    pub(crate) length: u64,
    requests: Arc<AtomicU64>,
}

impl Registry {
    pub(crate) fn start(content: &'static [u8]) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let requests = Arc::new(AtomicU64::new(0));
        let counter = requests.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let counter = counter.clone();
                std::thread::spawn(move || serve(stream, content, &counter));
            }
        });
        Ok(Self {
            address,
            digest: format!("sha256:{}", hex(content)),
            length: content.len() as u64,
            requests,
        })
    }

    /// How often it was asked.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}

/// Answers every request of a connection with the blob.
fn serve(stream: TcpStream, content: &[u8], requests: &AtomicU64) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    loop {
        let mut line = String::new();
        loop {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if line == "\r\n" {
                break;
            }
        }
        requests.fetch_add(1, Ordering::Relaxed);
        write!(writer, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", content.len())?;
        writer.write_all(content)?;
    }
}
