//! Rules about requests, on nodes: agent, programs, proxy, real servers.
//!
//! ```text
//! http: a client in a pod ──> programs ──> proxy ──> programs ──> nginx in a pod: who asked for what?
//! ```
//!
//! A leak is a request that nginx saw, not an answer that the client got.
#![expect(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

mod bed;
mod bulk;
mod churn;
mod deaths;
mod flows;
mod http;
mod life;
mod matrix;
mod slow;
