//! The two ends of a connection, and at which of them policy is asked.

use std::net::IpAddr;
use std::sync::Arc;

use datapath::abi::Direction;
use datapath::lookup::Origin;

use super::answer::{End, EndKind};
use super::{Connection, Party, Protocol, Request};
use crate::compiler::Compiler;
use crate::facts::{Node, Phase, Pod};
use crate::object::PodKey;

/// Both ends.
pub(super) struct Ends<'a> {
    pub(super) from: Resolved<'a>,
    pub(super) to: Resolved<'a>,
}

/// One end, as the cluster knows it.
#[derive(Clone, Copy)]
pub(super) struct Resolved<'a> {
    pub(super) address: IpAddr,
    /// The pod that policy is about, if it is one.
    pub(super) pod: Option<&'a Arc<Pod>>,
    /// The pod that was named but is its node, or nobody: host network, finished.
    named: Option<&'a Arc<Pod>>,
    /// The node that has this address, or on whose network the named pod is.
    pub(super) node: Option<&'a Arc<Node>>,
    /// Named as a pod that the cluster does not know.
    unknown: Option<&'a PodKey>,
}

/// One judgement: a pod, a direction, and the other end.
pub(super) struct Judged<'a> {
    pub(super) pod: &'a Arc<Pod>,
    pub(super) direction: Direction,
    pub(super) peer: Resolved<'a>,
    /// The pod that the connection goes to: named ports are its.
    pub(super) destination: Option<&'a Arc<Pod>>,
    pub(super) protocol: Protocol,
    /// What is asked, if that is known.
    pub(super) request: Option<&'a Request>,
    pub(super) origin: Origin,
}

impl<'a> Ends<'a> {
    pub(super) fn new(compiler: &'a Compiler, connection: &'a Connection) -> Self {
        Self { from: Resolved::new(compiler, &connection.from), to: Resolved::new(compiler, &connection.to) }
    }

    /// Egress of the source, then ingress of the destination, as far as they are pods that policy is about.
    pub(super) fn judged(&self, connection: &'a Connection) -> Vec<Judged<'a>> {
        let egress = self.from.pod.map(|pod| (pod, Direction::Egress, self.to));
        let ingress = self.to.pod.map(|pod| (pod, Direction::Ingress, self.from));
        let judged = egress.into_iter().chain(ingress).map(|(pod, direction, peer)| Judged {
            pod,
            direction,
            peer,
            destination: self.to.pod,
            protocol: connection.protocol,
            request: connection.request.as_ref(),
            origin: origin(pod, direction, peer),
        });
        judged.collect()
    }

    /// What has to be said of the ends themselves.
    pub(super) fn notes(&self, compiler: &Compiler) -> Vec<String> {
        [self.from, self.to].into_iter().flat_map(|end| end.notes(compiler)).collect()
    }
}

impl<'a> Resolved<'a> {
    fn new(compiler: &'a Compiler, party: &'a Party) -> Self {
        let cluster = compiler.cluster();
        let with_address =
            |address: IpAddr| cluster.nodes.values().find(|node| node.addresses.contains(&address));
        match party {
            Party::Pod(key, address) => {
                let named = cluster.pods.get(key);
                let pod = named.filter(|pod| pod.owns_addresses());
                let host = named.filter(|pod| pod.host_network);
                let own = host.and_then(|pod| pod.node.as_ref()).and_then(|name| cluster.nodes.get(name));
                let node = if pod.is_some() { None } else { own.or_else(|| with_address(*address)) };
                let unknown = named.is_none().then_some(key);
                Self { address: *address, pod, named: named.filter(|_| pod.is_none()), node, unknown }
            }
            Party::Address(address) => {
                let node = with_address(*address);
                let pod = if node.is_some() { None } else { compiler.owner(*address) };
                Self { address: *address, pod, named: None, node, unknown: None }
            }
        }
    }

    /// Whether the address was made up. Such a one is never shown.
    pub(super) fn is_made_up(&self) -> bool {
        self.pod.or(self.named).is_some_and(|pod| pod.addresses_made_up)
    }

    /// `pod prod/web`, `10.0.0.7`, `node n1 (10.0.0.1)`
    pub(super) fn name(&self) -> String {
        match (self.pod.or(self.named), self.node) {
            (Some(pod), _) => format!("pod {}", pod.key),
            (None, Some(node)) => format!("node {} ({})", node.name, self.address),
            (None, None) => self.address.to_string(),
        }
    }

    pub(super) fn describe(&self) -> End {
        let pod = self.pod.or(self.named);
        End {
            kind: match (pod, self.node) {
                (Some(pod), _) if pod.host_network => EndKind::HostNetworkPod,
                (Some(_), _) => EndKind::Pod,
                (None, Some(_)) => EndKind::Node,
                (None, None) => EndKind::Address,
            },
            namespace: pod.map(|pod| pod.key.namespace.to_string()),
            name: pod
                .map(|pod| pod.key.name.to_string())
                .or_else(|| self.node.map(|node| node.name.to_string())),
            workload: pod.map(|pod| format!("{}/{}", pod.workload.kind, pod.workload.name)),
            address: (!self.is_made_up()).then_some(self.address),
        }
    }

    fn notes(&self, compiler: &Compiler) -> Vec<String> {
        let mut notes = Vec::new();
        if let Some(key) = self.unknown {
            notes.push(format!("no pod {key} is known: only its address {} is looked at", self.address));
        }
        if let Some(pod) = self.named {
            if pod.host_network {
                notes.push(format!(
                    "pod {} is on its node's network: it counts as the node, its labels never matter, and no policy \
                     is about it",
                    pod.key
                ));
            } else if pod.phase == Phase::Finished {
                notes.push(format!("pod {} is finished: it has given up its addresses", pod.key));
            }
        }
        if let Some(pod) = self.pod
            && let Some(owner) = compiler.owner(self.address)
            && owner.key != pod.key
        {
            notes.push(format!(
                "{} is also claimed by pod {}, which policy takes it for: as a peer, pod {} is that pod",
                self.address, owner.key, pod.key
            ));
        }
        notes
    }
}

/// How a packet stands to the judged pod. The node is told by the way a packet came, of which the address is all that
/// can be known here.
fn origin(pod: &Pod, direction: Direction, peer: Resolved<'_>) -> Origin {
    if pod.addresses.contains(&peer.address) {
        return Origin::OwnAddress;
    }
    let own = pod.node.as_ref();
    let is_own = peer.pod.is_none() && own.is_some() && peer.node.map(|node| &node.name) == own;
    // The node of a host-network pod counts even if the node itself is not known.
    let host = peer.named.filter(|named| named.host_network && own.is_some() && named.node.as_ref() == own);
    if direction == Direction::Ingress && (is_own || host.is_some()) {
        Origin::OwnNode
    } else {
        Origin::Elsewhere
    }
}
