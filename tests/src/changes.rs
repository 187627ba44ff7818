//! What happens to a cluster, one small thing after another.

use std::sync::Arc;

use policy_compiler::api::PolicyObject;
use policy_compiler::facts::{Namespace, Node, Phase, Pod};
use policy_compiler::object::{ObjectRef, PodKey};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::world::{World, world};
use crate::{facts, policies};

/// One event. Each gives the whole new state of one object, or says that it is gone (which may be no news).
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "few are alive at a time")]
pub enum Change {
    /// A pod is new or different.
    Pod(Pod),
    /// A pod is gone.
    PodGone(PodKey),
    /// A namespace is new or different.
    Namespace(Namespace),
    /// A namespace is gone.
    NamespaceGone(Arc<str>),
    /// A node is new or different.
    Node(Node),
    /// A node is gone.
    NodeGone(Arc<str>),
    /// A policy is new or different.
    Policy(PolicyObject),
    /// A policy is deleted.
    PolicyGone(ObjectRef),
}

/// Makes a change. A policy whose namespace is being deleted and still has pods only begins to linger, and so does a
/// namespace that still has pods: see [`World::lingering`] and [`World::gone_namespaces`].
pub fn apply(change: &Change, world: &mut World) {
    let cluster = &mut world.cluster;
    match change {
        Change::Pod(pod) => {
            cluster.pods.insert(pod.key.clone(), Arc::new(pod.clone()));
        }
        Change::PodGone(key) => {
            cluster.pods.remove(key);
            if !world.has_pods(&key.namespace) {
                end_lingering(world, &key.namespace);
                if world.gone_namespaces.remove(&key.namespace) {
                    world.cluster.namespaces.remove(&key.namespace);
                }
            }
        }
        Change::Namespace(namespace) => {
            cluster.namespaces.insert(Arc::clone(&namespace.name), Arc::new(namespace.clone()));
            // Whatever was said of it before, it is there now.
            world.gone_namespaces.remove(&namespace.name);
            if !namespace.terminating {
                end_lingering(world, &namespace.name);
            }
        }
        Change::NamespaceGone(name) => delete_namespace(world, name),
        Change::Node(node) => {
            cluster.nodes.insert(Arc::clone(&node.name), Arc::new(node.clone()));
        }
        Change::NodeGone(name) => {
            cluster.nodes.remove(name);
        }
        Change::Policy(policy) => world.put_policy(policy.clone()),
        Change::PolicyGone(object) => delete_policy(world, object),
    }
}

fn delete_namespace(world: &mut World, name: &Arc<str>) {
    let has_pods = world.has_pods(name);
    let Some(known) = world.cluster.namespaces.get_mut(name) else { return };
    if has_pods {
        *known = Arc::new(Namespace { terminating: true, ..Namespace::clone(known) });
        world.gone_namespaces.insert(Arc::clone(name));
    } else {
        world.cluster.namespaces.remove(name);
    }
}

fn delete_policy(world: &mut World, object: &ObjectRef) {
    if !world.policies.iter().any(|policy| policy.object() == *object) || world.lingering.contains(object) {
        return;
    }
    let lingers = object.namespace.as_ref().is_some_and(|namespace| {
        let terminating = world.cluster.namespaces.get(namespace).is_some_and(|known| known.terminating);
        terminating && world.has_pods(namespace)
    });
    if lingers {
        world.lingering.insert(object.clone());
    } else {
        world.policies.retain(|policy| policy.object() != *object);
    }
}

/// The namespace has no pods left, or is made anew: what was deleted of it is no longer in force.
fn end_lingering(world: &mut World, namespace: &str) {
    let World { policies, lingering, .. } = world;
    let over = |object: &ObjectRef| object.namespace.as_deref() == Some(namespace);
    policies.retain(|policy| {
        let object = policy.object();
        !(over(&object) && lingering.contains(&object))
    });
    lingering.retain(|object| !over(object));
}

/// A world and up to `most` changes, each of which makes sense (or deliberately none) where it stands.
pub fn history(most: usize) -> impl Strategy<Value = (World, Vec<Change>)> {
    (world(), vec(step(), 0..=most)).prop_map(|(world, steps)| {
        let mut now = world.clone();
        let mut changes = Vec::new();
        for step in steps {
            let change = step.on(&now);
            apply(&change, &mut now);
            changes.push(change);
        }
        (world, changes)
    })
}

