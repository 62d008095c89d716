//! What the OCI specifications define, and HTTP as they use it: digests, names, routes, errors, ranges, manifests, the
//! server's and the client's side of the distribution protocol.
//!
//! Stands on no other crate of the project. Parsers take any input without panicking; a value of one of these types is
//! valid, so nothing behind them checks again.
#![deny(missing_docs)]

pub mod challenge;
pub mod client;
pub mod digest;
pub mod error;
pub mod http;
pub mod manifest;
pub mod name;
pub mod range;
pub mod route;
pub mod settings;
