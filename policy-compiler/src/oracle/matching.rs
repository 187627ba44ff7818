//! Whether one packet matches one part of one object: selectors, peers, addresses, ports.

use std::net::IpAddr;

use datapath::abi::{Direction, Transport};
use k8s_openapi::api::networking::v1::{IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use datapath::http::Request;

use super::request::Asked;
use super::{Packet, Protocol, owner};
use crate::api::PolicyObject;
use crate::api::admin_network_policy as admin;
use crate::api::cluster_network_policy as cnp;
use crate::api::cluster_network_policy::{NamespacedPod, Subject};
use crate::api::polder_policy::{self as polder, PolderPolicy};
use crate::facts::{Cluster, Pod};
use crate::labels::{Labels, Space};

/// A packet and all that rules ask of it.
pub(super) struct Scene<'a> {
    pub(super) packet: &'a Packet,
    cluster: &'a Cluster,
    /// The pod that is judged.
    subject: &'a Pod,
    /// The pod that the peer address belongs to.
    peer_pod: Option<&'a Pod>,
    /// The pod that the packet goes to: its port names are meant.
    destination: Option<&'a Pod>,
    /// What is asked, if that is known.
    request: Option<&'a Request<'a>>,
}

/// A rule of which peer and port match.
pub(super) struct Found<'p> {
    /// Its index in the direction's list.
    pub(super) index: usize,
    pub(super) action: &'p str,
    pub(super) asked: Asked<'p>,
}

impl<'p> Found<'p> {
    /// One that asks nothing.
    pub(super) fn plain(action: &'p str) -> Self {
        Self { index: 0, action, asked: Asked { http: None, grpc: None, tls: None } }
    }
}

/// What a rule of which peer and port match says of what is asked.
pub(super) enum Heard {
    /// It matches, or does not ask.
    Yes,
    No,
    /// It asks, and nothing is known.
    Unknown,
}

impl<'a> Scene<'a> {
    pub(super) fn new(
        cluster: &'a Cluster,
        subject: &'a Pod,
        packet: &'a Packet,
        request: Option<&'a Request<'a>>,
    ) -> Self {
        let peer_pod = owner(cluster, packet.peer);
        let destination = match packet.direction {
            Direction::Ingress => Some(subject),
            Direction::Egress => peer_pod,
        };
        Self { packet, cluster, subject, peer_pod, destination, request }
    }

    pub(super) fn heard(&self, action: &str, asked: Asked<'_>) -> Heard {
        let Some(request) = self.request else {
            return if asked.is_conditional() { Heard::Unknown } else { Heard::Yes };
        };
        let opens = matches!(action, "Allow" | "Pass");
        if !asked.is_conditional() || asked.matches(request, opens) { Heard::Yes } else { Heard::No }
    }

    /// Whether a rule of a policy matches peer and port and is about the protocol that a request is in.
    pub(super) fn speaks_of_protocol(&self, policy: &PolicyObject, request: &Request<'_>) -> bool {
        let mode = match policy {
            PolicyObject::PolderPolicy(policy) => &policy.spec.mode,
            PolicyObject::ClusterPolderPolicy(policy) => &policy.spec.mode,
            _ => return false,
        };
        mode.as_deref() != Some("Audit")
            && self.matching_rules(policy).iter().any(|rule| rule.asked.is_about(request))
    }

