//! A real pull, as an engine does it: the tag, the manifest, the configuration, the layers up to a bound; each with its time,
//! its digest, and what `Cache-Status` says of it.

mod judge;

use std::time::{Duration, Instant};

use http::{HeaderMap, Method};
use http_body_util::BodyExt as _;
use oci::{
    digest::{Digest, Hasher},
    manifest::Manifest,
};
use serde::Serialize;
use url::Url;

use super::{
    client::{Client, Refusal},
    finding::Findings,
    node::Known,
    registry::Kind,
};
use crate::command::{http::Http, progress::Progress};

/// How much of one layer is read; enough for a rate.
const MAX_LAYER: u64 = 64 << 20;
/// How much is read of all layers together.
const MAX_PULL: u64 = 256 << 20;
/// How long a body may pause: what an edge itself allows its upstream.
const STALL: Duration = Duration::from_secs(10);
/// What was pulled.
#[derive(Debug, Serialize)]
pub(super) struct Pull {
    pub(super) image: String,
    /// All that was to be read came, and had its digest.
    pub(super) whole: bool,
    pub(super) steps: Vec<Step>,
}

/// One answer.
#[derive(Debug, Serialize)]
pub(super) struct Step {
    /// `resolve`, `manifest`, `config`, `layer`.
    pub(super) step: &'static str,
    pub(super) digest: Option<String>,
    /// Until the head of the answer came; for blobs, until the first byte.
    pub(super) first_byte_ms: f64,
    pub(super) bytes: u64,
    /// Of what was read.
    pub(super) bytes_per_second: Option<f64>,
    /// `false`: only the beginning was read, which cannot be compared with a digest.
    pub(super) verified: bool,
    pub(super) cache_status: Option<String>,
    /// What that means.
    pub(super) meaning: Option<String>,
}

/// Pulls `image`, or one that the edge has; `None` where there is none to pull.
pub(super) async fn pull(
    http: &Http,
    url: &Url,
    image: Option<&str>,
    known: &Known,
    kind: Kind,
    findings: &mut Findings,
) -> Option<Pull> {
    let Some(image) = image.or(known.image.as_deref()) else {
        let why = match kind {
            Kind::Edge => "no image is known that this edge holds",
            Kind::Origin | Kind::Registry | Kind::Unknown => "no image is known that is there",
        };
        findings.ok("pull", format!("{why}: give one with --image, to have it pulled"));
        return None;
    };
    let (repository, reference) = split(image);
    let client = Client::new(http, url, repository);
    let progress = Progress::begin(image);
    let mut pulling = Pulling { client, steps: Vec::new(), left: MAX_PULL, total: 0, progress };
    let ended = pulling.run(reference).await;
    let whole = ended.is_ok();
    pulling.progress.clear();
    match ended {
        Ok(()) => judge::slow_steps(image, &pulling.steps, findings),
        Err(broken) => findings.fail("pull", format!("{image}: {}", broken.message), broken.action),
    }
    Some(Pull { image: image.to_owned(), whole, steps: pulling.steps })
}

/// Repository and reference; `latest` where there is none.
fn split(image: &str) -> (&str, &str) {
    match image.split_once('@') {
        Some((name, digest)) => (split(name).0, digest),
        None => match image.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, tag),
            _ => (image, "latest"),
        },
    }
}

struct Pulling<'a> {
    client: Client<'a>,
    steps: Vec<Step>,
    /// How much more may be read.
    left: u64,
    /// How much is to be read.
    total: u64,
    progress: Progress,
}

/// Why a pull ended before its end.
struct Broken {
    message: String,
    action: String,
}

impl Broken {
    fn refused(what: &str, refusal: &Refusal) -> Self {
        use http::StatusCode;
        let action = match refusal {
            Refusal::NoAnswer(_) => {
                "run this again; if it stays so, look at the node's log and at the network between"
            }
            Refusal::Status { status: StatusCode::NOT_FOUND, .. } => {
                "see that the name is right, as a client would write it there; the registry itself says that it has no such thing"
            }
            Refusal::Status { status: StatusCode::FORBIDDEN, .. } => {
                "an edge serves the networks in upstream.<name>.networks, and the registries that it has upstream settings for"
            }
            Refusal::Status { status: StatusCode::SERVICE_UNAVAILABLE, .. } => {
                "it is not cached and the upstream gives no usable answer: the findings about upstreams say why, or \
                 `roadstead doctor` on the node itself"
            }
            Refusal::Status { status: StatusCode::TOO_MANY_REQUESTS, .. } => {
                "the registry limits this client: pull through an edge that has an account there"
            }
            Refusal::Status { .. } => "look into the node's log: X-Request-Id finds the request",
            Refusal::Token(_) => {
                "give an image that may be pulled without a login, or log in with the engine itself"
            }
            Refusal::Redirects => "look at the address of the registry, and at proxies between",
        };
        Self { message: format!("{what}: {refusal}"), action: action.to_owned() }
    }

    fn wrong(message: String) -> Self {
        Self {
            message,
            action: "do not trust what comes this way: look at proxies between, and at the disk of the node (roadstead cache verify)"
                .to_owned(),
        }
    }
}

