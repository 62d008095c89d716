//! Logins, tokens and their end, at two origins over one database.

use std::{
    os::unix::fs::PermissionsExt as _,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use serde_json::Value;

use super::{ADMIN, Guarded, PASSWORD, api_as, basic, secret_in, until_status};
use crate::harness::{
    content::digest_of,
    http::{get, location_of, request, with_digest},
    node::{Node, Plan},
    postgres::new_database,
    process::wait_for,
    scratch::Scratch,
};

/// A revocation reaches every origin in this time.
const REVOKED: Duration = Duration::from_secs(10);

fn ask(node: &Node, path: &str, authorization: &str) -> crate::harness::http::Answer {
    request(node.address, "GET", path, &[("Authorization", authorization)], &[])
}

fn token(node: &Node, name: &str, password: &str, scope: &str) -> String {
    let path = format!("/token?service=roadstead&scope={scope}");
    let answer = ask(node, &path, &basic(name, password)).expect(200);
    let document: Value = serde_json::from_slice(&answer.body).expect("JSON");
    format!("Bearer {}", document["token"].as_str().expect("a token"))
}

#[test]
fn the_first_password_is_in_a_file_that_only_the_node_reads_and_is_named_once() {
    let plan = Plan::guarded_origin();
    let mut origin = plan.start();
    let file = plan.data().join("admin.password");
    let mode = std::fs::metadata(&file).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let password = std::fs::read_to_string(&file).expect("readable").trim().to_owned();
    ask(&origin, "/v2/", &basic(ADMIN, &password)).expect(200);
    origin.restart();
    ask(&origin, "/v2/", &basic(ADMIN, &password)).expect(200);
    let log = std::fs::read_to_string(plan.beside("stderr.log")).expect("readable");
    assert_eq!(log.matches("admin.password").count(), 1, "{log}");
    assert!(!log.contains(&password), "the password is in the log");
    get(origin.address, "/v2/").expect(401);
}

#[test]
fn a_revocation_at_one_origin_reaches_the_other_and_so_do_keys() {
    let database = new_database();
    let storage = Scratch::new("storage");
    let plan = || {
        Plan::guarded_origin()
            .set("auth.admin_password", &format!("\"{PASSWORD}\""))
            .set("database.url", &database)
            .set("storage.url", &format!("file://{}", storage.text("objects")))
    };
    let [first, second] = Plan::start_together([plan(), plan()]);
    let site = Guarded { origin: first };
    site.project("team");
    site.user("ann", "a password");
    site.member("team", "ann", "guest");
    let there = token(&second, "ann", "a password", "repository:team/app:pull");
    for node in [&site.origin, &second] {
        // There is no image yet; that is another answer than that of somebody who may not look.
        assert_eq!(
            ask(node, "/v2/team/app/manifests/v1", &there).expect(404).header("www-authenticate"),
            None
        );
    }
    api_as(&site.origin, ADMIN, PASSWORD, "DELETE", "members/team/ann", "").expect(204);
    let took = until_status(403, || ask(&second, "/v2/team/app/manifests/v1", &there));
    assert!(took < REVOKED, "{took:?}");
    ask(&site.origin, "/v2/team/app/manifests/v1", &there).expect(403);
    site.set("users/ann", r#"{"disabled":true}"#);
    ask(&site.origin, "/v2/", &there).expect(401);
    let took = until_status(401, || ask(&second, "/v2/", &there));
    assert!(took < REVOKED, "{took:?}");
    ask(&second, "/v2/", &basic("ann", "a password")).expect(401);
}

#[test]
fn a_robot_is_rotated_under_a_running_ci_without_a_failed_push() {
    let site = Guarded::start();
    site.project("team");
    let first = site.robot("team+ci", &["pull", "push"]);
    let (stop, pushed) = (AtomicBool::new(false), AtomicU64::new(0));
    let secret = std::sync::Mutex::new(first.clone());
    // Two more: the second began after this was asked.
    let two_more = |what: &str| {
        let wanted = pushed.load(Ordering::Relaxed) + 2;
        wait_for(what, REVOKED, || (pushed.load(Ordering::Relaxed) >= wanted).then_some(()));
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let current = secret.lock().expect("no panic").clone();
                let number = pushed.load(Ordering::Relaxed);
                push(&site.origin, &basic("team+ci", &current), &format!("blob {number}"));
                pushed.fetch_add(1, Ordering::Relaxed);
            }
        });
        for _ in 0..5 {
            let rotated = site.api("POST", "robots/team+ci/rotate", r#"{"overlap":"1h"}"#).expect(200);
            two_more("pushes with the old secret");
            *secret.lock().expect("no panic") = secret_in(&rotated);
            two_more("pushes with the new secret");
        }
        stop.store(true, Ordering::Relaxed);
    });
    ask(&site.origin, "/v2/", &basic("team+ci", &first)).expect(401);
}

fn push(node: &Node, authorization: &str, text: &str) {
    let headers = [("Authorization", authorization)];
    let begun = request(node.address, "POST", "/v2/team/app/blobs/uploads/", &headers, &[]).expect(202);
    let path = with_digest(&location_of(&begun), &digest_of(text.as_bytes()));
    request(node.address, "PUT", &path, &headers, text.as_bytes()).expect(201);
}

#[test]
fn no_secret_is_in_what_a_node_says_or_keeps_in_the_clear() {
    let plan = Plan::guarded_origin()
        .set("auth.admin_password", &format!("\"{PASSWORD}\""))
        .set("log.level", "trace");
    let site = Guarded { origin: plan.start() };
    site.project("team");
    site.user("ann", "anns own secret");
    let robot = site.robot("team+ci", &["pull"]);
    let bearer = token(&site.origin, "ann", "anns own secret", "repository:team/app:pull");
    let form = "grant_type=password&username=ann&password=anns+own+secret&access_type=offline";
    let headers = [("Content-Type", "application/x-www-form-urlencoded")];
    let answer = request(site.origin.address, "POST", "/token", &headers, form.as_bytes()).expect(200);
    let document: Value = serde_json::from_slice(&answer.body).expect("JSON");
    let refresh = document["refresh_token"].as_str().expect("asked for").to_owned();
    for authorization in [basic("ann", "anns own secret"), basic("team+ci", &robot), bearer.clone()] {
        ask(&site.origin, "/v2/", &authorization).expect(200);
        ask(&site.origin, "/v2/team/app/manifests/v1", &authorization);
    }
    ask(&site.origin, "/v2/", &basic("ann", "a wrong guess")).expect(401);
    let metrics = get(site.origin.address, "/metrics").expect(200).text();
    let log = std::fs::read_to_string(plan.beside("stderr.log")).expect("readable");
    let bearer = bearer.trim_start_matches("Bearer ").to_owned();
    let encoded = basic("ann", "anns own secret");
    let secrets = [PASSWORD, "anns own secret", "a wrong guess", &robot, &refresh, &bearer, &encoded[6..]];
    for secret in secrets {
        assert!(!log.contains(secret) && !metrics.contains(secret), "a secret was told: {secret}");
    }
    for entry in std::fs::read_dir(plan.data()).expect("readable") {
        let path = entry.expect("an entry").path();
        let bytes = if path.is_file() { std::fs::read(&path).expect("readable") } else { continue };
        for secret in secrets {
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{} holds a secret in the clear", path.display());
        }
    }
}
