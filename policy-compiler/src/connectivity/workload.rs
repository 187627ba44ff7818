//! Workloads: the pods that users know under one name, and what the tables know of these.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use datapath::abi::{Direction, Identity, RuleSetId};

use super::range::Family;
use crate::compiler::Compiler;
use crate::facts::{Phase, Pod};

/// The name of a workload.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkloadRef {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Its kind: `Deployment`, ..., `Pod` for a bare pod.
    pub kind: Arc<str>,
}

impl fmt::Display for WorkloadRef {
    /// `prod/web`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// How many pods workloads want, by namespace, kind and name.
pub type Replicas = BTreeMap<(Arc<str>, Arc<str>, Arc<str>), u32>;

/// All that a verdict about a pod at one of its addresses can depend on, its node apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Face {
    pub(super) family: Family,
    pub(super) ingress: RuleSetId,
    pub(super) egress: RuleSetId,
    pub(super) identity: Identity,
}

/// Pods of a workload that no verdict tells apart.
#[derive(Debug)]
pub(super) struct Variant {
    pub(super) faces: Vec<Face>,
    /// Whether two pods can be like this.
    pub(super) several: bool,
}

/// A workload.
#[derive(Debug)]
pub(super) struct Workload {
    pub(super) name: Arc<WorkloadRef>,
    pub(super) variants: Vec<Variant>,
    /// Those of all variants, each once.
    pub(super) faces: Vec<Face>,
    /// Nodes on which it has pods on the host network, and with addresses of their own.
    host_nodes: BTreeSet<Arc<str>>,
    pod_nodes: BTreeSet<Arc<str>>,
}

impl Workload {
    /// Whether a process of the other one's node is among its pods: such a process always reaches the pod.
    pub(super) fn is_node_of(&self, other: &Self) -> bool {
        !self.host_nodes.is_disjoint(&other.pod_nodes)
    }

    /// Whether one pod of it can talk to another one.
    pub(super) fn has_several_pods(&self) -> bool {
        self.variants.len() > 1 || self.variants.iter().any(|variant| variant.several)
    }
}

/// All workloads with a pod that is not finished and can be reached at some address; sorted by name.
pub(super) fn workloads(compiler: &Compiler, replicas: &Replicas) -> Vec<Workload> {
    let mut grouped: BTreeMap<WorkloadRef, Vec<&Pod>> = BTreeMap::new();
    for pod in compiler.cluster().pods.values().filter(|pod| pod.phase != Phase::Finished) {
        if pod.host_network || !pod.addresses.is_empty() {
            let namespace = Arc::clone(&pod.key.namespace);
            let (name, kind) = (Arc::clone(&pod.workload.name), Arc::clone(&pod.workload.kind));
            grouped.entry(WorkloadRef { namespace, name, kind }).or_default().push(pod);
        }
    }
    let wanted = |of: &WorkloadRef| {
        let key = (Arc::clone(&of.namespace), Arc::clone(&of.kind), Arc::clone(&of.name));
        replicas.get(&key).copied().unwrap_or(1)
    };
    grouped.into_iter().map(|(name, pods)| workload(compiler, wanted(&name), name, &pods)).collect()
}

fn workload(compiler: &Compiler, wanted: u32, name: WorkloadRef, pods: &[&Pod]) -> Workload {
    let mut counts: BTreeMap<Vec<Face>, usize> = BTreeMap::new();
    let mut nodes = [BTreeSet::new(), BTreeSet::new()];
    for pod in pods {
        *counts.entry(faces(compiler, pod)).or_default() += 1;
        nodes[usize::from(pod.host_network)].extend(pod.node.clone());
    }
    // One pod may stand for all that are wanted; of two or more, each is itself.
    let stands_for_several = pods.len() == 1 && wanted > 1;
    let variant = |(faces, count)| Variant { faces, several: count > 1 || stands_for_several };
    let variants: Vec<Variant> = counts.into_iter().map(variant).collect();
    let all: BTreeSet<Face> = variants.iter().flat_map(|variant| &variant.faces).copied().collect();
    let [pod_nodes, host_nodes] = nodes;
    Workload { name: Arc::new(name), variants, faces: all.into_iter().collect(), host_nodes, pod_nodes }
}

fn faces(compiler: &Compiler, pod: &Pod) -> Vec<Face> {
    let rule_set = |direction| {
        // Without an endpoint it is on the host network: subject of no policy.
        compiler
            .tables()
            .endpoints
            .get(&pod.key)
            .map_or(RuleSetId::NONE, |endpoint| endpoint.rule_set(direction))
    };
    let [ingress, egress] = Direction::ALL.map(rule_set);
    let face = |family, identity| Face { family, ingress, egress, identity };
    let addresses = addresses(compiler, pod);
    let mut faces: Vec<Face> =
        addresses.iter().map(|&address| face(Family::of(address), compiler.identity(address))).collect();
    if faces.is_empty() {
        // On a node that nobody knows: an address that no policy means.
        faces.extend(Family::ALL.map(|family| face(family, Identity::NONE)));
    }
    faces.sort_unstable();
    faces.dedup();
    faces
}

/// A pod's own addresses; for one on the host network that does not say, those of its node.
fn addresses(compiler: &Compiler, pod: &Pod) -> Vec<IpAddr> {
    if !pod.host_network || !pod.addresses.is_empty() {
        return pod.addresses.clone();
    }
    let node = pod.node.as_ref().and_then(|name| compiler.cluster().nodes.get(name));
    node.map(|node| node.addresses.iter().copied().collect()).unwrap_or_default()
}
