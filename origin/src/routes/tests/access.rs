//! The matrix: every kind of caller at every kind of project with every operation, the verdicts written down once.

use gossip::access::ContentAction;

use super::{
    guarded::{Guarded, NEAR, PASSWORD, Show},
    *,
};

/// What is done in a repository, and by what right. Where it is allowed nothing is changed by it, so that the order of the
/// callers does not matter.
fn operations(repository: &str) -> Vec<(&'static str, String, ContentAction)> {
    use ContentAction::{Delete, Pull, Push};
    let (layer, none) = (Digest::sha256(b"layer"), Digest::sha256(b"never pushed"));
    let at = |rest: &str| format!("/v2/{repository}/{rest}");
    vec![
        ("GET", at("tags/list"), Pull),
        ("HEAD", at("tags/list"), Pull),
        ("GET", at(&format!("referrers/{none}")), Pull),
        ("GET", at("manifests/v1"), Pull),
        ("HEAD", at("manifests/v1"), Pull),
        ("GET", at(&format!("blobs/{layer}")), Pull),
        ("HEAD", at(&format!("blobs/{layer}")), Pull),
        ("PUT", at("manifests/v2"), Push),
        ("POST", at("blobs/uploads/"), Push),
        ("GET", at("blobs/uploads/none"), Push),
        ("HEAD", at("blobs/uploads/none"), Push),
        ("PATCH", at("blobs/uploads/none"), Push),
        ("PUT", at(&format!("blobs/uploads/none?digest={none}")), Push),
        ("DELETE", at("blobs/uploads/none"), Push),
        ("DELETE", at("manifests/none"), Delete),
        ("DELETE", at(&format!("manifests/{none}")), Delete),
        ("DELETE", at(&format!("blobs/{none}")), Delete),
    ]
}

/// `+` let in, `1` 401, `3` 403, `4` told that there is no such project.
fn letter(answer: &Answer) -> char {
    let code =
        || serde_json::from_slice::<Value>(&answer.body).unwrap_or_default()["errors"][0]["code"].clone();
    match answer.status {
        401 => {
            let challenge = answer.header("www-authenticate");
            assert!(
                challenge.starts_with("Bearer realm=\"http://registry.example:5000/token\""),
                "{challenge}"
            );
            '1'
        }
        403 => '3',
        404 if code() == "NAME_UNKNOWN" => '4',
        _ => '+',
    }
}

/// For each caller: pull, push and delete at the private, the public and the missing project; with what they know, and
/// with a token.
const VERDICTS: [(&str, [&str; 3], [&str; 3]); 13] = [
    ("", ["111", "111", "111"], ["111", "+11", "111"]),
    ("admin", ["+++", "+++", "444"], ["+++", "+++", "444"]),
    ("auditor", ["333", "+33", "444"], ["333", "+33", "444"]),
    ("guest", ["+33", "+33", "333"], ["+33", "+33", "333"]),
    ("developer", ["++3", "++3", "333"], ["++3", "++3", "333"]),
    ("maintainer", ["+++", "+++", "333"], ["+++", "+++", "333"]),
    ("owner", ["+++", "+++", "333"], ["+++", "+++", "333"]),
    ("outsider", ["333", "+33", "333"], ["333", "+33", "333"]),
    ("team+all", ["+++", "+33", "333"], ["+++", "+33", "333"]),
    ("team+push", ["3+3", "+33", "333"], ["3+3", "+33", "333"]),
    ("open+all", ["333", "+++", "333"], ["333", "+++", "333"]),
    ("system+pull", ["+33", "+33", "444"], ["+33", "+33", "444"]),
    ("disabled", ["111", "111", "111"], ["", "", ""]),
];