/// Changes that lead from one world to another, one for each object that differs. They may be made in any order: facts
/// and policies come out equal, but for namespaces and policies that linger.
pub fn between(from: &World, to: &World) -> Vec<Change> {
    let mut changes = Vec::new();
    let (old, new) = (&from.cluster, &to.cluster);
    changes.extend(old.pods.keys().filter(|key| !new.pods.contains_key(*key)).cloned().map(Change::PodGone));
    let pods = new.pods.iter().filter(|&(key, pod)| old.pods.get(key) != Some(pod));
    changes.extend(pods.map(|(_, pod)| Change::Pod(Pod::clone(pod))));

    let gone = old.namespaces.keys().filter(|name| !new.namespaces.contains_key(*name));
    changes.extend(gone.cloned().map(Change::NamespaceGone));
    let namespaces =
        new.namespaces.iter().filter(|&(name, namespace)| old.namespaces.get(name) != Some(namespace));
    changes.extend(namespaces.map(|(_, namespace)| Change::Namespace(Namespace::clone(namespace))));

    changes.extend(
        old.nodes.keys().filter(|name| !new.nodes.contains_key(*name)).cloned().map(Change::NodeGone),
    );
    let nodes = new.nodes.iter().filter(|&(name, node)| old.nodes.get(name) != Some(node));
    changes.extend(nodes.map(|(_, node)| Change::Node(Node::clone(node))));

    let kept = |object: &ObjectRef| {
        to.policies.iter().any(|policy| policy.object() == *object) && !to.lingering.contains(object)
    };
    let objects = from.policies.iter().map(PolicyObject::object);
    changes.extend(objects.filter(|object| !kept(object)).map(Change::PolicyGone));
    let policies = to.policies.iter().filter(|policy| {
        let lingered = from.lingering.contains(&policy.object());
        kept(&policy.object()) && (lingered || !from.policies.contains(policy))
    });
    changes.extend(policies.cloned().map(Change::Policy));
    changes
}

/// A change before it is known in which world: an index means one of the objects that are there, or one that is not.
#[derive(Clone, Debug)]
enum Step {
    Given(Box<Change>),
    EditPod(Index, Box<Edit>),
    PodGone(Index),
    Terminate(Index),
    NamespaceGone(Index),
    NodeGone(Index),
    PolicyGone(Index),
}

/// A change of one field of a pod.
#[derive(Clone, Debug)]
enum Edit {
    /// Another pod of the same name: all of it.
    Replace(Pod),
    Labels(Pod),
    Addresses(Pod),
    Ports(Pod),
    Phase(Phase),
}

fn step() -> BoxedStrategy<Step> {
    let given = |change: Change| Step::Given(Box::new(change));
    prop_oneof![
        4 => (any::<Index>(), edit()).prop_map(|(index, edit)| Step::EditPod(index, Box::new(edit))).boxed(),
        2 => any::<Index>().prop_map(Step::PodGone),
        2 => facts::pod().prop_map(move |pod| given(Change::Pod(pod))),
        3 => policies::policy().prop_map(move |policy| given(Change::Policy(policy))).boxed(),
        3 => any::<Index>().prop_map(Step::PolicyGone),
        2 => facts::namespace().prop_map(move |namespace| given(Change::Namespace(namespace))).boxed(),
        1 => any::<Index>().prop_map(Step::Terminate),
        1 => any::<Index>().prop_map(Step::NamespaceGone),
        1 => facts::node().prop_map(move |node| given(Change::Node(node))).boxed(),
        1 => any::<Index>().prop_map(Step::NodeGone),
    ]
    .boxed()
}

fn edit() -> impl Strategy<Value = Edit> {
    (0..5_u8, facts::pod()).prop_map(|(what, pod)| match what {
        0 => Edit::Labels(pod),
        1 => Edit::Addresses(pod),
        2 => Edit::Ports(pod),
        3 => Edit::Phase(pod.phase),
        _ => Edit::Replace(pod),
    })
}

impl Step {
    fn on(self, world: &World) -> Change {
        let cluster = &world.cluster;
        match self {
            Self::Given(change) => *change,
            Self::EditPod(index, edit) => match pick(index, cluster.pods.values()) {
                Some(pod) => Change::Pod(edit.of(Pod::clone(pod))),
                None => Change::PodGone(PodKey::new("a", "nobody")),
            },
            Self::PodGone(index) => {
                let key = pick(index, cluster.pods.keys()).cloned();
                Change::PodGone(key.unwrap_or_else(|| PodKey::new("a", "nobody")))
            }
            Self::Terminate(index) => match pick(index, cluster.namespaces.values()) {
                Some(namespace) => {
                    Change::Namespace(Namespace { terminating: true, ..Namespace::clone(namespace) })
                }
                None => Change::NamespaceGone("nothing".into()),
            },
            Self::NamespaceGone(index) => Change::NamespaceGone(
                pick(index, cluster.namespaces.keys()).cloned().unwrap_or("nothing".into()),
            ),
            Self::NodeGone(index) => {
                Change::NodeGone(pick(index, cluster.nodes.keys()).cloned().unwrap_or("nothing".into()))
            }
            Self::PolicyGone(index) => Change::PolicyGone(match pick(index, world.policies.iter()) {
                Some(policy) => policy.object(),
                None => ObjectRef::namespaced("NetworkPolicy", "a", "nothing"),
            }),
        }
    }
}

impl Edit {
    fn of(self, pod: Pod) -> Pod {
        match self {
            Self::Replace(new) => Pod { key: pod.key, ..new },
            Self::Labels(new) => Pod { labels: new.labels, ..pod },
            Self::Addresses(new) => Pod { addresses: new.addresses, ..pod },
            Self::Ports(new) => Pod { ports: new.ports, ..pod },
            Self::Phase(phase) => Pod { phase, ..pod },
        }
    }
}

/// One of these, or none, evenly.
fn pick<T>(index: Index, mut of: impl ExactSizeIterator<Item = T>) -> Option<T> {
    let number = index.index(of.len() + 1);
    of.nth(number)
}
