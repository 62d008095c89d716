//! The client against registries that say what a test tells them to: tokens, redirects, ranges, and every way to lie.

mod answers;
mod credentials;
mod guarded;
mod lies;
mod probes;
mod ranges;
mod redirects;
mod scripted;
mod tokens;

use std::time::Duration;

use http_body_util::BodyExt as _;

use super::{
    BlobAnswer, Client, ClientConfig, Credentials, Failure, FetchError, FetchedManifest, Secret, Silence,
};
use crate::{
    digest::Digest,
    name::{Reference, RepositoryName},
};
use scripted::{Registry, Reply, Request};

/// Longer than any answer takes that comes at all.
const PATIENT: Duration = Duration::from_secs(30);
/// What silence is measured with.
const IMPATIENT: Duration = Duration::from_millis(300);

const MANIFEST: &[u8] = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json"}"#;

fn config(registry: &Registry) -> ClientConfig {
    ClientConfig { answer_timeout: PATIENT, connect_timeout: PATIENT, ..ClientConfig::new(registry.url()) }
}

fn client(registry: &Registry) -> Client {
    Client::new(config(registry)).expect("the URL is one")
}

fn impatient(registry: &Registry) -> Client {
    Client::new(ClientConfig { answer_timeout: IMPATIENT, ..config(registry) }).expect("the URL is one")
}

fn user() -> Credentials {
    Credentials::Password { username: "ship".into(), password: Secret::Given("harbour".into()) }
}

fn with_user(registry: &Registry) -> Client {
    Client::new(ClientConfig { credentials: Some(user()), ..config(registry) }).expect("the URL is one")
}

fn repository() -> RepositoryName {
    "team/app".parse().expect("a name")
}

fn latest() -> Reference {
    "latest".parse().expect("a tag")
}

async fn manifest(client: &Client) -> Result<FetchedManifest, FetchError> {
    client.manifest(&repository(), &latest(), PATIENT).await
}

async fn blob(client: &Client, offset: u64) -> Result<BlobAnswer, FetchError> {
    client.blob(&repository(), &Digest::sha256(b"blob"), offset, None).await
}

/// The bytes of a blob's answer; an error where the body broke off.
async fn bytes(answer: BlobAnswer) -> Result<Vec<u8>, hyper::Error> {
    Ok(answer.body.collect().await?.to_bytes().to_vec())
}
