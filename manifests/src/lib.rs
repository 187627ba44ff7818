//! Reads Kubernetes manifests into typed objects that know their file and line, and builds a cluster of them.
//!
//! ```text
//! load: paths --files--> parse --objects--> gather --Loaded--> world --> facts::Cluster, policies
//!                          |
//!                          +- document (bytes) -> yaml, json (located tree) -> kind, reduce -> decode (typed)
//! ```
//!
//! What an API server sends, one object at a time, is read by [`live`], as strictly and to the same types; [`mod@write`]
//! makes manifests of facts.
//!
//! Only [`load`] touches the file system; all else is pure. No input makes it panic, and every problem that it finds in
//! a file has a line.
#![forbid(unsafe_code)]

mod address;
mod decode;
pub mod document;
pub mod gather;
mod json;
mod kept;
pub mod kind;
pub mod live;
pub mod load;
pub mod node;
pub mod object;
pub mod parse;
mod reduce;
mod scalar;
mod standin;
pub mod world;
pub mod write;
mod yaml;
