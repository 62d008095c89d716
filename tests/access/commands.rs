//! `roadstead project`, `user`, `member` and `robot`, as people and scripts call them.

use std::{
    io::Write as _,
    process::{Output, Stdio},
};

use serde_json::Value;

use super::{ADMIN, Guarded, PASSWORD, basic};
use crate::harness::{http::request, process::program, scratch::Scratch};

/// A terminal of somebody who administers an origin.
struct Terminal<'a> {
    site: &'a Guarded,
    home: Scratch,
    user: &'a str,
    password: &'a str,
}

impl<'a> Terminal<'a> {
    fn of(site: &'a Guarded, user: &'a str, password: &'a str) -> Self {
        Self { site, home: Scratch::new("terminal"), user, password }
    }

    fn run(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = program(env!("CARGO_BIN_EXE_roadstead"));
        command.args(arguments).env("HOME", self.home.path()).env_remove("XDG_CONFIG_HOME");
        command.env("ROADSTEAD_URL", format!("http://{}", self.site.origin.address));
        command.env("ROADSTEAD_USER", self.user).env("ROADSTEAD_PASSWORD", self.password);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        // Whoever does not want to read may have ended.
        let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
        child.wait_with_output().expect("it ends")
    }

    /// What a command says that succeeds.
    fn does(&self, arguments: &[&str], input: &str) -> String {
        let output = self.run(arguments, input);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{arguments:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
        said
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let arguments: Vec<_> = arguments.iter().copied().chain(["--json"]).collect();
        serde_json::from_str(&self.does(&arguments, "")).expect("one document")
    }

    /// The sentence of a command that fails.
    fn fails(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments, "x\n");
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.starts_with("roadstead: ") && said.lines().count() == 1, "{arguments:?}: {said}");
        said
    }
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().expect("a list").iter().map(|entry| entry["name"].as_str().expect("a name")).collect()
}

#[test]
fn an_origin_is_administered_by_commands() {
    let site = Guarded::start();
    let admin = Terminal::of(&site, ADMIN, PASSWORD);
    admin.does(&["project", "create", "team"], "");
    assert_eq!(admin.json(&["project", "create", "open", "--public"])["public"], true);
    assert!(admin.fails(&["project", "create", "team"]).contains("exists already"));
    assert!(admin.fails(&["project", "create", "Bad/Name"]).contains("name of a project"));
    assert!(admin.fails(&["project", "show", "none"]).contains("no project none"));
    assert_eq!(names(&admin.json(&["project", "ls"])), ["open", "team"]);
    assert_eq!(admin.json(&["project", "show", "team"])["repositories"], 0);
    assert_eq!(admin.json(&["project", "set", "open", "--public", "false"])["public"], false);
    assert!(admin.does(&["project", "ls"], "").contains("team"));

    admin.does(&["user", "create", "ann", "--password-stdin", "--email", "ann@example.org"], "anns\n");
    admin.does(&["user", "create", "bob", "--password-stdin", "--auditor"], "bobs\n");
    assert!(admin.fails(&["user", "create", "ann", "--password-stdin"]).contains("exists already"));
    let users = admin.json(&["user", "ls"]);
    assert_eq!(names(&users), ["admin", "ann", "bob"]);
    assert_eq!(
        (&users[2]["auditor"], &users[0]["admin"], &users[1]["disabled"]),
        (&true.into(), &true.into(), &false.into())
    );
    let status = |name: &str, secret: &str| {
        request(site.origin.address, "GET", "/v2/", &[("Authorization", &basic(name, secret))], &[]).status
    };
    assert_eq!(status("ann", "anns"), 200);
    admin.does(&["user", "passwd", "ann", "--password-stdin"], "another\n");
    assert_eq!((status("ann", "anns"), status("ann", "another")), (401, 200));
    admin.does(&["user", "disable", "ann"], "");
    assert_eq!(status("ann", "another"), 401);
    admin.does(&["user", "enable", "ann"], "");
    assert_eq!(status("ann", "another"), 200);

    admin.does(&["member", "add", "team", "ann", "owner"], "");
    let ann = Terminal::of(&site, "ann", "another");
    ann.does(&["member", "add", "team", "bob", "developer"], "");
    assert_eq!(ann.json(&["member", "ls", "team"])[1]["role"], "developer");
    assert!(ann.fails(&["member", "rm", "team", "ann"]).contains("last owner"));
    ann.does(&["member", "rm", "team", "bob"], "");
    assert_eq!(names(&ann.json(&["project", "ls"])), ["team"]);
    assert!(ann.fails(&["project", "create", "more"]).contains("no admin"));

    let made = ann.json(&[
        "robot",
        "create",
        "team+ci",
        "--may",
        "pull,push",
        "--expires",
        "90d",
        "--from",
        "127.0.0.0/8",
    ]);
    let first = made["secret"].as_str().expect("a secret").to_owned();
    assert!(made["expires"].as_str().is_some_and(|time| time.ends_with('Z')), "{made}");
    assert_eq!(status("team+ci", &first), 200);
    let second = ann.does(&["robot", "rotate", "team+ci"], "");
    assert_eq!((status("team+ci", &first), status("team+ci", second.trim())), (200, 200));
    ann.does(&["robot", "rotate", "team+ci", "--overlap", "0s"], "");
    assert_eq!(status("team+ci", second.trim()), 401);
    ann.does(&["robot", "disable", "team+ci"], "");
    assert_eq!(ann.json(&["robot", "ls", "team"])[0]["disabled"], true);
    ann.does(&["robot", "enable", "team+ci"], "");
    ann.does(&["robot", "rm", "team+ci"], "");
    assert_eq!(names(&ann.json(&["robot", "ls"])), Vec::<&str>::new());

    admin.does(&["user", "rm", "bob"], "");
    admin.does(&["project", "rm", "team"], "");
    assert_eq!(names(&admin.json(&["project", "ls"])), ["open"]);
    let stranger = Terminal::of(&site, "ann", "wrong");
    assert!(stranger.fails(&["project", "ls"]).contains("wrong name or password"));
}

#[test]
fn a_login_is_checked_and_remembered() {
    let site = Guarded::start();
    let home = Scratch::new("home");
    let url = format!("http://{}", site.origin.address);
    let run = |arguments: &[&str], input: &str| {
        let mut command = program(env!("CARGO_BIN_EXE_roadstead"));
        command.args(arguments).env("HOME", home.path()).env_remove("XDG_CONFIG_HOME").stdin(Stdio::piped());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        // Whoever does not want to read may have ended.
        let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
        child.wait_with_output().expect("it ends").status.code()
    };
    let login = ["login", url.as_str(), "-u", ADMIN, "--password-stdin"];
    assert_eq!(run(&login, "wrong\n"), Some(1));
    assert_eq!(run(&login, PASSWORD), Some(0));
    assert_eq!(run(&["project", "create", "team"], ""), Some(0));
}
