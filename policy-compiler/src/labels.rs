//! Labels and label selectors, with a key space of their own for pods, namespaces and nodes.
//!
//! A pod label can never satisfy a namespace selector: they are different types (CVE-2023-39347 and its kin).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::sync::Arc;

/// Whose labels they are.
pub trait Space: 'static {
    /// As written in messages: "pod", "namespace", "node".
    const NAME: &'static str;
}

/// The labels of pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OfPod {}
/// The labels of namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OfNamespace {}
/// The labels of nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OfNode {}

impl Space for OfPod {
    const NAME: &'static str = "pod";
}
impl Space for OfNamespace {
    const NAME: &'static str = "namespace";
}
impl Space for OfNode {
    const NAME: &'static str = "node";
}

/// The label that the API server puts on every namespace, and that nobody can change.
pub const NAMESPACE_NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// A set of labels in one key space.
pub struct Labels<S>(Arc<BTreeMap<Arc<str>, Arc<str>>>, PhantomData<fn() -> S>);

impl<S: Space> Labels<S> {
    /// From pairs of key and value; of equal keys the last one stays.
    pub fn new<K: Into<Arc<str>>, V: Into<Arc<str>>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        Self(Arc::new(pairs.into_iter().map(|(k, v)| (k.into(), v.into())).collect()), PhantomData)
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(AsRef::as_ref)
    }

    /// All pairs, sorted by key, as shared strings.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (Arc<str>, Arc<str>)> {
        self.0.iter().map(|(k, v)| (Arc::clone(k), Arc::clone(v)))
    }

    /// Whether another value has the same memory.
    pub fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// All pairs, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (&**k, &**v))
    }
}

/// What a selector says of one key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Condition {
    /// The key is there, with one of these values.
    In(BTreeSet<Arc<str>>),
    /// The key is absent, or has none of these values.
    NotIn(BTreeSet<Arc<str>>),
    /// The key is there.
    Exists,
    /// The key is absent.
    DoesNotExist,
}

/// One key and what is said of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Requirement {
    /// The label key.
    pub key: Arc<str>,
    /// What is said of it.
    pub condition: Condition,
}

impl Requirement {
    /// Whether labels meet it.
    pub fn matches<S: Space>(&self, labels: &Labels<S>) -> bool {
        let value = labels.get(&self.key);
        match &self.condition {
            Condition::In(values) => value.is_some_and(|value| values.contains(value)),
            Condition::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            Condition::Exists => value.is_some(),
            Condition::DoesNotExist => value.is_none(),
        }
    }
}

/// A label selector in canonical form: requirements sorted, without doubles; all must hold; none matches everything.
pub struct Selector<S>(Arc<[Requirement]>, PhantomData<fn() -> S>);

impl<S: Space> Selector<S> {
    /// From requirements in any order.
    pub fn new(requirements: impl IntoIterator<Item = Requirement>) -> Self {
        let sorted: BTreeSet<_> = requirements.into_iter().collect();
        Self(sorted.into_iter().collect(), PhantomData)
    }

    /// The selector that matches everything.
    pub fn everything() -> Self {
        Self::new([])
    }

    /// Whether it has no requirement, so that it matches everything.
    pub fn is_everything(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether labels meet all requirements.
    pub fn matches(&self, labels: &Labels<S>) -> bool {
        self.0.iter().all(|requirement| requirement.matches(labels))
    }

    /// A key and the values of which it must have one, to be found by; `None` if no particular value is demanded.
    pub(crate) fn demanded(&self) -> Option<(&Arc<str>, &BTreeSet<Arc<str>>)> {
        self.0.iter().find_map(|requirement| match &requirement.condition {
            Condition::In(values) => Some((&requirement.key, values)),
            Condition::NotIn(_) | Condition::Exists | Condition::DoesNotExist => None,
        })
    }

    /// The requirements, sorted.
    pub fn requirements(&self) -> &[Requirement] {
        &self.0
    }
}

impl<S> fmt::Display for Selector<S> {
    /// As `kubectl -l` writes it; `everything` if there is no requirement.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("everything");
        }
        for (index, requirement) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            write!(f, "{requirement}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |values: &BTreeSet<Arc<str>>| values.iter().map(|v| &**v).collect::<Vec<_>>().join(",");
        match &self.condition {
            Condition::In(values) if values.len() == 1 => write!(f, "{}={}", self.key, list(values)),
            Condition::In(values) => write!(f, "{} in ({})", self.key, list(values)),
            Condition::NotIn(values) => write!(f, "{} notin ({})", self.key, list(values)),
            Condition::Exists => write!(f, "{}", self.key),
            Condition::DoesNotExist => write!(f, "!{}", self.key),
        }
    }
}

// The phantom parameter must not demand anything of `S`, so these are written out instead of derived.
macro_rules! by_content {
    ($name:ident) => {
        impl<S> Clone for $name<S> {
            fn clone(&self) -> Self {
                Self(Arc::clone(&self.0), PhantomData)
            }
        }
        impl<S> PartialEq for $name<S> {
            fn eq(&self, other: &Self) -> bool {
                Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
            }
        }
        impl<S> Eq for $name<S> {}
        impl<S> PartialOrd for $name<S> {
            fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
                Some(self.cmp(other))
            }
        }
        impl<S> Ord for $name<S> {
            fn cmp(&self, other: &Self) -> std::cmp::Ordering {
                self.0.cmp(&other.0)
            }
        }
        impl<S> Hash for $name<S> {
            fn hash<H: Hasher>(&self, state: &mut H) {
                self.0.hash(state);
            }
        }
        impl<S> fmt::Debug for $name<S> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_tuple(stringify!($name)).field(&self.0).finish()
            }
        }
    };
}
by_content!(Labels);
by_content!(Selector);

#[cfg(test)]
mod tests {
    use super::*;

    fn requirement(key: &str, condition: Condition) -> Requirement {
        Requirement { key: key.into(), condition }
    }

    fn values(of: &[&str]) -> BTreeSet<Arc<str>> {
        of.iter().map(|&v| v.into()).collect()
    }

    #[test]
    fn an_absent_key_meets_not_in_and_does_not_exist_only() {
        let labels = Labels::<OfPod>::new([("app", "web")]);
        for (condition, present, absent) in [
            (Condition::In(values(&["web"])), true, false),
            (Condition::In(values(&[""])), false, false),
            (Condition::NotIn(values(&["web"])), false, true),
            (Condition::NotIn(values(&["db"])), true, true),
            (Condition::Exists, true, false),
            (Condition::DoesNotExist, false, true),
        ] {
            assert_eq!(requirement("app", condition.clone()).matches(&labels), present, "app {condition:?}");
            assert_eq!(requirement("tier", condition.clone()).matches(&labels), absent, "tier {condition:?}");
        }
    }

    #[test]
    fn equal_selectors_are_equal_however_they_were_written() {
        let one = Selector::<OfPod>::new([
            requirement("b", Condition::Exists),
            requirement("a", Condition::In(values(&["1"]))),
        ]);
        let two = Selector::<OfPod>::new([
            requirement("a", Condition::In(values(&["1"]))),
            requirement("b", Condition::Exists),
            requirement("b", Condition::Exists),
        ]);
        assert_eq!(one, two);
        assert_eq!(one.to_string(), "a=1,b");
        assert!(Selector::<OfPod>::everything().matches(&Labels::new([("x", "y")])));
    }
}
