//! Configuration: defaults, a TOML file, the environment and flags, laid over each other; all mistakes at once.
//!
//! Every key is tried on its own against the settings' types, so that a mistake names its key and where it came from, and
//! hides no other.

pub(crate) mod layers;
pub(crate) mod reference;

use std::fmt;

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use layers::Layer;

/// Everything that is wrong with a configuration.
#[derive(Debug)]
pub(crate) struct Mistakes(pub(crate) Vec<String>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, mistake) in self.0.iter().enumerate() {
            if at > 0 {
                writeln!(f)?;
            }
            write!(f, "configuration: {mistake}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

/// The settings of a node, in the two parts that they are made of: what all nodes have, and what the role has.
#[derive(Debug)]
pub(crate) struct Loaded<N, R> {
    pub(crate) node: N,
    pub(crate) role: R,
}

/// Lays `layers` over each other, the last one on top.
///
/// # Errors
/// Every key that is unknown or has a value of the wrong kind.
pub(crate) fn load<N, R>(layers: Vec<Layer>) -> Result<Loaded<N, R>, Mistakes>
where
    N: DeserializeOwned,
    R: DeserializeOwned,
{
    let (mut node, mut role) = (Table::new(), Table::new());
    let mut mistakes = Vec::new();
    for layer in layers {
        for entry in layer.entries {
            let name = entry.name();
            match (entry.fit::<N>(), entry.fit::<R>()) {
                (Fit::Fits(value), _) => insert(&mut node, &entry.path, value),
                (_, Fit::Fits(value)) => insert(&mut role, &entry.path, value),
                (Fit::Unknown, Fit::Unknown) => {
                    mistakes.push(format!(
                        "{name} ({}): there is no such key; --print-config lists all",
                        layer.source
                    ));
                }
                (Fit::Wrong(why), _) | (_, Fit::Wrong(why)) => {
                    mistakes.push(format!("{name} ({}): {why}", layer.source))
                }
            }
        }
    }
    match (Value::Table(node).try_into(), Value::Table(role).try_into()) {
        (Ok(node), Ok(role)) if mistakes.is_empty() => Ok(Loaded { node, role }),
        (node, role) => {
            mistakes.extend(node.err().map(|error: toml::de::Error| error.message().to_owned()));
            mistakes.extend(role.err().map(|error: toml::de::Error| error.message().to_owned()));
            Err(Mistakes(mistakes))
        }
    }
}

/// Whether a key belongs to some settings.
pub(crate) enum Fit {
    Fits(Value),
    Unknown,
    Wrong(String),
}

/// Puts `value` at `path`, over what was there.
fn insert(table: &mut Table, path: &[String], value: Value) {
    let Some((last, parents)) = path.split_last() else { return };
    let mut table = table;
    for parent in parents {
        let entry = table.entry(parent.clone()).or_insert_with(|| Value::Table(Table::new()));
        if !entry.is_table() {
            *entry = Value::Table(Table::new());
        }
        let Value::Table(inner) = entry else { return };
        table = inner;
    }
    table.insert(last.clone(), value);
}

#[cfg(test)]
mod tests;
