//! `roadstead login`: what is remembered, who may read it, and where it goes.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    process::{Command, Stdio},
};

use super::{
    command::{Operator, Said},
    listener::Listener,
};
use crate::harness::{image::Image, node::Plan, process::program};

/// Runs a command with something on its standard input.
fn with_input(command: &mut Command, input: &str) -> Said {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary was built");
    child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("it listens");
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

fn login(operator: &Operator, url: &str, password: &str) -> Said {
    with_input(&mut operator.command(&["login", url, "-u", "captain", "--password-stdin"]), password)
}

#[test]
fn a_login_is_remembered_for_its_owner_only_and_used_from_then_on() {
    let origin = Plan::origin().start();
    Image::make("a_login_is_remembered", 1, 10_000).push(origin.address, "team/app", "v1");
    let edge = Plan::edge(origin.address).start();
    let operator = Operator::new();
    let url = format!("http://{}", edge.address);
    let said = login(&operator, &url, "secret\n").ends(0);
    assert!(
        said.out.contains("edge") && said.out.contains("was not checked"),
        "nothing is claimed: {}",
        said.out
    );
    assert!(!said.out.contains("secret") && !said.err.contains("secret"), "{said:?}");
    let file = operator.home.join("config/roadstead/login.json");
    let mode = |path: &std::path::Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!((mode(&file), mode(file.parent().expect("a directory"))), (0o600, 0o700));

    let status = operator.run(&["status", "--json"]).ends(0).json();
    assert_eq!(status["node"]["role"], "edge", "without --url: {status}");
    // The environment and the flag go before it.
    let dead = Said::of(operator.command(&["status"]).env("ROADSTEAD_URL", "http://127.0.0.2:1"));
    dead.fails_saying(&["127.0.0.2:1"]);
    let flagged = operator
        .command(&["status", "--url", &url, "--json"])
        .env("ROADSTEAD_URL", "http://127.0.0.2:1")
        .output();
    assert!(flagged.expect("it runs").status.success());
}

#[test]
fn what_is_no_node_is_not_remembered() {
    let operator = Operator::new();
    let origin = Plan::origin().start();
    let html = Listener::answering("HTTP/1.1 200 OK", "text/html", "<html>log in</html>");
    for (url, words) in [
        ("http://127.0.0.2:1".to_owned(), "cannot be reached"),
        (format!("http://{}", html.address), "cannot be understood"),
        (format!("http://{}", origin.address), "no such API"),
    ] {
        login(&operator, &url, "secret").fails_saying(&[words]);
    }
    login(&operator, "http://user:password@127.0.0.1", "secret").ends(2);
    login(&operator, &format!("http://{}", origin.address), "\n").fails_saying(&["no password"]);
    assert!(!operator.home.join("config/roadstead/login.json").exists());
}

#[test]
fn user_and_password_go_to_the_node_that_they_are_for_and_to_no_other() {
    let document = r#"{"name":"n","role":"edge","version":"9.9.9","authentication":"basic"}"#;
    let ours = Listener::answering("HTTP/1.1 200 OK", "application/json", document);
    let other = Listener::answering("HTTP/1.1 200 OK", "application/json", "[]");
    let operator = Operator::new();
    let said = login(&operator, &format!("http://{}", ours.address), "secret").ends(0);
    assert!(said.out.contains("took the password of captain"), "{}", said.out);
    // captain:secret
    let basic = "authorization: Basic Y2FwdGFpbjpzZWNyZXQ=";
    assert!(ours.heard().iter().all(|head| head.contains(basic)), "{:?}", ours.heard());
    operator.at(other.address, &["cache", "ls"]).ends(0);
    assert_eq!(other.heard().len(), 1);
    assert!(!other.heard()[0].to_lowercase().contains("authorization"), "{:?}", other.heard());
    let mut as_other = operator.command(&["cache", "ls", "--url", &format!("http://{}", other.address)]);
    Said::of(as_other.env("ROADSTEAD_USER", "captain").env("ROADSTEAD_PASSWORD", "secret")).ends(0);
    assert!(other.heard()[1].contains(basic), "{:?}", other.heard());
    let mut half = operator.command(&["cache", "ls"]);
    Said::of(half.env("ROADSTEAD_USER", "captain")).fails_saying(&["go together"]);
}

#[test]
fn a_node_that_refuses_the_password_is_not_remembered() {
    let document = r#"{"type":"about:blank","title":"Unauthorized","status":401,"detail":"captain has another password"}"#;
    let node = Listener::answering("HTTP/1.1 401 Unauthorized", "application/problem+json", document);
    let operator = Operator::new();
    login(&operator, &format!("http://{}", node.address), "wrong")
        .fails_saying(&["captain has another password"]);
    assert!(!operator.home.join("config/roadstead/login.json").exists());
    // Where there is nowhere to remember it, that is said.
    let mut homeless = program(env!("CARGO_BIN_EXE_roadstead"));
    homeless.args(["login", &format!("http://{}", node.address), "-u", "a"]);
    Said::of(homeless.env_remove("HOME").env_remove("XDG_CONFIG_HOME")).ends(2);
}
