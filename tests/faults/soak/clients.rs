//! Those who pull and push: what they ask for, and what they may and may not see.

use std::{
    collections::VecDeque,
    io, thread,
    time::{Duration, Instant},
};

use super::world::{Moving, Named, World};
use crate::{
    faults::{
        ask::{Known, Outcome, Reply, Way},
        chance::Chance,
    },
    harness::{
        content::ACCEPT,
        http::{Connection, location_of, try_request, with_digest},
        image::{Image, Typed},
    },
};

/// No answer about cached content takes longer, on the busiest machine.
const NEVER_LONGER: Duration = Duration::from_secs(10);

/// How many connections a client leaves open without reading.
const STALLED: usize = 2;

/// Images pushed on the way at the most.
const PUSHED: usize = 60;

/// Pulls, hangs up, stalls, evicts, until the soak is over.
pub(super) fn pull_until_over(world: &World, chance: &mut Chance) {
    let mut stalled = VecDeque::new();
    while !world.is_over() {
        thread::park_timeout(Duration::from_millis(5 + chance.below(25) as u64));
        let edge = chance.below(2);
        let images = world.images();
        let image = match chance.happens(40) {
            true => chance.below(images.iter().filter(|named| named.pinned).count()),
            false => chance.zipf(images.len()),
        };
        let named = &images[image];
        match chance.below(100) {
            0..10 => read_moving(world, edge),
            10..14 => hang_up(world, edge, named, chance),
            14..17 => {
                stalled.extend(stall(world, edge, named));
                stalled.drain(..stalled.len().saturating_sub(STALLED));
            }
            17..20 if !named.pinned => evict(world, edge, named),
            20..40 => pull(world, edge, named, chance),
            _ => drop(ask(world, edge, named, &one_of(named, chance), way(chance))),
        }
    }
}

/// The whole image: its tag, and then its blobs as far as they are served.
fn pull(world: &World, edge: usize, named: &Named, chance: &mut Chance) {
    let root = match chance.happens(70) {
        true => Known::tag(&named.repository, &named.tag, &named.image),
        false => Known::manifest(&named.repository, &named.image),
    };
    let mut served = ask(world, edge, named, &root, Way::Get);
    for blob in &named.image.blobs {
        served = served && ask(world, edge, named, &Known::blob(&named.repository, blob), Way::Get);
    }
    world.counts(if served {
        "images pulled whole"
    } else {
        "pulls given up: not cached, and the upstream ill"
    });
}

fn one_of<'a>(named: &'a Named, chance: &mut Chance) -> Known<'a> {
    let count = named.image.blobs.len();
    match chance.below(count + 2) {
        0 => Known::tag(&named.repository, &named.tag, &named.image),
        1 => Known::manifest(&named.repository, &named.image),
        number => Known::blob(&named.repository, &named.image.blobs[number - 2]),
    }
}

fn way(chance: &mut Chance) -> Way {
    match chance.below(10) {
        0..2 => Way::Head,
        _ => Way::Get,
    }
}

/// Asks, and looks at what came; whether it was served.
fn ask(world: &World, edge: usize, named: &Named, known: &Known<'_>, way: Way) -> bool {
    let began = Instant::now();
    // Half of what is asked for of a blob by HEAD is asked for by its last bytes as well.
    let mut replies = vec![(way, known.ask(world.edges[edge], way))];
    if way == Way::Head && known.path().contains("/blobs/") {
        let (first, last) = (known.bytes.len() / 2, known.bytes.len() - 1);
        let way = Way::Range(first, last);
        replies.push((way, known.ask(world.edges[edge], way)));
    }
    replies
        .iter()
        .all(|(way, reply)| judge(world, edge, named, began, &format!("{way:?} {}", known.path()), reply))
}

fn judge(world: &World, edge: usize, named: &Named, began: Instant, what: &str, reply: &Reply) -> bool {
    let excused = edge == 0 && world.was_out_since(began);
    let pinned = if named.pinned { "pinned" } else { "other" };
    match &reply.outcome {
        Outcome::Right => {
            let status = reply.header("cache-status").unwrap_or_default();
            if named.pinned && status.contains("fwd=miss") {
                world.is_violated(format!("edge {edge}, {what}: not out of the cache: {status}"));
            }
            world.counts(format!(
                "{pinned}: served, {}",
                status.split_once(';').map_or(status, |(_, rest)| rest.trim())
            ));
        }
        Outcome::Wrong(why) => world.is_violated(format!("edge {edge}, {what}: {why}")),
        Outcome::Refused(_) | Outcome::Broken(_) if excused => {
            world.counts("while the first edge was killed: not served")
        }
        outcome if named.pinned => {
            world.is_violated(format!(
                "edge {edge}, {what}: {outcome:?} after {:?}, {:?}",
                reply.took, reply.head
            ));
        }
        Outcome::Unproven(_) => world.counts("other: a length or a part by the word of a lying upstream"),
        Outcome::Refused(_) => world.counts("other: refused with 503"),
        Outcome::Broken(_) => world.counts("other: broken off"),
    }
    if named.pinned && !excused {
        world.served_pinned(reply.took);
        if reply.took > NEVER_LONGER {
            world.is_violated(format!("edge {edge}, {what} took {:?}", reply.took));
        }
    }
    reply.outcome == Outcome::Right
}

