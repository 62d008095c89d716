//! Basic, and the token flow: what is asked for, with whose name, how often, and what is done about a service that
//! gives none.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use super::*;

const BASIC: &str = "Basic c2hpcDpoYXJib3Vy";

/// Asks for a Bearer token of its own `/token`, whose `answer` is given.
async fn with_token_service(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Registry {
    Registry::start(move |request| {
        if request.target.starts_with("/token") {
            return answer(request);
        }
        match request.header("authorization") {
            Some(token) if token.starts_with("Bearer good") => Reply::ok(MANIFEST),
            _ => challenge(&format!("http://{}/token", request.host())),
        }
    })
    .await
}

fn challenge(realm: &str) -> Reply {
    let value = format!(r#"Bearer realm="{realm}",service="reg.example",scope="repository:team/app:pull""#);
    Reply::error("401 Unauthorized", "UNAUTHORIZED").header("WWW-Authenticate", &value)
}

fn token_requests(registry: &Registry) -> Vec<Request> {
    registry.requests().into_iter().filter(|request| request.target.starts_with("/token")).collect()
}

#[tokio::test]
async fn nobody_gets_an_anonymous_token_and_uses_it_again() {
    let registry = with_token_service(|_| Reply::ok(r#"{"token":"good","expires_in":300}"#)).await;
    let client = client(&registry);
    for _ in 0..3 {
        assert_eq!(manifest(&client).await.expect("served").bytes, MANIFEST);
    }
    let [asked] = &token_requests(&registry)[..] else {
        panic!("one token is enough: {:?}", registry.asked())
    };
    assert_eq!(asked.header("authorization"), None);
    assert_eq!(asked.parameter("service").as_deref(), Some("reg.example"));
    assert_eq!(asked.parameter("scope").as_deref(), Some("repository:team/app:pull"));
    assert_eq!(registry.requests().len(), 5, "{:?}", registry.asked());
}

#[tokio::test]
async fn a_user_shows_the_password_to_the_token_service_and_the_token_to_the_registry() {
    let registry = with_token_service(|request| match request.header("authorization") {
        Some(BASIC) => Reply::ok(r#"{"access_token":"good-for-ship"}"#),
        _ => Reply::new("401 Unauthorized"),
    })
    .await;
    assert_eq!(manifest(&with_user(&registry)).await.expect("served").bytes, MANIFEST);
    let requests = registry.requests();
    let shown: Vec<_> = requests.iter().map(|request| request.header("authorization")).collect();
    assert_eq!(shown, [None, Some(BASIC), Some("Bearer good-for-ship")]);
}

#[tokio::test]
async fn basic_is_sent_when_asked_for_and_from_then_on_at_once() {
    let registry = Registry::start(|request| match request.header("authorization") {
        Some(BASIC) => Reply::ok(MANIFEST),
        _ => Reply::new("401 Unauthorized").header("WWW-Authenticate", "Basic realm=\"registry\""),
    })
    .await;
    let named = with_user(&registry);
    manifest(&named).await.expect("served");
    manifest(&named).await.expect("served");
    assert_eq!(registry.requests().len(), 3, "{:?}", registry.asked());
    let refused = manifest(&client(&registry)).await;
    assert!(matches!(refused, Err(FetchError::Failed(Failure::Refused(_)))), "{refused:?}");
}

#[tokio::test]
async fn a_token_that_has_ended_is_asked_for_again_before_it_is_sent() {
    let registry = with_token_service(|_| Reply::ok(r#"{"token":"good","expires_in":1}"#)).await;
    let client = client(&registry);
    manifest(&client).await.expect("served");
    manifest(&client).await.expect("served");
    assert_eq!(token_requests(&registry).len(), 2);
}

#[tokio::test]
async fn a_token_that_the_registry_no_longer_takes_is_replaced() {
    let given = Arc::new(AtomicU32::new(0));
    let counted = given.clone();
    let registry = Registry::start(move |request| {
        if request.target.starts_with("/token") {
            let number = counted.fetch_add(1, Ordering::Relaxed) + 1;
            return Reply::ok(format!(r#"{{"token":"number-{number}","expires_in":3600}}"#));
        }
        // The first token is revoked after one use.
        let current = match request.target.ends_with("/latest") {
            true => "Bearer number-1",
            false => "Bearer number-2",
        };
        match request.header("authorization") {
            Some(token) if token == current => Reply::ok(MANIFEST),
            _ => challenge(&format!("http://{}/token", request.host())),
        }
    })
    .await;
    let client = client(&registry);
    manifest(&client).await.expect("served with the first token");
    let by_digest = Reference::Digest(Digest::sha256(MANIFEST));
    client.manifest(&repository(), &by_digest, PATIENT).await.expect("served with the second token");
    assert_eq!(given.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_token_that_does_not_help_is_refused_access_and_not_asked_for_without_end() {
    let registry = with_token_service(|_| Reply::ok(r#"{"token":"bad"}"#)).await;
    let refused = manifest(&client(&registry)).await;
    assert!(matches!(refused, Err(FetchError::Failed(Failure::Refused(_)))), "{refused:?}");
    assert_eq!(registry.requests().len(), 3, "{:?}", registry.asked());
}

#[tokio::test]
async fn a_token_service_that_gives_no_token_is_a_failure_and_never_a_no() {
    type Answer = fn() -> Reply;
    let answers: [(&str, Answer); 9] = [
        ("says no", || Reply::error("404 Not Found", "NAME_UNKNOWN")),
        ("refuses", || Reply::new("401 Unauthorized")),
        ("fails", || Reply::new("500 Internal Server Error")),
        ("redirects", || Reply::redirect("302 Found", "/token")),
        ("is a web page", || Reply::ok("<html>log in</html>")),
        ("is empty", || Reply::ok("{}")),
        ("breaks off", || Reply::ok("{}").header("Content-Length", "99")),
        ("is endless", || Reply::endless("200 OK")),
        ("cannot be sent in a header", || Reply::ok(r#"{"token":"good\r\nX-Evil: 1"}"#)),
    ];
    for (what, answer) in answers {
        let registry = with_token_service(move |_| answer()).await;
        let failed = manifest(&client(&registry)).await;
        assert!(matches!(failed, Err(FetchError::Failed(Failure::Token(_)))), "{what}: {failed:?}");
        assert_eq!(token_requests(&registry).len(), 1, "{what}: {:?}", registry.asked());
    }
}

#[tokio::test]
async fn a_token_service_that_hangs_costs_no_more_than_the_answer_may_take() {
    for hung in [Reply::nothing().hanging(), Reply::ok("{").header("Content-Length", "99").hanging()] {
        let registry = with_token_service(move |_| hung.clone()).await;
        let failed = tokio::time::timeout(PATIENT, manifest(&impatient(&registry))).await;
        let failed = failed.expect("ends by itself");
        assert!(matches!(failed, Err(FetchError::Failed(_) | FetchError::Silent(_))), "{failed:?}");
    }
}

#[tokio::test]
async fn a_token_may_live_longer_than_a_clock_can_count() {
    let registry =
        with_token_service(|_| Reply::ok(format!(r#"{{"token":"good","expires_in":{}}}"#, u64::MAX))).await;
    let client = client(&registry);
    manifest(&client).await.expect("served");
    manifest(&client).await.expect("served");
    assert_eq!(token_requests(&registry).len(), 1);
}

#[tokio::test]
async fn a_realm_that_is_no_token_service_is_a_failure_and_nobody_is_told_the_password() {
    for realm in ["", "token", "ftp://127.0.0.1/token", "mailto:harbour", "file:///etc/passwd", "http://"] {
        let registry = Registry::start(move |_| challenge(realm)).await;
        let failed = manifest(&with_user(&registry)).await;
        let failed_well = matches!(failed, Err(FetchError::Failed(Failure::Token(_) | Failure::Refused(_))));
        assert!(failed_well, "{realm:?}: {failed:?}");
        assert_eq!(registry.asked(), ["GET /v2/team/app/manifests/latest"], "{realm:?}");
    }
}

#[tokio::test]
async fn a_registry_without_tls_may_name_a_token_service_elsewhere() {
    let service = Registry::start(|_| Reply::ok(r#"{"token":"good"}"#)).await;
    let realm = format!("http://{}/auth?fixed=1", service.address);
    let registry = Registry::start(move |request| match request.header("authorization") {
        Some("Bearer good") => Reply::ok(MANIFEST),
        _ => challenge(&realm),
    })
    .await;
    manifest(&with_user(&registry)).await.expect("served");
    let [asked] = &service.requests()[..] else { panic!("asked once") };
    assert_eq!(asked.header("authorization"), Some(BASIC));
    assert_eq!(asked.parameter("fixed").as_deref(), Some("1"), "{}", asked.target);
    assert!(registry.requests().iter().all(|request| request.header("authorization") != Some(BASIC)));
}
