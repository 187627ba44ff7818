//! Events to facts, and to what has to be looked at again because of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use datapath::abi::Direction;

use super::{Compiler, Event};
use crate::digest::{Digest, digest};
use crate::facts::{Namespace, Node, Pod};
use crate::index::SelectorIndex;
use crate::labels::{Labels, OfNamespace};
use crate::object::{ObjectRef, PodKey};
use crate::policy::{Mode, Namespaces, Pods, Policy, PortTerm, Ports};
use crate::terms::NamedPort;

/// What has to be looked at again.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    /// Pods whose labels, ports or namespace labels changed, or that are gone.
    pub(super) pods: BTreeSet<PodKey>,
    /// Nodes whose labels changed, or that are gone.
    pub(super) nodes: BTreeSet<Arc<str>>,
    /// Addresses that may have got another owner.
    pub(super) addresses: BTreeSet<IpAddr>,
    /// Selections of pods that a policy began or ceased to select.
    pub(super) subjects: Vec<Pods>,
    /// Named ports that began or ceased to stand for some number.
    pub(super) named: BTreeSet<NamedPort>,
}

/// The policies in force, found by the pods they select.
#[derive(Debug, Default)]
pub(super) struct Policies {
    known: BTreeMap<ObjectRef, Known>,
    subjects: SelectorIndex<ObjectRef>,
    retained: BTreeSet<ObjectRef>,
}

#[derive(Debug)]
struct Known {
    policy: Arc<Policy>,
    /// Of what it says, by direction; `None` if it says nothing of it.
    says: [Option<Digest>; 2],
    /// The named ports in it, by direction.
    named: [BTreeSet<NamedPort>; 2],
}

impl Policies {
    pub(super) fn insert(&mut self, policy: Arc<Policy>, dirty: &mut Dirty) {
        self.retained.remove(&policy.object);
        let says = Direction::ALL.map(|direction| {
            let block = policy.block(direction);
            let audited = policy.mode == Mode::Audit;
            let silent = audited || !block.isolates && block.rules.is_empty();
            (!silent).then(|| digest(&(&policy.object, policy.tier as u8, policy.priority, block)))
        });
        if let Some(before) = self.known.get_mut(&policy.object) {
            if before.says == says && before.policy.subject == policy.subject {
                // Only the place in a file can differ.
                before.policy = policy;
                return;
            }
            self.remove(&policy.object.clone(), dirty);
        }
        self.subjects.insert(&policy.subject, &policy.object);
        dirty.subjects.push(policy.subject.clone());
        let named = Direction::ALL.map(|direction| named_ports(&policy, direction));
        self.known.insert(policy.object.clone(), Known { policy, says, named });
    }

    fn remove(&mut self, object: &ObjectRef, dirty: &mut Dirty) {
        self.retained.remove(object);
        if let Some(known) = self.known.remove(object) {
            self.subjects.remove(&known.policy.subject, object);
            dirty.subjects.push(known.policy.subject.clone());
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Policy>> {
        self.known.values().map(|known| &known.policy)
    }

    pub(super) fn get(&self, object: &ObjectRef) -> Option<&Arc<Policy>> {
        self.known.get(object).map(|known| &known.policy)
    }

    pub(super) fn retained(&self) -> &BTreeSet<ObjectRef> {
        &self.retained
    }

    /// The policies that select a pod, in their order.
    pub(super) fn selecting(&self, pod: &Pod, namespace: &Labels<OfNamespace>) -> Vec<Selecting<'_>> {
        let mut found = Vec::new();
        self.subjects.matching(&pod.key.namespace, namespace, &pod.labels, |object| {
            if let Some(known) = self.known.get(object) {
                found.push(Selecting { policy: &known.policy, says: known.says, named: &known.named });
            }
        });
        found.sort_unstable_by(|a, b| a.policy.order().cmp(&b.policy.order()));
        found
    }
}

/// A policy that selects a pod.
pub(super) struct Selecting<'a> {
    pub(super) policy: &'a Arc<Policy>,
    /// By direction.
    pub(super) says: [Option<Digest>; 2],
    /// By direction.
    pub(super) named: &'a [BTreeSet<NamedPort>; 2],
}