/// A tag that nobody warns about is at least as new as the request.
fn read_moving(world: &World, edge: usize) {
    let acknowledged = world.moving.acknowledged();
    if acknowledged == 0 {
        return;
    }
    let path = format!("/v2/{}/manifests/latest", Moving::REPOSITORY);
    let Ok(answer) = try_request(world.edges[edge], "GET", &path, &[("Accept", ACCEPT)], &[]) else {
        return world.counts("moving tag: not served");
    };
    let stale = answer.header("warning").is_some();
    match (answer.status, world.moving.number_of(&answer.body)) {
        (200, Some(number)) if stale || number >= acknowledged => {
            world.counts(if stale { "moving tag: served stale, and says so" } else { "moving tag: fresh" });
        }
        (503, _) => world.counts("moving tag: not served"),
        (status, number) => world.is_violated(format!(
            "edge {edge}, {path}: {status}, move {number:?} without a warning, while {acknowledged} was known: {:?}",
            answer.head
        )),
    }
}

/// Takes a part of a blob and leaves.
fn hang_up(world: &World, edge: usize, named: &Named, chance: &mut Chance) {
    let blob = &named.image.blobs[1 + chance.below(named.image.blobs.len() - 1)];
    if let Ok(mut connection) = begin(world, edge, named, blob) {
        let _ = connection.read_exactly(chance.below(blob.bytes.len()) as u64, &mut io::sink());
    }
    world.counts("clients that hung up");
}

/// Begins to take a blob, and then does nothing.
fn stall(world: &World, edge: usize, named: &Named) -> Option<Connection> {
    world.counts("clients that stalled");
    begin(world, edge, named, &named.image.blobs[1]).ok()
}

fn begin(world: &World, edge: usize, named: &Named, blob: &Typed) -> io::Result<Connection> {
    let mut connection = Connection::open(world.edges[edge])?;
    connection.send_head("GET", &Known::blob(&named.repository, blob).path(), &[])?;
    connection.read_head()?;
    Ok(connection)
}

/// Somebody makes room by hand.
fn evict(world: &World, edge: usize, named: &Named) {
    let document = format!(r#"{{"image":"{}:{}"}}"#, named.repository, named.tag);
    let headers = [("Content-Type", "application/json")];
    let answer = try_request(world.edges[edge], "POST", "/api/v1/cache/evict", &headers, document.as_bytes());
    match answer.map(|answer| answer.status) {
        Ok(200 | 404) | Err(_) => world.counts("images evicted by hand"),
        Ok(status) => world.is_violated(format!("evicting {}: {status}", named.tag)),
    }
}

/// Pushes new images and moves a tag, as far as the origin is there.
pub(super) fn push_until_over(world: &World, chance: &mut Chance) {
    for number in 0.. {
        thread::park_timeout(Duration::from_millis(200 + chance.below(400) as u64));
        if world.is_over() {
            return;
        }
        let image = Image::make(&format!("soak: moving {number}"), 1, 10_000);
        let move_number = world.moving.begins(image.clone());
        if push(world, Moving::REPOSITORY, "latest", &image) {
            world.moving.is_acknowledged(move_number);
        }
        if number < PUSHED && number % 2 == 0 {
            let image = Image::make(&format!("soak: new {number}"), 1, 50_000 + chance.below(200_000));
            let (repository, tag) = ("team/new".to_owned(), format!("n{number}"));
            if push(world, &repository, &tag, &image) {
                world.adds(Named { repository, tag, image, pinned: false });
            }
        }
    }
}

/// Whether the origin has acknowledged all of it.
fn push(world: &World, repository: &str, tag: &str, image: &Image) -> bool {
    let pushed = image.blobs.iter().try_for_each(|blob| push_blob(world, repository, blob));
    let pushed = pushed.and_then(|()| {
        let path = format!("/v2/{repository}/manifests/{tag}");
        let headers = [("Content-Type", image.manifest.media_type.as_str())];
        expect(201, try_request(world.origin, "PUT", &path, &headers, &image.manifest.bytes)?.status)
    });
    world.counts(if pushed.is_ok() { "images pushed" } else { "pushes that the killed origin did not take" });
    pushed.is_ok()
}

fn push_blob(world: &World, repository: &str, blob: &Typed) -> io::Result<()> {
    let begun = try_request(world.origin, "POST", &format!("/v2/{repository}/blobs/uploads/"), &[], &[])?;
    expect(202, begun.status)?;
    let path = with_digest(&location_of(&begun), &blob.digest());
    let headers = [("Content-Type", "application/octet-stream")];
    expect(201, try_request(world.origin, "PUT", &path, &headers, &blob.bytes)?.status)
}

fn expect(wanted: u16, status: u16) -> io::Result<()> {
    if status == wanted { Ok(()) } else { Err(io::Error::other(status.to_string())) }
}
