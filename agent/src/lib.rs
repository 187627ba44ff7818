//! The node agent: all effects around the compiler and the datapath.
//!
//! ```text
//! API server (kubernetes) --+
//! manifests (standalone) ---+                                   +--> dataplane: maps, programs, hooks
//!                           +--> control, one task: compiler ---+
//! netlink (endpoint) -------+                                   +--> lists: what a proxy judges requests by
//! proxies (proxy) --requests-------------> flows                +--> api (socket), metrics
//! ```

pub mod api;
pub mod control;
pub mod dataplane;
pub mod endpoint;
pub mod kubernetes;
pub mod lists;
pub mod memory;
pub mod metrics;
pub mod options;
pub mod proxy;
pub mod source;
pub mod standalone;
