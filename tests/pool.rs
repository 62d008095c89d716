//! One database connection and two hundred clients: everybody gets an answer, and the right one.

use crate::harness::{
    content::{blob, manifest},
    image::Image,
    node::Plan,
    postgres,
};

const CLIENTS: usize = 200;

#[test]
fn two_hundred_clients_share_one_connection_to_sqlite() {
    everybody_is_served(&Plan::origin());
}

#[test]
fn two_hundred_clients_share_one_connection_to_postgresql() {
    everybody_is_served(&Plan::origin().set("database.url", &postgres::new_database()));
}

/// Each client pushes an image of its own to a repository that a few share, and pulls it and that of another.
fn everybody_is_served(plan: &Plan) {
    let origin = plan.clone().set("database.connections", "1").start();
    let common = Image::make("everybody_is_served", 1, 100_000);
    common.push(origin.address, "team/common", "latest");
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (common, address) = (&common, origin.address);
            scope.spawn(move || {
                let repository = format!("team/app-{}", client % 10);
                let image = Image::make(&format!("client {client}"), 1, 20_000);
                let tag = format!("v{client}");
                image.push(address, &repository, &tag);
                assert_eq!(manifest(address, &repository, &tag).0, image.digest());
                assert_eq!(manifest(address, "team/common", "latest").0, common.digest());
                assert_eq!(
                    blob(address, "team/common", &common.blobs[1].digest()),
                    common.blobs[1].bytes.len() as u64
                );
            });
        }
    });
    let failed = origin.metrics().count("roadstead_http_requests_total", &["status=\"5"]);
    assert_eq!(failed, 0, "no request failed on the way");
}
