//! What a node says of itself that does not change while it lives.

use std::time::{Instant, SystemTime};

use serde::Serialize;

use crate::settings::Settings;

/// See the module.
#[derive(Debug)]
pub(crate) struct About {
    /// The node's name.
    pub(crate) name: String,
    pub(crate) started: SystemTime,
    pub(crate) since: Instant,
    /// The registries that it stands in front of.
    pub(crate) registries: Vec<Registry>,
}

/// A registry as configured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Registry {
    /// What clients call it.
    pub(crate) name: String,
    /// Where it is, without a user or a password.
    pub(crate) url: Option<String>,
    /// Names that say no registry mean this one.
    pub(crate) default: bool,
}

impl About {
    /// A node that begins now.
    pub(crate) fn new(name: &str, settings: &Settings) -> Self {
        let only = settings.upstream.named.len() == 1;
        let registry = |(name, one): (&String, &crate::settings::UpstreamSettings)| {
            let url = one.url.clone().map(|mut url| {
                // It fails only for a URL that can have neither.
                let _ = url.set_username("");
                let _ = url.set_password(None);
                url.to_string()
            });
            Registry { name: name.clone(), url, default: one.default || only }
        };
        Self {
            name: name.to_owned(),
            started: SystemTime::now(),
            since: Instant::now(),
            registries: settings.upstream.named.iter().map(registry).collect(),
        }
    }
}
