//! How fast the disk below the store is, measured now: `POST /api/v1/store/probe`.

use http::{Method, Request, Response, StatusCode};
use oci::http::{Body, RequestBody};

use super::{json, problem::Problem};
use crate::{answer::Answerer, store::ProbeError};

/// Answers a request to `/api/v1/store/<path>`.
pub(super) async fn answer(
    answerer: &Answerer,
    path: &str,
    request: &Request<RequestBody>,
) -> Result<Response<Body>, Problem> {
    match (path, request.method()) {
        ("probe", &Method::POST) => json(StatusCode::OK, &answerer.prober.probe().await.map_err(problem)?),
        ("probe", _) => Err(Problem::method_not_allowed("POST")),
        _ => Err(Problem::not_found(format!("there is nothing at {}", request.uri().path()))),
    }
}

fn problem(error: ProbeError) -> Problem {
    let status = match error {
        ProbeError::Running => StatusCode::CONFLICT,
        ProbeError::Disk { .. } => StatusCode::INSUFFICIENT_STORAGE,
        ProbeError::Slow(_) => StatusCode::GATEWAY_TIMEOUT,
    };
    Problem::new(status, error.to_string())
}
