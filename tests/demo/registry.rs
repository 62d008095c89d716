//! What a container engine does at a registry, and no more: push an image, pull an image.
//!
//! A pull follows containerd's steps: HEAD of the tag, GET of the manifest by digest, GET of every blob, several at once.
//! Every byte that arrives is hashed; a pull succeeds only when every digest is the one that was pushed.

use std::{io, path::Path};

use anyhow::{Context as _, Result, bail, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Frame, Incoming},
    header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, LOCATION},
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use indicatif::ProgressBar;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncReadExt as _;

use crate::image::{Blob, Content, HexBytes, Image, MANIFEST_TYPE, digest};

pub(crate) const PROJECT: &str = "demo";
pub(crate) const REPOSITORY: &str = "demo/ship";
pub(crate) const TAG: &str = "1";

/// As many blobs at once as docker and containerd fetch by default.
const BLOBS_AT_ONCE: usize = 3;
const FRAME: usize = 256 * 1024;

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A registry at an address, over plain HTTP, and connections of its own: a new one is a new client.
#[derive(Debug, Clone)]
pub(crate) struct Registry {
    address: String,
    client: Client<HttpConnector, Body>,
    authorization: Option<String>,
}

/// What a complete pull brought.
#[derive(Debug)]
pub(crate) struct Pulled {
    /// `Cache-Status` of the tag, then of every blob; empty strings where a registry says nothing of the kind.
    pub(crate) tag_status: String,
    pub(crate) blob_statuses: Vec<String>,
    /// What the registry wants the person who pulls to know.
    pub(crate) warning: Option<String>,
}

