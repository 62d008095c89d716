//! `/node`: what answers here, and as whom it knows the caller.

use http::{Method, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;

use super::{Answer, Call, document::json, problem::Problem};
use crate::Openness;

/// What answers here.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "Node")]
pub(super) struct Document<'a> {
    /// `origin`
    role: &'static str,
    name: &'a str,
    version: &'static str,
    /// `password`; or `none`: nobody is asked who they are.
    authentication: &'static str,
    /// As whom the caller is known.
    user: &'a str,
}

pub(super) fn answer(call: &Call<'_>) -> Answer {
    if call.method != Method::GET {
        return Err(Problem::method_not_allowed("GET"));
    }
    let registry = call.admin.registry();
    let authentication = match registry.gate.openness {
        Openness::Everybody => "none",
        Openness::Asking => "password",
    };
    let user = call.admin.caller().principal().name();
    let version = env!("CARGO_PKG_VERSION");
    Ok(json(
        StatusCode::OK,
        &Document { role: "origin", name: &registry.node_name, version, authentication, user },
    ))
}
