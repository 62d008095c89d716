//! A small disk, and one that something else fills: pulls go on, all of them right.

use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use crate::harness::{
    cache::Store,
    content::{Content, try_blob},
    fault_proxy::{Fault, FaultProxy},
    image::Image,
    node::Plan,
    process::{PATIENCE, program, run, wait_for},
};

const CLIENTS: usize = 20;
const IMAGES: usize = 24;

/// A plan whose data directory is a file system of its own of so many megabytes.
fn on_a_small_disk(plan: Plan, megabytes: u32) -> Plan {
    fs::create_dir_all(plan.data()).expect("a directory can be made");
    let size = format!("size={megabytes}m");
    run(program("mount").args(["-t", "tmpfs", "-o", &size, "roadstead-test"]).arg(plan.data()));
    plan
}

/// Takes whatever is free until it is told to stop.
fn hog(data: &Path, over: &AtomicBool) {
    let mut file = File::create(data.join("somebody-elses")).expect("a file can be made");
    let piece = vec![1; 64 * 1024];
    while !over.load(Ordering::Relaxed) {
        if file.write_all(&piece).is_err() {
            std::thread::park_timeout(std::time::Duration::from_millis(5));
        }
    }
}

/// Ends the hog, when a pull fails too.
struct SetAtEnd<'a>(&'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn twenty_clients_pull_through_a_disk_that_is_filled_up_and_freed_again() {
    let origin = Plan::origin().start();
    let images: Vec<Image> = (0..IMAGES)
        .map(|number| Image::make(&format!("through_a_disk_that_is_filled {number}"), 3, 1 << 20))
        .collect();
    for (number, image) in images.iter().enumerate() {
        image.push(origin.address, "team/app", &format!("v{number}"));
    }
    let mut edge = on_a_small_disk(Plan::edge(origin.address), 40).start();
    let pulls = AtomicUsize::new(0);
    let pull_all = |from: usize| {
        for step in 0..IMAGES {
            let number = (from * 7 + step) % IMAGES;
            let content = Content::read(edge.address, "team/app", &format!("v{number}"));
            assert_eq!(content.digest, images[number].digest());
            pulls.fetch_add(1, Ordering::Relaxed);
        }
    };
    let pull_all = &pull_all;
    // More than the disk holds: room is made all the time.
    std::thread::scope(|scope| {
        for client in 0..CLIENTS / 2 {
            scope.spawn(move || pull_all(client));
        }
    });
    assert!(edge.metrics().count("roadstead_cache_evictions_total", &[]) > 0);
    // And now nothing is free.
    let (data, over) = (edge.plan().data(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| hog(&data, &over));
        let over = SetAtEnd(&over);
        std::thread::scope(|clients| {
            for client in 0..CLIENTS {
                clients.spawn(move || pull_all(client));
            }
        });
        drop(over);
    });
    assert_eq!(pulls.load(Ordering::Relaxed), (CLIENTS / 2 + CLIENTS) * IMAGES);

    // A start on a full disk is a start.
    edge.restart();
    Content::read(edge.address, "team/app", "v0");
    fs::remove_file(edge.plan().data().join("somebody-elses")).expect("it can be removed");
    wait_for("what is pulled is kept and written down again", PATIENCE, || {
        Content::read(edge.address, "team/app", "v1");
        edge.finishes_downloads();
        let listed = Store(edge.address).image("team/app:v1")?;
        (listed["complete"] == true).then_some(())
    });
    assert_eq!(Store(edge.address).verify()["damaged"], serde_json::json!([]));
    let metrics = edge.metrics();
    let states = metrics.count("roadstead_cache_state_bytes", &[]);
    assert_eq!(metrics.count("roadstead_cache_bytes", &[]), states);
}

