//! Certificates: read at the start or refused, exchanged under clients that pull, and never by half.

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use super::clients::{curl, secured};
use crate::harness::{
    authority::{Authority, Issued},
    content::digest_of,
    http::get,
    image::{Typed, push_blob},
    node::{Node, Plan},
    noise::Noise,
    process::{PATIENCE, run, wait_for},
    scratch::Scratch,
};

/// How often a certificate is exchanged under the clients.
const EXCHANGES: usize = 24;
/// Clients that pull meanwhile.
const PULLING: usize = 3;

/// The ways in which operators and their tools bring a new pair.
#[derive(Clone, Copy, Debug)]
enum Exchange {
    /// Written over, first the one, then the other: for a moment they do not belong together.
    InPlace,
    /// New files, renamed over the old ones.
    Renamed,
    /// A directory beside, and a link that moves to it.
    Linked,
}

impl Exchange {
    fn bring(self, live: &Path, issued: &Issued, number: usize) {
        let files = [("node.pem", &issued.certificate), ("node.key", &issued.key)];
        match self {
            Self::InPlace => {
                for (name, text) in files {
                    fs::write(live.join(name), text).expect("written");
                }
            }
            Self::Renamed => {
                for (name, text) in files {
                    fs::write(live.join("new"), text).expect("written");
                    fs::rename(live.join("new"), live.join(name)).expect("renamed");
                }
            }
            Self::Linked => {
                let beside = live.with_file_name(format!("pair-{number}"));
                fs::create_dir(&beside).expect("made");
                for (name, text) in files {
                    fs::write(beside.join(name), text).expect("written");
                }
                let link = live.with_file_name("link");
                symlink(&beside, &link).expect("linked");
                fs::rename(link, live).expect("renamed");
            }
        }
    }
}

