//! The API over a real database: who may do what with it, and what it says.

use std::collections::BTreeSet;

use http::Response;
use oci::http::{Body, Client, RequestBody, body::collect};
use serde_json::{Value, json};

use super::openapi::{OPERATIONS, description};
use crate::routes::tests::guarded::{Guarded, PASSWORD, Show};

/// An answer of the API, its document read.
#[derive(Debug)]
struct Told {
    status: u16,
    head: Response<()>,
    document: Value,
}

impl Told {
    fn header(&self, name: &str) -> &str {
        self.head.headers().get(name).map_or("", |value| value.to_str().expect("ASCII"))
    }

    fn names(&self) -> Vec<&str> {
        let entries = self.document.as_array().expect("a list");
        entries.iter().map(|entry| entry["name"].as_str().expect("a name")).collect()
    }
}

async fn call(
    site: &Guarded,
    who: &str,
    method: &str,
    path: &str,
    document: Option<Value>,
    if_match: Option<&str>,
) -> Told {
    let mut request = http::Request::builder().method(method).uri(format!("/api/v1/{path}"));
    request = request.header("host", "registry.example:5000");
    if let Some(authorization) = (if who.is_empty() { Show::Nothing } else { site.basic(who) }).header() {
        request = request.header("authorization", authorization);
    }
    if let Some(version) = if_match {
        request = request.header("if-match", version);
    }
    let body = match document {
        Some(document) => {
            request = request.header("content-type", "application/json");
            document.to_string()
        }
        None => String::new(),
    };
    let remote = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
    let request = request.extension(Client { remote, local: remote });
    let request = request.body(RequestBody::from(bytes::Bytes::from(body))).expect("a request");
    let (head, body): (_, Body) = site.origin.handle(request).await.into_parts();
    let body = collect(body, 1 << 20).await.expect("whole");
    let document = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).expect("JSON") };
    Told { status: head.status.as_u16(), head: Response::from_parts(head, ()), document }
}

async fn get(site: &Guarded, who: &str, path: &str) -> Told {
    call(site, who, "GET", path, None, None).await
}

async fn post(site: &Guarded, who: &str, path: &str, document: Value) -> Told {
    call(site, who, "POST", path, Some(document), None).await
}

async fn patch(site: &Guarded, who: &str, path: &str, document: Value) -> Told {
    call(site, who, "PATCH", path, Some(document), None).await
}

async fn delete(site: &Guarded, who: &str, path: &str) -> Told {
    call(site, who, "DELETE", path, None, None).await
}

#[tokio::test]
async fn what_is_described_is_served_and_asks_who_is_there() {
    let site = Guarded::new().await;
    let described = get(&site, "", "openapi.json").await;
    assert_eq!(described.status, 200);
    assert_eq!(described.document, description());
    assert_eq!(described.document["openapi"], "3.1.0");
    let mut ids = BTreeSet::new();
    for methods in described.document["paths"].as_object().expect("paths").values() {
        for operation in methods.as_object().expect("methods").values() {
            assert!(ids.insert(operation["operationId"].to_string()), "{operation}");
        }
    }
    let text = described.document.to_string();
    for reference in text.split("\"$ref\":\"#").skip(1) {
        let pointer = reference.split('"').next().expect("a pointer");
        assert!(described.document.pointer(pointer).is_some(), "{pointer} leads nowhere");
    }
    for operation in &OPERATIONS {
        let path = operation.path.replace("{project}", "team").replace("{name}", "nobody");
        let told = call(&site, "", operation.method, &path, Some(json!({})), None).await;
        let expected = if operation.path == "openapi.json" { 200 } else { 401 };
        assert_eq!(told.status, expected, "{} {path}", operation.method);
        // Known, it is looked at: nothing is answered as if there were no such path or method.
        let told = call(&site, "admin", operation.method, &path, Some(json!({})), None).await;
        assert_ne!(told.status, 405, "{} {path}", operation.method);
        assert!(!told.document.to_string().contains("there is nothing at"), "{} {path}", operation.method);
    }
    assert_eq!(get(&site, "admin", "nothing").await.status, 404);
    assert_eq!(call(&site, "admin", "PUT", "projects", None, None).await.header("allow"), "GET, POST");
    let challenged = get(&site, "", "projects").await;
    let schemes: Vec<_> = challenged.head.headers().get_all("www-authenticate").iter().collect();
    assert_eq!(schemes.len(), 2, "{schemes:?}");
    assert_eq!(challenged.header("content-type"), "application/problem+json");
}