impl Compiler {
    pub(super) fn take_in(&mut self, event: Event, dirty: &mut Dirty) {
        match event {
            Event::Namespace(namespace) => self.take_namespace(namespace, dirty),
            Event::NamespaceGone(name) => self.namespace_gone(&name, dirty),
            Event::Pod(pod) => self.take_pod(&Arc::from(pod), dirty),
            Event::PodGone { key, uid } => self.pod_gone(&key, uid.as_deref(), dirty),
            Event::Node(node) => self.take_node(node, dirty),
            Event::NodeGone(name) => self.node_gone(&name, dirty),
            Event::Service(service) => {
                let key = (Arc::clone(&service.namespace), Arc::clone(&service.name));
                self.cluster.services.insert(key, Arc::new(service));
            }
            Event::ServiceGone(namespace, name) => {
                self.cluster.services.remove(&(namespace, name));
            }
            Event::EndpointSlice(slice) => {
                let key = (Arc::clone(&slice.namespace), Arc::clone(&slice.name));
                self.cluster.endpoint_slices.insert(key, Arc::new(slice));
            }
            Event::EndpointSliceGone(namespace, name) => {
                self.cluster.endpoint_slices.remove(&(namespace, name));
            }
            Event::Policy(policy) => self.policies.insert(Arc::from(policy), dirty),
            Event::PolicyGone(object) => self.policy_gone(&object, dirty),
        }
    }

    /// The facts were put in place as a whole.
    pub(super) fn take_in_everything(&mut self) -> Dirty {
        let mut dirty = Dirty::default();
        for pod in self.cluster.pods.values().map(Arc::clone).collect::<Vec<_>>() {
            let labels = || self.cluster.namespace_labels(&pod.key.namespace);
            self.populated.add_pod(&pod.key.namespace, labels);
            self.peers.claim(&pod, &mut dirty);
            dirty.pods.insert(pod.key.clone());
        }
        for node in self.cluster.nodes.values() {
            self.peers.claim_node(node, &mut dirty);
            dirty.nodes.insert(Arc::clone(&node.name));
        }
        // Nothing is in use yet, so no rule set depends on them.
        dirty.named.clear();
        dirty
    }

    fn take_namespace(&mut self, namespace: Namespace, dirty: &mut Dirty) {
        let name = Arc::clone(&namespace.name);
        let before = self.cluster.namespace_labels(&name);
        self.gone_namespaces.remove(&name);
        if !namespace.terminating {
            // A namespace of that name began anew: what was kept for the old one is void.
            self.drop_retained(&name, dirty);
        }
        if before != namespace.labels {
            dirty.pods.extend(self.pods_in(&name).map(|pod| pod.key.clone()));
            self.populated.relabel(&name, &namespace.labels);
        }
        self.cluster.namespaces.insert(Arc::clone(&name), Arc::new(namespace));
        self.forget_if_empty(&name, dirty);
    }

    fn namespace_gone(&mut self, name: &Arc<str>, dirty: &mut Dirty) {
        let Some(known) = self.cluster.namespaces.get_mut(name) else { return };
        let mut dying = Namespace::clone(known);
        dying.terminating = true;
        *known = Arc::new(dying);
        self.gone_namespaces.insert(Arc::clone(name));
        self.forget_if_empty(name, dirty);
    }

    fn take_pod(&mut self, pod: &Arc<Pod>, dirty: &mut Dirty) {
        if let Some(before) = self.cluster.pods.insert(pod.key.clone(), Arc::clone(pod)) {
            self.peers.disclaim(&before, dirty);
        } else {
            let labels = || self.cluster.namespace_labels(&pod.key.namespace);
            self.populated.add_pod(&pod.key.namespace, labels);
        }
        self.peers.claim(pod, dirty);
        dirty.pods.insert(pod.key.clone());
    }

