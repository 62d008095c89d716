//! HTTP/2 beside HTTP/1.1, and clients that take nothing of their answers, in both and in TLS.

use std::{
    process::{Child, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use super::clients::{curl, pair, secured};
use crate::harness::{
    authority::Authority,
    content::digest_of,
    http::get,
    image::{Typed, push_blob},
    node::{Node, Plan},
    noise::Noise,
    process::{PATIENCE, dies_with_caller, program, run, wait_for},
    scratch::Scratch,
};

/// The ranges that a blob is fetched in at once.
const RANGES: usize = 12;
/// Clients that stop in the midst of an answer.
const STUCK: usize = 24;
/// What they may cost together: less than three frames of 256 KiB, and its records, for each.
const STUCK_MEMORY: u64 = 32 << 20;

fn blob(name: &str, bytes: usize) -> Typed {
    Typed { media_type: "application/octet-stream".into(), bytes: Noise::new(Noise::seed(name)).bytes(bytes) }
}

#[test]
fn ranges_that_are_fetched_at_once_over_one_connection_are_right() {
    let authority = Authority::make();
    let pair = pair(&authority);
    let origin = Plan::origin().start();
    let blob = blob("ranges_that_are_fetched_at_once", (9 << 20) + 4321);
    push_blob(origin.address, "team/app", &blob);
    let secure = secured(Plan::edge(origin.address), pair.path()).start();
    let plain = Plan::edge(origin.address).start();
    let ca = authority.file().display().to_string();
    let path = format!("/v2/team/app/blobs/{}", blob.digest());
    // Cold, while it arrives; then from the store.
    for _ in 0..2 {
        fetch_at_once(&format!("https://{}{path}", secure.address), &ca, &blob);
        fetch_from_each(&format!("http://{}{path}", plain.address), &blob);
    }
    assert_eq!(origin.metrics().count("roadstead_http_requests_running", &[]), 1, "only the question itself");
}

fn range(number: usize, blob: &Typed) -> String {
    let step = blob.bytes.len() / RANGES;
    let last = if number + 1 == RANGES { String::new() } else { (step * (number + 1) - 1).to_string() };
    format!("{}-{last}", step * number)
}

/// One curl, which shares a connection between its transfers.
fn fetch_at_once(url: &str, ca: &str, blob: &Typed) {
    let scratch = Scratch::new("ranges");
    let mut command = program("curl");
    command.args(["--parallel", "--parallel-max", "50"]);
    for number in 0..RANGES {
        command.args(["--silent", "--show-error", "--fail", "--http2", "--cacert", ca]);
        command.args(["-w", "%{http_version} %{http_code} %{num_connects}\n", "-r", &range(number, blob)]);
        command.args(["-o", &scratch.text(&format!("part-{number}")), url]);
        if number + 1 < RANGES {
            command.arg("--next");
        }
    }
    let said = run(&mut command);
    let lines: Vec<Vec<&str>> = said.lines().map(|line| line.split(' ').collect()).collect();
    assert_eq!(lines.len(), RANGES, "{said}");
    assert!(lines.iter().all(|line| line[..2] == ["2", "206"]), "{said}");
    let connections: usize = lines.iter().map(|line| line[2].parse::<usize>().expect("a number")).sum();
    assert!(connections < RANGES, "{connections} connections: nothing was shared");
    let parts =
        (0..RANGES).map(|number| std::fs::read(scratch.join(&format!("part-{number}"))).expect("written"));
    assert_eq!(digest_of(parts.collect::<Vec<_>>().concat().as_slice()), blob.digest());
}

/// A curl for each: when curl 7.88 shares a connection without TLS it sends the preface twice, to any server.
fn fetch_from_each(url: &str, blob: &Typed) {
    let fetch = |number| {
        let options = [
            "--silent",
            "--show-error",
            "--fail",
            "--http2-prior-knowledge",
            "-r",
            &range(number, blob),
            url,
        ];
        let fetched = program("curl").args(options).output().expect("curl runs");
        assert!(fetched.status.success(), "{}", String::from_utf8_lossy(&fetched.stderr));
        fetched.stdout
    };
    let parts: Vec<Vec<u8>> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..RANGES).map(|number| scope.spawn(move || fetch(number))).collect();
        running.into_iter().map(|part| part.join().expect("no panic")).collect()
    });
    assert_eq!(digest_of(parts.concat().as_slice()), blob.digest());
}

#[test]
fn requests_over_http2_have_ids_and_counts_as_all_others_have() {
    let origin = Plan::origin().set("log.level", "info,oci=debug").start();
    let url = format!("http://{}/v2/", origin.address);
    let head = run(program("curl").args(["-sS", "--fail", "-i", "--http2-prior-knowledge", &url]));
    let id =
        head.lines().find_map(|line| line.strip_prefix("x-request-id: ")).unwrap_or_else(|| panic!("{head}"));
    let line = wait_for("the request is in the log", PATIENCE, || {
        origin.log().lines().find(|line| line.contains(id.trim())).map(str::to_owned)
    });
    assert!(line.contains("HTTP/2.0") && line.contains("/v2/"), "{line}");
}

