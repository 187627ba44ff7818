//! Random cluster-wide policies: drawn once in one form, then written as each kind writes it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use policy_compiler::api::admin_network_policy as admin;
use policy_compiler::api::cluster_network_policy as cnp;
use policy_compiler::api::cluster_network_policy::{NamespacedPod, Subject};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use crate::cidrs::cidr;
use crate::facts::{PORT_NAMES, PORTS};
use crate::policies::{NAMES, metadata, protocol, range, selector};

/// A `ClusterNetworkPolicy`; equal priorities are likely.
pub fn cluster_network_policy() -> impl Strategy<Value = cnp::ClusterNetworkPolicy> {
    let tier = select(&["Admin", "Baseline"][..]);
    (select(NAMES), tier, priority(), draft()).prop_map(|(name, tier, priority, draft)| {
        cnp::ClusterNetworkPolicy {
            metadata: metadata(name),
            spec: cnp::Spec {
                tier: tier.to_owned(),
                priority: Some(priority),
                subject: draft.subject,
                ingress: draft.ingress.into_iter().map(Rule::cluster_ingress).collect(),
                egress: draft.egress.into_iter().map(Rule::cluster_egress).collect(),
            },
            status: None,
        }
    })
}

/// An `AdminNetworkPolicy`; equal priorities are likely.
pub fn admin_network_policy() -> impl Strategy<Value = admin::AdminNetworkPolicy> {
    (select(NAMES), priority(), draft()).prop_map(|(name, priority, draft)| admin::AdminNetworkPolicy {
        metadata: metadata(name),
        spec: admin::Spec {
            priority: Some(priority),
            subject: draft.subject,
            ingress: draft.ingress.into_iter().map(Rule::admin_ingress).collect(),
            egress: draft.egress.into_iter().map(Rule::admin_egress).collect(),
        },
        status: None,
    })
}

/// The `BaselineAdminNetworkPolicy`: it has no `Pass` and no domain names, and its name is always `default`.
pub fn baseline_admin_network_policy() -> impl Strategy<Value = admin::BaselineAdminNetworkPolicy> {
    draft().prop_map(|draft| {
        let plain = |mut rule: Rule| {
            rule.action = if rule.action == Action::Pass { Action::Deny } else { rule.action };
            rule.peers.retain(|peer| !matches!(peer, Peer::Domain));
            rule.valid()
        };
        admin::BaselineAdminNetworkPolicy {
            metadata: metadata("default"),
            spec: admin::BaselineSpec {
                subject: draft.subject,
                ingress: draft.ingress.into_iter().map(|rule| plain(rule).admin_ingress()).collect(),
                egress: draft.egress.into_iter().map(|rule| plain(rule).admin_egress()).collect(),
            },
            status: None,
        }
    })
}

#[derive(Clone, Debug)]
struct Draft {
    subject: Subject,
    ingress: Vec<Rule>,
    egress: Vec<Rule>,
}

#[derive(Clone, Debug)]
struct Rule {
    action: Action,
    peers: Vec<Peer>,
    ports: Option<Vec<Port>>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Action {
    Allow,
    Deny,
    Pass,
}

#[derive(Clone, Debug)]
enum Peer {
    Namespaces(LabelSelector),
    Pods(NamespacedPod),
    Nodes(LabelSelector),
    Networks(Vec<String>),
    Domain,
}

#[derive(Clone, Debug)]
enum Port {
    Range { protocol: Option<String>, first: u16, last: u16 },
    Named(&'static str),
}

pub(crate) fn priority() -> impl Strategy<Value = i32> {
    prop_oneof![3 => Just(0), 2 => Just(1), 1 => Just(1000)]
}

fn draft() -> BoxedStrategy<Draft> {
    let subject = prop_oneof![
        // Everyone, often: else too few rules ever match.
        2 => Just(Subject { namespaces: Some(LabelSelector::default()), pods: None }),
        1 => selector().prop_map(|namespaces| Subject { namespaces: Some(namespaces), pods: None }),
        1 => namespaced_pod().prop_map(|pods| Subject { namespaces: None, pods: Some(pods) }),
    ];
    let ingress = vec(rule(inside_peer().boxed()), 0..=3);
    let egress = vec(rule(prop_oneof![3 => inside_peer(), 4 => outside_peer()].boxed()), 0..=3);
    (subject, ingress, egress)
        .prop_map(|(subject, ingress, egress)| Draft { subject, ingress, egress })
        .boxed()
}

fn rule(peer: BoxedStrategy<Peer>) -> BoxedStrategy<Rule> {
    let action = select(&[Action::Deny, Action::Allow, Action::Pass][..]);
    let ports = option::weighted(0.4, vec(port(), 1..=3));
    (action, vec(peer, 1..=3), ports)
        .prop_map(|(action, peers, ports)| Rule { action, peers, ports }.valid())
        .boxed()
}

fn inside_peer() -> impl Strategy<Value = Peer> {
    prop_oneof![selector().prop_map(Peer::Namespaces), namespaced_pod().prop_map(Peer::Pods)]
}

fn outside_peer() -> impl Strategy<Value = Peer> {
    prop_oneof![
        3 => selector().prop_map(Peer::Nodes),
        6 => prop::collection::btree_set(cidr(), 1..=2).prop_map(|set| Peer::Networks(set.into_iter().collect())),
        1 => Just(Peer::Domain),
    ]
}

pub(crate) fn namespaced_pod() -> impl Strategy<Value = NamespacedPod> {
    (selector(), selector()).prop_map(|(namespaces, pods)| NamespacedPod {
        namespace_selector: Some(namespaces),
        pod_selector: Some(pods),
    })
}

fn port() -> impl Strategy<Value = Port> {
    prop_oneof![
        3 => (protocol(), select(PORTS)).prop_map(|(protocol, port)| Port::Range { protocol, first: port, last: port }),
        3 => (protocol(), range()).prop_map(|(protocol, (first, last))| Port::Range { protocol, first, last }),
        2 => select(PORT_NAMES).prop_map(Port::Named),
    ]
}

impl Rule {
    /// The rule without what the API server refuses: domain names in rules that do not allow, and port names beside
    /// peers that have none.
    fn valid(mut self) -> Self {
        self.peers.retain(|peer| self.action == Action::Allow || !matches!(peer, Peer::Domain));
        if self.peers.is_empty() {
            self.peers.push(Peer::Namespaces(LabelSelector::default()));
        }
        let nameless = |peer: &Peer| matches!(peer, Peer::Nodes(_) | Peer::Networks(_) | Peer::Domain);
        if self.peers.iter().any(nameless)
            && let Some(ports) = &mut self.ports
        {
            ports.retain(|port| !matches!(port, Port::Named(_)));
        }
        self.ports = self.ports.filter(|ports| !ports.is_empty());
        self
    }

