//! What a client says to a registry: pushes, and the paths that pulls ask for.
//! `Location` headers are followed as given, their query kept: Distribution's registries refuse an upload without theirs.

use std::fmt::Write as _;
use std::io::{BufWriter, Write};
use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};

use crate::blob::{Blob, Filling, Hasher};
use crate::wire::{Answer, Connection, MANIFEST, request, request_with_body};

/// The repository of everything pushed here.
const REPOSITORY: &str = "bench/image";
const OCTETS: &str = "application/octet-stream";

/// A manifest, exact bytes, and its digest.
#[derive(Debug, Clone)]
pub(crate) struct Manifest {
    pub(crate) bytes: Vec<u8>,
    pub(crate) digest: String,
}

/// `POST`, one streamed `PATCH` in chunks, `PUT`: the way of docker's client.
pub(crate) fn push_streamed(address: SocketAddr, filling: &Filling, blob: &Blob) -> Result<()> {
    let mut connection = Connection::open(address)?;
    let location = begin(&mut connection, address)?;
    let head = format!(
        "PATCH {location} HTTP/1.1\r\nHost: {address}\r\nContent-Type: {OCTETS}\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    connection.stream().write_all(head.as_bytes())?;
    filling.write_chunked(blob, connection.stream()).context("in the middle of a push")?;
    let answer = connection.answer()?;
    answer.expect(202)?;
    let path = with_digest(&location_of(&answer, address)?, blob);
    finish(&mut connection, &request_with_body("PUT", address, &path, OCTETS, 0))
}

/// `POST`, then the whole blob in one `PUT` that names its digest.
pub(crate) fn push_put(address: SocketAddr, filling: &Filling, blob: &Blob) -> Result<()> {
    let mut connection = Connection::open(address)?;
    let path = with_digest(&begin(&mut connection, address)?, blob);
    connection.stream().write_all(&request_with_body("PUT", address, &path, OCTETS, blob.size))?;
    send(&mut connection, filling, blob)
}

/// One `POST` that names the digest and carries the blob.
pub(crate) fn push_post(address: SocketAddr, filling: &Filling, blob: &Blob) -> Result<()> {
    let mut connection = Connection::open(address)?;
    let path = with_digest(&uploads(), blob);
    connection.stream().write_all(&request_with_body("POST", address, &path, OCTETS, blob.size))?;
    send(&mut connection, filling, blob)
}

/// A manifest of blobs, the first of them as its configuration.
pub(crate) fn manifest(blobs: &[&Blob]) -> Manifest {
    let (config, layers) = blobs.split_first().expect("a manifest has a configuration");
    let mut text = format!(
        "{{\"schemaVersion\":2,\"mediaType\":\"{MANIFEST}\",\"config\":{{\"mediaType\":\"application/vnd.oci.image.config.v1+json\",\"digest\":\"{}\",\"size\":{}}},\"layers\":[",
        config.digest, config.size
    );
    for (at, layer) in layers.iter().enumerate() {
        let comma = if at == 0 { "" } else { "," };
        let _ = write!(
            text,
            "{comma}{{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar\",\"digest\":\"{}\",\"size\":{}}}",
            layer.digest, layer.size
        );
    }
    text.push_str("]}");
    let mut hasher = Hasher::new();
    hasher.write_all(text.as_bytes()).expect("hashing does not fail");
    Manifest { bytes: text.into_bytes(), digest: hasher.digest() }
}

/// Pushes an image: its blobs, then its manifest under a tag.
pub(crate) fn push_image(
    address: SocketAddr,
    filling: &Filling,
    tag: &str,
    blobs: &[&Blob],
) -> Result<Manifest> {
    for blob in blobs {
        push_put(address, filling, blob)?;
    }
    put_manifest(address, tag, blobs)
}

/// Pushes the manifest of an image whose blobs are there.
pub(crate) fn put_manifest(address: SocketAddr, tag: &str, blobs: &[&Blob]) -> Result<Manifest> {
    let manifest = manifest(blobs);
    let mut connection = Connection::open(address)?;
    let head = request_with_body("PUT", address, &manifest_path(tag), MANIFEST, manifest.bytes.len() as u64);
    connection.stream().write_all(&[head, manifest.bytes.clone()].concat())?;
    connection.answer()?.expect(201)?;
    Ok(manifest)
}

/// Pulls a manifest and compares it with what was pushed.
pub(crate) fn check_manifest(
    connection: &mut Connection,
    address: SocketAddr,
    reference: &str,
    manifest: &Manifest,
) -> Result<()> {
    let (answer, body) = connection.fetch(&request("GET", address, &manifest_path(reference)))?;
    answer.expect(200)?;
    ensure!(body == manifest.bytes, "{reference} came back with other bytes");
    Ok(())
}

/// Pulls a blob and hashes it, so that what is fast later is known to be right; the blob is warm afterwards.
pub(crate) fn check_blob(address: SocketAddr, path: &str, blob: &Blob) -> Result<()> {
    let mut connection = Connection::open(address)?;
    let (answer, body) = connection.fetch(&request("GET", address, path))?;
    answer.expect(200)?;
    let mut hasher = Hasher::new();
    hasher.write_all(&body)?;
    ensure!(hasher.digest() == blob.digest, "{path} came back with other bytes");
    Ok(())
}

pub(crate) fn manifest_path(reference: &str) -> String {
    format!("/v2/{REPOSITORY}/manifests/{reference}")
}

pub(crate) fn blob_path(blob: &Blob) -> String {
    format!("/v2/{REPOSITORY}/blobs/{}", blob.digest)
}

fn uploads() -> String {
    format!("/v2/{REPOSITORY}/blobs/uploads/")
}

/// Opens an upload and says where it goes on.
fn begin(connection: &mut Connection, address: SocketAddr) -> Result<String> {
    let answer = connection.ask(&request_with_body("POST", address, &uploads(), OCTETS, 0))?;
    answer.expect(202)?;
    location_of(&answer, address)
}

/// The path and query of an answer's `Location`.
fn location_of(answer: &Answer, address: SocketAddr) -> Result<String> {
    let location = answer.header("location").context("no Location")?;
    Ok(location.strip_prefix(&format!("http://{address}")).unwrap_or(location).to_owned())
}

fn with_digest(location: &str, blob: &Blob) -> String {
    let mark = if location.contains('?') { '&' } else { '?' };
    format!("{location}{mark}digest={}", blob.digest)
}

/// Writes a blob as the body of a request whose head was sent.
fn send(connection: &mut Connection, filling: &Filling, blob: &Blob) -> Result<()> {
    let mut buffered = BufWriter::new(connection.stream());
    filling.write(blob, &mut buffered).and_then(|()| buffered.flush()).context("in the middle of a push")?;
    drop(buffered);
    connection.answer()?.expect(201)
}

fn finish(connection: &mut Connection, request: &[u8]) -> Result<()> {
    connection.ask(request)?.expect(201)
}
