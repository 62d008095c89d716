//! Where a registry sends the client to, and what the client takes along.

use std::sync::Arc;

use rustls::{
    RootCertStore,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};

use super::*;

/// A self-signed certificate for `localhost` and 127.0.0.1 with its key, for these tests alone.
pub(super) const LOCALHOST: &[u8] = include_bytes!("localhost.pem");

pub(super) fn localhost() -> rustls::ServerConfig {
    serving(WebPkiClientVerifier::no_client_auth())
}

/// Lets in only who shows the same certificate.
pub(super) fn asking_for_a_certificate() -> rustls::ServerConfig {
    let mut roots = RootCertStore::empty();
    roots.add(certificate()).expect("it can be trusted");
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    serving(verifier.build().expect("there is a root"))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn certificate() -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(LOCALHOST).expect("the file has a certificate")
}

fn serving(clients: Arc<dyn ClientCertVerifier>) -> rustls::ServerConfig {
    let builder = rustls::ServerConfig::builder_with_provider(provider());
    let builder = builder.with_safe_default_protocol_versions().expect("the provider supports them");
    let key = PrivateKeyDer::from_pem_slice(LOCALHOST).expect("the file has a key");
    let builder = builder.with_client_cert_verifier(clients);
    builder.with_single_cert(vec![certificate()], key).expect("they belong together")
}

fn trusting(registry: &Registry) -> Client {
    let config = ClientConfig { extra_roots: LOCALHOST.to_vec(), ..config(registry) };
    Client::new(ClientConfig { credentials: Some(user()), ..config }).expect("the URL and the root are good")
}

/// Redirects all but `/token` and what `/moved` names to `location`, and asks for Basic first.
async fn sending_to(status: &'static str, location: String) -> Registry {
    Registry::start(move |request| match request.header("authorization") {
        None => Reply::new("401 Unauthorized").header("WWW-Authenticate", "Basic"),
        Some(_) => Reply::redirect(status, &location),
    })
    .await
}

fn is_redirects<T>(result: &Result<T, FetchError>) -> bool {
    matches!(result, Err(FetchError::Failed(Failure::Redirects)))
}

#[tokio::test]
async fn a_redirect_to_another_host_takes_no_credentials_along() {
    for status in [
        "301 Moved Permanently",
        "302 Found",
        "303 See Other",
        "307 Temporary Redirect",
        "308 Permanent Redirect",
    ] {
        let storage = Registry::start(|_| Reply::ok("blob")).await;
        let location = format!("http://ship:harbour@{}/bucket/object?X-Amz-Signature=abc", storage.address);
        let registry = sending_to(status, location).await;
        let answer = blob(&with_user(&registry), 0).await.expect("served");
        assert_eq!(bytes(answer).await.expect("whole"), b"blob");
        let [asked] = &storage.requests()[..] else { panic!("{status}: {:?}", storage.asked()) };
        assert_eq!(asked.header("authorization"), None, "{status}");
        assert_eq!((asked.method.as_str(), asked.header("cookie")), ("GET", None), "{status}");
        assert_eq!(asked.target, "/bucket/object?X-Amz-Signature=abc", "{status}");
        assert_eq!(asked.host(), storage.address.to_string(), "{status}");
    }
}

#[tokio::test]
async fn the_challenge_of_another_host_gets_no_credentials() {
    let thief = Registry::start(|request| {
        let realm = format!("Bearer realm=\"http://{}/steal\"", request.host());
        Reply::new("401 Unauthorized").header("WWW-Authenticate", &realm)
    })
    .await;
    let location = format!("http://{}/storage", thief.address);
    let registry = sending_to("307 Temporary Redirect", location).await;
    let refused = blob(&with_user(&registry), 0).await;
    assert!(matches!(refused, Err(FetchError::Failed(Failure::Refused(_)))), "{refused:?}");
    let asked = thief.requests();
    assert_eq!(asked.len(), 1, "{:?}", thief.asked());
    assert_eq!(asked[0].header("authorization"), None);
}

#[tokio::test]
async fn the_same_port_of_another_name_is_another_host() {
    let registry = Registry::start(|request| match request.header("authorization") {
        _ if request.target == "/elsewhere" => Reply::ok("blob"),
        None => Reply::new("401 Unauthorized").header("WWW-Authenticate", "Basic"),
        Some(_) => {
            let port = request.host().rsplit_once(':').expect("a port").1.to_owned();
            Reply::redirect("307 Temporary Redirect", &format!("http://localhost:{port}/elsewhere"))
        }
    })
    .await;
    blob(&with_user(&registry), 0).await.expect("served");
    let requests = registry.requests();
    let last = requests.last().expect("it was asked");
    assert_eq!((last.target.as_str(), last.header("authorization")), ("/elsewhere", None));
}