#[test]
fn no_pull_fails_while_the_certificate_is_exchanged_and_new_connections_get_the_new_one() {
    let authority = Authority::make();
    let origin = Plan::origin().start();
    let bytes = Noise::new(Noise::seed("no_pull_fails_while_the_certificate")).bytes(24 << 20);
    let blob = Typed { media_type: "application/octet-stream".into(), bytes };
    push_blob(origin.address, "team/app", &blob);

    let scratch = Scratch::new("pairs");
    let first = scratch.directory("pair-0");
    let live = scratch.join("live");
    symlink(&first, &live).expect("linked");
    Exchange::InPlace.bring(&live, &authority.issue("pair-0"), 0);
    let edge = secured(Plan::edge(origin.address), &live).start();
    let url = format!("https://{}/v2/team/app/blobs/{}", edge.address, blob.digest());

    let (over, pulls) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for number in 0..PULLING {
            let (over, pulls, authority, url, blob) = (&over, &pulls, &authority, &url, &blob);
            scope.spawn(move || {
                let protocol = if number % 2 == 0 { "--http1.1" } else { "--http2" };
                while !over.load(Ordering::Relaxed) {
                    let pulled = curl(authority).args([protocol, url]).output().expect("curl runs");
                    let said = String::from_utf8_lossy(&pulled.stderr).into_owned();
                    assert!(pulled.status.success(), "{said}");
                    assert_eq!(digest_of(pulled.stdout.as_slice()), blob.digest());
                    pulls.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let exchanged = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let ways = [Exchange::InPlace, Exchange::Renamed, Exchange::Linked].into_iter().cycle();
            for (number, way) in (1..=EXCHANGES).zip(ways) {
                let name = format!("pair-{number}");
                way.bring(&live, &authority.issue(&name), number);
                wait_for(&format!("{way:?}: {name} is shown"), PATIENCE, || {
                    (shown(&authority, &edge) == name).then_some(())
                });
            }
        }));
        over.store(true, Ordering::Relaxed);
        exchanged.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    assert!(pulls.load(Ordering::Relaxed) > EXCHANGES, "{pulls:?} pulls");
}

#[test]
fn half_a_pair_changes_nothing_and_is_told_of_once() {
    let authority = Authority::make();
    let scratch = Scratch::new("pairs");
    let live = scratch.directory("live");
    Exchange::InPlace.bring(&live, &authority.issue("before"), 0);
    let origin = secured(Plan::origin(), &live).start();
    let after = authority.issue_until("after", 2039);
    let refused = |what: &str| {
        wait_for(what, PATIENCE, || certificate_check(&origin).contains("\"failed\"").then_some(()));
        assert_eq!(shown(&authority, &origin), "before", "{what}");
    };

    fs::write(live.join("node.pem"), &after.certificate[..after.certificate.len() / 2]).expect("written");
    refused("half a certificate is noticed");
    fs::write(live.join("node.pem"), &after.certificate).expect("written");
    wait_for("the other key is noticed", PATIENCE, || {
        certificate_check(&origin).contains("is not the key").then_some(())
    });
    refused("a certificate without its key is noticed");
    assert_eq!(get(origin.operators, "/readyz").status, 200, "the node serves on");
    fs::write(live.join("node.key"), &after.key).expect("written");
    wait_for("the whole pair is in use", PATIENCE, || (shown(&authority, &origin) == "after").then_some(()));

    let check = certificate_check(&origin);
    assert!(check.contains("\"ok\""), "{check}");
    let log = origin.log();
    assert_eq!(log.matches("the certificate in use stays").count(), 2, "{log}");
    let expires = origin.metrics().count("roadstead_tls_certificate_expires_seconds", &[]);
    assert_eq!(expires, 2_177_452_800, "2039-01-01");
}

#[test]
fn a_certificate_that_expires_soon_is_told_of_and_served() {
    let authority = Authority::make();
    let scratch = Scratch::new("pairs");
    let live = scratch.directory("live");
    Exchange::InPlace.bring(&live, &authority.issue_until("old", 2020), 0);
    let origin = secured(Plan::origin(), &live).start();
    let check = certificate_check(&origin);
    assert!(check.contains("expired at 2020-01-01"), "{check}");
    assert_eq!(get(origin.operators, "/readyz").status, 200, "it is not required");
    wait_for("the log tells it", PATIENCE, || origin.log().contains("expired at 2020-01-01").then_some(()));
}

#[test]
fn pairs_that_cannot_be_used_are_mistakes_of_the_configuration() {
    let authority = Authority::make();
    let scratch = Scratch::new("pairs");
    let (one, two) = (authority.issue("one"), authority.issue("two"));
    let certificate = scratch.file("one.pem", &one.certificate);
    let other_key = scratch.file("two.key", &two.key);
    let empty = scratch.file("empty.pem", "");
    let cases: [(&[(&str, &str)], &str); 6] = [
        (&[("tls.certificate", &certificate)], "tls.key is missing"),
        (&[("tls.key", &other_key)], "tls.certificate is missing"),
        (
            &[("tls.certificate", &certificate), ("tls.key", &other_key)],
            "is not the key of the first certificate",
        ),
        (&[("tls.certificate", "/nowhere/a.pem"), ("tls.key", &other_key)], "/nowhere/a.pem cannot be read"),
        (
            &[("tls.certificate", &certificate), ("tls.key", "/nowhere/a.key")],
            "tls.key: /nowhere/a.key cannot be read",
        ),
        (&[("tls.certificate", &empty), ("tls.key", &other_key)], "no certificate in PEM form"),
    ];
    for (settings, sentence) in cases {
        for plan in [Plan::origin(), Plan::origin().argument("--check")] {
            let plan = settings.iter().fold(plan, |plan, (key, value)| plan.set(key, value));
            let (code, said) = plan.set("limits.connections", "0").refused();
            assert_eq!(code, Some(2), "{settings:?}: {said}");
            assert!(said.contains(sentence) && said.contains("limits.connections"), "{settings:?}: {said}");
        }
    }
}

/// The name in the certificate that a new connection is shown.
fn shown(authority: &Authority, node: &Node) -> String {
    let url = format!("https://{}/v2/", node.address);
    let said = run(curl(authority).args(["--insecure", "-o", "/dev/null", "-w", "%{certs}", &url]));
    let subject = said.lines().find(|line| line.starts_with("Subject:")).unwrap_or_else(|| panic!("{said}"));
    subject.rsplit(['=', ' ']).next().unwrap_or_default().to_owned()
}

/// The part of `/readyz` about the certificate.
fn certificate_check(node: &Node) -> String {
    let page: serde_json::Value =
        serde_json::from_slice(&get(node.operators, "/readyz").body).expect("it is JSON");
    let checks = page["checks"].as_array().expect("checks");
    checks
        .iter()
        .find(|check| check["name"] == "certificate")
        .expect("a check of the certificate")
        .to_string()
}