    /// The rules of a policy that match peer and port, in their order. None if the pod that is judged is not meant.
    pub(super) fn matching_rules<'p>(&self, policy: &'p PolicyObject) -> Vec<Found<'p>> {
        match policy {
            PolicyObject::PolderPolicy(policy) => {
                let own = namespace_of(policy.metadata.namespace.as_deref());
                if !self.is_subject_of(policy) {
                    return Vec::new();
                }
                self.polder_rules(policy.spec.ingress.as_deref(), policy.spec.egress.as_deref(), Some(own))
            }
            PolicyObject::ClusterPolderPolicy(policy) => {
                let spec = &policy.spec;
                if !self.is_subject(&spec.subject) {
                    return Vec::new();
                }
                self.polder_rules(spec.ingress.as_deref(), spec.egress.as_deref(), None)
            }
            other => {
                let first = self.first_matching_rule(other);
                first.into_iter().map(|(index, action)| Found { index, ..Found::plain(action) }).collect()
            }
        }
    }

    /// Whether the judged pod is one that a `PolderPolicy` selects.
    fn is_subject_of(&self, policy: &PolderPolicy) -> bool {
        let selector = policy.spec.subject.pod_selector.as_ref();
        *self.subject.key.namespace == *namespace_of(policy.metadata.namespace.as_deref())
            && selector.is_some_and(|selector| selects(selector, &self.subject.labels))
    }

    /// Whether a `PolderPolicy` that is enforced selects the pod and speaks of the direction.
    pub(super) fn is_isolated_by(&self, policy: &PolderPolicy) -> bool {
        let speaks = match self.packet.direction {
            Direction::Ingress => policy.spec.ingress.is_some(),
            Direction::Egress => policy.spec.egress.is_some(),
        };
        speaks && policy.spec.mode.as_deref() != Some("Audit") && self.is_subject_of(policy)
    }

    /// The rules of our own kinds that match; `own` is the namespace that pods without a `namespaceSelector` are in, if not any.
    fn polder_rules<'p>(
        &self,
        ingress: Option<&'p [polder::IngressRule]>,
        egress: Option<&'p [polder::EgressRule]>,
        own: Option<&str>,
    ) -> Vec<Found<'p>> {
        type Parts<'p> = (&'p str, Option<&'p [cnp::EgressPeer]>, Option<&'p [cnp::Protocol]>, Asked<'p>);
        let rules: Vec<Parts<'p>> = match self.packet.direction {
            Direction::Ingress => ingress
                .into_iter()
                .flatten()
                .map(|rule| {
                    let asked = Asked {
                        http: rule.http.as_deref(),
                        grpc: rule.grpc.as_deref(),
                        tls: rule.tls.as_ref(),
                    };
                    (&*rule.action, rule.from.as_deref(), rule.protocols.as_deref(), asked)
                })
                .collect(),
            Direction::Egress => egress
                .into_iter()
                .flatten()
                .map(|rule| {
                    let asked = Asked {
                        http: rule.http.as_deref(),
                        grpc: rule.grpc.as_deref(),
                        tls: rule.tls.as_ref(),
                    };
                    (&*rule.action, rule.to.as_deref(), rule.protocols.as_deref(), asked)
                })
                .collect(),
        };
        let meant = |peer: &cnp::EgressPeer| {
            let in_own = |pods: &NamespacedPod| {
                let Some(pod) = self.peer_pod else { return false };
                own.is_some_and(|own| *pod.key.namespace == *own)
                    && pods.pod_selector.as_ref().is_some_and(|selector| selects(selector, &pod.labels))
            };
            let pods = match &peer.pods {
                Some(pods) if pods.namespace_selector.is_none() && own.is_some() => in_own(pods),
                pods => self.peer_is_pod(None, pods.as_ref()),
            };
            pods || self.peer_is_pod(peer.namespaces.as_ref(), None)
                || self.peer_is_node(peer.nodes.as_ref())
                || self.peer_is_in(peer.networks.as_deref())
        };
        let matches = |peers: Option<&[cnp::EgressPeer]>,
                       ports: Option<&[cnp::Protocol]>,
                       asked: &Asked<'_>| {
            let peer = peers.is_none_or(|peers| peers.iter().any(meant));
            let port = match (ports, asked.is_conditional()) {
                (None, false) => true,
                // Requests are read from TCP only.
                (None, true) => matches!(self.packet.protocol, Protocol::Transport(Transport::Tcp, _)),
                (Some(ports), conditional) => ports.iter().any(|port| match &port.destination_named_port {
                    Some(name) if conditional => self.destination.is_some_and(|pod| {
                        let found = pod.named_port(name, Some(Transport::Tcp));
                        found.is_some_and(|(on, number)| {
                            self.packet.protocol == Protocol::Transport(on, number)
                        })
                    }),
                    _ => self.cluster_port(port),
                }),
            };
            peer && port
        };
        let found = rules
            .into_iter()
            .enumerate()
            .filter(|(_, (_, peers, ports, asked))| matches(*peers, *ports, asked));
        found.map(|(index, (action, _, _, asked))| Found { index, action, asked }).collect()
    }

    /// The first rule of a cluster-wide policy that matches, and its action. `None` if the subject is not meant.
    fn first_matching_rule<'p>(&self, policy: &'p PolicyObject) -> Option<(usize, &'p str)> {
        match policy {
            PolicyObject::NetworkPolicy(_)
            | PolicyObject::PolderPolicy(_)
            | PolicyObject::ClusterPolderPolicy(_) => None,
            PolicyObject::ClusterNetworkPolicy(policy) => {
                let spec = &policy.spec;
                self.cluster_rule(&spec.subject, &spec.ingress, &spec.egress)
            }
            PolicyObject::AdminNetworkPolicy(policy) => {
                let spec = &policy.spec;
                self.admin_rule(&spec.subject, &spec.ingress, &spec.egress)
            }
            PolicyObject::BaselineAdminNetworkPolicy(policy) => {
                let spec = &policy.spec;
                self.admin_rule(&spec.subject, &spec.ingress, &spec.egress)
            }
        }
    }

    fn cluster_rule<'p>(
        &self,
        subject: &Subject,
        ingress: &'p [cnp::IngressRule],
        egress: &'p [cnp::EgressRule],
    ) -> Option<(usize, &'p str)> {
        if !self.is_subject(subject) {
            return None;
        }
        let ports = |protocols: Option<&[cnp::Protocol]>| {
            protocols.is_none_or(|protocols| protocols.iter().any(|protocol| self.cluster_port(protocol)))
        };
        match self.packet.direction {
            Direction::Ingress => ingress.iter().enumerate().find_map(|(index, rule)| {
                let from = rule
                    .from
                    .iter()
                    .any(|peer| self.peer_is_pod(peer.namespaces.as_ref(), peer.pods.as_ref()));
                (from && ports(rule.protocols.as_deref())).then_some((index, &*rule.action))
            }),
            Direction::Egress => egress.iter().enumerate().find_map(|(index, rule)| {
                // `domainNames` are not enforceable yet: they match nothing.
                let to = rule.to.iter().any(|peer| {
                    self.peer_is_pod(peer.namespaces.as_ref(), peer.pods.as_ref())
                        || self.peer_is_node(peer.nodes.as_ref())
                        || self.peer_is_in(peer.networks.as_deref())
                });
                (to && ports(rule.protocols.as_deref())).then_some((index, &*rule.action))
            }),
        }
    }

    fn admin_rule<'p>(
        &self,
        subject: &Subject,
        ingress: &'p [admin::IngressRule],
        egress: &'p [admin::EgressRule],
    ) -> Option<(usize, &'p str)> {
        if !self.is_subject(subject) {
            return None;
        }
        let matches_ports = |ports: Option<&[admin::Port]>| {
            ports.is_none_or(|ports| ports.iter().any(|port| self.admin_port(port)))
        };
        match self.packet.direction {
            Direction::Ingress => ingress.iter().enumerate().find_map(|(index, rule)| {
                let from = rule
                    .from
                    .iter()
                    .any(|peer| self.peer_is_pod(peer.namespaces.as_ref(), peer.pods.as_ref()));
                (from && matches_ports(rule.ports.as_deref())).then_some((index, &*rule.action))
            }),
            Direction::Egress => egress.iter().enumerate().find_map(|(index, rule)| {
                // `domainNames` are not enforceable yet: they match nothing.
                let to = rule.to.iter().any(|peer| {
                    self.peer_is_pod(peer.namespaces.as_ref(), peer.pods.as_ref())
                        || self.peer_is_node(peer.nodes.as_ref())
                        || self.peer_is_in(peer.networks.as_deref())
                });
                (to && matches_ports(rule.ports.as_deref())).then_some((index, &*rule.action))
            }),
        }
    }

    /// Whether the judged pod is in a `NetworkPolicy`'s namespace and its `spec.podSelector` selects it.
    pub(super) fn is_selected_by(&self, policy: &NetworkPolicy) -> bool {
        let selector = policy.spec.as_ref().and_then(|spec| spec.pod_selector.as_ref());
        *self.subject.key.namespace == *namespace(policy)
            && selector.is_none_or(|selector| selects(selector, &self.subject.labels))
    }

    /// Whether one of a `NetworkPolicy`'s rules matches.
    pub(super) fn is_allowed_by(&self, policy: &NetworkPolicy) -> bool {
        let Some(spec) = &policy.spec else { return false };
        let matches_peers = |peers: Option<&[NetworkPolicyPeer]>| match peers {
            None | Some([]) => true,
            Some(peers) => peers.iter().any(|peer| self.peer(peer, namespace(policy))),
        };
        let matches_ports = |ports: Option<&[NetworkPolicyPort]>| match ports {
            None | Some([]) => true,
            Some(ports) => ports.iter().any(|port| self.port(port)),
        };
        match self.packet.direction {
            Direction::Ingress => (spec.ingress.iter().flatten())
                .any(|rule| matches_peers(rule.from.as_deref()) && matches_ports(rule.ports.as_deref())),
            Direction::Egress => (spec.egress.iter().flatten())
                .any(|rule| matches_peers(rule.to.as_deref()) && matches_ports(rule.ports.as_deref())),
        }
    }

    fn is_subject(&self, subject: &Subject) -> bool {
        self.is_meant(self.subject, subject.namespaces.as_ref(), subject.pods.as_ref())
    }

    fn peer_is_pod(&self, namespaces: Option<&LabelSelector>, pods: Option<&NamespacedPod>) -> bool {
        self.peer_pod.is_some_and(|pod| self.is_meant(pod, namespaces, pods))
    }

    /// `namespaces` and `pods`, of which one is set.
    fn is_meant(&self, pod: &Pod, namespaces: Option<&LabelSelector>, pods: Option<&NamespacedPod>) -> bool {
        let in_namespace = |selector| selects(selector, &self.cluster.namespace_labels(&pod.key.namespace));
        namespaces.is_some_and(in_namespace)
            || pods.is_some_and(|pods| {
                // `namespaceSelector` is optional, `podSelector` is not.
                pods.namespace_selector.as_ref().is_none_or(in_namespace)
                    && pods.pod_selector.as_ref().is_some_and(|selector| selects(selector, &pod.labels))
            })
    }

    fn peer_is_node(&self, selector: Option<&LabelSelector>) -> bool {
        selector.is_some_and(|selector| {
            (self.cluster.nodes.values())
                .any(|node| node.addresses.contains(&self.packet.peer) && selects(selector, &node.labels))
        })
    }

    fn peer_is_in(&self, networks: Option<&[String]>) -> bool {
        networks.is_some_and(|networks| {
            networks.iter().any(|cidr| contains(cidr, self.packet.peer) == Some(true))
        })
    }

    /// One entry of a `NetworkPolicy`'s `from` or `to`.
    fn peer(&self, peer: &NetworkPolicyPeer, own_namespace: &str) -> bool {
        if let Some(block) = &peer.ip_block {
            return in_block(block, self.packet.peer);
        }
        let Some(pod) = self.peer_pod else { return false };
        let namespace = match (&peer.namespace_selector, &peer.pod_selector) {
            (None, None) => false,
            (None, Some(_)) => *pod.key.namespace == *own_namespace,
            (Some(selector), _) => selects(selector, &self.cluster.namespace_labels(&pod.key.namespace)),
        };
        namespace && peer.pod_selector.as_ref().is_none_or(|selector| selects(selector, &pod.labels))
    }

    /// One entry of a `NetworkPolicy`'s `ports`.
    fn port(&self, port: &NetworkPolicyPort) -> bool {
        let Some((transport, number)) = self.transport(port.protocol.as_deref()) else { return false };
        match &port.port {
            None => true,
            Some(IntOrString::Int(first)) => within(number, Some(*first), port.end_port.or(Some(*first))),
            Some(IntOrString::String(name)) => self
                .destination
                .is_some_and(|pod| pod.named_port(name, Some(transport)) == Some((transport, number))),
        }
    }

    /// One entry of a `ClusterNetworkPolicy`'s `protocols`, of which one field is set.
    fn cluster_port(&self, protocol: &cnp::Protocol) -> bool {
        let of = |name: &str, ports: Option<&cnp::ProtocolPorts>| {
            let (Some(ports), Some((_, number))) = (ports, self.transport(Some(name))) else { return false };
            let Some(port) = &ports.destination_port else { return true };
            within(number, port.number, port.number)
                || port.range.as_ref().is_some_and(|range| within(number, range.start, range.end))
        };
        of("TCP", protocol.tcp.as_ref())
            || of("UDP", protocol.udp.as_ref())
            || of("SCTP", protocol.sctp.as_ref())
            || self.named(protocol.destination_named_port.as_deref())
    }

    /// One entry of an `AdminNetworkPolicy`'s `ports`, of which one field is set.
    fn admin_port(&self, port: &admin::Port) -> bool {
        let range = |protocol: Option<&str>, first, last| {
            self.transport(protocol).is_some_and(|(_, number)| within(number, first, last))
        };
        port.port_number.as_ref().is_some_and(|port| range(port.protocol.as_deref(), port.port, port.port))
            || port
                .port_range
                .as_ref()
                .is_some_and(|ports| range(ports.protocol.as_deref(), ports.start, ports.end))
            || self.named(port.named_port.as_deref())
    }

    /// A port named without a protocol: protocol and number are those of the destination's first port of that name.
    fn named(&self, name: Option<&str>) -> bool {
        let (Some(name), Some(pod)) = (name, self.destination) else { return false };
        pod.named_port(name, None)
            .is_some_and(|(transport, number)| self.packet.protocol == Protocol::Transport(transport, number))
    }

    /// The packet's transport and port, if it is the transport of that name; no name is TCP.
    fn transport(&self, name: Option<&str>) -> Option<(Transport, u16)> {
        let wanted = match name {
            None | Some("TCP") => Transport::Tcp,
            Some("UDP") => Transport::Udp,
            Some("SCTP") => Transport::Sctp,
            Some(_) => return None,
        };
        match self.packet.protocol {
            Protocol::Transport(transport, number) if transport == wanted => Some((transport, number)),
            Protocol::Transport(..) | Protocol::Other(_) => None,
        }
    }
}

