//! What the proxy tells of requests: a line of JSON each.
//!
//! ```text
//! proxy ── access log, on standard output ──> Request
//!       └─ HTTP on the local socket: NOTABLE, PLAIN ──> News, for as long as somebody reads
//! ```
//!
//! No value in here has a query or a header: they hold passwords and tokens. Rules are told by rule set and rank, as the kernel
//! names them; the agent knows what they are called.
#![forbid(unsafe_code)]

pub mod news;
pub mod request;

/// Where the proxy serves if nothing else is said.
pub const SOCKET: &str = "/run/polder/proxy.sock";

/// What is measured, for Prometheus.
pub const METRICS: &str = "/metrics";

/// The stream of requests that somebody should know of: all but those that were allowed and went well.
pub const NOTABLE: &str = "/requests/notable";

/// The stream of all the others.
pub const PLAIN: &str = "/requests/plain";
