//! Rules that allow everything.

use datapath::abi::Direction;

use super::Remark;
use crate::policy::{Action, Namespaces, PeerTerm, Peers, Policy, Ports, Rule, Tier};
use crate::problem::{Problem, Severity};

/// The id of findings about a rule that allows all peers on all ports.
pub(super) const ALLOWS_EVERYTHING: &str = "allows-everything";

pub(super) fn review(policy: &Policy, found: &mut Vec<Problem>) {
    for direction in Direction::ALL {
        for rule in &policy.block(direction).rules {
            let Some(whom) =
                everyone(rule).filter(|_| rule.action == Action::Allow && rule.ports == Ports::Any)
            else {
                continue;
            };
            let (from, of) = match direction {
                Direction::Ingress => ("from", "ingress"),
                Direction::Egress => ("to", "egress"),
            };
            // What this tier accepts, nobody below it can close; a NetworkPolicy that opens a pod is often just that.
            let (severity, consequence) = match policy.tier {
                Tier::Admin => (Severity::Warning, "no NetworkPolicy can restrict it any more".to_owned()),
                Tier::Namespace => {
                    (Severity::Note, format!("no other policy restricts the {of} of these pods"))
                }
                Tier::Baseline => (Severity::Note, "which is what holds without any policy".to_owned()),
            };
            let message = format!("this rule allows everything {from} {whom}, on all ports: {consequence}");
            let expected = "the peers and ports that are needed".to_owned();
            let id = ALLOWS_EVERYTHING;
            found.push(Remark { severity, id, path: &rule.path, message, expected }.of(policy));
        }
    }
}

/// Who, if it is more or less everyone.
fn everyone(rule: &Rule) -> Option<&'static str> {
    let peers = match &rule.peers {
        Peers::Any => return Some("everyone"),
        Peers::AnyOf(peers) => peers,
    };
    let whole = |v4: bool| {
        peers.iter().any(|peer| match &peer.term {
            PeerTerm::Network(network) => {
                network.cidr.prefix_len() == 0
                    && network.except.is_empty()
                    && network.cidr.addr().is_ipv4() == v4
            }
            _ => false,
        })
    };
    let all_pods = peers.iter().any(|peer| match &peer.term {
        PeerTerm::Pods(pods) => {
            let all = matches!(&pods.namespaces, Namespaces::Matching(selector) if selector.is_everything());
            all && pods.pods.is_everything()
        }
        _ => false,
    });
    match (whole(true), whole(false)) {
        (true, true) => Some("every address"),
        (true, false) => Some("every IPv4 address"),
        (false, true) => Some("every IPv6 address"),
        (false, false) => all_pods.then_some("every pod of the cluster"),
    }
}
