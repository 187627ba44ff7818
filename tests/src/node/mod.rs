//! Agents on the nodes of a laboratory: for the tests named `node_*`.
//!
//! ```text
//! manifest: text of objects --write--> Polder: directory, bpffs, agent in the node's namespace --status--> settle
//!                 |
//!                 +--read--> Expected: what the oracle says of a probe between two ends
//! ```
//!
//! The agent is the binary, started as on a node; everything it needs is in one directory below `/tmp`, which goes when
//! the test ends, and at the next start if the test was killed.

mod expected;
pub mod lists;
pub mod manifest;
mod nginx;
mod polder;
mod proxy;
mod scene;
mod scratch;

pub use expected::{End, Expected, denied_at};
pub use nginx::Nginx;
pub use polder::{Polder, agent, counted_since, object, program};
pub use proxy::Proxy;
pub use scene::Scene;
