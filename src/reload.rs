//! SIGHUP: the certificate and the configuration are read again. What can change in a running node does; of the rest the log
//! says that it needs a restart.

use std::{collections::BTreeSet, fmt, sync::Arc};

use oci::http::Tls;
use serde::Serialize;
use serde_json::Value;
use tracing_subscriber::{Registry, filter::Targets, reload::Handle};

use crate::{config::Loaded, settings::NodeSettings};

/// The keys that a running node takes over.
const RELOADABLE: [&str; 1] = ["log.level"];

/// What a node reads again.
pub(crate) struct Reload {
    pub(crate) level: Handle<Targets, Registry>,
    pub(crate) tls: Option<Arc<Tls>>,
    /// The settings in force, or those that a restart will bring.
    pub(crate) settings: Settings,
    /// Reads the configuration as at the start, with the same flags and environment.
    pub(crate) reread: Box<dyn Fn() -> anyhow::Result<Settings> + Send>,
}

impl fmt::Debug for Reload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reload")
    }
}

/// All settings of a node, comparable key by key.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    level: String,
    parts: [Value; 2],
}

impl Settings {
    pub(crate) fn of<R: Serialize>(loaded: &Loaded<NodeSettings, R>) -> Self {
        let value = |value: Result<Value, serde_json::Error>| value.unwrap_or_default();
        let parts = [value(serde_json::to_value(&loaded.node)), value(serde_json::to_value(&loaded.role))];
        Self { level: loaded.node.log.level.clone(), parts }
    }

    /// The keys whose values differ, as people write them.
    fn changed(&self, to: &Self) -> BTreeSet<String> {
        let mut changed = BTreeSet::new();
        for (before, after) in self.parts.iter().zip(&to.parts) {
            differ("", before, after, &mut changed);
        }
        changed
    }
}

fn differ(key: &str, before: &Value, after: &Value, changed: &mut BTreeSet<String>) {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            for name in before.keys().chain(after.keys()) {
                let shown = if name.contains('.') { format!("{name:?}") } else { name.clone() };
                let inner = if key.is_empty() { shown } else { format!("{key}.{shown}") };
                let at =
                    |table: &serde_json::Map<String, Value>| table.get(name).cloned().unwrap_or_default();
                differ(&inner, &at(before), &at(after), changed);
            }
        }
        (before, after) if before != after => {
            changed.insert(key.to_owned());
        }
        _ => {}
    }
}

impl Reload {
    /// Reads everything again. A configuration with a mistake in it changes nothing.
    pub(crate) fn reload(&mut self) {
        if let Some(tls) = &self.tls {
            tls.look_again();
        }
        let read = match (self.reread)() {
            Ok(read) => read,
            Err(error) => {
                let mistakes = format!("{error:#}");
                tracing::error!(
                    mistakes,
                    "the configuration was read again and has mistakes: nothing is changed"
                );
                return;
            }
        };
        let changed = self.settings.changed(&read);
        if changed.contains("log.level") {
            self.set_level(&read.level);
        }
        let rest: Vec<&str> =
            changed.iter().map(String::as_str).filter(|key| !RELOADABLE.contains(key)).collect();
        if rest.is_empty() {
            tracing::info!("the configuration was read again");
        } else {
            tracing::warn!(
                keys = rest.join(", "),
                "the configuration was read again; these keys need a restart"
            );
        }
        self.settings = read;
    }

    fn set_level(&self, level: &str) {
        // It was checked when the configuration was read.
        let Ok(filter) = level.parse::<Targets>() else { return };
        match self.level.reload(filter) {
            Ok(()) => tracing::info!(level, "the log's level was changed"),
            Err(error) => tracing::error!(%error, "the log's level could not be changed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_that_differ_are_named_as_people_write_them() {
        let settings = |parts| Settings { level: "info".to_owned(), parts };
        let before = settings([
            json!({"log": {"level": "info", "form": "human"}, "drain": "30s"}),
            json!({"upstream": {"docker.io": {"url": "https://a"}, "b.example": {"url": "https://b"}}}),
        ]);
        let after = settings([
            json!({"log": {"level": "debug", "form": "human"}, "drain": "30s"}),
            json!({"upstream": {"docker.io": {"url": "https://c"}}}),
        ]);
        let changed: Vec<String> = before.changed(&after).into_iter().collect();
        assert_eq!(changed, ["log.level", "upstream.\"b.example\"", "upstream.\"docker.io\".url"]);
        assert!(before.changed(&before.clone()).is_empty());
    }
}
