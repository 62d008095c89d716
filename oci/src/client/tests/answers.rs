//! The three kinds of answer: *said no*, *failed*, *silent*. Only a registry's own document is a no.

use http::StatusCode;

use super::*;

/// What a registry that gives `reply` to everything is understood to have said about a manifest, a blob and a listing.
async fn understood(reply: Reply) -> [FetchError; 3] {
    let registry = Registry::start(move |_| reply.clone()).await;
    let client = client(&registry);
    let listing = client.listing(&repository(), "tags/list", Some("n=2"), PATIENT).await;
    [
        manifest(&client).await.expect_err("no manifest"),
        blob(&client, 0).await.expect_err("no blob"),
        listing.expect_err("no listing"),
    ]
}

#[tokio::test]
async fn a_404_with_a_registrys_document_is_a_no() {
    for code in ["MANIFEST_UNKNOWN", "BLOB_UNKNOWN", "NAME_UNKNOWN", "NOT_FOUND"] {
        for error in understood(Reply::error("404 Not Found", code)).await {
            assert!(matches!(error, FetchError::SaidNo), "{code}: {error:?}");
        }
    }
}

#[tokio::test]
async fn any_other_404_is_a_failure() {
    let page =
        Reply::new("404 Not Found").header("Content-Type", "text/html").body("<html>no such page</html>");
    let others = [
        page,
        Reply::new("404 Not Found"),
        Reply::error("404 Not Found", "UNAUTHORIZED"),
        Reply::new("404 Not Found").body(r#"{"errors":[]}"#),
        Reply::new("404 Not Found").body(r#"{"errors":{"code":"NAME_UNKNOWN"}}"#),
        Reply::new("404 Not Found").body(r#"["MANIFEST_UNKNOWN"]"#),
        Reply::error("404 Not Found", "NAME_UNKNOWN").header("Content-Length", "4000"),
        Reply::new("404 Not Found").body("[".repeat(100_000)),
        Reply::endless("404 Not Found"),
    ];
    for reply in others {
        let shown = format!("{reply:.200?}");
        for error in understood(reply).await {
            let FetchError::Failed(Failure::Status(status)) = error else { panic!("{shown}: {error:?}") };
            assert_eq!(status, StatusCode::NOT_FOUND);
        }
    }
}

#[tokio::test]
async fn a_404_to_a_head_is_believed_only_when_a_get_confirms_it() {
    let known = Registry::start(|request| match request.method.as_str() {
        "HEAD" => Reply::new("404 Not Found"),
        _ => Reply::ok(MANIFEST),
    })
    .await;
    let head = client(&known).head_manifest(&repository(), &latest(), PATIENT).await;
    assert_eq!(head.expect("known after all"), None);
    let unknown = Registry::start(|_| Reply::error("404 Not Found", "MANIFEST_UNKNOWN")).await;
    let client_of_unknown = client(&unknown);
    let head = client_of_unknown.head_manifest(&repository(), &latest(), PATIENT).await;
    assert!(matches!(head, Err(FetchError::SaidNo)), "{head:?}");
    let head = client_of_unknown.head_blob(&repository(), &Digest::sha256(b"blob")).await;
    assert!(matches!(head, Err(FetchError::SaidNo)), "{head:?}");
    let page = Registry::start(|_| Reply::new("404 Not Found").body("<html>")).await;
    let head = client(&page).head_manifest(&repository(), &latest(), PATIENT).await;
    assert!(matches!(head, Err(FetchError::Failed(Failure::Status(_)))), "{head:?}");
    let head = client(&page).has_blob(&repository(), &Digest::sha256(b"blob")).await;
    assert!(matches!(head, Err(FetchError::Failed(Failure::Status(_)))), "{head:?}");
}

#[tokio::test]
async fn a_head_tells_the_digest_or_nothing() {
    let digest = Digest::sha256(MANIFEST);
    for (told, expected) in [(digest.as_str().to_owned(), Some(digest.clone())), ("sha256:x".into(), None)] {
        let registry = Registry::start(move |_| {
            Reply::new("200 OK").header("Docker-Content-Digest", &told).header("Content-Length", "77")
        })
        .await;
        let head = client(&registry).head_manifest(&repository(), &latest(), PATIENT).await;
        assert_eq!(head.expect("answered").map(|head| head.digest), expected);
    }
}

#[tokio::test]
async fn access_refused_is_a_failure() {
    for status in ["401 Unauthorized", "403 Forbidden"] {
        // A refusal may carry the code of a no: it is none all the same.
        for error in understood(Reply::error(status, "NAME_UNKNOWN")).await {
            let FetchError::Failed(Failure::Refused(told)) = error else { panic!("{status}: {error:?}") };
            assert!(status.starts_with(told.as_str()));
        }
    }
}

#[tokio::test]
async fn a_rate_limit_tells_when_to_ask_again() {
    for (header, expected) in [
        (Some("7"), Some(Duration::from_secs(7))),
        (Some("soon"), None),
        (Some("-1"), None),
        (Some("99999999999999999999999"), None),
        (None, None),
    ] {
        let reply = Reply::error("429 Too Many Requests", "TOOMANYREQUESTS");
        let reply = header.iter().fold(reply, |reply, seconds| reply.header("Retry-After", seconds));
        for error in understood(reply).await {
            let FetchError::Failed(Failure::RateLimited { retry_after }) = error else { panic!("{error:?}") };
            assert_eq!(retry_after, expected, "{header:?}");
        }
    }
}

#[tokio::test]
async fn any_other_status_is_a_failure() {
    for status in [
        "500 Internal Server Error",
        "502 Bad Gateway",
        "503 Service Unavailable",
        "400 Bad Request",
        "410 Gone",
        "405 Method Not Allowed",
        "204 No Content",
        "201 Created",
        "418 Teapot",
        "599 Whatever",
    ] {
        let body =
            if status.starts_with("204") { Reply::new(status) } else { Reply::error(status, "NAME_UNKNOWN") };
        for error in understood(body).await {
            let FetchError::Failed(Failure::Status(told)) = error else { panic!("{status}: {error:?}") };
            assert!(status.starts_with(told.as_str()));
        }
    }
}

#[tokio::test]
async fn no_answer_is_silence() {
    for reply in [
        Reply::nothing(),
        Reply::raw("HTTP/1.1 200 OK\r\nContent-Le"),
        Reply::raw("SSH-2.0-OpenSSH_9.9\r\n"),
        Reply::raw("HTTP/1.1 404 Not Found\r\nContent-Length: nonsense\r\n\r\n"),
        Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nblob"),
        Reply::raw("HTTP/1.1 200 OK\r\n").repeating(b"X-Endless: header\r\n"),
        Reply::raw("HTTP/1.1 200 OK\r\nX-Endless: ")
            .repeating(b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
    ] {
        let shown = format!("{reply:?}");
        for error in understood(reply).await {
            assert!(matches!(error, FetchError::Silent(Silence::Unreachable(_))), "{shown}: {error:?}");
        }
    }
}

#[tokio::test]
async fn a_registry_that_hangs_is_silent_after_the_time_it_was_given() {
    for reply in [
        Reply::nothing().hanging(),
        Reply::raw("HTTP/1.1 200 OK\r\nContent-Le").hanging(),
        Reply::raw("").repeating(b"HTTP/1.1 100 Continue\r\n\r\n"),
    ] {
        let shown = format!("{reply:?}");
        let registry = Registry::start(move |_| reply.clone()).await;
        let (client, repository, latest) = (client(&registry), repository(), latest());
        let head = client.head_manifest(&repository, &latest, IMPATIENT);
        let head = tokio::time::timeout(PATIENT, head).await.expect("ends by itself");
        assert!(matches!(head, Err(FetchError::Silent(_))), "{shown}: {head:?}");
        let blob =
            tokio::time::timeout(PATIENT, blob(&impatient(&registry), 0)).await.expect("ends by itself");
        assert!(matches!(blob, Err(FetchError::Silent(_))), "{shown}: {blob:?}");
    }
}

#[tokio::test]
async fn nobody_at_the_address_is_silence_and_the_message_says_so() {
    let registry = Registry::start(|_| Reply::nothing()).await;
    let client = client(&registry);
    drop(registry);
    // The listener goes with its task, which ends at its next turn.
    while let Err(FetchError::Silent(Silence::Unreachable(why))) = manifest(&client).await {
        if why.to_lowercase().contains("refused") {
            return;
        }
    }
    panic!("somebody answered");
}

#[tokio::test]
async fn a_host_that_takes_no_connection_is_left_in_time() {
    // With the queue full the kernel lets further connections wait, as a firewall that drops packets does.
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind((std::net::Ipv4Addr::LOCALHOST, 0).into()).expect("bound");
    let listener = socket.listen(0).expect("listening");
    let address = listener.local_addr().expect("bound");
    let mut queued = Vec::new();
    while let Ok(stream) = tokio::time::timeout(IMPATIENT, tokio::net::TcpStream::connect(address)).await {
        queued.push(stream.expect("queued"));
        assert!(queued.len() < 100, "the queue has no end");
    }
    let url = format!("http://{address}").parse().expect("a URL");
    let config =
        ClientConfig { connect_timeout: IMPATIENT, answer_timeout: PATIENT, ..ClientConfig::new(url) };
    let client = Client::new(config).expect("the URL is one");
    let failed = tokio::time::timeout(PATIENT / 2, manifest(&client)).await.expect("ends by itself");
    assert!(matches!(failed, Err(FetchError::Silent(Silence::NoConnection(_)))), "{failed:?}");
}

#[tokio::test]
async fn a_listing_comes_with_its_headers_as_it_is() {
    let registry = Registry::start(|_| {
        Reply::ok(r#"{"name":"team/app","tags":["a"]}"#).header("Link", "</v2/x>; rel=\"next\"")
    })
    .await;
    let (headers, bytes) =
        client(&registry).listing(&repository(), "tags/list", Some("n=1"), PATIENT).await.expect("listed");
    assert_eq!(headers.get("link").expect("kept"), "</v2/x>; rel=\"next\"");
    assert_eq!(&bytes[..], br#"{"name":"team/app","tags":["a"]}"#);
    assert_eq!(registry.asked(), ["GET /v2/team/app/tags/list?n=1"]);
}
