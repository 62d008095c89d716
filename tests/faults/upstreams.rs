//! Every way in which an upstream fails, before a real edge: what is cached is served as if nothing had happened, what is
//! not is served as soon as its bytes come, or refused in time, and never as something else than it is.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::Mutex,
    time::{Duration, Instant},
};

use super::ask::{Known, Outcome, Way};
use crate::harness::{
    content::Content,
    fault_proxy::{Fault, FaultProxy},
    image::{Image, Typed},
    node::{Node, Plan},
    process::{PATIENCE, wait_for},
};

/// What a tag that is cached may cost while the upstream is ill: the budget of 300 ms and a busy machine.
const CACHED: Duration = Duration::from_secs(2);

/// How long a client waits at the most for the refusal that sends it elsewhere: a first byte's second, and a busy machine.
const REFUSED: Duration = Duration::from_secs(4);

/// Edges at work at a time.
const AT_ONCE: usize = 4;

/// What becomes of a request for what the cache does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Uncached {
    /// It is served.
    Served,
    /// It may be refused; the bytes come all the same, and are served soon.
    ServedSoon,
    /// It is refused in time.
    Refused,
    /// It is refused, or its connection ends before its last byte.
    NotWhole,
    /// As `NotWhole`, or every byte of it is right.
    NeverWrong,
}

struct Case {
    what: &'static str,
    fault: Ill,
    manifest: Uncached,
    blob: Uncached,
}

enum Ill {
    Dead,
    Does(Fault),
    WithManifests(Fault),
}

fn case(what: &'static str, fault: Fault, manifest: Uncached, blob: Uncached) -> Case {
    Case { what, fault: Ill::Does(fault), manifest, blob }
}

/// More than any manifest, less than any layer.
const INSIDE: u64 = 100_000;

fn cases() -> Vec<Case> {
    use Uncached::{NeverWrong, NotWhole, Refused, Served, ServedSoon};
    let limited = Fault::error("429 Too Many Requests", "TOOMANYREQUESTS", "Retry-After: 7");
    vec![
        Case { what: "dead", fault: Ill::Dead, manifest: Refused, blob: Refused },
        case("hung", Fault::Silent, Refused, Refused),
        case("closing at once", Fault::Closed, Refused, Refused),
        case("slow to begin", Fault::Late(Duration::from_millis(600)), ServedSoon, ServedSoon),
        // It takes longer than all deadlines together: they are about progress.
        case("slow throughout", Fault::Slow(8192, Duration::from_millis(50)), Served, Served),
        case("cut again and again", Fault::Cut(INSIDE), Served, Served),
        case("reset again and again", Fault::Reset(INSIDE), Served, Served),
        case("half closed again and again", Fault::HalfClosed(INSIDE), Served, Served),
        case("half closed behind its heads", Fault::HalfClosed(0), Refused, NotWhole),
        case("stuck again and again", Fault::Stuck(INSIDE), Served, Served),
        Case {
            what: "cut in every manifest",
            fault: Ill::WithManifests(Fault::Cut(50)),
            manifest: Refused,
            blob: Served,
        },
        case("a bit flipped", Fault::Flipped(40), Refused, NotWhole),
        case("a byte short", Fault::Shorter, Refused, NotWhole),
        // Where the true length is told beside the wrong one, in a `Content-Range`, the blob may well come right.
        case("a byte long", Fault::Longer, Refused, NeverWrong),
        case("rate limited", limited, Refused, Refused),
        // A page may be a blob: nobody knows before its end, which it never reaches.
        case("a web page with 200", Fault::page("200 OK"), Refused, NotWhole),
        case("a web page with 404", Fault::page("404 Not Found"), Refused, Refused),
        case("asking who we are", Fault::error("401 Unauthorized", "UNAUTHORIZED", ""), Refused, Refused),
        case("forbidding it", Fault::error("403 Forbidden", "DENIED", ""), Refused, Refused),
        case("in pieces", Fault::error("500 Internal Server Error", "UNKNOWN", ""), Refused, Refused),
    ]
}

/// What is asked for, cached or not.
struct Images {
    cached: Image,
    fresh: Image,
}

#[test]
fn an_ill_upstream_costs_cached_content_nothing_and_never_makes_an_answer_wrong() {
    let origin = Plan::origin().start();
    let images = Images {
        cached: Image::make("ill: cached", 2, 400_000),
        fresh: Image::make("ill: fresh", 2, 400_000),
    };
    images.cached.push(origin.address, "team/app", "cached");
    images.fresh.push(origin.address, "team/app", "fresh");
    let cases = Mutex::new(VecDeque::from(cases()));
    let next = || cases.lock().expect("nobody panics with it").pop_front();
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(case) = next() {
                    let began = Instant::now();
                    examine(&case, origin.address, &images);
                    println!("an upstream that is {}: {:?}", case.what, began.elapsed());
                }
            });
        }
    });
}

