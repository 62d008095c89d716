//! Node to node: what an origin and an edge say to each other, and how they know whom they talk to.
//!
//! Stands on `oci`; knows nothing of the insides of either role.

#![deny(missing_docs)]

pub mod access;
pub mod token;
