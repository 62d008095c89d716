//! A client that goes where a stranger sent it: over TLS to public addresses, and nowhere else.

use super::{
    super::{Forbidden, Guard},
    redirects::{LOCALHOST, localhost},
    *,
};

fn guarded(registry: &Registry, opened: &[&str]) -> Client {
    let opened = opened.iter().map(|network| network.parse().expect("a network")).collect();
    let guard = Some(Guard::new(opened));
    Client::new(ClientConfig { guard, extra_roots: LOCALHOST.to_vec(), ..config(registry) }).expect("good")
}

fn is_forbidden<T>(result: &Result<T, FetchError>) -> bool {
    matches!(result, Err(FetchError::Failed(Failure::Forbidden(_))))
}

#[tokio::test]
async fn an_address_of_this_machine_is_not_connected_to_unless_it_is_opened() {
    let registry = Registry::with_tls(localhost(), |_| Reply::ok(MANIFEST)).await;
    let refused = manifest(&guarded(&registry, &[])).await;
    assert!(is_forbidden(&refused), "{refused:?}");
    assert!(registry.requests().is_empty());
    manifest(&guarded(&registry, &["127.0.0.0/8"])).await.expect("served");
}

#[tokio::test]
async fn a_name_that_leads_there_is_found_out_when_the_connection_is_made() {
    let registry = Registry::with_tls(localhost(), |_| Reply::ok(MANIFEST)).await;
    let url = format!("https://localhost:{}", registry.address.port()).parse().expect("a URL");
    let of = |opened: Vec<ipnet::IpNet>| {
        let guard = Some(Guard::new(opened));
        let config = ClientConfig { guard, extra_roots: LOCALHOST.to_vec(), ..ClientConfig::new(url) };
        Client::new(config).expect("good")
    };
    let client = of(Vec::new());
    let refused = manifest(&client).await;
    let Err(FetchError::Failed(Failure::Forbidden(Forbidden::Address(host)))) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(host, "localhost");
    assert!(registry.requests().is_empty());
    let probe = client.probe().await;
    assert!(!probe.is_well() && probe.steps.len() == 1, "{probe:?}");
}

#[tokio::test]
async fn neither_redirects_nor_token_services_lead_anywhere_else() {
    let inside = Registry::start(|_| Reply::ok("secrets of the inside")).await;
    let plain = format!("http://{}/x", inside.address);
    let secure = format!("https://127.0.0.2:{}/x", inside.address.port());
    for target in [plain, secure, "https://[::1]/x".to_owned(), "https://169.254.169.254/x".to_owned()] {
        let location = target.clone();
        let redirecting =
            Registry::with_tls(localhost(), move |_| Reply::redirect("302 Found", &location)).await;
        let refused = blob(&guarded(&redirecting, &["127.0.0.1/32"]), 0).await;
        let failed = is_forbidden(&refused) || matches!(refused, Err(FetchError::Failed(Failure::Redirects)));
        assert!(failed, "{target}: {refused:?}");
        let challenge = format!(r#"Bearer realm="{target}",service="x""#);
        let challenging = Registry::with_tls(localhost(), move |_| {
            Reply::new("401 Unauthorized").header("WWW-Authenticate", &challenge)
        })
        .await;
        let refused = manifest(&guarded(&challenging, &["127.0.0.1/32"])).await;
        let failed = is_forbidden(&refused) || matches!(refused, Err(FetchError::Failed(Failure::Token(_))));
        assert!(failed, "{target}: {refused:?}");
    }
    assert!(inside.requests().is_empty(), "{:?}", inside.asked());
}

#[tokio::test]
async fn a_registry_without_tls_is_not_spoken_to() {
    let registry = Registry::start(|_| Reply::ok(MANIFEST)).await;
    let refused = manifest(&guarded(&registry, &["127.0.0.0/8"])).await;
    assert!(is_forbidden(&refused), "{refused:?}");
    assert!(registry.requests().is_empty());
}
