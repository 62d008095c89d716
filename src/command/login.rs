//! `roadstead login`: remembers a node, and user and password for it. Says only what is known: whether somebody checked the
//! password is up to the node.

use std::io::Read as _;

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;

use super::{
    Verdict,
    api::Api,
    http::Http,
    page,
    session::{Credentials, Remembered, Session},
};
use crate::cli::LoginFlags;

/// The longest password that is read, in bytes.
const MAX_PASSWORD: u64 = 4096;

/// What a node says of itself.
#[derive(Deserialize)]
struct Node {
    role: String,
    #[serde(default)]
    name: String,
    version: String,
    /// `none`: nobody is asked who they are. Absent at nodes that do not tell.
    authentication: Option<String>,
}

pub(super) async fn login(flags: &LoginFlags) -> anyhow::Result<Verdict> {
    ensure!(
        !flags.user.is_empty() && !flags.user.contains(':'),
        "a user's name is not empty and has no colon"
    );
    let credentials = Credentials { user: flags.user.clone(), password: password()? };
    let session = Session {
        url: flags.url.clone(),
        credentials: Some(credentials.clone()),
        source: "the one that was to be remembered",
    };
    if flags.url.scheme() == "http" && !is_near(&flags.url) {
        page::tell(&format!(
            "{} is not encrypted: whoever is on the way there can read the password",
            flags.url
        ));
    }
    let api = Api::new(Http::new(flags.ca.as_deref())?, session);
    let node: Node = api.get("/api/v1/node", &[]).await?;
    let path = Remembered { url: flags.url.clone(), credentials }.save()?;
    let checked = match node.authentication.as_deref() {
        Some("none") => "it asks nobody for a password yet, so yours was not checked".to_owned(),
        None => "it does not tell whether it checked the password".to_owned(),
        Some(_) => format!("it took the password of {}", flags.user),
    };
    let Node { role, name, version, .. } = node;
    page::print(&format!(
        "{} answers: {role} {name}, version {version}; {checked}.\nremembered in {}\n",
        flags.url,
        path.display()
    ))?;
    Ok(Verdict::Good)
}

fn password() -> anyhow::Result<String> {
    let mut text = String::new();
    let read = std::io::stdin().take(MAX_PASSWORD + 1).read_to_string(&mut text);
    read.context("the password cannot be read from standard input")?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        bail!("standard input holds no password");
    }
    ensure!(text.len() as u64 <= MAX_PASSWORD, "the password is longer than {MAX_PASSWORD} bytes");
    Ok(text.to_owned())
}

fn is_near(url: &url::Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    }
}