fn examine(case: &Case, origin: SocketAddr, images: &Images) {
    let mut proxy = FaultProxy::before(origin);
    let edge = Plan::edge(proxy.address)
        .set("download.first_byte", "1s")
        .set("download.stall", "500ms")
        .set("download.tries", "4")
        .start();
    Content::read(edge.address, "team/app", "cached");
    edge.finishes_downloads();
    match &case.fault {
        Ill::Dead => proxy.goes_down(),
        Ill::Does(fault) => proxy.does(fault.clone()),
        Ill::WithManifests(fault) => {
            let fault = fault.clone();
            proxy.spoils(move |asked| if asked.is_for_blob() { Fault::Honest } else { fault.clone() });
        }
    }
    proxy.take_asked();
    assert_cached_is_served(case, &edge, &proxy, &images.cached);
    assert_uncached_is_as_expected(case, &edge, &images.fresh);
    assert_cached_is_served(case, &edge, &proxy, &images.cached);

    match case.fault {
        Ill::Dead => proxy.comes_up(),
        Ill::Does(_) | Ill::WithManifests(_) => proxy.does(Fault::Honest),
    }
    wait_for(&format!("{}, and well again", case.what), PATIENCE, || {
        let tag = Known::tag("team/app", "fresh", &images.fresh).ask(edge.address, Way::Get);
        (tag.outcome == Outcome::Right && tag.header("warning").is_none()).then_some(())
    });
    wait_for(&format!("{}, and everything is served", case.what), PATIENCE, || {
        let whole = images.fresh.blobs.iter().all(|blob| {
            let reply = Known::blob("team/app", blob).ask(edge.address, Way::Get);
            assert!(!matches!(reply.outcome, Outcome::Wrong(_)), "{}: {reply:?}", case.what);
            reply.outcome == Outcome::Right
        });
        whole.then_some(())
    });
}

fn assert_cached_is_served(case: &Case, edge: &Node, proxy: &FaultProxy, image: &Image) {
    let (what, layer) = (case.what, &image.blobs[1]);
    let tag = Known::tag("team/app", "cached", image);
    for way in [Way::Get, Way::Head, Way::Get] {
        let reply = tag.ask(edge.address, way);
        reply.right_within(CACHED, &format!("{what}: a cached tag by {way:?}"));
    }
    proxy.take_asked();
    for (known, way) in [
        (Known::manifest("team/app", image), Way::Get),
        (Known::manifest("team/app", image), Way::Head),
        (Known::blob("team/app", layer), Way::Get),
        (Known::blob("team/app", layer), Way::Head),
        (Known::blob("team/app", layer), Way::Range(1000, 300_000)),
    ] {
        let reply = known.ask(edge.address, way);
        reply.right_within(CACHED, &format!("{what}: {} by {way:?}", known.path()));
        let status = reply.header("cache-status").unwrap_or_default();
        assert!(status.contains("; hit"), "{what}: {status}");
    }
    // A confirmation of the tag, or a download of what is not cached, may still be under way.
    let cached: Vec<String> = image.blobs.iter().map(Typed::digest).chain([image.digest()]).collect();
    let needless =
        proxy.take_asked().into_iter().find(|asked| cached.iter().any(|name| name == asked.name()));
    assert!(needless.is_none(), "{what}: asked upstream for what is cached: {needless:?}");
}

fn assert_uncached_is_as_expected(case: &Case, edge: &Node, image: &Image) {
    let (what, layer) = (case.what, &image.blobs[2]);
    let expectations = [
        (Known::tag("team/app", "fresh", image), Way::Head, case.manifest),
        (Known::tag("team/app", "fresh", image), Way::Get, case.manifest),
        (Known::manifest("team/app", image), Way::Get, case.manifest),
        (Known::blob("team/app", layer), Way::Get, case.blob),
        (Known::blob("team/app", &image.blobs[1]), Way::Range(200_000, 300_000), case.blob),
    ];
    for (known, way, expected) in expectations {
        let what = format!("{what}: {} by {way:?}, not cached", known.path());
        let reply = known.ask(edge.address, way);
        match expected {
            Uncached::Served => drop(reply.right_within(PATIENCE, &what)),
            Uncached::Refused => {
                reply.refused_within(REFUSED, &what);
                // What the upstream said of when to come again is passed on.
                let limited = case.what == "rate limited";
                assert!(!limited || matches!(reply.outcome, Outcome::Refused(2..=7)), "{what}: {reply:?}");
            }
            Uncached::NotWhole => {
                assert!(reply.outcome != Outcome::Right || matches!(way, Way::Range(..)), "{what}");
                assert!(!matches!(reply.outcome, Outcome::Wrong(_)), "{what}: {reply:?}");
            }
            Uncached::NeverWrong => assert!(!matches!(reply.outcome, Outcome::Wrong(_)), "{what}: {reply:?}"),
            Uncached::ServedSoon => {
                assert!(!matches!(reply.outcome, Outcome::Wrong(_)), "{what}: {reply:?}");
                assert!(reply.took < REFUSED, "{what}: {:?}", reply.took);
                wait_for(&what, PATIENCE, || {
                    (known.ask(edge.address, way).outcome == Outcome::Right).then_some(())
                });
            }
        }
    }
}
