//! The agent at a real API server: packets, outages, restarts, deleted namespaces, refused policies, kinds that come and go.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod agent;
mod cluster;
mod outages;
mod packets;
mod relay;
mod requests;
mod rights;
mod scale;
mod source;
mod waiting;

use std::time::Duration;

use netlab::{Outcome, Pod, tcp_connect};
use serde_json::{Value, json};

/// The port that the victim serves.
const WEB: u16 = 8080;
/// How long an attempt may take that is expected to fail.
const ATTEMPT: Duration = Duration::from_millis(700);

/// Whether a connection is made.
fn connects(from: &Pod, to: &Pod) -> bool {
    let outcome = tcp_connect(from, netlab::Host::ipv4(to).into(), WEB, ATTEMPT).unwrap();
    outcome == Outcome::Connected
}

/// To the pods with this `app`, only from those with that one.
fn only_from(to: &str, from: &str) -> Value {
    json!({
        "podSelector": {"matchLabels": {"app": to}}, "policyTypes": ["Ingress"],
        "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": from}}}]}],
    })
}
