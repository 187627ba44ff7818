//! Equal strings and equal sets of labels once: a cluster's pods share most of theirs.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

use manifests::object::Content;
use policy_compiler::compiler::Event;
use policy_compiler::facts::{EndpointSlice, Namespace, Node, Pod, Service};
use policy_compiler::labels::{Labels, OfPod, Space};

/// How much has to be new before what nobody uses any more is looked for.
const SWEEP_AT_LEAST: usize = 4096;

/// Strings and labels in use.
#[derive(Debug, Default)]
pub(super) struct Interner {
    strings: HashSet<Arc<str>>,
    pod_labels: HashSet<Labels<OfPod>>,
    /// How many there were after the last sweep.
    swept: usize,
}

impl Interner {
    /// The one string of this text.
    pub(super) fn string(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.strings.get(text) {
            return Arc::clone(known);
        }
        let new: Arc<str> = text.into();
        self.strings.insert(Arc::clone(&new));
        new
    }

    fn replace(&mut self, text: &mut Arc<str>) {
        *text = self.string(text);
    }

    fn labels<S: Space>(&mut self, labels: &Labels<S>) -> Labels<S> {
        Labels::new(
            labels.iter().map(|(key, value)| (self.string(key), self.string(value))).collect::<Vec<_>>(),
        )
    }

    /// The event that an object is there; `None` if it is no fact.
    pub(super) fn event(&mut self, content: Content) -> Option<Event> {
        Some(match content {
            Content::Namespace(api) => {
                let mut fact = Namespace::from_api(&api);
                self.namespace(&mut fact);
                Event::Namespace(fact)
            }
            Content::Node(api) => {
                let mut fact = Node::from_api(&api).0;
                self.node(&mut fact);
                Event::Node(fact)
            }
            Content::Pod(api) => {
                let mut fact = Pod::from_api(&api).0;
                self.pod(&mut fact);
                Event::Pod(Box::new(fact))
            }
            Content::Service(api) => {
                let mut fact = Service::from_api(&api).0;
                self.service(&mut fact);
                Event::Service(fact)
            }
            Content::EndpointSlice(api) => {
                let mut fact = EndpointSlice::from_api(&api).0;
                self.slice(&mut fact);
                Event::EndpointSlice(fact)
            }
            Content::Policy(_) | Content::Workload(_) => return None,
        })
    }

    /// A pod's name and UID are its own; all else it has in common with others.
    fn pod(&mut self, pod: &mut Pod) {
        self.replace(&mut pod.key.namespace);
        if let Some(known) = self.pod_labels.get(&pod.labels) {
            pod.labels = known.clone();
        } else {
            pod.labels = self.labels(&pod.labels);
            self.pod_labels.insert(pod.labels.clone());
        }
        if let Some(node) = &mut pod.node {
            *node = self.string(node);
        }
        for port in &mut pod.ports {
            port.name = self.string(&port.name);
        }
        pod.addresses.shrink_to_fit();
        pod.ports.shrink_to_fit();
        self.replace(&mut pod.workload.kind);
        // A bare pod is its own workload.
        if pod.workload.name == pod.key.name {
            pod.workload.name = Arc::clone(&pod.key.name);
        } else {
            self.replace(&mut pod.workload.name);
        }
    }

    fn namespace(&mut self, namespace: &mut Namespace) {
        self.replace(&mut namespace.name);
        namespace.labels = self.labels(&namespace.labels);
    }

    fn node(&mut self, node: &mut Node) {
        self.replace(&mut node.name);
        node.labels = self.labels(&node.labels);
    }

    fn service(&mut self, service: &mut Service) {
        self.replace(&mut service.namespace);
        self.replace(&mut service.name);
        for port in &mut service.ports {
            if let Some(name) = &mut port.name {
                *name = self.string(name);
            }
        }
    }

    fn slice(&mut self, slice: &mut EndpointSlice) {
        self.replace(&mut slice.namespace);
        if let Some(service) = &mut slice.service {
            *service = self.string(service);
        }
        for (name, ..) in &mut slice.ports {
            if let Some(name) = name {
                *name = self.string(name);
            }
        }
    }

    /// Forgets what nobody else has any more, now and then: as often as doubling asks for it.
    pub(super) fn sweep(&mut self) {
        let held = self.strings.len() + self.pod_labels.len();
        if held < SWEEP_AT_LEAST.max(self.swept.saturating_mul(2)) {
            return;
        }
        // Sets of labels hold strings, so they go first.
        retain_shared(&mut self.pod_labels, Labels::is_shared);
        retain_shared(&mut self.strings, |text| Arc::strong_count(text) > 1);
        self.swept = self.strings.len() + self.pod_labels.len();
    }
}

fn retain_shared<T: Eq + Hash>(set: &mut HashSet<T>, is_shared: impl Fn(&T) -> bool) {
    set.retain(is_shared);
    set.shrink_to_fit();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_labels_are_one_and_what_nobody_has_any_more_is_forgotten() {
        let mut interner = Interner::default();
        let new = |name: &str| {
            let json = format!(
                r#"{{"metadata": {{"name": "{name}", "namespace": "n", "labels": {{"app": "web"}}}}}}"#
            );
            let live = manifests::live::read(manifests::kind::Kind::Pod, &json).unwrap();
            let Content::Pod(api) = live.content else { panic!("a pod") };
            Pod::from_api(&api).0
        };
        let (mut a, mut b) = (new("a"), new("b"));
        interner.pod(&mut a);
        interner.pod(&mut b);
        assert!(Arc::ptr_eq(&a.key.namespace, &b.key.namespace));
        assert_eq!(interner.pod_labels.len(), 1);
        assert!(a.labels.is_shared());
        let held = interner.strings.len();
        drop((a, b));
        for number in 0..SWEEP_AT_LEAST {
            interner.string(&number.to_string());
        }
        interner.sweep();
        assert_eq!((interner.strings.len(), interner.pod_labels.len()), (0, 0), "{held} were held");
    }
}