impl Pulling<'_> {
    async fn run(&mut self, reference: &str) -> Result<(), Broken> {
        let digest = self.resolve(reference).await?;
        let mut manifest = self.manifest(&digest).await?;
        if let Some(child) = one_of(&manifest) {
            manifest = self.manifest(&child).await?;
        }
        let blobs: Vec<_> = manifest.blobs().filter(|child| !child.external).collect();
        let total: u64 = blobs.iter().map(|child| child.size.min(MAX_LAYER)).sum();
        self.total = total.min(MAX_PULL);
        let mut step = if manifest.config.is_some() { "config" } else { "layer" };
        for child in blobs {
            self.blob(step, &child.digest, child.size).await?;
            step = "layer";
        }
        Ok(())
    }

    async fn resolve(&mut self, reference: &str) -> Result<Digest, Broken> {
        let refused = |refusal| Broken::refused("its tag cannot be resolved", &refusal);
        let answered = self.client.manifest(Method::HEAD, reference).await.map_err(refused)?;
        let told =
            answered.response.headers().get("docker-content-digest").and_then(|digest| digest.to_str().ok());
        let digest = match told.map(str::parse::<Digest>) {
            Some(Ok(digest)) => digest,
            Some(Err(error)) => return Err(Broken::wrong(format!("its digest is none: {error}"))),
            None => {
                // Engines repeat the question by GET then.
                let refused = |refusal| Broken::refused("its manifest does not come", &refusal);
                let got = self.client.manifest(Method::GET, reference).await.map_err(refused)?;
                Digest::sha256(got.response.body())
            }
        };
        self.note("resolve", Some(&digest), answered.ms, 0, answered.response.headers());
        Ok(digest)
    }

    async fn manifest(&mut self, digest: &Digest) -> Result<Manifest, Broken> {
        let refused = |refusal| Broken::refused("its manifest does not come", &refusal);
        let answered = self.client.manifest(Method::GET, digest.as_str()).await.map_err(refused)?;
        let body = answered.response.body();
        if !digest.matches(body) {
            return Err(Broken::wrong(format!("the manifest {digest} came with other bytes")));
        }
        let told =
            answered.response.headers().get(http::header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let manifest = Manifest::parse(body, told)
            .map_err(|error| Broken::wrong(format!("the manifest {digest} is none: {error}")))?;
        self.note("manifest", Some(digest), answered.ms, body.len() as u64, answered.response.headers());
        Ok(manifest)
    }

    async fn blob(&mut self, step: &'static str, digest: &Digest, size: u64) -> Result<(), Broken> {
        let limit = MAX_LAYER.min(self.left);
        if limit == 0 {
            return Ok(());
        }
        let began = Instant::now();
        let refused = |refusal| Broken::refused(&format!("the {step} {digest} does not come"), &refusal);
        let answered = self.client.blob(digest.as_str()).await.map_err(refused)?;
        let (parts, mut body) = answered.response.into_parts();
        let mut hasher = Hasher::new(digest.algorithm());
        let (mut bytes, mut first) = (0, None);
        while bytes < size && bytes < limit {
            let frame = match tokio::time::timeout(STALL, body.frame()).await {
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(error))) => return Err(cut(step, digest, bytes, size, &error.to_string())),
                Ok(None) => return Err(cut(step, digest, bytes, size, "the connection was closed")),
                Err(_elapsed) => {
                    return Err(cut(step, digest, bytes, size, &format!("nothing more came for {STALL:?}")));
                }
            };
            let Ok(data) = frame.into_data() else { continue };
            first.get_or_insert_with(Instant::now);
            hasher.update(&data);
            bytes += data.len() as u64;
            self.progress.at(MAX_PULL - self.left + bytes.min(self.left), self.total, step);
        }
        let first = first.unwrap_or_else(Instant::now);
        let verified = bytes == size;
        if verified && hasher.finish() != *digest || bytes > size {
            return Err(Broken::wrong(format!("the {step} {digest} came with other bytes")));
        }
        self.left -= bytes.min(self.left);
        self.note(step, Some(digest), (first - began).as_secs_f64() * 1000.0, bytes, &parts.headers);
        if let Some(noted) = self.steps.last_mut() {
            noted.verified = verified;
            noted.bytes_per_second = rate(bytes, first.elapsed());
        }
        Ok(())
    }

    fn note(
        &mut self,
        step: &'static str,
        digest: Option<&Digest>,
        ms: f64,
        bytes: u64,
        headers: &HeaderMap,
    ) {
        let status = headers.get("cache-status").and_then(|status| status.to_str().ok()).map(str::to_owned);
        let meaning = status.as_deref().map(judge::explain);
        self.steps.push(Step {
            step,
            digest: digest.map(ToString::to_string),
            first_byte_ms: ms,
            bytes,
            bytes_per_second: None,
            verified: true,
            cache_status: status,
            meaning,
        });
    }
}

fn cut(step: &str, digest: &Digest, bytes: u64, size: u64, why: &str) -> Broken {
    Broken {
        message: format!("the {step} {digest} broke off after {bytes} of {size} bytes: {why}"),
        action: "run this again: an edge resumes where it was. If it stays so, its log says which upstream or disk fails".to_owned(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate need not be exact")]
fn rate(bytes: u64, took: Duration) -> Option<f64> {
    let seconds = took.as_secs_f64();
    (bytes > 0 && seconds > 0.0).then(|| bytes as f64 / seconds)
}

/// The image of an index that this machine would run, or else its first one.
fn one_of(manifest: &Manifest) -> Option<Digest> {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    // An index has as many descriptors as manifests, in the same order.
    let ours = manifest.descriptors.iter().position(|descriptor| {
        descriptor.platform().as_ref().is_some_and(|platform| {
            platform.os().to_string() == "linux" && platform.architecture().to_string() == architecture
        })
    });
    manifest.manifests.get(ours.unwrap_or(0)).map(|child| child.digest.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_split_as_clients_split_them() {
        assert_eq!(split("team/app"), ("team/app", "latest"));
        assert_eq!(split("r.example:5000/app"), ("r.example:5000/app", "latest"));
        assert_eq!(split("r.example:5000/app:1@sha256:ab"), ("r.example:5000/app", "sha256:ab"));
    }
}
