//! An upstream whose packets vanish: nobody who can be served from the cache waits for it.

use std::{net::SocketAddr, time::Duration};

use crate::harness::{
    image::Image,
    namespace::Namespace,
    node::Plan,
    process::{PATIENCE, run, wait_for},
};

/// Warm requests that are measured.
const REQUESTS: usize = 1_000;
/// What nearly all of them take at the most.
const QUICK: Duration = Duration::from_millis(10);

#[derive(Debug)]
struct Answer {
    status: u16,
    took: Duration,
    retry_after: String,
    warning: String,
}

/// So many requests one after the other on one connection, from within the namespace.
fn ask(namespace: &Namespace, address: SocketAddr, path: &str, times: usize) -> Vec<Answer> {
    let url = format!("http://{address}{path}?request=[1-{times}]");
    let format = "%{http_code}|%{time_total}|%header{retry-after}|%header{warning}\\n";
    let said = run(namespace.program("curl").args(["-sS", "-o", "/dev/null", "-w", format, &url]));
    let answers: Vec<Answer> = said.lines().map(read).collect();
    assert_eq!(answers.len(), times, "{said}");
    answers
}

fn read(line: &str) -> Answer {
    let parts: Vec<&str> = line.splitn(4, '|').collect();
    let [status, seconds, retry_after, warning] = parts[..] else { panic!("{line}") };
    Answer {
        status: status.parse().expect("a status"),
        took: Duration::from_secs_f64(seconds.parse().expect("seconds")),
        retry_after: retry_after.to_owned(),
        warning: warning.to_owned(),
    }
}

#[test]
fn with_the_upstream_black_holed_99_percent_of_warm_requests_take_less_than_10_ms() {
    let namespace = Namespace::new();
    let origin = Plan::origin();
    let image = Image::make("with_the_upstream_black_holed", 1, 1000);
    {
        let mut outside = origin.start();
        image.push(outside.address, "team/app", "v1");
        assert_eq!(outside.leave(), Some(0));
    }
    let origin = origin.below(&namespace.wrapper()).start();
    let edge = Plan::edge(origin.address).below(&namespace.wrapper()).start();
    let (tag, unknown) = ("/v2/team/app/manifests/v1", "/v2/team/app/manifests/never-seen");
    for answer in ask(&namespace, edge.address, tag, 20) {
        assert_eq!((answer.status, answer.warning.as_str()), (200, ""), "{answer:?}");
    }
    namespace.drop_packets_to(origin.address.port());
    let answers = ask(&namespace, edge.address, tag, REQUESTS);
    for answer in &answers {
        assert_eq!((answer.status, answer.warning.is_empty()), (200, false), "{answer:?}");
    }
    let quick = answers.iter().filter(|answer| answer.took < QUICK).count();
    let slowest = answers.iter().map(|answer| answer.took).max().expect("there are some");
    assert!(quick * 100 >= REQUESTS * 99, "{quick} of {REQUESTS} in time, the slowest after {slowest:?}");
    // What is not cached is refused before any budget is spent, once it is known that nothing comes.
    wait_for("the upstream is known to be silent", PATIENCE, || {
        let answer = ask(&namespace, edge.address, unknown, 1).remove(0);
        assert_eq!(answer.status, 503, "{answer:?}");
        assert!(answer.retry_after.parse::<u32>().is_ok(), "{answer:?}");
        (answer.took < QUICK * 5).then_some(())
    });
    let again = ask(&namespace, edge.address, tag, REQUESTS);
    let quick = again.iter().filter(|answer| answer.took < QUICK).count();
    assert!(quick * 100 >= REQUESTS * 99, "{quick} of {REQUESTS} in time while it is known");
    namespace.deliver_packets_to(origin.address.port());
    wait_for("the upstream is asked again", PATIENCE, || {
        let answer = ask(&namespace, edge.address, tag, 1).remove(0);
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.warning.is_empty().then_some(())
    });
}
