//! HTTP as a registry serves it: bodies that stream files, a server with TLS, deadlines for slow clients and a drain, and
//! what every node answers beside `/v2/`.

pub mod body;
mod connection;
mod door;
mod file;
mod frames;
pub mod front;
mod gather;
mod opening;
mod pages;
pub mod server;
mod session;
mod streams;
pub mod tls;
mod transport;

pub use body::{Body, BodyError, ReceiveError, RequestBody, Watch};
pub use door::Door;
pub use file::{FRAME_BYTES, FrameReader};
pub use front::{Check, Front, FrontMetrics, RequestId, RouteLabel, Service};
pub use server::{Limits, Server};
pub use session::Client;
pub use tls::Tls;

use http::{HeaderValue, Response, StatusCode, header};

use crate::error::ApiError;

/// The answer that carries `error`'s document.
pub fn error_response(error: &ApiError) -> Response<Body> {
    let mut response = json_response(error.status_code(), error.document());
    for (name, value) in error.headers() {
        response.headers_mut().append(name.clone(), value.clone());
    }
    response
}

/// An answer of `document`, which is JSON already.
pub fn json_response(status: StatusCode, document: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Body::full(document));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// An answer without a body.
pub fn empty_response(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}
