//! Wrong configuration: every mistake is reported at once, each with its key, and the exit code is 2.

use std::process::Output;

use crate::harness::{process::program, scratch::Scratch};

/// Runs the binary and gives its exit code and standard error.
fn roadstead(arguments: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String) {
    let scratch = Scratch::new("configuration");
    let mut command = program(env!("CARGO_BIN_EXE_roadstead"));
    command.args(arguments).args(["--data", &scratch.text("data"), "--listen", "127.0.0.1:0"]);
    for (name, value) in environment {
        command.env(name, value);
    }
    let Output { status, stderr, stdout } = command.output().expect("it starts");
    assert!(!String::from_utf8_lossy(&stdout).contains("ready "), "it serves with {arguments:?}");
    assert!(!scratch.join("data").exists(), "{arguments:?} left a data directory");
    (status.code(), String::from_utf8(stderr).expect("messages are text"))
}

#[track_caller]
fn assert_wrong(arguments: &[&str], environment: &[(&str, &str)], named: &[&str]) {
    let (code, said) = roadstead(arguments, environment);
    assert_eq!(code, Some(2), "{arguments:?} {environment:?}: {said}");
    for name in named {
        assert!(said.contains(name), "{name:?} is not in what {arguments:?} {environment:?} gave:\n{said}");
    }
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn unknown_keys_are_errors_that_name_the_key_wherever_they_stand() {
    let scratch = Scratch::new("configuration");
    let file = scratch
        .file("bad.toml", "drian = \"5s\"\n[limits]\nheader_timeuot = \"1s\"\n[nonsense.deeper]\nkey = 1\n");
    for role in ["origin", "edge"] {
        let upstream: &[&str] = if role == "edge" { &["--upstream", "http://127.0.0.1:1"] } else { &[] };
        let with = |arguments: &[&'static str]| [&[role][..], upstream, arguments].concat();
        assert_wrong(&with(&["--set", "drian=5s"]), &[], &["drian"]);
        assert_wrong(&with(&["--set", "limits.header_timeuot=5s"]), &[], &["limits.header_timeuot"]);
        assert_wrong(&with(&[]), &[("ROADSTEAD_LIMITS__HEADER_TIMEUOT", "5s")], &["limits.header_timeuot"]);
        let config = [&[role][..], upstream, &["--config", &file]].concat();
        assert_wrong(&config, &[], &["drian", "limits.header_timeuot", "nonsense"]);
    }
    // A key of the other role is unknown in this one.
    assert_wrong(&["origin", "--set", "cache.capacity=1GiB"], &[], &["cache.capacity"]);
    assert_wrong(&["edge", "--upstream", "http://127.0.0.1:1", "--set", "gc.grace=1h"], &[], &["gc.grace"]);
}

#[test]
fn mistakes_of_every_kind_and_source_are_reported_together() {
    let scratch = Scratch::new("configuration");
    let file = scratch.file(
        "bad.toml",
        "drain = \"soon\"\nunknown = 1\n[limits]\nidle_timeout = 5\nconnections = \"many\"\n[gc]\ngrace = \"-1h\"\n",
    );
    assert_wrong(
        &["origin", "--config", &file, "--set", "upload.expire=tomorrow", "--set", "listen=everywhere"],
        &[("ROADSTEAD_GC__INTERVAL", "often"), ("ROADSTEAD_DATABASE__CONNECTIONS", "-3")],
        &[
            "drain",
            "unknown",
            "limits.idle_timeout",
            "limits.connections",
            "gc.grace",
            "upload.expire",
            "listen",
            "gc.interval",
            "database.connections",
        ],
    );
    assert_wrong(
        &[
            "edge",
            "--set",
            "cache.capacity=much",
            "--set",
            "freshness.budget=now",
            "--set",
            "upstream.\"a.example\".url=nowhere",
            "--set",
            "upstream.\"b.example\".freshness=never",
            "--set",
            "upstream.\"b.example\".networks=[\"10.0.0.0/99\"]",
        ],
        &[("ROADSTEAD_DOWNLOAD__TRIES", "0.5")],
        &[
            "cache.capacity",
            "freshness.budget",
            "a.example",
            "url",
            "b.example",
            "freshness",
            "networks",
            "download.tries",
        ],
    );
}

#[test]
fn values_that_parse_and_cannot_be_are_reported_too() {
    assert_wrong(&["origin", "--set", "database.connections=0"], &[], &["database.connections"]);
    assert_wrong(&["origin", "--set", "limits.connections=0"], &[], &["limits.connections"]);
    assert_wrong(&["origin", "--set", "limits.header_timeout=0s"], &[], &["limits.header_timeout"]);
    assert_wrong(&["origin", "--set", "gc.brake=7"], &[], &["gc.brake"]);
    assert_wrong(&["origin", "--set", "database.url=mysql://x/y"], &[], &["database.url"]);
    assert_wrong(&["origin", "--set", "storage.url=ftp://x/y"], &[], &["storage.url"]);
    assert_wrong(&["edge"], &[], &["--upstream"]);
    assert_wrong(&["edge", "--upstream", "ftp://127.0.0.1:1"], &[], &["ftp://127.0.0.1:1"]);
    assert_wrong(&["edge", "--upstream", "127.0.0.1:5000"], &[], &["127.0.0.1:5000"]);
    let user = "upstream.\"a.example\".username=u";
    let url = "upstream.\"a.example\".url=https://a.example";
    assert_wrong(&["edge", "--set", url, "--set", user], &[], &["username", "password_file"]);
    let missing = "upstream.\"a.example\".ca=/nowhere/ca.pem";
    assert_wrong(&["edge", "--set", url, "--set", missing], &[], &["/nowhere/ca.pem"]);
}

#[test]
fn a_configuration_that_cannot_be_read_says_where() {
    let scratch = Scratch::new("configuration");
    assert_wrong(&["origin", "--config", "/nowhere/roadstead.toml"], &[], &["/nowhere/roadstead.toml"]);
    let broken = scratch.file("broken.toml", "drain = \"5s\"\n[limits\n");
    assert_wrong(&["origin", "--config", &broken], &[], &["broken.toml", "2"]);
    let binary = scratch.file("binary.toml", [0xff, 0xfe, 0]);
    assert_wrong(&["origin", "--config", &binary], &[], &["binary.toml"]);
    assert_wrong(&["origin", "--set", "drain"], &[], &["drain"]);
    assert_wrong(&["origin", "--set", "=5s"], &[], &["=5s"]);
}

#[test]
fn flags_that_are_none_exit_with_2() {
    for arguments in [
        &["origin", "--frobnicate"][..],
        &["harbour"],
        &["origin", "--listen", "nowhere"],
        &["origin", "--log", "loud"],
        &["edge", "--upstream"],
        &["origin", "--upstream", "http://127.0.0.1:1"],
    ] {
        let mut command = program(env!("CARGO_BIN_EXE_roadstead"));
        let output = command.args(arguments).output().expect("it starts");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty() && output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn check_reports_and_starts_nothing() {
    let good = roadstead(&["origin", "--no-auth", "--check"], &[]);
    assert_eq!(good, (Some(0), String::new()));
    assert_wrong(
        &["origin", "--check", "--set", "drain=soon", "--set", "unknown=1"],
        &[],
        &["drain", "unknown"],
    );
    assert_wrong(
        &["edge", "--check", "--upstream", "http://127.0.0.1:1", "--set", "drain=soon"],
        &[],
        &["drain"],
    );
}

#[test]
fn a_node_that_asks_nobody_listens_on_loopback_unless_it_is_told_that_this_is_meant() {
    let open = |role: &[&str], listen: &[&str], extra: &[&str]| {
        let scratch = Scratch::new("configuration");
        let mut command = program(env!("CARGO_BIN_EXE_roadstead"));
        command
            .args(role)
            .args(["--data", &scratch.text("data"), "--no-auth", "--check"])
            .args(listen)
            .args(extra);
        let output = command.output().expect("it starts");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let allowed = ["--set", "auth.allow_open=true"];
    for role in [&["origin"][..], &["edge", "--upstream", "http://127.0.0.1:1"]] {
        for address in
            ["0.0.0.0:0", "192.0.2.1:5000", "[::]:0", "[2001:db8::1]:5000", "[::ffff:192.0.2.1]:5000"]
        {
            for listen in [vec!["--listen", address], vec!["--listen", "127.0.0.1:0", "--listen", address]] {
                let (code, said) = open(role, &listen, &[]);
                assert_eq!(code, Some(2), "{role:?} {listen:?}: {said}");
                assert!(
                    said.contains(address) && said.contains("auth.allow_open"),
                    "{role:?} {listen:?}: {said}"
                );
                assert_eq!(open(role, &listen, &allowed).0, Some(0), "{role:?} {listen:?}");
            }
        }
        for address in ["127.0.0.1:0", "127.9.9.9:5000", "[::1]:0", "[::ffff:127.0.0.1]:0"] {
            assert_eq!(open(role, &["--listen", address], &[]).0, Some(0), "{role:?} {address}");
        }
    }
}
