//! Objects to the cluster they describe.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use policy_compiler::api::PolicyObject;
use policy_compiler::api::polder_policy::{EgressRule, IngressRule};
use policy_compiler::facts::{Cluster, EndpointSlice, Namespace, Node, Pod, Service};
use policy_compiler::object::{ObjectRef, PodKey, Source};
use policy_compiler::problem::{Problem, Severity};

use crate::address::Pools;
use crate::gather::Loaded;
use crate::object::{Content, Object};
use crate::standin::Workloads;

/// The id of the warning that policies name so many prefixes that none is left for made-up addresses.
pub const MADE_UP_ADDRESSES: &str = "made-up-addresses";

/// A cluster as manifests describe it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct World {
    /// The facts. A workload without unfinished pods has one pod that stands for all of them.
    pub cluster: Cluster,
    /// The policies, in the order of the files.
    pub policies: Vec<(PolicyObject, Arc<Source>)>,
    /// How many pods each pod stands for that stands for a workload. Live pods are not in it: they are one each.
    pub replicas: BTreeMap<PodKey, Replicas>,
    /// What could not be used of objects other than policies.
    pub problems: Vec<Problem>,
}

/// How many pods a workload has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Replicas {
    /// As many as its manifest says.
    Number(u32),
    /// One for each node.
    OnePerNode,
}

impl Replicas {
    /// Whether a pod of the workload may have another one of it beside it.
    pub fn may_be_several(self) -> bool {
        self > Self::Number(1)
    }
}

impl Loaded {
    /// The cluster that the objects describe. The same objects in another order give the same cluster.
    pub fn world(&self) -> World {
        let mut world = World::default();
        let mut workloads = Workloads::new(&self.objects);
        for object in &self.objects {
            world.add(object, &mut workloads);
        }
        let names = world.cluster.pods.keys().cloned().collect();
        for stand_in in workloads.stand_ins(names) {
            let key = stand_in.pod.key.clone();
            world.problems.extend(stand_in.remarks);
            world.replicas.insert(key.clone(), stand_in.replicas);
            world.cluster.pods.insert(key, Arc::new(stand_in.pod));
        }
        world.make_up_addresses();
        world
    }
}

impl World {
    fn add(&mut self, object: &Object, workloads: &mut Workloads<'_>) {
        let cluster = &mut self.cluster;
        let remarks = match &object.content {
            Content::Policy(policy) => {
                self.policies.push(((**policy).clone(), Arc::clone(&object.source)));
                Vec::new()
            }
            Content::Namespace(api) => {
                let namespace = Namespace::from_api(api);
                cluster.namespaces.insert(namespace.name.clone(), Arc::new(namespace));
                Vec::new()
            }
            Content::Node(api) => {
                let (node, remarks) = Node::from_api(api);
                cluster.nodes.insert(node.name.clone(), Arc::new(node));
                remarks
            }
            Content::Pod(api) => {
                let (mut pod, remarks) = Pod::from_api(api);
                workloads.adopt(&mut pod, &api.metadata);
                cluster.pods.insert(pod.key.clone(), Arc::new(pod));
                remarks
            }
            Content::Service(api) => {
                let (service, remarks) = Service::from_api(api);
                cluster.services.insert((service.namespace.clone(), service.name.clone()), Arc::new(service));
                remarks
            }
            Content::EndpointSlice(api) => {
                let (slice, remarks) = EndpointSlice::from_api(api);
                cluster
                    .endpoint_slices
                    .insert((slice.namespace.clone(), slice.name.clone()), Arc::new(slice));
                remarks
            }
            // Which of them stand for pods shows only when all pods are known.
            Content::Workload(_) => Vec::new(),
        };
        self.problems.extend(remarks.into_iter().map(|remark| remark.located(Some(&object.source))));
    }

