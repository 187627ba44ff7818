//! What has to be known of the cluster, reduced to the fields that policy can depend on.

mod from_api;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use datapath::abi::Transport;

use crate::labels::{Labels, NAMESPACE_NAME_LABEL, OfNamespace, OfNode, OfPod, Space};
use crate::object::PodKey;

pub use from_api::UNUSABLE_VALUE;

/// A namespace. One that is not known but has pods counts as one with only its name label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Its name.
    pub name: Arc<str>,
    /// Its labels; [`NAMESPACE_NAME_LABEL`] is always among them, with the name as value.
    pub labels: Labels<OfNamespace>,
    /// Being deleted. Its policies stay in force until its last pod is gone, even if they are deleted before.
    pub terminating: bool,
}

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its name.
    pub key: PodKey,
    /// Its UID; empty if there is none (a pod that stands for a workload manifest).
    pub uid: Arc<str>,
    /// Its labels.
    pub labels: Labels<OfPod>,
    /// Its addresses, in the order of `status.podIPs`.
    pub addresses: Vec<IpAddr>,
    /// Whether the addresses are made up, because the pod has none (yet). Never to be shown.
    pub addresses_made_up: bool,
    /// On the node's own network: such a pod is its node, never its labels.
    pub host_network: bool,
    /// Where it is in its life.
    pub phase: Phase,
    /// The node it runs on, if it is scheduled.
    pub node: Option<Arc<str>>,
    /// Its container ports that have a name, in the order of the manifest (containers, then sidecars).
    pub ports: Vec<ContainerPort>,
    /// The workload that made it, as users know it: kind and name; itself for a bare pod.
    pub workload: Workload,
    /// Seconds since 1970 of its creation, if known: the younger of two pods that claim one address owns it.
    pub created: Option<i64>,
}

/// Where a pod is in its life, as far as its addresses are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Not finished, not known to run (`Pending`, `Unknown`, or not said).
    Pending,
    /// Running.
    Running,
    /// `Succeeded` or `Failed`: it has given up its addresses.
    Finished,
}

/// A container port with a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerPort {
    /// The name.
    pub name: Arc<str>,
    /// The protocol.
    pub transport: Transport,
    /// The number, 1 to 65535.
    pub port: u16,
}

/// The workload a pod belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Workload {
    /// `Deployment`, `StatefulSet`, ..., `Pod` for a bare pod.
    pub kind: Arc<str>,
    /// Its name, in the pod's namespace.
    pub name: Arc<str>,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: Arc<str>,
    /// Its labels.
    pub labels: Labels<OfNode>,
    /// All its addresses that are IP addresses, whatever their type.
    pub addresses: BTreeSet<IpAddr>,
}

/// A service, as far as asking about it by name goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// The labels its pods must have, if it has a selector. (Equality only, unlike a label selector.)
    pub selector: Option<BTreeMap<Arc<str>, Arc<str>>>,
    /// Its addresses: cluster IPs, external IPs, load-balancer IPs.
    pub addresses: BTreeSet<IpAddr>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
}

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name, if any.
    pub name: Option<Arc<str>>,
    /// The protocol.
    pub transport: Transport,
    /// The port of the service.
    pub port: u16,
    /// The port of the pods behind it.
    pub target: TargetPort,
}

/// The port of the pods behind a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetPort {
    /// By number.
    Number(u16),
    /// By the name of a container port.
    Name(Arc<str>),
}

/// The endpoints of a service that has no selector, or as the control plane found them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSlice {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// The service it belongs to.
    pub service: Option<Arc<str>>,
    /// The addresses.
    pub addresses: BTreeSet<IpAddr>,
    /// Port name, protocol and number.
    pub ports: Vec<(Option<Arc<str>>, Transport, u16)>,
}

/// All facts of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    /// By name.
    pub namespaces: BTreeMap<Arc<str>, Arc<Namespace>>,
    /// By namespace and name.
    pub pods: BTreeMap<PodKey, Arc<Pod>>,
    /// By name.
    pub nodes: BTreeMap<Arc<str>, Arc<Node>>,
    /// By namespace and name.
    pub services: BTreeMap<(Arc<str>, Arc<str>), Arc<Service>>,
    /// By namespace and name.
    pub endpoint_slices: BTreeMap<(Arc<str>, Arc<str>), Arc<EndpointSlice>>,
}

impl Namespace {
    /// A namespace with these labels and its name label.
    pub fn new(name: &str, labels: impl IntoIterator<Item = (String, String)>, terminating: bool) -> Self {
        let own = std::iter::once((NAMESPACE_NAME_LABEL.to_owned(), name.to_owned()));
        Self { name: name.into(), labels: Labels::new(labels.into_iter().chain(own)), terminating }
    }
}

impl Pod {
    /// Whether it has addresses of its own that policy can be about.
    pub fn owns_addresses(&self) -> bool {
        !self.host_network && self.phase != Phase::Finished
    }

    /// The number of a named port: the first container port of that name (and protocol, if given), as services
    /// resolve it. `None` if the pod has no such port.
    pub fn named_port(&self, name: &str, transport: Option<Transport>) -> Option<(Transport, u16)> {
        self.ports
            .iter()
            .find(|port| &*port.name == name && transport.is_none_or(|transport| port.transport == transport))
            .map(|port| (port.transport, port.port))
    }

    /// Who owns an address that several pods claim: first who runs, then who is younger, then who comes first by name.
    pub fn claim(&self) -> impl Ord {
        (self.phase == Phase::Running, self.created, std::cmp::Reverse(self.key.clone()))
    }
}

impl Cluster {
    /// The labels of a namespace, known or not.
    pub fn namespace_labels(&self, name: &str) -> Labels<OfNamespace> {
        self.namespaces
            .get(name)
            .map_or_else(|| Namespace::new(name, [], false).labels, |known| known.labels.clone())
    }
}

/// Labels of an object's metadata.
pub(crate) fn labels<S: Space>(metadata: Option<&BTreeMap<String, String>>) -> Labels<S> {
    Labels::new(metadata.into_iter().flatten().map(|(k, v)| (k.as_str(), v.as_str())))
}
