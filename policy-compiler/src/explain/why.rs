//! Why a rule does not match, in words. That it does not is known already, from the compiled rule set.

use std::net::IpAddr;
use std::sync::Arc;

use super::answer::{Mismatch, Part};
use super::ends::{Judged, Resolved};
use super::{Protocol, transport_name};
use crate::compiler::Compiler;
use crate::facts::Pod;
use crate::labels::{Condition, Labels, Requirement, Selector, Space};
use crate::policy::{Namespaces, Network, Peer, PeerTerm, Peers, Pods, Port, PortTerm, Ports, Rule};

/// Why one entry of a peer list does not match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PeerMiss {
    pub(super) path: String,
    pub(super) text: String,
    /// Requirements on the labels of the peer pod that do not hold.
    pub(super) pod: Vec<Requirement>,
    /// Requirements on the labels of its namespace that do not hold.
    pub(super) namespace: Vec<Requirement>,
    /// No label would help.
    pub(super) hopeless: bool,
}

impl PeerMiss {
    pub(super) fn mismatch(&self) -> Mismatch {
        Mismatch { part: Part::Peer, path: self.path.clone(), text: self.text.clone() }
    }

    /// How many labels are wrong; more than any number of labels if no label would help.
    pub(super) fn distance(&self) -> usize {
        if self.hopeless { 100 } else { self.pod.len() + self.namespace.len() }
    }

    fn hopeless(peer: &Peer, text: String) -> Self {
        Self { path: peer.path.to_string(), text, pod: Vec::new(), namespace: Vec::new(), hopeless: true }
    }
}

/// Why none of a rule's peers is the other end.
pub(super) fn peers(compiler: &Compiler, judged: &Judged<'_>, rule: &Rule) -> Vec<PeerMiss> {
    let nobody = |text: &str| {
        let path = rule.path.to_string();
        vec![PeerMiss { path, text: text.to_owned(), pod: Vec::new(), namespace: Vec::new(), hopeless: true }]
    };
    match &rule.peers {
        // Such a rule matches every peer, so nobody asks.
        Peers::Any => nobody("the rule is for every peer"),
        Peers::AnyOf(peers) if peers.is_empty() => nobody("the rule names no peer: it matches nobody"),
        Peers::AnyOf(peers) => peers.iter().map(|peer| one(compiler, judged, peer)).collect(),
    }
}

fn one(compiler: &Compiler, judged: &Judged<'_>, peer: &Peer) -> PeerMiss {
    let end = &judged.peer;
    match &peer.term {
        PeerTerm::Pods(pods) => match compiler.owner(end.address) {
            Some(pod) => pod_peer(compiler, pod, peer, pods),
            None => PeerMiss::hopeless(peer, not_a_pod(end)),
        },
        PeerTerm::Nodes(selector) => {
            let nodes = compiler.cluster().nodes.values();
            let mut with_address = nodes.filter(|node| node.addresses.contains(&end.address));
            PeerMiss::hopeless(
                peer,
                match with_address.next() {
                    Some(node) => {
                        let wrong = failing(selector, &node.labels);
                        said(&format!("node {}", node.name), &wrong, &node.labels)
                    }
                    None => format!("{} is no node", end.name()),
                },
            )
        }
        PeerTerm::Network(network) => PeerMiss::hopeless(peer, outside(end, network)),
        PeerTerm::Domain(name) => PeerMiss::hopeless(
            peer,
            format!("domain names are not enforceable yet, so that {name} matches nobody"),
        ),
    }
}

fn not_a_pod(end: &Resolved<'_>) -> String {
    let end_name = end.name();
    if end.describe().kind == super::EndKind::HostNetworkPod {
        return format!("{end_name} is on the host network: it is its node, not its labels");
    }
    match end.node {
        Some(_) => format!("the peer is not a pod: it is {end_name}"),
        None => format!("the peer is not a pod: no pod is known with {}", end.address),
    }
}

fn pod_peer(compiler: &Compiler, pod: &Arc<Pod>, peer: &Peer, wanted: &Pods) -> PeerMiss {
    let mut said_all = Vec::new();
    let mut hopeless = false;
    let mut namespace = Vec::new();
    match &wanted.namespaces {
        Namespaces::Named(name) if *name != pod.key.namespace => {
            hopeless = true;
            said_all.push(format!("pod {} is in namespace {}, not {name}", pod.key, pod.key.namespace));
        }
        Namespaces::Named(_) => {}
        Namespaces::Matching(selector) => {
            let labels = compiler.cluster().namespace_labels(&pod.key.namespace);
            namespace = failing(selector, &labels);
            if !namespace.is_empty() {
                said_all.push(said(&format!("namespace {}", pod.key.namespace), &namespace, &labels));
            }
        }
    }
    let wrong = failing(&wanted.pods, &pod.labels);
    if !wrong.is_empty() {
        said_all.push(said(&format!("pod {}", pod.key), &wrong, &pod.labels));
    }
    PeerMiss { path: peer.path.to_string(), text: said_all.join("; "), pod: wrong, namespace, hopeless }
}

fn failing<S: Space>(selector: &Selector<S>, labels: &Labels<S>) -> Vec<Requirement> {
    selector.requirements().iter().filter(|requirement| !requirement.matches(labels)).cloned().collect()
}

/// `namespace test has team=b, not team=a; ...`
fn said<S: Space>(who: &str, wrong: &[Requirement], labels: &Labels<S>) -> String {
    let all: Vec<String> = wrong.iter().map(|requirement| said_one(requirement, labels)).collect();
    format!("{who} {}", all.join(" and "))
}

