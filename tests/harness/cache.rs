//! The operator API of an edge, as an operator's program uses it.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::{
    http::{Answer, get, request},
    process::{PATIENCE, wait_for},
};

/// The store of the edge at this address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Store(pub(crate) SocketAddr);

impl Store {
    /// The images that it has, as the edge lists them.
    pub(crate) fn images(self) -> Vec<Value> {
        let listed = get(self.0, "/api/v1/cache").expect(200);
        serde_json::from_slice(&listed.body).expect("a list")
    }

    /// The line of one image.
    pub(crate) fn image(self, name: &str) -> Option<Value> {
        self.images().into_iter().find(|image| image["image"] == name)
    }

    pub(crate) fn stats(self) -> Value {
        serde_json::from_slice(&get(self.0, "/api/v1/cache/stats").expect(200).body).expect("a document")
    }

    /// POSTs a document that names an image.
    pub(crate) fn post(self, path: &str, image: &str) -> Answer {
        let document = json!({"image": image}).to_string();
        let headers = [("Content-Type", "application/json")];
        request(self.0, "POST", &format!("/api/v1/cache/{path}"), &headers, document.as_bytes())
    }

    pub(crate) fn unpin(self, image: &str) -> Answer {
        request(self.0, "DELETE", &format!("/api/v1/cache/pins?image={image}"), &[], &[])
    }

    /// Verifies everything, and gives the report.
    pub(crate) fn verify(self) -> Value {
        request(self.0, "POST", "/api/v1/cache/verify", &[], &[]).expect(202);
        wait_for("the verification ends", PATIENCE, || {
            let report = get(self.0, "/api/v1/cache/verify").expect(200);
            let report: Value = serde_json::from_slice(&report.body).expect("a report");
            (report["running"] == false).then_some(report)
        })
    }
}
