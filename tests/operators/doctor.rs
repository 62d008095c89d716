//! `roadstead doctor` against edges, origins, another registry, and against nothing.

use std::{
    net::{SocketAddr, TcpListener},
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{
    command::{Operator, Said},
    listener::Listener,
    proxy::Proxy,
    tls_relay::{Authority, Life, TlsRelay},
};
use crate::harness::{
    content::Content,
    http::get,
    image::Image,
    node::{Node, Plan},
    process::{Server, dies_with_caller},
    scratch::Scratch,
};

/// Nothing that does not answer keeps an operator waiting for longer.
const PATIENCE: Duration = Duration::from_secs(15);

fn edge_with(image: &Image) -> (Node, Node) {
    let origin = Plan::origin().start();
    image.push(origin.address, "team/app", "v1");
    let edge = Plan::edge(origin.address).start();
    Content::read(edge.address, "team/app", "v1");
    edge.finishes_downloads();
    (edge, origin)
}

fn url(address: SocketAddr) -> String {
    format!("http://{address}")
}

/// What was found out about one URL, with the exit code.
#[track_caller]
fn examined(operator: &Operator, arguments: &[&str], code: i32) -> Value {
    let document = operator.run(&[&["doctor", "--json"], arguments].concat()).ends(code).json();
    assert_eq!(document["ok"], code == 0, "{document}");
    let examinations = document["examinations"].as_array().expect("a list");
    assert_eq!(examinations.len(), 1, "{document}");
    let one = examinations[0].clone();
    for finding in one["findings"].as_array().expect("findings") {
        let action = finding["action"].as_str().is_some_and(|action| action.len() > 10);
        assert!(action || finding["level"] == "ok", "it says what to do: {finding}");
    }
    one
}

/// The findings of one kind at one level.
fn found<'a>(examination: &'a Value, check: &str, level: &str) -> Vec<&'a str> {
    let findings = examination["findings"].as_array().expect("findings").iter();
    let of = findings.filter(|finding| finding["check"] == check && finding["level"] == level);
    of.map(|finding| finding["message"].as_str().expect("a message")).collect()
}

#[test]
fn an_edge_that_is_well_is_called_so_after_a_real_pull_of_what_it_holds() {
    let image = Image::make("an_edge_that_is_well", 2, 300_000);
    let (edge, _origin) = edge_with(&image);
    let operator = Operator::new();
    let one = examined(&operator, &[&url(edge.address)], 0);
    assert_eq!(one["kind"], "edge");
    for check in ["connect", "registry", "ready", "upstream", "clock", "pull"] {
        assert!(!found(&one, check, "ok").is_empty(), "{check}: {one}");
    }
    let store = [found(&one, "store", "ok"), found(&one, "store", "warn")].concat();
    assert!(store.iter().any(|message| message.contains("synced it in")), "the disk was measured: {one}");
    let pull = &one["pull"];
    assert_eq!((&pull["image"], &pull["whole"]), (&"team/app:v1".into(), &true.into()), "{pull}");
    let steps = pull["steps"].as_array().expect("steps");
    let kinds: Vec<&str> = steps.iter().map(|step| step["step"].as_str().expect("a name")).collect();
    assert_eq!(kinds, ["resolve", "manifest", "config", "layer", "layer"]);
    for (step, blob) in steps[2..].iter().zip(&image.blobs) {
        assert_eq!((&step["digest"], &step["bytes"]), (&blob.digest().into(), &blob.bytes.len().into()));
        assert_eq!(step["verified"], true);
        assert!(
            step["meaning"].as_str().is_some_and(|meaning| meaning.starts_with("from the cache")),
            "{step}"
        );
    }
    let page = operator.run(&["doctor", &url(edge.address)]).ends(0).out;
    for words in [
        "ok    connect",
        "pull of team/app:v1",
        "MB/s",
        "/hosts.toml (containerd)",
        "dial_timeout = \"300ms\"",
    ] {
        assert!(page.contains(words), "{words:?} is not in\n{page}");
    }
    assert!(!page.contains('\x1b'), "{page:?}");
}