#[tokio::test]
async fn projects_are_made_by_admins_and_changed_by_owners() {
    let site = Guarded::new().await;
    for who in ["owner", "auditor", "outsider", "system+pull"] {
        assert_eq!(post(&site, who, "projects", json!({"name": "new"})).await.status, 403, "{who}");
    }
    let made = post(&site, "admin", "projects", json!({"name": "new", "public": true})).await;
    assert_eq!((made.status, made.header("location")), (201, "/api/v1/projects/new"), "{made:?}");
    assert_eq!((&made.document["public"], &made.document["repositories"]), (&json!(true), &json!(0)));
    assert_eq!(post(&site, "admin", "projects", json!({"name": "new"})).await.status, 409);
    for bad in [
        json!({"name": "New"}),
        json!({"name": "a/b"}),
        json!({"name": "system"}),
        json!({}),
        json!({"name": "x", "more": 1}),
        json!(["x", false, []]),
        json!([]),
    ] {
        assert_eq!(post(&site, "admin", "projects", bad.clone()).await.status, 400, "{bad}");
    }
    for (who, team, missing) in [
        ("admin", 200, 404),
        ("auditor", 200, 404),
        ("guest", 200, 404),
        ("owner", 200, 404),
        ("outsider", 404, 404),
        ("team+push", 200, 404),
        ("open+all", 404, 404),
    ] {
        assert_eq!(get(&site, who, "projects/team").await.status, team, "{who}");
        assert_eq!(get(&site, who, "projects/missing").await.status, missing, "{who}");
    }
    let (hidden, none) =
        (get(&site, "outsider", "projects/team").await, get(&site, "outsider", "projects/none").await);
    assert_eq!(hidden.document.to_string().replace("team", "none"), none.document.to_string());
    assert_eq!(get(&site, "outsider", "projects").await.names(), ["new", "open"]);
    assert_eq!(get(&site, "auditor", "projects").await.names(), ["new", "open", "team"]);
    let page = get(&site, "admin", "projects?limit=2").await;
    assert_eq!(page.names(), ["new", "open"]);
    assert_eq!(page.header("link"), "</api/v1/projects?limit=2&after=open>; rel=\"next\"");
    assert_eq!(get(&site, "admin", "projects?limit=2&after=open").await.header("link"), "");
    assert_eq!(get(&site, "admin", "projects?limit=0").await.status, 400);

    assert_eq!(patch(&site, "maintainer", "projects/team", json!({"public": true})).await.status, 403);
    let before = get(&site, "owner", "projects/team").await.header("etag").to_owned();
    let change = json!({"public": true, "anonymous_networks": ["127.0.0.0/8"]});
    let stale = call(&site, "owner", "PATCH", "projects/team", Some(change.clone()), Some("\"999\"")).await;
    assert_eq!(stale.status, 412);
    let changed = call(&site, "owner", "PATCH", "projects/team", Some(change), Some(&before)).await;
    assert_eq!((changed.status, &changed.document["public"]), (200, &json!(true)), "{changed:?}");
    assert_ne!(changed.header("etag"), before);
    let unasked = site.ask("GET", "/v2/team/app/manifests/v1", &Show::Nothing, b"").await;
    assert_eq!(unasked.status, 200, "from the network that was listed");
}

