//! Polder on real nodes, as installed by its chart: pods, services and policies come and go through the API server, and what
//! arrives is measured with real packets from inside the pods.
//!
//! `cargo xtask test --cluster` brings a cluster up and runs these; without it they prove nothing and say so. They take turns,
//! as some of them take the agent or the API server away. Each prints OPEN-ms (milliseconds in which a denied datagram of 1
//! kHz arrived after it should not), INTR (connections that broke or were silent), and how long things took.

#![expect(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

mod bed;
mod guarded;
mod traffic;

mod agent_away;
mod installation;
mod plugin;
mod policies;
mod requests;
mod server_away;
mod services;
mod start;
mod turnover;
mod upgrade;
