//! From a pod to the selectors that match it, without asking every selector.

use std::collections::BTreeSet;
use std::hash::Hash;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::labels::{Labels, OfNamespace, OfPod, Selector};
use crate::policy::{Namespaces, Pods};

/// A set of `T`s, each with a selector of pods.
#[derive(Debug)]
pub(crate) struct SelectorIndex<T> {
    named: FxHashMap<Arc<str>, Bucket<T>>,
    matching: FxHashMap<Selector<OfNamespace>, Bucket<T>>,
}

/// Items whose namespaces are the same, by what their pod selector demands.
#[derive(Debug)]
struct Bucket<T> {
    /// By one label that the pod must have: the rarest way to be asked for nothing.
    by_pair: FxHashMap<(Arc<str>, Arc<str>), BTreeSet<T>>,
    /// Those that demand no particular value.
    rest: BTreeSet<T>,
    selectors: FxHashMap<T, Selector<OfPod>>,
}

impl<T> Default for Bucket<T> {
    fn default() -> Self {
        Self { by_pair: FxHashMap::default(), rest: BTreeSet::new(), selectors: FxHashMap::default() }
    }
}

impl<T> Default for SelectorIndex<T> {
    fn default() -> Self {
        Self { named: FxHashMap::default(), matching: FxHashMap::default() }
    }
}

impl<T: Clone + Ord + Hash> SelectorIndex<T> {
    pub(crate) fn insert(&mut self, pods: &Pods, item: &T) {
        match &pods.namespaces {
            Namespaces::Named(name) => {
                self.named.entry(Arc::clone(name)).or_default().insert(&pods.pods, item);
            }
            Namespaces::Matching(selector) => {
                self.matching.entry(selector.clone()).or_default().insert(&pods.pods, item);
            }
        }
    }

    pub(crate) fn remove(&mut self, pods: &Pods, item: &T) {
        match &pods.namespaces {
            Namespaces::Named(name) => {
                if self.named.get_mut(name).is_some_and(|bucket| bucket.remove(&pods.pods, item)) {
                    self.named.remove(name);
                }
            }
            Namespaces::Matching(selector) => {
                if self.matching.get_mut(selector).is_some_and(|bucket| bucket.remove(&pods.pods, item)) {
                    self.matching.remove(selector);
                }
            }
        }
    }

    /// Calls `found` for each item whose selector matches a pod of this namespace with these labels.
    pub(crate) fn matching(
        &self,
        namespace: &str,
        namespace_labels: &Labels<OfNamespace>,
        labels: &Labels<OfPod>,
        mut found: impl FnMut(&T),
    ) {
        if let Some(bucket) = self.named.get(namespace) {
            bucket.matching(labels, &mut found);
        }
        for (selector, bucket) in &self.matching {
            if selector.matches(namespace_labels) {
                bucket.matching(labels, &mut found);
            }
        }
    }
}

impl<T: Clone + Ord + Hash> Bucket<T> {
    fn insert(&mut self, selector: &Selector<OfPod>, item: &T) {
        match pairs(selector) {
            Some(pairs) => {
                for pair in pairs {
                    self.by_pair.entry(pair).or_default().insert(item.clone());
                }
            }
            None => {
                self.rest.insert(item.clone());
            }
        }
        self.selectors.insert(item.clone(), selector.clone());
    }

    /// Whether the bucket is empty afterwards.
    fn remove(&mut self, selector: &Selector<OfPod>, item: &T) -> bool {
        match pairs(selector) {
            Some(pairs) => {
                for pair in pairs {
                    if let Some(items) = self.by_pair.get_mut(&pair) {
                        items.remove(item);
                        if items.is_empty() {
                            self.by_pair.remove(&pair);
                        }
                    }
                }
            }
            None => {
                self.rest.remove(item);
            }
        }
        self.selectors.remove(item);
        self.selectors.is_empty()
    }

    fn matching(&self, labels: &Labels<OfPod>, found: &mut impl FnMut(&T)) {
        let mut ask = |items: &BTreeSet<T>| {
            for item in items {
                if self.selectors.get(item).is_some_and(|selector| selector.matches(labels)) {
                    found(item);
                }
            }
        };
        ask(&self.rest);
        if self.by_pair.is_empty() {
            return;
        }
        for pair in labels.pairs() {
            if let Some(items) = self.by_pair.get(&pair) {
                ask(items);
            }
        }
    }
}

/// The labels of which a pod must have one to be matched; `None` if any pod may match.
fn pairs(selector: &Selector<OfPod>) -> Option<Vec<(Arc<str>, Arc<str>)>> {
    let (key, values) = selector.demanded()?;
    Some(values.iter().map(|value| (Arc::clone(key), Arc::clone(value))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels::{Condition, Requirement};

    fn requirement(key: &str, condition: Condition) -> Requirement {
        Requirement { key: key.into(), condition }
    }

    fn one_of(values: &[&str]) -> Condition {
        Condition::In(values.iter().map(|&value| value.into()).collect())
    }

    #[test]
    fn each_item_is_found_once_and_only_where_it_matches() {
        let mut index = SelectorIndex::default();
        let named = Namespaces::Named("prod".into());
        let team = Namespaces::Matching(Selector::new([requirement("team", one_of(&["a"]))]));
        let items = [
            Pods { namespaces: named.clone(), pods: Selector::everything() },
            Pods { namespaces: named, pods: Selector::new([requirement("app", one_of(&["web", "api"]))]) },
            Pods {
                namespaces: team.clone(),
                pods: Selector::new([requirement("app", Condition::DoesNotExist)]),
            },
            Pods { namespaces: team, pods: Selector::new([requirement("app", Condition::Exists)]) },
        ];
        for (number, pods) in items.iter().enumerate() {
            index.insert(pods, &number);
        }
        let found = |index: &SelectorIndex<usize>, namespace: &str, team: &str, labels: &[(&str, &str)]| {
            let mut found = Vec::new();
            let labels = Labels::new(labels.iter().copied());
            index.matching(namespace, &Labels::new([("team", team)]), &labels, |item| found.push(*item));
            found.sort_unstable();
            found
        };
        assert_eq!(found(&index, "prod", "a", &[("app", "web"), ("x", "y")]), [0, 1, 3]);
        assert_eq!(found(&index, "prod", "b", &[]), [0]);
        assert_eq!(found(&index, "test", "a", &[]), [2]);
        for (number, pods) in items.iter().enumerate() {
            index.remove(pods, &number);
        }
        assert!(index.named.is_empty() && index.matching.is_empty());
    }
}