#[test]
fn an_image_that_the_edge_lacks_is_pulled_and_kept_and_one_that_is_nowhere_is_told() {
    let image = Image::make("an_image_that_the_edge_lacks", 1, 100_000);
    let origin = Plan::origin().start();
    image.push(origin.address, "team/app", "v1");
    let edge = Plan::edge(origin.address).start();
    let operator = Operator::new();
    let none = examined(&operator, &[&url(edge.address)], 0);
    assert!(none["pull"].is_null() && found(&none, "pull", "ok")[0].contains("--image"), "{none}");
    let one = examined(&operator, &[&url(edge.address), "--image", "team/app:v1"], 0);
    let layer = &one["pull"]["steps"][3];
    assert_eq!(
        layer["meaning"].as_str().map(|meaning| meaning.starts_with("fetched from upstream")),
        Some(true),
        "{layer}"
    );
    edge.finishes_downloads();
    assert_eq!(get(edge.address, "/api/v1/cache").expect(200).text().matches("\"complete\":true").count(), 1);
    let nowhere = examined(&operator, &[&url(edge.address), "--image", "team/app:nowhere"], 1);
    assert!(found(&nowhere, "pull", "fail")[0].contains("404"), "{nowhere}");
    assert!(nowhere["verdict"].as_str().is_some_and(|verdict| verdict.contains("fails")), "{nowhere}");
}

#[test]
fn with_its_upstream_gone_an_edge_serves_what_it_has_and_the_doctor_says_so() {
    let image = Image::make("with_its_upstream_gone", 1, 100_000);
    let (edge, mut origin) = edge_with(&image);
    origin.kill9();
    let operator = Operator::new();
    let said = operator.run(&["doctor", "--json", &url(edge.address)]);
    let one = said.json()["examinations"][0].clone();
    assert_eq!(one["pull"]["whole"], true, "{one}");
    assert!(
        found(&one, "pull", "warn").iter().any(|message| message.contains("could not be asked")),
        "{one}"
    );
    if get(edge.address, "/api/v1/upstreams").status == 200 {
        assert!(found(&one, "upstream", "fail")[0].contains("connecting fails"), "{one}");
        assert_eq!(said.code, Some(1));
    }
    let lacking = examined(&operator, &[&url(edge.address), "--image", "team/app:v2"], 1);
    assert!(found(&lacking, "pull", "fail")[0].contains("503"), "{lacking}");
}

#[test]
fn an_origin_and_another_registry_are_known_and_pulled_from() {
    let origin = Plan::origin().start();
    let image = Image::make("an_origin_and_another_registry", 1, 100_000);
    image.push(origin.address, "team/app", "v1");
    let operator = Operator::new();
    let one = examined(&operator, &[&url(origin.address), "--image", "team/app:v1"], 0);
    assert_eq!((&one["kind"], &one["pull"]["whole"]), (&"origin".into(), &true.into()), "{one}");
    assert_eq!(one["files"], Value::Array(Vec::new()), "an origin is no mirror");

    let scratch = Scratch::new("docker-registry");
    let port = TcpListener::bind("127.0.0.1:0").expect("a port is free").local_addr().expect("bound");
    let config = format!(
        "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '{port}'}}\n",
        scratch.text("data")
    );
    let config = scratch.file("config.yml", config);
    let mut command = dies_with_caller("docker-registry");
    let mut other = Server::start("docker-registry", &scratch.join("log"), command.args(["serve", &config]));
    other.serves_when(|| crate::harness::http::try_request(port, "GET", "/v2/", &[], &[]).is_ok());
    image.push(port, "team/app", "v1");
    let one = examined(&operator, &[&url(port), "--image", "team/app:v1"], 0);
    assert_eq!((&one["kind"], &one["pull"]["whole"]), (&"registry".into(), &true.into()), "{one}");
}

#[test]
fn what_is_no_registry_is_told_apart_and_costs_seconds() {
    let html = Listener::answering("HTTP/1.1 200 OK", "text/html", "<html>log in</html>");
    let hung = Listener::silent();
    let operator = Operator::new();
    for (url, check, words) in [
        ("http://127.0.0.2:1".to_owned(), "connect", "refused"),
        (url(html.address), "registry", "a web page"),
        (url(hung.address), "registry", "no answer came within"),
        (format!("https://{}", hung.address), "tls", "does not answer a TLS handshake"),
        (format!("https://{}", html.address), "tls", "no TLS"),
        ("http://nowhere.invalid:5001".to_owned(), "name", "nowhere.invalid"),
    ] {
        let began = Instant::now();
        let one = examined(&operator, &[&url], 1);
        assert!(found(&one, check, "fail").iter().any(|message| message.contains(words)), "{url}: {one}");
        assert!(began.elapsed() < PATIENCE, "{url} took {:?}", began.elapsed());
    }
    for wrong in ["edge:5001", "ftp://edge", "http://", "http://user:secret@edge"] {
        operator.run(&["doctor", wrong]).ends(2);
    }
    operator.run(&["doctor"]).ends(2);
}