#[tokio::test]
async fn a_project_is_removed_with_its_images_only_by_who_may_delete_them() {
    let site = Guarded::new().await;
    assert_eq!(delete(&site, "maintainer", "projects/team").await.status, 403);
    let refused = delete(&site, "owner", "projects/team").await;
    assert_eq!(refused.status, 409);
    assert!(refused.document["detail"].as_str().expect("a sentence").contains("--with-images"));
    let member = json!({"project": "team", "name": "open+all", "role": "owner"});
    assert_eq!(post(&site, "owner", "members", member).await.status, 201);
    let member = json!({"project": "team", "name": "system+pull", "role": "owner"});
    assert_eq!(post(&site, "owner", "members", member).await.status, 201);
    let narrow = delete(&site, "system+pull", "projects/team?with_images=true").await;
    assert_eq!(narrow.status, 403, "its --may has no delete");
    assert_eq!(delete(&site, "open+all", "projects/team?with_images=true").await.status, 204);
    assert_eq!(get(&site, "admin", "projects/team").await.status, 404);
    assert_eq!(
        site.ask("GET", "/v2/team/app/manifests/v1", &site.basic("admin"), b"").await.code(),
        "NAME_UNKNOWN"
    );
    assert_eq!(delete(&site, "admin", "projects/team").await.status, 404);
}

#[tokio::test]
async fn users_are_the_admins_and_their_own() {
    let site = Guarded::new().await;
    let new = json!({"name": "ann", "password": "secret one", "email": "ann@example.org"});
    for who in ["owner", "auditor", "system+pull"] {
        assert_eq!(post(&site, who, "users", new.clone()).await.status, 403, "{who}");
    }
    let made = post(&site, "admin", "users", new.clone()).await;
    assert_eq!(made.status, 201, "{made:?}");
    assert!(!made.document.to_string().contains("secret"));
    assert_eq!(post(&site, "admin", "users", new).await.status, 409);
    for bad in [
        json!({"name": "Ann", "password": "x"}),
        json!({"name": "bob", "password": ""}),
        json!({"name": "bob", "password": "x\ny"}),
        json!({"name": "bob", "password": "x", "email": "nobody"}),
        json!({"name": "bob"}),
    ] {
        assert_eq!(post(&site, "admin", "users", bad.clone()).await.status, 400, "{bad}");
    }
    assert_eq!(get(&site, "auditor", "users/ann").await.document["email"], "ann@example.org");
    assert_eq!(get(&site, "owner", "users/ann").await.status, 403);
    assert_eq!(get(&site, "owner", "users/owner").await.status, 200);
    assert_eq!(get(&site, "owner", "users").await.status, 403);
    assert_eq!(get(&site, "admin", "users?limit=3").await.names(), ["admin", "ann", "auditor"]);

    assert_eq!(patch(&site, "owner", "users/owner", json!({"admin": true})).await.status, 403);
    assert_eq!(patch(&site, "owner", "users/owner", json!({"email": null})).await.status, 200);
    assert_eq!(patch(&site, "owner", "users/ann", json!({"password": "x"})).await.status, 403);
    assert_eq!(patch(&site, "admin", "users/nobody", json!({"email": null})).await.status, 404);
    let login = |password: &str| Show::Basic("ann".into(), password.into());
    let token = site.token(&login("secret one"), &[]).await;
    assert_eq!(site.ask("GET", "/v2/", &token, b"").await.status, 200);
    let changed = patch(&site, "admin", "users/ann", json!({"password": "secret two", "email": null})).await;
    assert_eq!((changed.status, &changed.document["email"]), (200, &Value::Null));
    assert_eq!(site.ask("GET", "/v2/", &token, b"").await.status, 401, "at once");
    assert_eq!(site.ask("GET", "/v2/", &login("secret one"), b"").await.status, 401);
    assert_eq!(site.ask("GET", "/v2/", &login("secret two"), b"").await.status, 200);
    assert_eq!(patch(&site, "admin", "users/ann", json!({"disabled": true})).await.status, 200);
    assert_eq!(site.ask("GET", "/v2/", &login("secret two"), b"").await.status, 401);
    assert_eq!(delete(&site, "admin", "users/ann").await.status, 204);
    assert_eq!(delete(&site, "admin", "users/ann").await.status, 404);
    for path in ["users/admin"] {
        assert_eq!(delete(&site, "admin", path).await.status, 409);
        assert_eq!(patch(&site, "admin", path, json!({"disabled": true})).await.status, 409);
        assert_eq!(patch(&site, "admin", path, json!({"admin": false})).await.status, 409);
    }
}

