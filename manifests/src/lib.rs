//! Reads Kubernetes manifests into typed objects that know their file and line, and builds a cluster of them.
//!
//! ```text
//! load: paths --files--> parse --objects--> gather --Loaded--> world --> facts::Cluster, policies
//!                          |
//!                          +- document (bytes) -> yaml, json (located tree) -> kind, reduce -> decode (typed)
//! ```
//!
//! Only [`load`] touches the file system; all else is pure. No input makes it panic, and every problem that it finds in
//! a file has a line.
#![forbid(unsafe_code)]

mod address;
mod decode;
pub mod document;
pub mod gather;
mod json;
mod kind;
pub mod load;
pub mod node;
pub mod object;
pub mod parse;
mod reduce;
mod scalar;
mod standin;
pub mod world;
mod yaml;