    fn cluster_action(&self) -> String {
        match self.action {
            Action::Allow => "Accept",
            Action::Deny => "Deny",
            Action::Pass => "Pass",
        }
        .to_owned()
    }

    fn admin_action(&self) -> String {
        match self.action {
            Action::Allow => "Allow",
            Action::Deny => "Deny",
            Action::Pass => "Pass",
        }
        .to_owned()
    }

    fn cluster_ingress(self) -> cnp::IngressRule {
        cnp::IngressRule {
            name: None,
            action: self.cluster_action(),
            from: self.peers.into_iter().map(source).collect(),
            protocols: self.ports.map(|ports| ports.into_iter().map(cluster_protocol).collect()),
        }
    }

    fn cluster_egress(self) -> cnp::EgressRule {
        cnp::EgressRule {
            name: None,
            action: self.cluster_action(),
            to: self.peers.into_iter().map(destination).collect(),
            protocols: self.ports.map(|ports| ports.into_iter().map(cluster_protocol).collect()),
        }
    }

    fn admin_ingress(self) -> admin::IngressRule {
        admin::IngressRule {
            name: None,
            action: self.admin_action(),
            from: self.peers.into_iter().map(source).collect(),
            ports: self.ports.map(|ports| ports.into_iter().map(admin_port).collect()),
        }
    }

    fn admin_egress(self) -> admin::EgressRule {
        admin::EgressRule {
            name: None,
            action: self.admin_action(),
            to: self.peers.into_iter().map(destination).collect(),
            ports: self.ports.map(|ports| ports.into_iter().map(admin_port).collect()),
        }
    }
}

/// A peer of any kind, as our own kinds have them in both directions.
pub(crate) fn any_peer() -> BoxedStrategy<cnp::EgressPeer> {
    prop_oneof![4 => inside_peer(), 2 => outside_peer()].prop_map(destination).boxed()
}

/// A port, as it is written with `protocols`.
pub(crate) fn any_protocol() -> BoxedStrategy<cnp::Protocol> {
    port().prop_map(cluster_protocol).boxed()
}

/// A peer as all kinds write it.
fn destination(peer: Peer) -> cnp::EgressPeer {
    let mut written = cnp::EgressPeer::default();
    match peer {
        Peer::Namespaces(selector) => written.namespaces = Some(selector),
        Peer::Pods(pods) => written.pods = Some(pods),
        Peer::Nodes(selector) => written.nodes = Some(selector),
        Peer::Networks(networks) => written.networks = Some(networks),
        Peer::Domain => written.domain_names = Some(vec!["example.com".to_owned()]),
    }
    written
}

/// The same of an ingress rule, where only pods can be named.
fn source(peer: Peer) -> cnp::IngressPeer {
    let cnp::EgressPeer { namespaces, pods, .. } = destination(peer);
    cnp::IngressPeer { namespaces, pods }
}

fn cluster_protocol(port: Port) -> cnp::Protocol {
    let (protocol, first, last) = match port {
        Port::Named(name) => {
            return cnp::Protocol { destination_named_port: Some(name.to_owned()), ..Default::default() };
        }
        Port::Range { protocol, first, last } => (protocol, i32::from(first), i32::from(last)),
    };
    // A range must have two ports here.
    let port = if first == last {
        cnp::Port { number: Some(first), range: None }
    } else {
        cnp::Port { number: None, range: Some(cnp::PortRange { start: Some(first), end: Some(last) }) }
    };
    let ports = Some(cnp::ProtocolPorts { destination_port: Some(port) });
    match protocol.as_deref() {
        Some("UDP") => cnp::Protocol { udp: ports, ..Default::default() },
        Some("SCTP") => cnp::Protocol { sctp: ports, ..Default::default() },
        _ => cnp::Protocol { tcp: ports, ..Default::default() },
    }
}

fn admin_port(port: Port) -> admin::Port {
    match port {
        Port::Named(name) => admin::Port { named_port: Some(name.to_owned()), ..Default::default() },
        Port::Range { protocol, first, last } if first == last => {
            let number = admin::PortNumber { protocol, port: Some(i32::from(first)) };
            admin::Port { port_number: Some(number), ..Default::default() }
        }
        Port::Range { protocol, first, last } => {
            let (start, end) = (Some(i32::from(first)), Some(i32::from(last)));
            admin::Port { port_range: Some(admin::PortRange { protocol, start, end }), ..Default::default() }
        }
    }
}