impl Registry {
    pub(crate) fn new(address: &str) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Self { address: address.to_owned(), client, authorization: None }
    }

    /// The same, logged in.
    pub(crate) fn logged_in(self, name: &str, password: &str) -> Self {
        let encoded = BASE64_STANDARD.encode(format!("{name}:{password}"));
        Self { authorization: Some(format!("Basic {encoded}")), ..self }
    }

    /// Whether somebody who has not logged in is refused.
    pub(crate) async fn refuses_strangers(&self) -> Result<bool> {
        let stranger = Self { authorization: None, ..self.clone() };
        let answer = stranger.send(Method::GET, "/v2/", empty(), &[]).await?;
        Ok(answer.status() == StatusCode::UNAUTHORIZED)
    }

    /// Makes something by the administration API, and gives what it answers.
    pub(crate) async fn make(&self, path: &str, document: &serde_json::Value) -> Result<serde_json::Value> {
        let path = format!("/api/v1/{path}");
        let body = full(document.to_string().into_bytes());
        let answer =
            self.send(Method::POST, &path, body, &[(CONTENT_TYPE.as_str(), "application/json")]).await?;
        let body = expect(answer, StatusCode::CREATED, &path)?.into_body().collect().await?.to_bytes();
        Ok(serde_json::from_slice(&body)?)
    }

    /// The body of a page such as `/metrics`.
    pub(crate) async fn get_text(&self, path: &str) -> Result<String> {
        let answer = self.send(Method::GET, path, empty(), &[]).await?;
        let body = expect(answer, StatusCode::OK, path)?.into_body().collect().await?.to_bytes();
        Ok(String::from_utf8(body.into())?)
    }

    /// Pushes blobs, then the manifest under its tag.
    pub(crate) async fn push(&self, image: &Image, progress: &ProgressBar) -> Result<()> {
        let blobs: Vec<_> = image.blobs.iter().map(|blob| self.push_blob(blob, progress)).collect();
        stream::iter(blobs).buffer_unordered(BLOBS_AT_ONCE).try_collect::<Vec<()>>().await?;
        let path = format!("/v2/{REPOSITORY}/manifests/{TAG}");
        let body = full(image.manifest.clone());
        let answer = self.send(Method::PUT, &path, body, &[(CONTENT_TYPE.as_str(), MANIFEST_TYPE)]).await?;
        let answer = expect(answer, StatusCode::CREATED, &path)?;
        let named = header(answer.headers(), "docker-content-digest");
        ensure!(named == image.manifest_digest, "the origin calls the manifest {named}");
        Ok(())
    }

    async fn push_blob(&self, blob: &Blob, progress: &ProgressBar) -> Result<()> {
        let path = format!("/v2/{REPOSITORY}/blobs/uploads/");
        let answer = self.send(Method::POST, &path, empty(), &[]).await?;
        let answer = expect(answer, StatusCode::ACCEPTED, &path)?;
        let session = header(answer.headers(), LOCATION.as_str());
        let session = session.strip_prefix(&format!("http://{}", self.address)).unwrap_or(&session);
        let separator = if session.contains('?') { '&' } else { '?' };
        let path = format!("{session}{separator}digest={}", blob.digest);
        let body = match &blob.content {
            Content::Memory(bytes) => full(bytes.clone()),
            Content::File(path) => file_body(path, progress.clone()).await?,
        };
        let length = blob.size.to_string();
        let answer = self.send(Method::PUT, &path, body, &[(CONTENT_LENGTH.as_str(), &length)]).await?;
        expect(answer, StatusCode::CREATED, &path)?;
        Ok(())
    }

    /// Pulls the tag, and compares everything with `image`.
    pub(crate) async fn pull(&self, image: &Image, progress: &ProgressBar) -> Result<Pulled> {
        let accept = [(ACCEPT.as_str(), MANIFEST_TYPE)];
        let path = format!("/v2/{REPOSITORY}/manifests/{TAG}");
        let answer = self.send(Method::HEAD, &path, empty(), &accept).await?;
        let tag = expect(answer, StatusCode::OK, &path)?.headers().clone();
        let named = header(&tag, "docker-content-digest");
        ensure!(named == image.manifest_digest, "{TAG} is {named}, and {} was pushed", image.manifest_digest);

        let path = format!("/v2/{REPOSITORY}/manifests/{named}");
        let answer = self.send(Method::GET, &path, empty(), &accept).await?;
        let manifest = expect(answer, StatusCode::OK, &path)?.into_body().collect().await?.to_bytes();
        ensure!(digest(&manifest) == named, "the manifest is not what its digest says");

        let blobs: Vec<_> = image.blobs.iter().map(|blob| self.pull_blob(blob, progress)).collect();
        let blob_statuses = stream::iter(blobs).buffered(BLOBS_AT_ONCE).try_collect().await?;
        Ok(Pulled {
            tag_status: header(&tag, "cache-status"),
            blob_statuses,
            warning: tag.get("warning").and_then(|value| value.to_str().ok()).map(str::to_owned),
        })
    }

    async fn pull_blob(&self, blob: &Blob, progress: &ProgressBar) -> Result<String> {
        let path = format!("/v2/{REPOSITORY}/blobs/{}", blob.digest);
        let answer = expect(self.send(Method::GET, &path, empty(), &[]).await?, StatusCode::OK, &path)?;
        let status = header(answer.headers(), "cache-status");
        let mut body = answer.into_body();
        let (mut hash, mut size) = (Sha256::new(), 0);
        while let Some(frame) = body.frame().await {
            if let Some(bytes) =
                frame.with_context(|| format!("{path} broke off after {size} bytes"))?.data_ref()
            {
                hash.update(bytes);
                size += bytes.len() as u64;
                progress.inc(bytes.len() as u64);
            }
        }
        let got = format!("sha256:{:x}", HexBytes(&hash.finalize()));
        ensure!(size == blob.size, "{path}: {size} bytes instead of {}", blob.size);
        ensure!(got == blob.digest, "{path}: the bytes have the digest {got}");
        Ok(status)
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Body,
        headers: &[(&str, &str)],
    ) -> Result<Response<Incoming>> {
        let mut request = Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        self.client
            .request(request.body(body)?)
            .await
            .with_context(|| format!("{} does not answer for {path}", self.address))
    }
}

fn expect(answer: Response<Incoming>, wanted: StatusCode, path: &str) -> Result<Response<Incoming>> {
    if answer.status() != wanted {
        bail!("{path}: the answer is {}, not {wanted}", answer.status());
    }
    Ok(answer)
}

fn header(headers: &HeaderMap, name: &str) -> String {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

fn empty() -> Body {
    full(Vec::new())
}

fn full(bytes: Vec<u8>) -> Body {
    Full::new(Bytes::from(bytes)).map_err(|never| match never {}).boxed_unsync()
}

async fn file_body(path: &Path, progress: ProgressBar) -> Result<Body> {
    let file = tokio::fs::File::open(path).await?;
    let frames = stream::try_unfold((file, progress), |(mut file, progress)| async move {
        let mut buffer = Vec::with_capacity(FRAME);
        if (&mut file).take(FRAME as u64).read_to_end(&mut buffer).await? == 0 {
            return Ok(None);
        }
        progress.inc(buffer.len() as u64);
        Ok(Some((Frame::data(Bytes::from(buffer)), (file, progress))))
    });
    Ok(BodyExt::boxed_unsync(StreamBody::new(frames)))
}