#[test]
fn clients_that_stop_in_the_midst_of_an_answer_are_dropped_and_cost_little() {
    let authority = Authority::make();
    let pair = pair(&authority);
    let origin = secured(Plan::origin().set("limits.idle_timeout", "3s"), pair.path()).start();
    let blob = blob("clients_that_stop_in_the_midst", 48 << 20);
    let path = push_over_https(&authority, &origin, &blob);
    let url = format!("https://{}{path}", origin.address);
    // Once to the end, so that what a transfer needs once is not counted for those that stop.
    assert_eq!(
        run(curl(&authority).args(["-o", "/dev/null", "-w", "%{size_download}", &url])),
        (48 << 20).to_string()
    );
    let idle = origin.memory("VmRSS");
    origin.reset_peak_memory();

    let count = |name: &str, labels: &[&str]| origin.metrics().count(name, labels);
    let answered = || count("roadstead_http_requests_total", &["route=\"blob\"", "status=\"200\""]);
    let before = answered();
    let ca = authority.file();
    let stuck: Vec<Stuck> = (0..STUCK)
        .map(|number| {
            let mut command = dies_with_caller("curl");
            command.args(["-sS", if number % 2 == 0 { "--http2" } else { "--http1.1" }, "--cacert"]).arg(&ca);
            // Its output is a pipe that nobody reads, so it stops by itself; SIGSTOP makes it sure.
            Stuck(
                command.arg(&url).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("curl starts"),
            )
        })
        .collect();
    wait_for("all of them are being answered", PATIENCE, || {
        (answered() == before + STUCK as u64).then_some(())
    });
    stuck.iter().for_each(Stuck::stop);
    wait_for("all of them are dropped", PATIENCE, || {
        (count("roadstead_http_requests_running", &[]) == 1).then_some(())
    });
    let peak = origin.memory("VmHWM");
    assert!(peak < idle + STUCK_MEMORY, "{} KiB for {STUCK} clients", (peak.saturating_sub(idle)) >> 10);
    assert_eq!(
        run(curl(&authority).args(["-o", "/dev/null", "-w", "%{size_download}", &url])),
        (48 << 20).to_string()
    );
    drop(stuck);
}

#[test]
fn connections_that_never_finish_their_handshake_are_dropped_while_others_are_served() {
    use std::io::{Read as _, Write as _};
    let authority = Authority::make();
    let pair = pair(&authority);
    let limits = [("limits.header_timeout", "1s"), ("limits.connections", "300")];
    let plan = limits.iter().fold(Plan::origin(), |plan, (key, value)| plan.set(key, value));
    let origin = secured(plan, pair.path()).start();
    let mut slow: Vec<std::net::TcpStream> = (0..200)
        .map(|_| {
            let mut stream = std::net::TcpStream::connect(origin.address).expect("connected");
            stream.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc").expect("the socket takes it");
            stream.set_nonblocking(true).expect("a socket");
            stream
        })
        .collect();
    let url = format!("https://{}/v2/", origin.address);
    run(curl(&authority).args(["--max-time", "2", &url]));
    wait_for("all of them are dropped", PATIENCE, || {
        slow.retain_mut(|stream| !matches!(stream.read(&mut [0; 16]), Ok(0)));
        slow.is_empty().then_some(())
    });
    assert!(origin.metrics().count("roadstead_tls_handshakes_failed_total", &[]) >= 200);
    run(curl(&authority).args(["--max-time", "2", &url]));
}

#[test]
fn a_client_without_tls_is_told_to_come_with_it() {
    let authority = Authority::make();
    let pair = pair(&authority);
    let origin = secured(Plan::origin(), pair.path()).start();
    let answer = get(origin.address, "/v2/");
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("this port speaks HTTPS"), "{}", answer.text());
}

/// A client that does not go on.
struct Stuck(Child);

impl Stuck {
    fn stop(&self) {
        let pid = Pid::from_child(&self.0);
        kill_process(pid, Signal::STOP).expect("it is our child");
    }
}

impl Drop for Stuck {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Pushes a blob in one POST, and tells its path.
fn push_over_https(authority: &Authority, origin: &Node, blob: &Typed) -> String {
    let scratch = Scratch::new("push");
    let file = scratch.file("blob", &blob.bytes);
    let url = format!("https://{}/v2/team/app/blobs/uploads/?digest={}", origin.address, blob.digest());
    let status = run(curl(authority).args([
        "-X",
        "POST",
        "-H",
        "Content-Type: application/octet-stream",
        "--data-binary",
        &format!("@{file}"),
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        "--max-time",
        &Duration::from_mins(2).as_secs().to_string(),
        &url,
    ]));
    assert_eq!(status, "201");
    format!("/v2/team/app/blobs/{}", blob.digest())
}
