//! Two accepted readings to the events that lead from one to the other.
//!
//! In an order in which a batch means what it says: namespaces first, so that a namespace counts as being deleted before
//! its policies go (the engine keeps these while there are pods); what comes before what goes, so that a namespace whose
//! pods are replaced is never without any.

use std::collections::BTreeMap;
use std::sync::Arc;

use policy_compiler::compiler::Event;
use policy_compiler::policy::Policy;

use super::accept::Accepted;

/// What changed.
pub(super) fn events(old: &Accepted, new: &Accepted) -> Vec<Event> {
    let mut events = Vec::new();
    let (before, after) = (&old.cluster, &new.cluster);
    let changed = changed(&before.namespaces, &after.namespaces);
    events.extend(changed.map(|(_, namespace)| Event::Namespace((**namespace).clone())));
    events.extend(
        gone(&before.namespaces, &after.namespaces).map(|(name, _)| Event::NamespaceGone(Arc::clone(name))),
    );

    events.extend(self::changed(&before.nodes, &after.nodes).map(|(_, node)| Event::Node((**node).clone())));
    events.extend(gone(&before.nodes, &after.nodes).map(|(name, _)| Event::NodeGone(Arc::clone(name))));

    let changed = self::changed(&before.pods, &after.pods);
    events.extend(changed.map(|(_, pod)| Event::Pod(Box::new((**pod).clone()))));
    events.extend(gone(&before.pods, &after.pods).map(|(key, pod)| {
        let uid = Some(&pod.uid).filter(|uid| !uid.is_empty());
        Event::PodGone { key: key.clone(), uid: uid.cloned() }
    }));

    let changed = self::changed(&before.services, &after.services);
    events.extend(changed.map(|(_, service)| Event::Service((**service).clone())));
    events.extend(
        gone(&before.services, &after.services)
            .map(|((namespace, name), _)| Event::ServiceGone(Arc::clone(namespace), Arc::clone(name))),
    );

    let changed = self::changed(&before.endpoint_slices, &after.endpoint_slices);
    events.extend(changed.map(|(_, slice)| Event::EndpointSlice((**slice).clone())));
    events.extend(
        gone(&before.endpoint_slices, &after.endpoint_slices)
            .map(|((namespace, name), _)| Event::EndpointSliceGone(Arc::clone(namespace), Arc::clone(name))),
    );

    let policies = new.policies.iter().filter(|&(object, policy)| {
        old.policies.get(object).is_none_or(|before| !says_the_same(before, policy))
    });
    events.extend(policies.map(|(_, policy)| Event::Policy(Box::new(policy.clone()))));
    events.extend(gone(&old.policies, &new.policies).map(|(object, _)| Event::PolicyGone(object.clone())));
    events
}

/// Policies that say the same and stand elsewhere.
pub(super) fn moved(old: &Accepted, new: &Accepted) -> Vec<Event> {
    let moved = new.policies.iter().filter(|&(object, policy)| {
        let before = old.policies.get(object);
        before.is_some_and(|before| says_the_same(before, policy) && before.source != policy.source)
    });
    moved.map(|(_, policy)| Event::Policy(Box::new(policy.clone()))).collect()
}

fn changed<'a, K: Ord, V: PartialEq>(
    before: &'a BTreeMap<K, V>,
    after: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = (&'a K, &'a V)> {
    after.iter().filter(|&(key, value)| before.get(key) != Some(value))
}

fn gone<'a, K: Ord, V>(
    before: &'a BTreeMap<K, V>,
    after: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = (&'a K, &'a V)> {
    before.iter().filter(|&(key, _)| !after.contains_key(key))
}

/// Whether two policies differ at most in where they are written.
fn says_the_same(a: &Policy, b: &Policy) -> bool {
    let Policy { object, source: _, tier, mode, log, priority, subject, ingress, egress } = a;
    *object == b.object
        && *tier == b.tier
        && *mode == b.mode
        && *log == b.log
        && *priority == b.priority
        && *subject == b.subject
        && *ingress == b.ingress
        && *egress == b.egress
}
