//! Kubernetes policy objects and cluster facts in, exact look-up tables out.
//!
//! ```text
//! objects (api) --lower--> policies --+
//!                                     +--> Compiler: resolve, emit --> Tables --plan--> Steps (map writes)
//! facts (cluster) --------------------+        |
//!                                              +--> explain, connectivity (the same tables, the same look-up)
//! ```
//!
//! Pure: no clock, no network, no file. Every consumer (the agent, `polctl`, the tests) calls this one engine; the
//! `oracle` module, a naive evaluator for the tests, shares nothing with it but the input types.
#![forbid(unsafe_code)]

pub mod api;
pub mod asks;
pub mod compiler;
pub mod connectivity;
pub mod delta;
mod digest;
pub mod explain;
pub mod facts;
pub mod image;
mod index;
pub mod labels;
pub mod list;
pub mod lower;
pub mod object;
#[cfg(any(test, feature = "oracle"))]
pub mod oracle;
pub mod plan;
pub mod policy;
pub mod problem;
pub mod review;
pub mod rule_set;
pub mod tables;
mod terms;