/// The namespace of a `NetworkPolicy`; `default` if it does not say, as with kubectl.
fn namespace(policy: &NetworkPolicy) -> &str {
    namespace_of(policy.metadata.namespace.as_deref())
}

fn namespace_of(written: Option<&str>) -> &str {
    written.filter(|namespace| !namespace.is_empty()).unwrap_or("default")
}

/// Whether a label selector selects something with these labels: all that it says must hold.
pub(super) fn selects<S: Space>(selector: &LabelSelector, labels: &Labels<S>) -> bool {
    let equal = |(key, value): (&String, &String)| labels.get(key) == Some(value);
    selector.match_labels.iter().flatten().all(equal)
        && selector.match_expressions.iter().flatten().all(|requirement| holds(requirement, labels))
}

fn holds<S: Space>(requirement: &LabelSelectorRequirement, labels: &Labels<S>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let value = labels.get(&requirement.key);
    match &*requirement.operator {
        "In" => value.is_some_and(|value| values.iter().any(|wanted| wanted == value)),
        "NotIn" => value.is_none_or(|value| values.iter().all(|unwanted| unwanted != value)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        _ => false,
    }
}

/// Whether an address is in a block and in none of its exceptions.
fn in_block(block: &IPBlock, address: IpAddr) -> bool {
    contains(&block.cidr, address) == Some(true)
        && block.except.iter().flatten().all(|except| contains(except, address) == Some(false))
}

/// Whether an address is in a prefix, whatever bits the prefix has below its length. `None` if it cannot be read.
pub(super) fn contains(cidr: &str, address: IpAddr) -> Option<bool> {
    let (base, length) = cidr.split_once('/')?;
    let (base, length): (IpAddr, u32) = (base.parse().ok()?, length.parse().ok()?);
    let (base, address, width) = match (base, address) {
        (IpAddr::V4(base), IpAddr::V4(address)) => (base.to_bits().into(), address.to_bits().into(), 32),
        (IpAddr::V6(base), IpAddr::V6(address)) => (base.to_bits(), address.to_bits(), 128),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return Some(false),
    };
    // The bits below the length do not count; shifting all 128 of them away leaves 0.
    let below = |bits: u128, length: u32| bits.checked_shr(length).unwrap_or(0);
    let host_bits = u32::checked_sub(width, length)?;
    Some(below(base, host_bits) == below(address, host_bits))
}

/// Whether a port is in a range, both ends included.
fn within(number: u16, first: Option<i32>, last: Option<i32>) -> bool {
    let number = i32::from(number);
    first.is_some_and(|first| first <= number) && last.is_some_and(|last| number <= last)
}
