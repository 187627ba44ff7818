//! What selectors find in the facts.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::facts::{Cluster, Pod};
use crate::labels::{Labels, OfNamespace};
use crate::object::PodKey;
use crate::policy::{Namespaces, Pods};

/// The facts, as selectors see them.
pub(super) struct Selection<'a> {
    pub(super) cluster: &'a Cluster,
    /// Known namespaces, and those that only have pods.
    namespaces: BTreeMap<Arc<str>, Labels<OfNamespace>>,
}

impl<'a> Selection<'a> {
    pub(super) fn new(cluster: &'a Cluster) -> Self {
        let names = cluster.namespaces.keys().chain(cluster.pods.keys().map(|key| &key.namespace));
        let namespaces = names.map(|name| (Arc::clone(name), cluster.namespace_labels(name))).collect();
        Self { cluster, namespaces }
    }

    /// The labels of all namespaces.
    pub(super) fn all_namespaces(&self) -> impl Iterator<Item = &Labels<OfNamespace>> {
        self.namespaces.values()
    }

    /// The namespaces that are meant. A name stands for itself, known or not.
    pub(super) fn namespaces(&self, meant: &Namespaces) -> Vec<Arc<str>> {
        match meant {
            Namespaces::Named(name) => vec![Arc::clone(name)],
            Namespaces::Matching(selector) => {
                let matching = self.namespaces.iter().filter(|(_, labels)| selector.matches(labels));
                matching.map(|(name, _)| Arc::clone(name)).collect()
            }
        }
    }

    /// All pods of a namespace, those that no policy can be about included.
    pub(super) fn pods_in(&self, namespace: &str) -> impl Iterator<Item = &'a Arc<Pod>> {
        let of_it = |(key, _): &(&PodKey, _)| *key.namespace == *namespace;
        self.cluster.pods.range(PodKey::new(namespace, "")..).take_while(of_it).map(|(_, pod)| pod)
    }

    /// The pods that are meant: those with addresses of their own.
    pub(super) fn pods(&self, meant: &Pods) -> Vec<&'a Arc<Pod>> {
        let namespaces = self.namespaces(&meant.namespaces);
        let pods = namespaces.iter().flat_map(|namespace| self.pods_in(namespace));
        pods.filter(|pod| pod.owns_addresses() && meant.pods.matches(&pod.labels)).collect()
    }
}