#[tokio::test]
async fn members_are_the_owners_and_one_owner_stays() {
    let site = Guarded::new().await;
    let new = |name: &str, role: &str| json!({"project": "team", "name": name, "role": role});
    for who in ["maintainer", "auditor", "team+all"] {
        assert_eq!(post(&site, who, "members", new("outsider", "guest")).await.status, 403, "{who}");
    }
    assert_eq!(post(&site, "outsider", "members", new("outsider", "owner")).await.status, 404);
    let made = post(&site, "owner", "members", new("outsider", "guest")).await;
    assert_eq!((made.status, made.header("location")), (201, "/api/v1/members/team/outsider"));
    assert_eq!(site.ask("GET", "/v2/team/app/manifests/v1", &site.basic("outsider"), b"").await.status, 200);
    assert_eq!(post(&site, "owner", "members", new("nobody", "guest")).await.status, 404);
    assert_eq!(post(&site, "owner", "members", new("outsider", "king")).await.status, 400);
    let listed = get(&site, "maintainer", "members?project=team").await;
    assert_eq!(listed.names(), ["developer", "guest", "maintainer", "outsider", "owner"]);
    assert_eq!(get(&site, "auditor", "members?project=team").await.names().len(), 5);
    assert_eq!(get(&site, "guest", "members?project=team").await.status, 403);
    assert_eq!(get(&site, "owner", "members").await.status, 400);

    let version = get(&site, "owner", "members/team/outsider").await.header("etag").to_owned();
    let role = Some(json!({"role": "developer"}));
    let changed = call(&site, "owner", "PATCH", "members/team/outsider", role.clone(), Some(&version)).await;
    assert_eq!((changed.status, &changed.document["role"]), (200, &json!("developer")));
    let stale = call(&site, "owner", "PATCH", "members/team/outsider", role, Some(&version)).await;
    assert_eq!(stale.status, 412);
    for change in [
        delete(&site, "owner", "members/team/owner").await,
        patch(&site, "owner", "members/team/owner", json!({"role": "guest"})).await,
        post(&site, "admin", "members", new("owner", "guest")).await,
        delete(&site, "admin", "users/owner").await,
    ] {
        assert_eq!(change.status, 409, "{change:?}");
    }
    assert_eq!(delete(&site, "owner", "members/team/outsider").await.status, 204);
    assert_eq!(site.ask("GET", "/v2/team/app/manifests/v1", &site.basic("outsider"), b"").await.status, 403);
}