#[tokio::test]
async fn a_redirect_within_the_registry_keeps_range_and_credentials() {
    let registry =
        Registry::start(|request| match (request.target.as_str(), request.header("authorization")) {
            (_, None) => Reply::new("401 Unauthorized").header("WWW-Authenticate", "Basic"),
            ("/moved/here", _) => {
                let part = Reply::new("206 Partial Content").header("Content-Range", "bytes 2-3/4");
                part.body("ob")
            }
            _ => Reply::redirect("302 Found", "/moved/here"),
        })
        .await;
    let answer = blob(&with_user(&registry), 2).await.expect("served");
    assert_eq!((answer.offset, answer.length), (2, Some(4)));
    let requests = registry.requests();
    let last = requests.last().expect("it was asked");
    assert_eq!(last.header("range"), Some("bytes=2-"));
    assert!(last.header("authorization").is_some());
}

#[tokio::test]
async fn redirects_without_end_or_to_nowhere_are_a_failure() {
    for location in
        ["/again", "", "http://", "ftp://127.0.0.1/blob", "file:///etc/passwd", "mailto:x", "http://[::"]
    {
        let registry = Registry::start(move |_| Reply::redirect("302 Found", location)).await;
        let failed = blob(&client(&registry), 0).await;
        assert!(is_redirects(&failed), "{location:?}: {failed:?}");
        let limit = if matches!(location, "/again" | "") { 6 } else { 1 };
        assert_eq!(registry.requests().len(), limit, "{location:?}: {:?}", registry.asked());
    }
    let pointless = Registry::start(|_| Reply::new("302 Found")).await;
    let failed = manifest(&client(&pointless)).await;
    assert!(is_redirects(&failed), "{failed:?}");
}

#[tokio::test]
async fn two_registries_that_send_the_client_to_and_fro_are_left() {
    let first = Registry::start(|request| {
        let back = request.parameter("to").unwrap_or_else(|| "/lost".into());
        Reply::redirect("302 Found", &format!("{back}?to=http://{}/", request.host()))
    })
    .await;
    let other = format!("http://{}/", first.address);
    let second = Registry::start(move |_| Reply::redirect("302 Found", &other)).await;
    let failed = manifest(&client(&second)).await;
    assert!(is_redirects(&failed), "{failed:?}");
    assert!(first.requests().len() + second.requests().len() <= 6);
}

#[tokio::test]
async fn over_tls_the_client_is_not_sent_away_from_it() {
    let plain = Registry::start(|_| Reply::ok("blob")).await;
    let location = format!("http://{}/blob", plain.address);
    let secure =
        Registry::with_tls(localhost(), move |_| Reply::redirect("307 Temporary Redirect", &location)).await;
    let failed = blob(&trusting(&secure), 0).await;
    assert!(is_redirects(&failed), "{failed:?}");
    assert!(plain.requests().is_empty(), "{:?}", plain.asked());
}

#[tokio::test]
async fn over_tls_no_password_goes_to_a_token_service_without_it() {
    let plain = Registry::start(|_| Reply::ok(r#"{"token":"good"}"#)).await;
    let bearer = format!(r#"Bearer realm="http://{}/token",service="x""#, plain.address);
    let secure = Registry::with_tls(localhost(), move |_| {
        Reply::new("401 Unauthorized").header("WWW-Authenticate", &bearer)
    })
    .await;
    let failed = manifest(&trusting(&secure)).await;
    assert!(matches!(failed, Err(FetchError::Failed(Failure::Token(_)))), "{failed:?}");
    assert!(plain.requests().is_empty(), "{:?}", plain.asked());
}

#[tokio::test]
async fn a_certificate_counts_only_where_it_is_trusted() {
    let registry = Registry::with_tls(localhost(), |_| Reply::ok(MANIFEST)).await;
    assert_eq!(manifest(&trusting(&registry)).await.expect("served").bytes, MANIFEST);
    let failed = manifest(&client(&registry)).await;
    let Err(FetchError::Silent(Silence::Unreachable(why))) = failed else { panic!("{failed:?}") };
    assert!(why.to_lowercase().contains("certificate"), "{why}");
    let broken =
        ClientConfig { extra_roots: b"-----BEGIN CERTIFICATE-----\n!".to_vec(), ..config(&registry) };
    assert!(Client::new(broken).is_err());
}

#[test]
fn what_is_no_address_of_a_registry_makes_no_client() {
    for url in ["ftp://registry.example", "mailto:x", "data:,x", "file:///v2/"] {
        assert!(Client::new(ClientConfig::new(url.parse().expect("a URL"))).is_err(), "{url}");
    }
}
