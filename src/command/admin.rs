//! `roadstead project`, `user`, `member`, `robot`: who may do what at an origin, through its API.

mod member;
mod project;
mod robot;
mod user;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Verdict, api::Api, page};
use crate::cli::{Access, Admin};

/// What stands in a path as it is; everything else of a name is encoded, so that no name leads elsewhere.
const IN_PATH: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'+').remove(b'@');
/// Entries asked for at once.
const PAGE: &str = "1000";

pub(super) async fn run(command: Admin) -> anyhow::Result<Verdict> {
    match command {
        Admin::Project(command) => project::run(command).await,
        Admin::User(command) => user::run(command).await,
        Admin::Member(command) => member::run(command).await,
        Admin::Robot(command) => robot::run(command).await,
    }
}

/// A path of the API with names in it.
fn path(group: &str, names: &[&str]) -> anyhow::Result<String> {
    let mut path = format!("/api/v1/{group}");
    for name in names {
        // Such elements would be taken away before anybody looks at them.
        anyhow::ensure!(!matches!(*name, "" | "." | ".."), "{name:?} is no name");
        path.push('/');
        path.extend(utf8_percent_encode(name, IN_PATH));
    }
    Ok(path)
}

/// A whole list, page by page.
async fn all(api: &Api, path: &str, filter: &[(&str, &str)]) -> anyhow::Result<Vec<Value>> {
    let mut entries: Vec<Value> = Vec::new();
    loop {
        let after = entries.last().and_then(|entry| entry["name"].as_str()).unwrap_or_default().to_owned();
        let mut query = vec![("limit", PAGE)];
        query.extend_from_slice(filter);
        if !after.is_empty() {
            query.push(("after", &after));
        }
        let page: Vec<Value> = api.get(path, &query).await?;
        let whole = page.len().to_string() == PAGE;
        entries.extend(page);
        if !whole {
            return Ok(entries);
        }
    }
}

/// The entries as the types of their tables.
fn read<T: DeserializeOwned>(entries: Vec<Value>) -> anyhow::Result<Vec<T>> {
    Ok(serde_json::from_value(Value::Array(entries))?)
}

/// The document for programs, or a line for people.
fn said(access: &Access, document: &Value, line: &str) -> anyhow::Result<Verdict> {
    if access.json {
        page::print_json(document)?;
    } else {
        page::print(&format!("{line}\n"))?;
    }
    Ok(Verdict::Good)
}

/// Removes what is at `path`.
async fn remove(access: &Access, path: &str, query: &[(&str, &str)], what: &str) -> anyhow::Result<Verdict> {
    Api::open(access)?.delete(path, query).await?;
    said(access, &json!({"removed": what}), &format!("{what} is removed"))
}

fn yes(flag: bool) -> String {
    if flag { "yes" } else { "" }.to_owned()
}