#[test]
fn an_address_that_is_dead_beside_one_that_works_is_a_warning() {
    let image = Image::make("an_address_that_is_dead", 1, 10_000);
    let origin = Plan::origin().start();
    image.push(origin.address, "team/app", "v1");
    // `localhost` is 127.0.0.1 and ::1, and the edge listens at one of them only.
    let edge = Plan::edge(origin.address).listen("127.0.0.1:0").start();
    let operator = Operator::new();
    let one = examined(&operator, &[&format!("http://localhost:{}", edge.address.port())], 0);
    let named = [found(&one, "name", "ok"), found(&one, "name", "warn")].concat();
    if named[0].contains("::1") {
        let dead = found(&one, "connect", "warn");
        assert!(dead[0].contains("[::1]") && dead[0].contains("other addresses"), "{one}");
    }
    assert!(found(&one, "connect", "ok")[0].contains("127.0.0.1"), "{one}");
}

#[test]
fn from_elsewhere_the_doctor_sees_the_way_and_a_pull_and_says_what_it_cannot_see() {
    let image = Image::make("from_elsewhere_the_doctor_sees", 1, 100_000);
    let (edge, _origin) = edge_with(&image);
    // As seen through a proxy, an edge's API is closed.
    let proxy = Proxy::before(edge.address);
    let operator = Operator::new();
    let one = examined(&operator, &[&url(proxy.address), "--image", "team/app:v1"], 0);
    assert_eq!((&one["kind"], &one["pull"]["whole"]), (&"edge".into(), &true.into()), "{one}");
    let told = found(&one, "store", "ok")[0];
    assert!(told.contains("through a proxy") && told.contains("on the node itself"), "{told}");
    let files = one["files"].as_array().expect("files");
    assert_eq!(files[0]["path"], "/etc/containerd/certs.d/_default/hosts.toml");
    // Where the API is elsewhere, that can be said.
    let one = examined(&operator, &[&url(proxy.address), "--api", &url(edge.address)], 0);
    assert_eq!(one["pull"]["image"], "team/app:v1", "{one}");
    operator.at(proxy.address, &["cache", "ls"]).fails_saying(&["not served through a proxy"]);
}

#[test]
fn several_urls_are_looked_at_and_one_that_fails_is_enough() {
    let image = Image::make("several_urls_are_looked_at", 1, 10_000);
    let (edge, _origin) = edge_with(&image);
    let said = Operator::new().run(&["doctor", "--json", &url(edge.address), "http://127.0.0.2:1"]).ends(1);
    let document = said.json();
    let levels: Vec<bool> = document["examinations"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| one["level"] == "fail")
        .collect();
    assert_eq!(levels, [false, true], "{document}");
}

#[test]
fn a_certificate_that_clients_will_not_trust_is_told_with_what_would_help() {
    let image = Image::make("a_certificate_that_clients_will_not_trust", 1, 10_000);
    let (edge, _origin) = edge_with(&image);
    let authority = Authority::new("The Harbour Authority");
    let operator = Operator::new();
    let ca = operator.home.file("ca.pem", authority.pem());
    let good = TlsRelay::before(edge.address, authority.sign(&["127.0.0.1"], Life::Long));
    let over = TlsRelay::before(edge.address, authority.sign(&["127.0.0.1"], Life::Over));
    let other = TlsRelay::before(edge.address, authority.sign(&["edge.example", "127.9.9.9"], Life::Long));
    let secure = |relay: &TlsRelay| format!("https://{}", relay.address);

    let untrusted = examined(&operator, &[&secure(&good)], 1);
    assert!(found(&untrusted, "tls", "fail")[0].contains("The Harbour Authority"), "{untrusted}");
    let findings = untrusted["findings"].to_string();
    assert!(
        findings.contains("--ca FILE") && findings.contains("/etc/docker/certs.d/127.0.0.1:"),
        "{findings}"
    );
    let expired = examined(&operator, &[&secure(&over), "--ca", &ca], 1);
    assert!(found(&expired, "tls", "fail")[0].contains("ended on 2021-01-01"), "{expired}");
    let elsewhere = examined(&operator, &[&secure(&other), "--ca", &ca], 1);
    let told = found(&elsewhere, "tls", "fail")[0];
    assert!(told.contains("edge.example, 127.9.9.9") && told.contains("not for 127.0.0.1"), "{elsewhere}");

    let one = examined(&operator, &[&secure(&good), "--ca", &ca], 0);
    assert!(
        found(&one, "tls", "ok").iter().any(|message| message.contains("valid until 2100-01-01")),
        "{one}"
    );
    assert_eq!(one["pull"]["whole"], true, "{one}");
    let listed =
        operator.run(&["cache", "ls", "--json", "--url", &secure(&good), "--ca", &ca]).ends(0).json();
    assert_eq!(listed[0]["image"], "team/app:v1");
    Said::of(&mut operator.command(&["cache", "ls", "--url", &secure(&good)]))
        .fails_saying(&["cannot be reached"]);
    operator.run(&["cache", "ls", "--ca", "/nowhere.pem"]).fails_saying(&["/nowhere.pem"]);
}
