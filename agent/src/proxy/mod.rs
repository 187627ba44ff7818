//! What the proxies of this node tell, over their local socket.
//!
//! ```text
//! proxy.sock ──/metrics──────────> ask ──> the agent's own page
//!          ├──/requests/notable──> follow ──Request──> control: names of pods and rules ──> flows
//!          └──/requests/plain────> follow, while somebody wants it (demand)
//! ```
//!
//! A proxy is another process, which comes and goes as it likes: nothing here waits for it, and all that it sends is bounded.

pub mod ask;
pub mod demand;
pub mod follow;
