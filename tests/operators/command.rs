//! `roadstead` as an operator calls it, with a home of its own.

use std::{net::SocketAddr, process::Command};

use serde_json::Value;

use crate::harness::{process::program, scratch::Scratch};

/// A person with an empty home directory.
#[derive(Debug)]
pub(super) struct Operator {
    pub(super) home: Scratch,
}

/// What a command said, and how it ended.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) code: Option<i32>,
    pub(super) out: String,
    pub(super) err: String,
}

impl Operator {
    pub(super) fn new() -> Self {
        Self { home: Scratch::new("operator") }
    }

    /// The command, not started.
    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = program(env!("CARGO_BIN_EXE_roadstead"));
        command.args(arguments).env("XDG_CONFIG_HOME", self.home.join("config")).current_dir("/");
        for name in ["ROADSTEAD_URL", "ROADSTEAD_USER", "ROADSTEAD_PASSWORD", "NO_COLOR"] {
            command.env_remove(name);
        }
        command
    }

    /// Runs it to its end.
    pub(super) fn run(&self, arguments: &[&str]) -> Said {
        Said::of(&mut self.command(arguments))
    }

    /// Runs it against the node at `address`.
    pub(super) fn at(&self, address: SocketAddr, arguments: &[&str]) -> Said {
        let url = format!("http://{address}");
        self.run(&[arguments, &["--url", &url]].concat())
    }
}

impl Said {
    pub(super) fn of(command: &mut Command) -> Self {
        let output = command.output().expect("the binary was built");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it speaks UTF-8");
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// Panics, with all that was said, unless it ended with that code.
    #[track_caller]
    pub(super) fn ends(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "out: {}\nerr: {}", self.out, self.err);
        self
    }

    /// Panics unless it failed with one sentence that has each of `words`, and nothing on standard output.
    #[track_caller]
    pub(super) fn fails_saying(self, words: &[&str]) {
        let said = self.ends(1);
        assert_eq!(said.out, "", "{}", said.err);
        assert!(said.err.starts_with("roadstead: ") && said.err.lines().count() == 1, "{}", said.err);
        for word in words {
            assert!(said.err.contains(word), "{word:?} is not in {:?}", said.err);
        }
    }

    /// The JSON document on standard output.
    #[track_caller]
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }
}
