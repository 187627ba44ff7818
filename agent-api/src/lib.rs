//! What the agent and its clients say to each other over the local socket.
//!
//! ```text
//! client                          agent
//!   connect ------------------------>
//!   <----------------------- hello      the version of the protocol; or an error, and the end
//!   request ------------------------>   one line
//!   <----------------------- reply      none, one or many lines
//!   <--------------- done or error      one line; then the next request may follow
//! ```
//!
//! Every line is one JSON object ([`frame`]) and no longer than a bound. Values carry names as users know them: nothing in
//! here says how the agent or the kernel keeps them.
#![forbid(unsafe_code)]

pub mod client;
pub mod flow;
pub mod frame;
pub mod judgement;
pub mod node;
pub mod reply;
pub mod request;
pub mod status;
pub mod verification;
pub mod wait;
pub mod world;

/// The version of the protocol. Agent and client must have the same.
pub const VERSION: u32 = 1;

/// Where the agent listens if nothing else is said.
pub const SOCKET: &str = "/run/polder/agent.sock";
