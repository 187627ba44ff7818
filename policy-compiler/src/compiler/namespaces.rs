//! From a namespace selector to the namespaces with pods that it matches, without asking every namespace.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::facts::Cluster;
use crate::labels::{Labels, OfNamespace, Selector};
use crate::policy::Namespaces;

/// The namespaces that have pods, by their labels.
#[derive(Debug, Default)]
pub(super) struct Populated {
    known: BTreeMap<Arc<str>, Namespace>,
    by_pair: FxHashMap<Pair, BTreeSet<Arc<str>>>,
}

/// Key and value of a label.
type Pair = (Arc<str>, Arc<str>);

#[derive(Debug)]
struct Namespace {
    labels: Labels<OfNamespace>,
    pods: usize,
}

impl Populated {
    /// One pod more.
    pub(super) fn add_pod(&mut self, name: &Arc<str>, labels: impl FnOnce() -> Labels<OfNamespace>) {
        if let Some(namespace) = self.known.get_mut(name) {
            namespace.pods += 1;
            return;
        }
        let labels = labels();
        self.file(name, &labels);
        self.known.insert(Arc::clone(name), Namespace { labels, pods: 1 });
    }

    /// One pod less.
    pub(super) fn remove_pod(&mut self, name: &Arc<str>) {
        let Some(namespace) = self.known.get_mut(name) else { return };
        namespace.pods -= 1;
        if namespace.pods == 0
            && let Some(namespace) = self.known.remove(name)
        {
            self.unfile(name, &namespace.labels);
        }
    }

    /// Its labels are these now.
    pub(super) fn relabel(&mut self, name: &Arc<str>, labels: &Labels<OfNamespace>) {
        let Some(namespace) = self.known.get_mut(name) else { return };
        let before = std::mem::replace(&mut namespace.labels, labels.clone());
        self.unfile(name, &before);
        self.file(name, labels);
    }

    /// Those that a selector matches, sorted.
    pub(super) fn matching(&self, selector: &Selector<OfNamespace>) -> Vec<Arc<str>> {
        let matches = |name: &&Arc<str>| self.known.get(*name).is_some_and(|of| selector.matches(&of.labels));
        let Some((key, values)) = selector.demanded() else {
            return self.known.keys().filter(matches).cloned().collect();
        };
        let with = |value: &Arc<str>| self.by_pair.get(&(Arc::clone(key), Arc::clone(value)));
        let found: BTreeSet<&Arc<str>> = values.iter().filter_map(with).flatten().filter(matches).collect();
        found.into_iter().cloned().collect()
    }

    /// Whether it has pods.
    pub(super) fn contains(&self, name: &str) -> bool {
        self.known.contains_key(name)
    }

    fn file(&mut self, name: &Arc<str>, labels: &Labels<OfNamespace>) {
        for pair in labels.pairs() {
            self.by_pair.entry(pair).or_default().insert(Arc::clone(name));
        }
    }

    fn unfile(&mut self, name: &Arc<str>, labels: &Labels<OfNamespace>) {
        for pair in labels.pairs() {
            if let Some(names) = self.by_pair.get_mut(&pair) {
                names.remove(name);
                if names.is_empty() {
                    self.by_pair.remove(&pair);
                }
            }
        }
    }
}

impl Namespaces {
    /// Whether the namespace of this name is meant, by the labels it has now.
    pub(crate) fn matches(&self, name: &str, cluster: &Cluster) -> bool {
        match self {
            Self::Named(own) => **own == *name,
            Self::Matching(selector) => selector.matches(&cluster.namespace_labels(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels::{Condition, Requirement};

    #[test]
    fn only_namespaces_with_pods_are_found_and_by_the_labels_they_have_now() {
        let [a, b]: [Arc<str>; 2] = ["a".into(), "b".into()];
        let team = |team: &str| Labels::new([("team", team)]);
        let one_of = |values: &[&str]| {
            let values = values.iter().map(|&value| value.into()).collect();
            Selector::new([Requirement { key: "team".into(), condition: Condition::In(values) }])
        };
        let mut populated = Populated::default();
        populated.add_pod(&a, || team("x"));
        populated.add_pod(&a, || team("not asked"));
        populated.add_pod(&b, || team("y"));
        assert_eq!(populated.matching(&one_of(&["x", "y"])), [Arc::clone(&a), Arc::clone(&b)]);
        populated.relabel(&b, &team("x"));
        assert_eq!(populated.matching(&one_of(&["y"])), []);
        populated.remove_pod(&a);
        assert_eq!(populated.matching(&one_of(&["x"])), [Arc::clone(&a), Arc::clone(&b)]);
        populated.remove_pod(&a);
        assert_eq!(populated.matching(&Selector::everything()), [b]);
        assert!(!populated.contains("a"));
    }
}