    /// Gives an address to every pod that will have one and has none yet. Pods of the host network are their node.
    fn make_up_addresses(&mut self) {
        let taken = addresses(&self.cluster);
        let families: &[bool] = if taken.iter().any(IpAddr::is_ipv6) { &[false, true] } else { &[false] };
        let named: Vec<IpNet> = self.policies.iter().flat_map(|(policy, _)| prefixes(policy)).collect();
        let mut pools = Pools::new(&named, taken);
        let mut unclean = None;
        for (key, pod) in &mut self.cluster.pods {
            if !pod.addresses.is_empty() || !pod.owns_addresses() {
                continue;
            }
            let name = key.to_string();
            let pod = Arc::make_mut(pod);
            pod.addresses = families.iter().filter_map(|&v6| pools.take(&name, v6)).collect();
            pod.addresses_made_up = true;
            if !families.iter().all(|&v6| pools.is_clean(v6)) {
                unclean.get_or_insert_with(|| key.clone());
            }
        }
        self.problems.extend(unclean.map(|pod| Problem {
            severity: Severity::Warning,
            id: MADE_UP_ADDRESSES,
            object: ObjectRef::namespaced("Pod", &pod.namespace, &pod.name),
            path: String::new(),
            message: "the policies name all prefixes that made-up addresses are taken from, so that pods without an \
                      address may match a prefix by chance"
                .to_owned(),
            expected: "pods with addresses (status.podIPs), or fewer wide prefixes".to_owned(),
            location: None,
        }));
    }
}

/// All addresses that the cluster has.
fn addresses(cluster: &Cluster) -> BTreeSet<IpAddr> {
    let pods = cluster.pods.values().flat_map(|pod| &pod.addresses);
    let nodes = cluster.nodes.values().flat_map(|node| &node.addresses);
    let services = cluster.services.values().flat_map(|service| &service.addresses);
    let slices = cluster.endpoint_slices.values().flat_map(|slice| &slice.addresses);
    pods.chain(nodes).chain(services).chain(slices).copied().collect()
}

/// The networks that rules of our own kinds name.
fn networks<'a>(
    ingress: Option<&'a [IngressRule]>,
    egress: Option<&'a [EgressRule]>,
) -> impl Iterator<Item = &'a String> {
    let sources = ingress.into_iter().flatten().flat_map(|rule| rule.from.iter().flatten());
    let destinations = egress.into_iter().flatten().flat_map(|rule| rule.to.iter().flatten());
    sources.chain(destinations).flat_map(|peer| peer.networks.iter().flatten())
}

/// Every prefix that a policy names, so far as it is one: the others are errors of the policy.
fn prefixes(policy: &PolicyObject) -> Vec<IpNet> {
    let mut written: Vec<&String> = Vec::new();
    match policy {
        PolicyObject::NetworkPolicy(policy) => {
            let spec = policy.spec.iter();
            let peers = spec.flat_map(|spec| {
                let ingress = spec.ingress.iter().flatten().flat_map(|rule| rule.from.iter().flatten());
                ingress.chain(spec.egress.iter().flatten().flat_map(|rule| rule.to.iter().flatten()))
            });
            for block in peers.filter_map(|peer| peer.ip_block.as_ref()) {
                written.push(&block.cidr);
                written.extend(block.except.iter().flatten());
            }
        }
        PolicyObject::ClusterNetworkPolicy(policy) => {
            let peers = policy.spec.egress.iter().flat_map(|rule| &rule.to);
            written.extend(peers.flat_map(|peer| peer.networks.iter().flatten()));
        }
        PolicyObject::AdminNetworkPolicy(policy) => {
            let peers = policy.spec.egress.iter().flat_map(|rule| &rule.to);
            written.extend(peers.flat_map(|peer| peer.networks.iter().flatten()));
        }
        PolicyObject::BaselineAdminNetworkPolicy(policy) => {
            let peers = policy.spec.egress.iter().flat_map(|rule| &rule.to);
            written.extend(peers.flat_map(|peer| peer.networks.iter().flatten()));
        }
        PolicyObject::PolderPolicy(policy) => {
            written.extend(networks(policy.spec.ingress.as_deref(), policy.spec.egress.as_deref()));
        }
        PolicyObject::ClusterPolderPolicy(policy) => {
            written.extend(networks(policy.spec.ingress.as_deref(), policy.spec.egress.as_deref()));
        }
    }
    written.into_iter().filter_map(|prefix| prefix.parse().ok()).collect()
}

#[cfg(test)]
mod tests;
