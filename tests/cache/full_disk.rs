//! A small disk, and one that something else fills: pulls go on, all of them right.

use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use crate::harness::{
    cache::Store,
    content::Content,
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
