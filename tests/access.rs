//! Who may do what, with real clients over the network: an origin that asks everybody who they are.

mod clients;
mod logins;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use crate::harness::{
    http::{Answer, request},
    node::{Node, Plan},
    process::{PATIENCE, wait_for},
    scratch::Scratch,
};

pub(crate) const ADMIN: &str = "admin";
pub(crate) const PASSWORD: &str = "the admins own";

/// An origin that asks.
#[derive(Debug)]
pub(crate) struct Guarded {
    pub(crate) origin: Node,
}

impl Guarded {
    pub(crate) fn start() -> Self {
        Self { origin: Plan::guarded_origin().set("auth.admin_password", &format!("\"{PASSWORD}\"")).start() }
    }

    /// Asks the administration API as the admin.
    pub(crate) fn api(&self, method: &str, path: &str, document: &str) -> Answer {
        api_as(&self.origin, ADMIN, PASSWORD, method, path, document)
    }

    pub(crate) fn project(&self, name: &str) {
        self.api("POST", "projects", &json!({"name": name}).to_string()).expect(201);
    }

    pub(crate) fn user(&self, name: &str, password: &str) {
        self.api("POST", "users", &json!({"name": name, "password": password}).to_string()).expect(201);
    }

    pub(crate) fn member(&self, project: &str, name: &str, role: &str) {
        let member = json!({"project": project, "name": name, "role": role});
        self.api("POST", "members", &member.to_string()).expect(201);
    }

    /// Makes a robot, and gives its secret.
    pub(crate) fn robot(&self, name: &str, may: &[&str]) -> String {
        let answer = self.api("POST", "robots", &json!({"name": name, "may": may}).to_string()).expect(201);
        secret_in(&answer)
    }

    pub(crate) fn set(&self, path: &str, change: &str) {
        self.api("PATCH", path, change).expect(200);
    }

    /// An edge before it, with credentials of its own.
    pub(crate) fn edge(&self, name: &str, secret: &str) -> Node {
        let scratch = Scratch::new("secret");
        let (address, file) = (self.origin.address, scratch.file("secret", format!("{secret}\n")));
        // The file is read at the start.
        Plan::edge_with(&format!(
            "[upstream.\"{address}\"]\nurl = \"http://{address}\"\ndefault = true\nusername = \"{name}\"\npassword_file = \"{file}\"\n"
        ))
        .start()
    }
}

pub(crate) fn api_as(
    origin: &Node,
    name: &str,
    password: &str,
    method: &str,
    path: &str,
    document: &str,
) -> Answer {
    let authorization = basic(name, password);
    let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
    request(origin.address, method, &format!("/api/v1/{path}"), &headers, document.as_bytes())
}

pub(crate) fn secret_in(answer: &Answer) -> String {
    let document: Value = serde_json::from_slice(&answer.body).expect("JSON");
    document["secret"].as_str().expect("a secret, shown once").to_owned()
}

/// `Authorization` of a name and a password (RFC 7617).
pub(crate) fn basic(name: &str, password: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{name}:{password}")))
}

/// Waits until a request is answered so, and gives how long that took.
pub(crate) fn until_status(status: u16, mut ask: impl FnMut() -> Answer) -> std::time::Duration {
    let began = std::time::Instant::now();
    wait_for(&format!("an answer {status}"), PATIENCE, || (ask().status == status).then_some(()));
    began.elapsed()
}