#[tokio::test]
async fn the_matrix_of_callers_projects_and_routes() {
    let site = Guarded::new().await;
    let projects = ["team", "open", "missing"];
    let mut seen = 0;
    for (name, with_secret, with_token) in VERDICTS {
        let secret = if name.is_empty() { Show::Nothing } else { site.basic(name) };
        let mut shows = vec![(secret.clone(), with_secret)];
        if !with_token[0].is_empty() {
            shows.push((site.token(&secret, &projects).await, with_token));
        }
        for (show, expected) in shows {
            let mut refusals = Vec::new();
            for (project, expected) in projects.into_iter().zip(expected) {
                let mut refused = Vec::new();
                for (method, path, action) in operations(&format!("{project}/app")) {
                    // A disabled user's password is taken for a guess; from elsewhere each time, it is not slowed.
                    let from = if name == "disabled" {
                        [192, 0, 2, u8::try_from(seen % 200).expect("small")]
                    } else {
                        NEAR
                    };
                    let answer = site.ask_from(from, method, &path, &show, b"").await;
                    let place = ContentAction::ALL.iter().position(|known| *known == action).expect("known");
                    let letters: Vec<char> = expected.chars().collect();
                    // Whether something is there may be asked by who pushes as well.
                    let asks =
                        method == "HEAD" && (path.contains("/manifests/") || path.contains("/blobs/sha256"));
                    let wanted = if asks && letters[1] == '+' { '+' } else { letters[place] };
                    let what = format!("{name} {show:.10?} {method} {path}: {answer:?}");
                    // A HEAD's answer has no document.
                    let found = if method == "HEAD" && wanted == '4' && answer.status == 404 {
                        '4'
                    } else {
                        letter(&answer)
                    };
                    assert_eq!(found, wanted, "{what}");
                    let body = String::from_utf8_lossy(&answer.body).replace(project, "X");
                    let challenge = answer.header("www-authenticate").replace(project, "X");
                    refused.push((answer.status, body, challenge));
                    seen += 1;
                }
                refusals.push(refused);
            }
            if expected[0] == expected[2] {
                assert_eq!(refusals[0], refusals[2], "{name}: a private project and none look the same");
            }
        }
    }
    assert_eq!(seen, (VERDICTS.len() * 2 - 1) * 3 * operations("x").len());
}

