//! Where settings come from: each source becomes a list of keys with values.

use std::{fmt, fs, path::Path};

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::Fit;

/// The environment's keys begin with this.
const PREFIX: &str = "ROADSTEAD_";
/// What the environment holds for the administration commands; no keys.
const RESERVED: [&str; 3] = ["URL", "USER", "PASSWORD"];
/// Names in the midst of keys: what follows `upstream.` is a registry's name, dots and all, up to the last element.
const NAMED: &str = "upstream";

/// The keys of one source.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) source: Source,
    pub(crate) entries: Vec<Entry>,
}

/// Where a key was given, for messages.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    File(String),
    Environment,
    Flag,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "in {path}"),
            Self::Environment => f.write_str("in the environment"),
            Self::Flag => f.write_str("on the command line"),
        }
    }
}

/// One key.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) path: Vec<String>,
    value: Value,
    /// The text that `value` was read from, where it may just as well have been meant as a text.
    text: Option<String>,
}

impl Entry {
    pub(crate) fn new(path: &[&str], value: impl Into<Value>) -> Self {
        Self { path: path.iter().map(|part| (*part).to_owned()).collect(), value: value.into(), text: None }
    }

    fn read(path: Vec<String>, text: &str) -> Self {
        let value =
            toml::from_str::<Table>(&format!("v = {text}")).ok().and_then(|mut table| table.remove("v"));
        let value = value.unwrap_or_else(|| Value::String(text.to_owned()));
        Self { path, value, text: Some(text.to_owned()) }
    }

    /// The key as people write it.
    pub(crate) fn name(&self) -> String {
        let plain = |part: &str| part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        let parts = self.path.iter().map(|part| if plain(part) { part.clone() } else { format!("{part:?}") });
        parts.collect::<Vec<_>>().join(".")
    }

    /// Tries this key alone against the settings `T`.
    pub(crate) fn fit<T: DeserializeOwned>(&self) -> Fit {
        let alone = |value: &Value| {
            let mut table = Table::new();
            super::insert(&mut table, &self.path, value.clone());
            Value::Table(table).try_into::<T>()
        };
        match alone(&self.value) {
            Ok(_) => Fit::Fits(self.value.clone()),
            Err(error) if error.message().starts_with("unknown field") => Fit::Unknown,
            Err(error) => match self.text.as_ref().map(|text| Value::String(text.clone())) {
                Some(text) if alone(&text).is_ok() => Fit::Fits(text),
                _ => Fit::Wrong(error.message().trim().to_owned()),
            },
        }
    }
}

/// The keys of a file.
///
/// # Errors
/// A sentence: the file cannot be read, or is no TOML.
pub(crate) fn file(path: &Path) -> Result<Layer, String> {
    let name = path.display().to_string();
    let text = fs::read_to_string(path).map_err(|error| format!("{name} cannot be read: {error}"))?;
    let table: Table = toml::from_str(&text).map_err(|error| format!("{name} is not TOML: {error}"))?;
    let mut entries = Vec::new();
    flatten(&mut Vec::new(), table, &mut entries);
    Ok(Layer { source: Source::File(name), entries })
}

fn flatten(path: &mut Vec<String>, table: Table, entries: &mut Vec<Entry>) {
    for (key, value) in table {
        path.push(key);
        match value {
            Value::Table(inner) if !inner.is_empty() => flatten(path, inner, entries),
            value => entries.push(Entry { path: joined(path.clone()), value, text: None }),
        }
        path.pop();
    }
}

/// The keys of the environment.
pub(crate) fn environment(variables: impl Iterator<Item = (String, String)>) -> Layer {
    let entries = variables.filter_map(|(name, text)| {
        let key = name.strip_prefix(PREFIX)?;
        if RESERVED.contains(&key) {
            return None;
        }
        let path = key.split("__").map(str::to_lowercase).collect();
        Some(Entry::read(joined(path), &text))
    });
    Layer { source: Source::Environment, entries: entries.collect() }
}

/// The keys of `--set`.
///
/// # Errors
/// One sentence for each that is not KEY=VALUE.
pub(crate) fn flags(set: &[String]) -> Result<Vec<Entry>, Vec<String>> {
    let mut mistakes = Vec::new();
    let mut entries = Vec::new();
    for text in set {
        match text.split_once('=').and_then(|(key, value)| Some((split_key(key.trim())?, value.trim()))) {
            Some((path, value)) => entries.push(Entry::read(joined(path), value)),
            None => {
                mistakes.push(format!("--set {text:?}: write --set key=value, for example --set drain=5s"))
            }
        }
    }
    if mistakes.is_empty() { Ok(entries) } else { Err(mistakes) }
}

/// Splits at dots that are not within quotes.
fn split_key(key: &str) -> Option<Vec<String>> {
    let mut parts = vec![String::new()];
    let mut quote = None;
    for c in key.chars() {
        match (quote, c) {
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            (None, '.') => parts.push(String::new()),
            (_, c) => parts.last_mut()?.push(c),
        }
    }
    (quote.is_none() && parts.iter().all(|part| !part.is_empty())).then_some(parts)
}

/// Makes one name of what stands between `upstream` and the last element.
fn joined(mut path: Vec<String>) -> Vec<String> {
    if path.len() > 3 && path[0] == NAMED {
        let field = path.split_off(path.len() - 1);
        let name = path.split_off(1).join(".");
        path.push(name);
        path.extend(field);
    }
    path
}
