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
    // From the first moment on, with the budget that it takes to notice.
    in_one_of_three_rounds(|| {
        is_well(&namespace, edge.address, tag);
        namespace.drop_packets_to(origin.address.port());
        let slow = slow_ones(&namespace, edge.address, tag);
        namespace.deliver_packets_to(origin.address.port());
        slow
    });
    is_well(&namespace, edge.address, tag);
    namespace.drop_packets_to(origin.address.port());
    // What is not cached is refused before any budget is spent, once it is known that nothing comes.
    wait_for("the upstream is known to be silent", PATIENCE, || {
        let answer = ask(&namespace, edge.address, unknown, 1).remove(0);
        assert_eq!(answer.status, 503, "{answer:?}");
        assert!(answer.retry_after.parse::<u32>().is_ok(), "{answer:?}");
        (answer.took < QUICK * 5).then_some(())
    });
    in_one_of_three_rounds(|| slow_ones(&namespace, edge.address, tag));
    namespace.deliver_packets_to(origin.address.port());
    is_well(&namespace, edge.address, tag);
}

/// Waits until the tag is confirmed again.
fn is_well(namespace: &Namespace, edge: SocketAddr, tag: &str) {
    wait_for("the upstream is asked again", PATIENCE, || {
        let answer = ask(namespace, edge, tag, 1).remove(0);
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.warning.is_empty().then_some(())
    });
}

/// Of [`REQUESTS`] stale answers, how long each took that was not quick.
fn slow_ones(namespace: &Namespace, edge: SocketAddr, tag: &str) -> Vec<Duration> {
    let answers = ask(namespace, edge, tag, REQUESTS);
    for answer in &answers {
        assert_eq!((answer.status, answer.warning.is_empty()), (200, false), "{answer:?}");
    }
    answers.iter().map(|answer| answer.took).filter(|took| *took >= QUICK).collect()
}

/// At most 1 % may be slow. Tests run beside this one and share its cores, so that some requests may wait for those; what is
/// slow by itself is slow in each round.
fn in_one_of_three_rounds(mut round: impl FnMut() -> Vec<Duration>) {
    let mut slow = Vec::new();
    for _ in 0..3 {
        slow.push(round());
        if slow.last().is_some_and(|slow| slow.len() * 100 <= REQUESTS) {
            return;
        }
    }
    panic!("more than 1 % of {REQUESTS} are slow in each round: {slow:?}");
}
