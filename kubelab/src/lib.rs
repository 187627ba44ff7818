//! A real Kubernetes on this machine: for tests, and for `cargo xtask cluster`.
//!
//! ```text
//! programs ──build──> cache outside of the tree
//!     │
//!     ├─> ApiServer = etcd + kube-apiserver (+ controllers)      control_plane, pki, kubeconfig
//!     └─> Cluster = the same, and nodes in namespaces            cluster
//! ```
//!
//! Nothing here knows of Polder.

mod api_server;
pub mod archive;
mod build;
pub mod cluster;
mod control_plane;
mod flannel;
mod kubeconfig;
mod pki;
pub mod programs;
mod requirements;
mod run;
mod scratch;

pub use api_server::ApiServer;
pub use build::build;
