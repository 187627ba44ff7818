//! Named ports that no pod has.

use std::collections::BTreeSet;
use std::sync::Arc;

use datapath::abi::{Direction, Transport};

use super::near::alike;
use super::selection::Selection;
use super::selectors::is_network_policy;
use super::{Remark, listed};
use crate::explain::transport_name;
use crate::facts::Pod;
use crate::policy::{PeerTerm, Peers, Policy, PortTerm, Ports, Rule};
use crate::problem::{Problem, Severity};

/// The id of the warning about a named port that none of the pods it could be a port of has.
pub(super) const PORT_NAMED_BY_NO_POD: &str = "port-named-by-no-pod";

pub(super) fn review(policy: &Policy, selection: &Selection<'_>, found: &mut Vec<Problem>) {
    for direction in Direction::ALL {
        for rule in &policy.block(direction).rules {
            let Ports::AnyOf(ports) = &rule.ports else { continue };
            for port in ports {
                let PortTerm::Named { transport, name } = &port.term else { continue };
                let pods = destinations(policy, direction, rule, selection);
                if pods.is_empty() || pods.iter().any(|pod| pod.named_port(name, *transport).is_some()) {
                    continue;
                }
                let whose = match direction {
                    Direction::Ingress => "that the policy selects",
                    Direction::Egress => "that the rule leads to",
                };
                let protocol =
                    transport.map_or_else(String::new, |of| format!(" for {}", transport_name(of)));
                let (id, severity) = (PORT_NAMED_BY_NO_POD, Severity::Warning);
                let message = format!(
                    "of the {} {whose}, none has a port named {name:?}{protocol}: this entry matches nothing",
                    count(pods.len())
                );
                let path = format!("{}{}", port.path, field(policy));
                let expected = expected(name, *transport, &pods);
                found.push(Remark { severity, id, path: &path, message, expected }.of(policy));
            }
        }
    }
}

/// The pods whose ports a rule can be about: at ingress the subject, at egress the peers.
fn destinations<'a>(
    policy: &Policy,
    direction: Direction,
    rule: &Rule,
    selection: &Selection<'a>,
) -> Vec<&'a Arc<Pod>> {
    match (direction, &rule.peers) {
        (Direction::Ingress, _) => selection.pods(&policy.subject),
        (Direction::Egress, Peers::Any) => {
            selection.cluster.pods.values().filter(|pod| pod.owns_addresses()).collect()
        }
        (Direction::Egress, Peers::AnyOf(peers)) => {
            let pods = peers.iter().filter_map(|peer| match &peer.term {
                PeerTerm::Pods(pods) => Some(selection.pods(pods)),
                PeerTerm::Nodes(_) | PeerTerm::Network(_) | PeerTerm::Domain(_) => None,
            });
            pods.flatten().collect()
        }
    }
}

fn count(pods: usize) -> String {
    if pods == 1 { "one pod".to_owned() } else { format!("{pods} pods") }
}

fn field(policy: &Policy) -> &'static str {
    if is_network_policy(policy) {
        ".port"
    } else if matches!(&*policy.object.kind, "ClusterNetworkPolicy" | "PolderPolicy" | "ClusterPolderPolicy")
    {
        ".destinationNamedPort"
    } else {
        ".namedPort"
    }
}

fn expected(name: &str, transport: Option<Transport>, pods: &[&Arc<Pod>]) -> String {
    let ports = || pods.iter().flat_map(|pod| &pod.ports);
    if let Some(other) = ports().find(|port| *port.name == *name) {
        return format!(
            "protocol: {}, for which there is a port of that name",
            transport_name(other.transport)
        );
    }
    let fits = ports().filter(|port| transport.is_none_or(|transport| transport == port.transport));
    let names: BTreeSet<&str> = fits.map(|port| &*port.name).collect();
    match alike(name, names.iter().copied()) {
        Some(near) => near.to_owned(),
        None if names.is_empty() => {
            "the number of the port, or a name for it in the pod's containers".to_owned()
        }
        None => format!("the number of the port, or one of the names that there are: {}", listed(names)),
    }
}