#[test]
fn what_was_served_before_the_disk_filled_up_is_served_after_a_kill_on_it_with_the_origin_gone() {
    let mut origin = Plan::origin().start();
    let images: Vec<Image> = (0..4)
        .map(|number| Image::make(&format!("before_the_disk_filled_up {number}"), 2, 1 << 20))
        .collect();
    for (number, image) in images.iter().enumerate() {
        image.push(origin.address, "team/app", &format!("v{number}"));
    }
    // Nothing is left alone, so that nothing is thrown out for the sake of what fills the disk.
    let mut edge = on_a_small_disk(Plan::edge(origin.address), 40).set("cache.keep_free", "0").start();
    let pull = |edge: &crate::harness::node::Node, number: usize| {
        let content = Content::read(edge.address, "team/app", &format!("v{number}"));
        assert_eq!(content.digest, images[number].digest(), "v{number}");
    };
    (0..2).for_each(|number| pull(&edge, number));
    edge.finishes_downloads();
    Store(edge.address).post("pins", "team/app:v0").expect(200);
    let over = AtomicBool::new(false);
    let data = edge.plan().data();
    std::thread::scope(|scope| {
        scope.spawn(|| hog(&data, &over));
        let _over = SetAtEnd(&over);
        wait_for("the disk is full to the last byte", PATIENCE, || {
            let system = rustix::fs::statvfs(&data).expect("it is mounted");
            (system.f_bavail == 0).then_some(())
        });
        // Pins, tags, manifests, links and uses have to be written down, and there is no room for them.
        Store(edge.address).post("pins", "team/app:v1").expect(200);
        for number in (0..4).cycle().take(40) {
            pull(&edge, number);
        }
        origin.kill9();
        edge.restart();
        for number in [0, 1] {
            pull(&edge, number);
            let listed = Store(edge.address).image(&format!("team/app:v{number}")).expect("it is known");
            assert_eq!((&listed["pinned"], &listed["complete"]), (&true.into(), &true.into()), "{listed}");
        }
    });
    assert_eq!(Store(edge.address).verify()["damaged"], serde_json::json!([]));
}

#[test]
fn what_lies_on_the_disk_is_what_is_counted_partial_blobs_too() {
    let origin = Plan::origin().start();
    let proxy = FaultProxy::before(origin.address);
    let image = Image::make("what_lies_on_the_disk", 6, 1 << 20);
    image.push(origin.address, "team/app", "v1");
    let plan = Plan::edge(proxy.address).set("download.stall", "300ms").set("download.tries", "1");
    let mut edge = plan.set("cache.capacity", "16 MiB").set("cache.keep_free", "0").start();
    for (number, blob) in image.blobs.iter().enumerate() {
        // Every second one breaks off for good.
        proxy.spoils(move |asked| match (number % 2, asked.offset()) {
            (0, _) => Fault::Honest,
            (_, 0) => Fault::Cut(600_000),
            _ => Fault::Closed,
        });
        let _ = try_blob(edge.address, "team/app", &blob.digest());
    }
    for restarted in [false, true] {
        if restarted {
            edge.restart();
        }
        edge.finishes_downloads();
        let lies = |part: &str| bytes_below(&edge.plan().data().join(part));
        let metrics = wait_for("everything is counted", PATIENCE, || {
            let metrics = edge.metrics();
            let counted = |state| metrics.count("roadstead_cache_state_bytes", &[state]);
            let whole = counted("state=\"whole\"") == lies("blobs");
            (whole && counted("state=\"partial\"") == lies("partial")).then_some(metrics)
        });
        assert!(lies("partial") >= 3 * 600_000 && lies("blobs") >= 3 << 20, "restarted: {restarted}");
        assert_eq!(metrics.count("roadstead_cache_bytes", &[]), lies("partial") + lies("blobs"));
    }
}

/// The sizes of all files below a directory.
fn bytes_below(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => bytes_below(&entry.path()),
        Ok(found) => found.len(),
        Err(_) => 0,
    });
    sizes.sum()
}