#[tokio::test]
async fn robots_are_the_maintainers_and_have_no_more_than_who_makes_them() {
    let site = Guarded::new().await;
    let new = |name: &str| json!({"name": name, "may": ["pull", "push"]});
    assert_eq!(post(&site, "developer", "robots", new("team+ci")).await.status, 403);
    assert_eq!(post(&site, "owner", "robots", new("system+ci")).await.status, 403);
    let made =
        post(&site, "maintainer", "robots", json!({"name": "team+ci", "may": ["pull"], "expires": "90d"}))
            .await;
    assert_eq!(made.status, 201, "{made:?}");
    let secret = made.document["secret"].as_str().expect("shown once").to_owned();
    assert!(made.document["expires"].as_str().expect("a time").ends_with('Z'));
    let robot = |secret: &str| Show::Basic("team+ci".into(), secret.to_owned());
    assert_eq!(site.ask("GET", "/v2/team/app/manifests/v1", &robot(&secret), b"").await.status, 200);
    assert_eq!(post(&site, "maintainer", "robots", new("team+ci")).await.status, 409);
    for bad in [
        json!({"name": "team", "may": ["pull"]}),
        json!({"name": "team+x", "may": []}),
        json!({"name": "team+x", "may": ["fly"]}),
        json!({"name": "team+x", "may": ["pull"], "from": ["here"]}),
        json!({"name": "team+x", "may": ["pull"], "expires": "yesterday"}),
        json!({"name": "team+x", "may": ["pull"], "expires": "2020-01-01T00:00:00Z"}),
    ] {
        assert_eq!(post(&site, "maintainer", "robots", bad.clone()).await.status, 400, "{bad}");
    }
    let listed = get(&site, "maintainer", "robots").await;
    assert_eq!(listed.names(), ["open+all", "team+all", "team+ci", "team+far", "team+push"]);
    assert!(!listed.document.to_string().contains("secret"));
    assert_eq!(
        get(&site, "maintainer", "robots?project=team&limit=2").await.names(),
        ["team+all", "team+ci"]
    );
    assert_eq!(get(&site, "admin", "robots").await.names().len(), 6);
    assert_eq!(get(&site, "guest", "robots?project=team").await.status, 403);

    let rotated = post(&site, "maintainer", "robots/team+ci/rotate", json!({})).await;
    assert_eq!(rotated.status, 200, "{rotated:?}");
    let second = rotated.document["secret"].as_str().expect("shown once").to_owned();
    for known in [&secret, &second] {
        assert_eq!(site.ask("GET", "/v2/", &robot(known), b"").await.status, 200);
    }
    let rotated = post(&site, "maintainer", "robots/team+ci/rotate", json!({"overlap": "0s"})).await;
    assert_eq!(rotated.status, 200);
    for old in [&secret, &second] {
        assert_eq!(site.ask("GET", "/v2/", &robot(old), b"").await.status, 401);
    }
    assert_eq!(
        patch(&site, "maintainer", "robots/team+ci", json!({"disabled": true})).await.document["disabled"],
        true
    );
    assert_eq!(delete(&site, "maintainer", "robots/team+ci").await.status, 204);

    // A robot that manages: nothing beyond its own actions, and no secret of a robot that has more.
    let member = json!({"project": "team", "name": "system+pull", "role": "maintainer"});
    assert_eq!(post(&site, "owner", "members", member).await.status, 201);
    let wide = json!({"name": "team+wide", "may": ["push"]});
    assert_eq!(post(&site, "system+pull", "robots", wide).await.status, 403);
    let narrow = json!({"name": "team+narrow", "may": ["pull"]});
    assert_eq!(post(&site, "system+pull", "robots", narrow).await.status, 201);
    assert_eq!(post(&site, "system+pull", "robots/team+all/rotate", json!({})).await.status, 403);
}

#[tokio::test]
async fn a_token_for_a_repository_administers_nothing() {
    let site = Guarded::new().await;
    let ask = async |show: &Show| site.ask("GET", "/api/v1/projects", show, b"").await;
    let narrow = site.token(&site.basic("admin"), &["team"]).await;
    assert_eq!(ask(&narrow).await.status, 401);
    let answer = site.ask("GET", "/token?service=roadstead", &site.basic("admin"), b"").await;
    let document: Value = serde_json::from_slice(&answer.body).expect("JSON");
    let token = Show::Bearer(document["token"].as_str().expect("a token").to_owned());
    assert_eq!(ask(&token).await.status, 200);
    let anonymous = site.token(&Show::Nothing, &[]).await;
    assert_eq!(ask(&anonymous).await.status, 401);
    let wrong = Show::Basic("admin".into(), format!("{PASSWORD}x"));
    assert_eq!(ask(&wrong).await.status, 401);
}
