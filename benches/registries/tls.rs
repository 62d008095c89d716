//! TLS on the load side. Only the handshake and the request go through TLS here: the answer is thrown away inside the
//! kernel as it comes, encrypted, until the server closes the connection, and its length is checked. So the load side
//! costs as little as without TLS. That what comes is right is checked once beforehand, with everything decrypted.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, crypto::aws_lc_rs};
use tempfile::TempDir;

use crate::blob::{Blob, Hasher};
use crate::wire::{Connection, MANIFEST, head_end};

/// What TLS adds to a body at the most: 22 bytes to each record, which is not smaller than 1 KiB on the whole, the answer's
/// head and what is left of the handshake.
fn most(size: u64) -> u64 {
    size + size / 40 + (64 << 10)
}

/// A certificate for 127.0.0.1, its key, and a client that trusts it.
#[derive(Debug)]
pub(crate) struct Identity {
    _directory: TempDir,
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    client: Arc<ClientConfig>,
}

impl Identity {
    /// Made by openssl in `directory`.
    pub(crate) fn new(directory: TempDir) -> Result<Self> {
        let (certificate, key) = (directory.path().join("certificate.pem"), directory.path().join("key.pem"));
        let made = Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-days",
                "2",
            ])
            .args(["-subj", "/CN=bench", "-addext", "subjectAltName=IP:127.0.0.1"])
            .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout"])
            .arg(&key)
            .arg("-out")
            .arg(&certificate)
            .output()
            .context("openssl is not there: run benches/setup")?;
        ensure!(made.status.success(), "openssl: {}", String::from_utf8_lossy(&made.stderr));
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&fs::read(&certificate)?).context("the certificate")?)?;
        let mut provider = aws_lc_rs::default_provider();
        // What the Go clients choose on processors like this: docker, containerd, podman.
        provider.cipher_suites.retain(|suite| suite.suite() == rustls::CipherSuite::TLS13_AES_128_GCM_SHA256);
        let client = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { _directory: directory, certificate, key, client: Arc::new(client) })
    }

    /// A connection whose handshake is over.
    pub(crate) fn connect(&self, address: SocketAddr) -> Result<Tls> {
        let mut stream = Connection::open(address)?.into_stream();
        let name = ServerName::IpAddress(Ipv4Addr::LOCALHOST.into());
        let mut session = ClientConnection::new(self.client.clone(), name)?;
        while session.is_handshaking() {
            session.complete_io(&mut stream).context("in a handshake")?;
        }
        Ok(Tls { session, stream })
    }

    /// The whole body of an answer, decrypted.
    pub(crate) fn fetch(&self, address: SocketAddr, path: &str) -> Result<Vec<u8>> {
        let Tls { session, stream } = self.connect(address)?;
        let mut tls = StreamOwned::new(session, stream);
        tls.write_all(&request(address, path))?;
        let mut answer = Vec::new();
        match tls.read_to_end(&mut answer) {
            // A server that leaves without saying so; the length is checked by whoever asked.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {}
            read => drop(read.context("in the middle of an answer")?),
        }
        let Some(end) = head_end(&answer) else { bail!("{path}: no answer") };
        ensure!(answer.starts_with(b"HTTP/1.1 200 "), "{path}: {}", String::from_utf8_lossy(&answer[..end]));
        Ok(answer.split_off(end))
    }

    /// Pulls a blob, decrypts and hashes it; it is warm afterwards.
    pub(crate) fn check_blob(&self, address: SocketAddr, path: &str, blob: &Blob) -> Result<()> {
        let mut hasher = Hasher::new();
        hasher.write_all(&self.fetch(address, path)?)?;
        ensure!(hasher.digest() == blob.digest, "{path} came back with other bytes");
        Ok(())
    }
}

/// A connection that has said nothing but its handshake.
#[derive(Debug)]
pub(crate) struct Tls {
    session: ClientConnection,
    stream: TcpStream,
}

impl Tls {
    /// Asks, and throws away what comes, as it comes, until the end of the connection.
    pub(crate) fn download(mut self, address: SocketAddr, path: &str, size: u64) -> Result<()> {
        self.session.writer().write_all(&request(address, path))?;
        while self.session.wants_write() {
            self.session.write_tls(&mut self.stream)?;
        }
        let taken = Connection::of(self.stream).discard_to_end()?;
        ensure!((size..most(size)).contains(&taken), "{taken} bytes for a body of {size}");
        Ok(())
    }
}

fn request(address: SocketAddr, path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nAccept: {MANIFEST}\r\nConnection: close\r\n\r\n")
        .into_bytes()
}