fn said_one<S: Space>(requirement: &Requirement, labels: &Labels<S>) -> String {
    let key = &requirement.key;
    match (labels.get(key), &requirement.condition) {
        (Some(value), Condition::In(_)) => format!("has {key}={value}, not {requirement}"),
        (None, Condition::In(_)) => format!("has no label {key}, not {requirement}"),
        (Some(value), _) => format!("has {key}={value}, which {requirement} excludes"),
        (None, _) => format!("has no label {key}"),
    }
}

/// What would have to hold: `app=web`.
pub(super) fn wanted(requirement: &Requirement) -> String {
    match &requirement.condition {
        Condition::In(_) => format!("had {requirement}"),
        Condition::NotIn(values) => {
            let values: Vec<&str> = values.iter().map(|value| &**value).collect();
            format!("had {} other than {}", requirement.key, values.join(" and "))
        }
        Condition::Exists => format!("had a label {}", requirement.key),
        Condition::DoesNotExist => format!("had no label {}", requirement.key),
    }
}

fn outside(end: &Resolved<'_>, network: &Network) -> String {
    if end.is_made_up() {
        return format!(
            "the address of {} is not known, so that it counts as outside {}",
            end.name(),
            network.cidr
        );
    }
    let address: IpAddr = end.address;
    let except = network.except.iter().find(|except| except.contains(&address));
    match except.filter(|_| network.cidr.contains(&address)) {
        Some(except) => format!("{address} is excepted by {except}"),
        None => format!("{address} is outside {}", network.cidr),
    }
}

/// Why none of a rule's ports is asked for.
pub(super) fn ports(judged: &Judged<'_>, rule: &Rule) -> Mismatch {
    let ports = match &rule.ports {
        Ports::Any => &[][..],
        Ports::AnyOf(ports) => ports,
    };
    let path = match ports {
        [only] => only.path.to_string(),
        // The list itself: every entry stands in it under its index.
        [first, ..] => first.path.rsplit_once('[').map_or(&*first.path, |(list, _)| list).to_owned(),
        [] => rule.path.to_string(),
    };
    let text = match (judged.protocol, ports) {
        (_, []) => "the rule names no port: it matches nothing".to_owned(),
        (Protocol::Other(_), _) => {
            format!("{} has no ports, so that no rule with ports matches it", judged.protocol)
        }
        (Protocol::Transport(..), ports) => {
            let (named, plain): (Vec<&Port>, Vec<&Port>) =
                ports.iter().partition(|port| matches!(port.term, PortTerm::Named { .. }));
            let plain: Vec<String> = plain.iter().map(|port| port_text(&port.term)).collect();
            let mut said = Vec::new();
            match &plain[..] {
                [] => {}
                [only] => said.push(format!("port {} is not {only}", judged.protocol)),
                many => said.push(format!("port {} is none of {}", judged.protocol, many.join(", "))),
            }
            said.extend(named.iter().map(|port| named_text(judged, &port.term)));
            said.join("; ")
        }
    };
    Mismatch { part: Part::Port, path, text }
}

/// `8443/TCP`, `80-90/TCP`, `any TCP port`, `port name web`
pub(super) fn port_text(term: &PortTerm) -> String {
    match term {
        PortTerm::Protocol(transport) => format!("any {} port", transport_name(*transport)),
        PortTerm::Range { transport, first, last } if first == last => {
            format!("{first}/{}", transport_name(*transport))
        }
        PortTerm::Range { transport, first, last } => {
            format!("{first}-{last}/{}", transport_name(*transport))
        }
        PortTerm::Named { transport: Some(transport), name } => {
            format!("{name}/{}", transport_name(*transport))
        }
        PortTerm::Named { transport: None, name } => name.to_string(),
    }
}

fn named_text(judged: &Judged<'_>, term: &PortTerm) -> String {
    let PortTerm::Named { transport, name } = term else { return String::new() };
    let Some(pod) = judged.destination else {
        return format!("the destination is not a pod, so that it has no port named {name}");
    };
    let asked = judged.protocol;
    match (pod.named_port(name, *transport), transport) {
        (Some((on, port)), _) => {
            format!("port {name} of pod {} is {port}/{}, not {asked}", pod.key, transport_name(on))
        }
        (None, Some(transport)) => {
            format!("the destination has no {} port named {name}", transport_name(*transport))
        }
        (None, None) => format!("the destination has no port named {name}"),
    }
}

/// `pods app=web of namespace prod`, `10.0.0.0/8`
pub(super) fn peer_text(term: &PeerTerm) -> String {
    match term {
        PeerTerm::Pods(pods) => {
            let of = match &pods.namespaces {
                Namespaces::Named(name) => format!("namespace {name}"),
                Namespaces::Matching(selector) if selector.is_everything() => "all namespaces".to_owned(),
                Namespaces::Matching(selector) => format!("namespaces with {selector}"),
            };
            if pods.pods.is_everything() {
                format!("the pods of {of}")
            } else {
                format!("the pods with {} of {of}", pods.pods)
            }
        }
        PeerTerm::Nodes(selector) if selector.is_everything() => "the nodes".to_owned(),
        PeerTerm::Nodes(selector) => format!("the nodes with {selector}"),
        PeerTerm::Network(network) if network.except.is_empty() => network.cidr.to_string(),
        PeerTerm::Network(network) => {
            let except: Vec<String> = network.except.iter().map(ToString::to_string).collect();
            format!("{} except {}", network.cidr, except.join(" and "))
        }
        PeerTerm::Domain(name) => name.to_string(),
    }
}
