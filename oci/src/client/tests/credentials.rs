//! Secrets that are exchanged while the client runs, refresh tokens, client certificates, and many requests that need one
//! token.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU32, Ordering},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};

use super::{super::ClientIdentity, redirects::LOCALHOST, *};

fn bearer(host: &str) -> Reply {
    let value = format!(r#"Bearer realm="http://{host}/token",service="reg.example""#);
    Reply::error("401 Unauthorized", "UNAUTHORIZED").header("WWW-Authenticate", &value)
}

fn basic(password: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("ship:{password}")))
}

fn with(registry: &Registry, credentials: Credentials) -> Client {
    Client::new(ClientConfig { credentials: Some(credentials), ..config(registry) }).expect("the URL is one")
}

fn refresh(token: Secret) -> Credentials {
    Credentials::RefreshToken { username: None, token }
}

fn form(request: &Request, name: &str) -> Option<String> {
    let mut pairs = url::form_urlencoded::parse(request.body.as_bytes());
    pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

#[tokio::test]
async fn a_password_file_that_changes_is_read_again_after_a_401() {
    let password = Arc::new(Mutex::new("first".to_owned()));
    let current = password.clone();
    let registry = Registry::start(move |request| {
        let right = basic(&current.lock().expect("no panic"));
        match request.header("authorization") {
            Some(sent) if sent == right => Reply::ok(MANIFEST),
            _ => Reply::new("401 Unauthorized").header("WWW-Authenticate", "Basic realm=\"registry\""),
        }
    })
    .await;
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("password");
    std::fs::write(&file, "first\n").expect("written");
    let client = with(
        &registry,
        Credentials::Password { username: "ship".into(), password: Secret::File(file.clone()) },
    );
    manifest(&client).await.expect("served");
    manifest(&client).await.expect("served");
    *password.lock().expect("no panic") = "second".into();
    let refused = manifest(&client).await;
    assert!(matches!(refused, Err(FetchError::Failed(Failure::Refused(_)))), "{refused:?}");
    std::fs::write(&file, "second\n").expect("written");
    manifest(&client).await.expect("served with the new password");
    let asked = registry.requests().len();
    manifest(&client).await.expect("served");
    assert_eq!(registry.requests().len(), asked + 1, "and from then on at once");
    std::fs::remove_file(&file).expect("removed");
    *password.lock().expect("no panic") = "third".into();
    let failed = manifest(&client).await;
    let Err(FetchError::Failed(Failure::Credentials(why))) = failed else { panic!("{failed:?}") };
    assert!(why.contains("password") && !why.contains("second"), "{why}");
}

#[tokio::test]
async fn a_token_service_is_shown_the_password_of_the_moment() {
    let registry = Registry::start(|request| {
        if request.target.starts_with("/token") {
            let shown = request.header("authorization").unwrap_or_default().replace("Basic ", "");
            return Reply::ok(format!(r#"{{"token":"{shown}","expires_in":1}}"#));
        }
        match request.header("authorization") {
            Some(sent) if sent.starts_with("Bearer ") => Reply::ok(MANIFEST),
            _ => bearer(request.host()),
        }
    })
    .await;
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("password");
    let client = with(
        &registry,
        Credentials::Password { username: "ship".into(), password: Secret::File(file.clone()) },
    );
    for password in ["first", "second"] {
        std::fs::write(&file, password).expect("written");
        manifest(&client).await.expect("served");
        let shown = registry.requests().iter().rev().find_map(|request| {
            request
                .target
                .starts_with("/token")
                .then(|| request.header("authorization").map(str::to_owned))?
        });
        assert_eq!(shown, Some(basic(password)));
    }
}

#[tokio::test]
async fn a_refresh_token_is_posted_and_the_one_given_in_exchange_is_used_from_then_on() {
    let given = Arc::new(AtomicU32::new(0));
    let counted = given.clone();
    let registry = Registry::start(move |request| {
        if request.target.starts_with("/token") {
            let number = counted.fetch_add(1, Ordering::Relaxed) + 1;
            return Reply::ok(format!(
                r#"{{"access_token":"good-{number}","expires_in":1,"refresh_token":"rotated-{number}"}}"#
            ));
        }
        match request.header("authorization") {
            Some(sent) if sent.starts_with("Bearer good") => Reply::ok(MANIFEST),
            _ => bearer(request.host()),
        }
    })
    .await;
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("token");
    std::fs::write(&file, "configured\n").expect("written");
    let client = with(&registry, refresh(Secret::File(file.clone())));
    manifest(&client).await.expect("served");
    manifest(&client).await.expect("served");
    std::fs::write(&file, "exchanged by hand\n").expect("written");
    manifest(&client).await.expect("served");
    let requests = registry.requests();
    let posts: Vec<_> = requests.iter().filter(|request| request.target.starts_with("/token")).collect();
    let tokens: Vec<_> = posts.iter().filter_map(|post| form(post, "refresh_token")).collect();
    assert_eq!(tokens, ["configured", "rotated-1", "exchanged by hand"]);
    let first = posts[0];
    assert_eq!((first.method.as_str(), first.header("authorization")), ("POST", None));
    assert_eq!(first.header("content-type"), Some("application/x-www-form-urlencoded"));
    for (name, value) in [
        ("grant_type", "refresh_token"),
        ("service", "reg.example"),
        ("scope", "repository:team/app:pull"),
        ("client_id", "roadstead"),
    ] {
        assert_eq!(form(first, name).as_deref(), Some(value), "{name}");
    }
    assert!(!first.target.contains("configured"), "no secret in a URL: {}", first.target);
}

#[tokio::test]
async fn a_service_that_knows_no_post_gets_the_refresh_token_as_a_password() {
    for status in ["404 Not Found", "405 Method Not Allowed", "401 Unauthorized"] {
        let registry = Registry::start(move |request| {
            if request.target.starts_with("/token") {
                let expected = format!("Basic {}", BASE64_STANDARD.encode("<token>:configured"));
                return match (request.method.as_str(), request.header("authorization")) {
                    ("GET", Some(sent)) if sent == expected => Reply::ok(r#"{"token":"good"}"#),
                    _ => Reply::new(status),
                };
            }
            match request.header("authorization") {
                Some("Bearer good") => Reply::ok(MANIFEST),
                _ => bearer(request.host()),
            }
        })
        .await;
        let client = with(&registry, refresh(Secret::Given("configured".into())));
        manifest(&client).await.unwrap_or_else(|error| panic!("{status}: {error}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_requests_that_need_one_token_ask_for_it_once() {
    let registry = Registry::start(|request| {
        if request.target.starts_with("/token") {
            // Long enough for all to be waiting.
            std::thread::park_timeout(Duration::from_millis(300));
            return Reply::ok(r#"{"token":"good","expires_in":300}"#);
        }
        match request.header("authorization") {
            Some("Bearer good") => Reply::ok(MANIFEST),
            _ => bearer(request.host()),
        }
    })
    .await;
    let client = client(&registry);
    let pulls = (0..50).map(|_| {
        let client = client.clone();
        tokio::spawn(async move { manifest(&client).await })
    });
    for pull in futures_util::future::join_all(pulls).await {
        pull.expect("no panic").expect("served");
    }
    let tokens = registry.asked().iter().filter(|asked| asked.contains("/token")).count();
    assert_eq!(tokens, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_request_that_gives_up_does_not_take_the_token_from_the_others() {
    let registry = Registry::start(|request| {
        if request.target.starts_with("/token") {
            std::thread::park_timeout(Duration::from_millis(500));
            return Reply::ok(r#"{"token":"good","expires_in":300}"#);
        }
        match request.header("authorization") {
            Some("Bearer good") => Reply::ok(MANIFEST),
            _ => bearer(request.host()),
        }
    })
    .await;
    let client = client(&registry);
    let leader = client.clone();
    let hasty = tokio::spawn(async move {
        tokio::time::timeout(Duration::from_millis(200), manifest(&leader)).await.is_err()
    });
    while !registry.asked().iter().any(|asked| asked.contains("/token")) {
        tokio::task::yield_now().await;
    }
    manifest(&client).await.expect("served");
    assert!(hasty.await.expect("no panic"), "it gave up");
    assert_eq!(registry.asked().iter().filter(|asked| asked.contains("/token")).count(), 1);
}

#[tokio::test]
async fn a_rate_limited_token_service_is_a_rate_limit() {
    let registry = Registry::start(|request| {
        if request.target.starts_with("/token") {
            return Reply::new("429 Too Many Requests").header("Retry-After", "9").body("");
        }
        bearer(request.host())
    })
    .await;
    let failed = manifest(&client(&registry)).await;
    let Err(FetchError::Failed(Failure::RateLimited { retry_after })) = failed else { panic!("{failed:?}") };
    assert_eq!(retry_after, Some(Duration::from_secs(9)));
}

#[tokio::test]
async fn what_the_registry_tells_of_its_rate_limit_is_remembered() {
    let registry = Registry::start(|request| {
        let reply = Reply::ok(MANIFEST);
        match request.target.contains("/blobs/") {
            true => reply,
            false => {
                reply.header("RateLimit-Limit", "100;w=21600").header("ratelimit-remaining", "42;w=21600")
            }
        }
    })
    .await;
    let client = client(&registry);
    assert_eq!(client.rate_limit(), None);
    manifest(&client).await.expect("served");
    blob(&client, 0).await.expect("served");
    let told = client.rate_limit().expect("told");
    assert_eq!((told.limit, told.remaining), (Some(100), Some(42)));
    assert_eq!(told.window, Some(Duration::from_secs(21_600)));
}

#[tokio::test]
async fn a_client_certificate_is_shown_to_a_registry_that_asks_for_one() {
    let registry =
        Registry::with_tls(super::redirects::asking_for_a_certificate(), |_| Reply::ok(MANIFEST)).await;
    let trusting = ClientConfig { extra_roots: LOCALHOST.to_vec(), ..config(&registry) };
    let nobody = Client::new(trusting.clone()).expect("the root is good");
    assert!(manifest(&nobody).await.is_err(), "it lets nobody in without");
    let identity = ClientIdentity { certificates: LOCALHOST.to_vec(), key: LOCALHOST.to_vec() };
    let somebody = Client::new(ClientConfig { identity: Some(identity), ..trusting.clone() });
    manifest(&somebody.expect("the certificate and its key belong together")).await.expect("served");
    for (certificates, key) in [(&b""[..], LOCALHOST), (LOCALHOST, b""), (b"-----BEGIN", LOCALHOST)] {
        let identity = ClientIdentity { certificates: certificates.to_vec(), key: key.to_vec() };
        assert!(Client::new(ClientConfig { identity: Some(identity), ..trusting.clone() }).is_err());
    }
}
