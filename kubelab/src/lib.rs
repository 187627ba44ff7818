//! A real Kubernetes on this machine: for tests, and for `cargo xtask cluster`.
//!
//! ```text
//! programs ──build──> cache outside of the tree
//!     │
//!     └─> ApiServer = etcd + kube-apiserver (+ controllers)      control_plane, pki
//! ```
//!
//! Nothing here knows of Polder.

mod api_server;
mod build;
mod control_plane;
mod flannel;
mod pki;
pub mod programs;
mod requirements;
mod run;
mod scratch;

pub use api_server::ApiServer;
pub use build::build;
