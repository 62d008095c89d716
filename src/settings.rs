//! The settings that nodes of both roles have.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use oci::{
    http::{Limits, Tls},
    settings::Span,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// See the module.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct NodeSettings {
    /// Who this node is.
    pub(crate) node: Identity,
    /// The directory in which the node keeps everything. By default `roadstead-origin` or `roadstead-edge` in the
    /// working directory, or the state directory that systemd gives.
    pub(crate) data: Option<PathBuf>,
    /// The addresses at which clients are served; port 0 lets the system choose. By default 127.0.0.1:5000 for an origin
    /// and 127.0.0.1:5001 for an edge.
    pub(crate) listen: Vec<SocketAddr>,
    /// What clients are shown that connect by HTTPS.
    pub(crate) tls: TlsSettings,
    /// Where operators are served.
    pub(crate) admin: AdminSettings,
    /// How long requests that run may take to finish when the node is told to stop.
    pub(crate) drain: Span,
    /// The log, on standard error.
    pub(crate) log: LogSettings,
    /// How much clients may hold of this node.
    pub(crate) limits: Limits,
    /// Who is asked who they are.
    pub(crate) auth: AuthSettings,
}

/// Who a node is.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Identity {
    /// The node's name in logs, headers and listings. By default the host's name.
    pub(crate) name: Option<String>,
}

/// What clients are shown that connect by HTTPS.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TlsSettings {
    /// A PEM file with the node's certificate, and behind it those between it and the root. With it all addresses of
    /// `listen` speak HTTPS: TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1. Exchanged for new connections when the file changes.
    pub(crate) certificate: Option<PathBuf>,
    /// A PEM file with the certificate's key: PKCS#8, SEC1 or PKCS#1.
    pub(crate) key: Option<PathBuf>,
}

/// Where operators are served.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AdminSettings {
    /// The addresses at which `/livez`, `/readyz`, `/metrics` and `/api` are served, by plain HTTP; port 0 lets the system
    /// choose. Clients' addresses do not have them then. By default they are at the clients' addresses.
    pub(crate) listen: Vec<SocketAddr>,
}

impl TlsSettings {
    /// Reads the certificate and its key, if they are set.
    ///
    /// # Errors
    /// A sentence that names the key of the configuration.
    pub(crate) fn load(&self) -> Result<Option<Tls>, String> {
        match (&self.certificate, &self.key) {
            (None, None) => Ok(None),
            (Some(certificate), Some(key)) => {
                Tls::load(certificate.clone(), key.clone()).map(Some).map_err(|error| error.to_string())
            }
            (Some(_), None) => {
                Err("tls.key is missing: tls.certificate needs the key that belongs to it".to_owned())
            }
            (None, Some(_)) => {
                Err("tls.certificate is missing: tls.key needs the certificate that belongs to it".to_owned())
            }
        }
    }
}

/// The log.
#[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LogSettings {
    /// `human` or `json`.
    pub(crate) form: LogForm,
    /// What is logged: `error`, `warn`, `info`, `debug` or `trace`, or as tracing's filters are written:
    /// `info,oci=debug`. At `debug` each pull is a line.
    pub(crate) level: String,
}

/// The form of a line of the log.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogForm {
    Human,
    Json,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { form: LogForm::Human, level: "info".to_owned() }
    }
}

/// Who is asked who they are.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AuthSettings {
    /// Whether a node that asks nobody who they are (`--no-auth`) may listen at an address that is not loopback.
    pub(crate) allow_open: bool,
}

impl Default for NodeSettings {
    fn default() -> Self {
        Self {
            node: Identity::default(),
            data: None,
            listen: Vec::new(),
            tls: TlsSettings::default(),
            admin: AdminSettings::default(),
            drain: Span(Duration::from_secs(30)),
            log: LogSettings::default(),
            limits: Limits::default(),
            auth: AuthSettings::default(),
        }
    }
}

/// The longest name of a node, in bytes.
const MAX_NAME: usize = 63;

impl NodeSettings {
    /// Everything that is wrong, each with the key it is about.
    pub(crate) fn validate(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        if let Some(name) = &self.node.name
            && (name.is_empty()
                || name.len() > MAX_NAME
                || name.contains(|c: char| c.is_control() || c.is_whitespace()))
        {
            mistakes.push(format!("node.name: {name:?} must be 1 to {MAX_NAME} characters without spaces"));
        }
        let limits = &self.limits;
        for (key, span) in
            [("limits.header_timeout", limits.header_timeout), ("limits.idle_timeout", limits.idle_timeout)]
        {
            if span.0.is_zero() {
                mistakes.push(format!("{key} must be more than 0"));
            }
        }
        if limits.connections == 0 {
            mistakes.push("limits.connections must be at least 1".to_owned());
        }
        if let Err(error) = self.log.level.parse::<tracing_subscriber::filter::Targets>() {
            mistakes.push(format!("log.level: {:?} is no filter: {error}", self.log.level));
        }
        mistakes.extend(self.tls.load().err());
        mistakes
    }
}