    fn pod_gone(&mut self, key: &PodKey, uid: Option<&str>, dirty: &mut Dirty) {
        let Some(known) = self.cluster.pods.get(key) else { return };
        if uid.is_some_and(|uid| !known.uid.is_empty() && *known.uid != *uid) {
            return;
        }
        let known = Arc::clone(known);
        self.cluster.pods.remove(key);
        self.populated.remove_pod(&key.namespace);
        self.peers.disclaim(&known, dirty);
        dirty.pods.insert(key.clone());
        self.forget_if_empty(&key.namespace, dirty);
    }

    fn take_node(&mut self, node: Node, dirty: &mut Dirty) {
        let node = Arc::new(node);
        if let Some(before) = self.cluster.nodes.insert(Arc::clone(&node.name), Arc::clone(&node)) {
            self.peers.disclaim_node(&before, dirty);
        }
        self.peers.claim_node(&node, dirty);
        dirty.nodes.insert(Arc::clone(&node.name));
    }

    fn node_gone(&mut self, name: &Arc<str>, dirty: &mut Dirty) {
        if let Some(before) = self.cluster.nodes.remove(name) {
            self.peers.disclaim_node(&before, dirty);
            dirty.nodes.insert(Arc::clone(name));
        }
    }

    fn policy_gone(&mut self, object: &ObjectRef, dirty: &mut Dirty) {
        // CVE-2024-7598: the policies of a namespace can be deleted before its pods are.
        if let Some(namespace) = &object.namespace
            && self.cluster.namespaces.get(namespace).is_some_and(|known| known.terminating)
            && self.populated.contains(namespace)
            && self.policies.get(object).is_some()
        {
            self.policies.retained.insert(object.clone());
            return;
        }
        self.policies.remove(object, dirty);
    }

    /// Drops what was kept for a namespace being deleted, once its last pod is gone.
    fn forget_if_empty(&mut self, name: &Arc<str>, dirty: &mut Dirty) {
        let terminating = self.cluster.namespaces.get(name).is_some_and(|known| known.terminating);
        if !terminating || self.populated.contains(name) {
            return;
        }
        self.drop_retained(name, dirty);
        if self.gone_namespaces.remove(name) {
            self.cluster.namespaces.remove(name);
        }
    }

    fn drop_retained(&mut self, namespace: &Arc<str>, dirty: &mut Dirty) {
        let of_it = |object: &&ObjectRef| object.namespace.as_ref() == Some(namespace);
        for object in self.policies.retained.iter().filter(of_it).cloned().collect::<Vec<_>>() {
            self.policies.remove(&object, dirty);
        }
    }

    /// The pods of a namespace.
    pub(super) fn pods_in<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a Arc<Pod>> + use<'a> {
        let pods = self.cluster.pods.range(PodKey::new(namespace, "")..).map(|(_, pod)| pod);
        pods.take_while(move |pod| *pod.key.namespace == *namespace)
    }

    /// The pods in these namespaces.
    pub(super) fn pods_in_namespaces(&self, namespaces: &Namespaces) -> Vec<Arc<Pod>> {
        match namespaces {
            Namespaces::Named(name) => self.pods_in(name).cloned().collect(),
            Namespaces::Matching(selector) => {
                let names = self.populated.matching(selector);
                names.iter().flat_map(|name| self.pods_in(name)).cloned().collect()
            }
        }
    }
}

/// The named ports that a policy's rules about a direction name.
fn named_ports(policy: &Policy, direction: Direction) -> BTreeSet<NamedPort> {
    let ports = policy.block(direction).rules.iter().flat_map(|rule| match &rule.ports {
        Ports::Any => &[][..],
        Ports::AnyOf(ports) => ports,
    });
    let named = ports.filter_map(|port| match &port.term {
        PortTerm::Named { transport, name } => {
            Some(NamedPort { name: Arc::clone(name), transport: *transport })
        }
        PortTerm::Protocol(_) | PortTerm::Range { .. } => None,
    });
    named.collect()
}