#[tokio::test]
async fn who_shows_nothing_learns_where_tokens_are_had_and_a_wrong_secret_is_refused() {
    let site = Guarded::new().await;
    let version = site.ask("GET", "/v2/", &Show::Nothing, b"").await;
    assert_eq!((version.status, version.code().as_str()), (401, "UNAUTHORIZED"));
    assert_eq!(
        version.header("www-authenticate"),
        r#"Bearer realm="http://registry.example:5000/token",service="roadstead""#
    );
    let push = site.ask("POST", "/v2/team/app/blobs/uploads/", &Show::Nothing, b"").await;
    assert!(push.header("www-authenticate").contains(r#"scope="repository:team/app:pull,push""#));
    for show in [
        Show::Basic("guest".into(), "wrong".into()),
        Show::Basic("team+all".into(), "wrong".into()),
        Show::Basic("nobody".into(), PASSWORD.into()),
        Show::Bearer("a.b.c".into()),
        Show::Bearer(String::new()),
    ] {
        assert_eq!(site.ask("GET", "/v2/", &show, b"").await.status, 401, "{show:?}");
        assert_eq!(site.ask("GET", "/v2/open/app/manifests/v1", &show, b"").await.status, 401, "{show:?}");
        assert_eq!(site.ask("GET", "/token", &show, b"").await.status, 401, "{show:?}");
    }
    let invalid = site.ask("GET", "/v2/", &Show::Bearer("a.b.c".into()), b"").await;
    assert!(invalid.header("www-authenticate").contains(r#"error="invalid_token""#));
    for show in [site.basic("guest"), site.token(&Show::Nothing, &[]).await] {
        let version = site.ask("GET", "/v2/", &show, b"").await;
        assert_eq!((version.status, &version.body[..]), (200, &b"{}"[..]));
    }
    let options = site.ask("OPTIONS", "/v2/team/app/manifests/v1", &Show::Nothing, b"").await;
    assert_eq!(options.status, 405);
}

#[tokio::test]
async fn the_address_of_the_token_service_is_the_one_that_clients_can_reach() {
    for (scheme, forwarded, expected) in
        [(Scheme::Http, "http", "http"), (Scheme::Http, "https", "https"), (Scheme::Https, "http", "https")]
    {
        let site = Guarded::speaking(scheme).await;
        let headers = [("host", "registry.example:5000"), ("x-forwarded-proto", forwarded)];
        let answer = send(&site.origin, "GET", "/v2/", &headers, b"").await;
        let realm = format!(r#"Bearer realm="{expected}://registry.example:5000/token""#);
        assert!(answer.header("www-authenticate").starts_with(&realm), "{answer:?}");
    }
    let site = Guarded::new().await;
    for host in ["a\"b", "a b", ""] {
        let answer = send(&site.origin, "GET", "/v2/", &[("host", host)], b"").await;
        assert!(answer.header("www-authenticate").contains("http://localhost/token"), "{host}");
    }
}

#[tokio::test]
async fn a_token_is_for_its_repository_and_its_actions_only() {
    let site = Guarded::new().await;
    let ask = async |path: &str, show: &Show| site.ask("GET", path, show, b"").await;
    let answer = ask("/token?scope=repository:team/app:pull", &site.basic("owner")).await;
    let document: Value = serde_json::from_slice(&answer.body).expect("JSON");
    let token = Show::Bearer(document["token"].as_str().expect("a token").to_owned());
    assert_eq!(ask("/v2/team/app/manifests/v1", &token).await.status, 200);
    for (method, path) in [
        ("GET", "/v2/open/app/manifests/v1"),
        ("GET", "/v2/team/app2/tags/list"),
        ("GET", "/v2/_catalog"),
        ("POST", "/v2/team/app/blobs/uploads/"),
        ("DELETE", "/v2/team/app/manifests/v1"),
    ] {
        let refused = site.ask(method, path, &token, b"").await;
        assert_eq!(refused.status, 401, "{method} {path}");
        assert!(refused.header("www-authenticate").contains(r#"error="insufficient_scope""#), "{refused:?}");
    }
    let wrong = ask("/token?service=other&scope=repository:team/app:pull", &site.basic("owner")).await;
    assert_eq!(wrong.status, 400);
}

#[tokio::test]
async fn the_catalog_shows_what_its_reader_may_pull() {
    let site = Guarded::new().await;
    for (name, expected) in [
        ("", &["open/app"][..]),
        ("admin", &["open/app", "team/app"]),
        ("auditor", &["open/app"]),
        ("guest", &["open/app", "team/app"]),
        ("outsider", &["open/app"]),
        ("team+all", &["open/app", "team/app"]),
        ("team+push", &["open/app"]),
        ("open+all", &["open/app"]),
        ("system+pull", &["open/app", "team/app"]),
    ] {
        let secret = if name.is_empty() { Show::Nothing } else { site.basic(name) };
        for show in [secret.clone(), site.token(&secret, &[]).await] {
            let answer = site.ask("GET", "/v2/_catalog", &show, b"").await;
            if matches!(show, Show::Nothing) {
                assert_eq!(answer.status, 401);
                continue;
            }
            let document: Value = serde_json::from_slice(&answer.body).expect("JSON");
            assert_eq!(document, json!({"repositories": expected}), "{name}");
        }
    }
}

#[tokio::test]
async fn a_blob_is_mounted_only_from_where_it_may_be_pulled() {
    let site = Guarded::new().await;
    let layer = Digest::sha256(b"layer");
    let mount = async |show: &Show, query: &str| {
        site.ask("POST", &format!("/v2/open/new/blobs/uploads/?mount={layer}{query}"), show, b"").await.status
    };
    let robot = site.basic("open+all");
    assert_eq!(mount(&robot, "&from=team/app").await, 202, "it may not pull there");
    assert_eq!(mount(&robot, "").await, 202, "nor anywhere that it does not name");
    let there = format!("/v2/open/new/blobs/{layer}");
    assert_eq!(site.ask("HEAD", &there, &robot, b"").await.status, 404);
    assert_eq!(mount(&robot, "&from=open/app").await, 201);
    assert_eq!(site.ask("GET", &there, &robot, b"").await.body, "layer");
    assert_eq!(mount(&site.basic("owner"), "&from=team/app").await, 201);
    // A token has to be for both.
    let narrow = "/token?scope=repository:open/new:pull,push";
    let wide = format!("{narrow}&scope=repository:team/app:pull");
    for (path, status) in [(narrow, 202), (&wide, 201)] {
        let answer = site.ask("GET", path, &site.basic("owner"), b"").await;
        let document: Value = serde_json::from_slice(&answer.body).expect("JSON");
        let token = Show::Bearer(document["token"].as_str().expect("a token").to_owned());
        assert_eq!(mount(&token, "&from=team/app").await, status, "{path}");
    }
}

#[tokio::test]
async fn a_robots_networks_bind_its_secret_and_its_tokens() {
    let site = Guarded::new().await;
    let (far, robot) = ([192, 0, 2, 9], site.basic("team+far"));
    let path = "/v2/team/app/manifests/v1";
    assert_eq!(site.ask_from(far, "GET", path, &robot, b"").await.status, 200);
    assert_eq!(site.ask("GET", path, &robot, b"").await.status, 403);
    assert_eq!(site.ask("GET", "/v2/", &robot, b"").await.status, 403);
    assert_eq!(site.ask("GET", "/v2/open/app/manifests/v1", &robot, b"").await.status, 403);
    let wanted = "/token?scope=repository:team/app:pull";
    assert_eq!(site.ask("GET", wanted, &robot, b"").await.status, 403);
    let answer = site.ask_from(far, "GET", wanted, &robot, b"").await;
    let document: Value = serde_json::from_slice(&answer.body).expect("JSON");
    let token = Show::Bearer(document["token"].as_str().expect("a token").to_owned());
    assert_eq!(site.ask_from(far, "GET", path, &token, b"").await.status, 200);
    assert_eq!(site.ask("GET", path, &token, b"").await.status, 403, "a stolen token is worth nothing here");
}

#[tokio::test]
async fn a_push_to_no_project_names_the_command_that_makes_it() {
    let site = Guarded::new().await;
    for name in ["admin", "developer", "team+all"] {
        let refused = site.ask("POST", "/v2/missing/app/blobs/uploads/", &site.basic(name), b"").await;
        let text = String::from_utf8_lossy(&refused.body).into_owned();
        assert!(text.contains("roadstead project create missing"), "{name}: {text}");
    }
    assert!(
        site.origin
            .registry
            .database
            .project(&"missing".parse().expect("a name"))
            .await
            .expect("answered")
            .is_none()
    );
}

#[tokio::test]
async fn clients_get_tokens_by_password_and_keep_one_to_refresh_them() {
    let site = Guarded::new().await;
    let post = async |form: &str| site.ask("POST", "/token", &Show::Nothing, form.as_bytes()).await;
    let scope =
        "scope=repository:team/app:pull,push repository:open/app:pull&service=roadstead&client_id=test";
    let answer =
        post(&format!("grant_type=password&username=guest&password=a+password&access_type=offline&{scope}"))
            .await;
    assert_eq!((answer.status, answer.header("cache-control")), (200, "no-store"));
    let document: Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!(document["scope"], "repository:team/app:pull repository:open/app:pull");
    let refresh = document["refresh_token"].as_str().expect("asked for").to_owned();
    let again = post(&format!("grant_type=refresh_token&refresh_token={refresh}&{scope}")).await;
    assert_eq!(again.status, 200);
    let document: Value = serde_json::from_slice(&again.body).expect("JSON");
    assert_eq!(document["refresh_token"], refresh);
    let token = Show::Bearer(document["access_token"].as_str().expect("a token").to_owned());
    assert_eq!(site.ask("GET", "/v2/team/app/manifests/v1", &token, b"").await.status, 200);
    let offline = site.ask("GET", "/token?offline_token=true&account=guest", &site.basic("guest"), b"").await;
    assert!(String::from_utf8_lossy(&offline.body).contains("refresh_token"));
    let plain = site.ask("GET", "/token", &site.basic("guest"), b"").await;
    assert!(!String::from_utf8_lossy(&plain.body).contains("refresh_token"));
    for (form, status) in [
        ("grant_type=password&username=guest&password=wrong", 401),
        ("grant_type=password&username=guest", 400),
        ("grant_type=refresh_token&refresh_token=rst_none", 401),
        ("grant_type=magic", 400),
        ("", 400),
    ] {
        assert_eq!(post(form).await.status, status, "{form}");
    }
    assert_eq!(site.ask("PUT", "/token", &Show::Nothing, b"").await.header("allow"), "GET, POST");
    let jwks = site.ask("GET", "/.well-known/jwks.json", &Show::Nothing, b"").await;
    let document: Value = serde_json::from_slice(&jwks.body).expect("JSON");
    assert_eq!(document["keys"][0]["crv"], "Ed25519");
}

#[tokio::test]
async fn a_guesser_is_told_to_wait() {
    let site = Guarded::new().await;
    let wrong = Show::Basic("guest".into(), "wrong".into());
    for _ in 0..10 {
        assert_eq!(site.ask("GET", "/token", &wrong, b"").await.status, 401);
    }
    let later = site.ask("GET", "/token", &wrong, b"").await;
    assert_eq!((later.status, later.code().as_str()), (429, "TOOMANYREQUESTS"));
    assert!(later.header("retry-after").parse::<u32>().expect("seconds") >= 1);
    let elsewhere = site.ask_from([192, 0, 2, 1], "GET", "/token", &site.basic("guest"), b"").await;
    assert_eq!(elsewhere.status, 200);
}
