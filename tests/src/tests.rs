//! What the property tests rely on.

use std::collections::{BTreeMap, BTreeSet};

use policy_compiler::api::PolicyObject;
use policy_compiler::lower::lower;
use policy_compiler::object::ObjectRef;
use policy_compiler::oracle::{Answer, Decider, decide};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use crate::changes::{Change, apply, between, history};
use crate::packets::packets;
use crate::world::{World, world};

fn sorted(world: &World) -> BTreeMap<ObjectRef, PolicyObject> {
    world.policies.iter().map(|policy| (policy.object(), policy.clone())).collect()
}

/// So many values, always the same ones.
fn draw<S: Strategy>(strategy: &S, count: usize) -> Vec<S::Value> {
    let mut runner = TestRunner::deterministic();
    (0..count).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect()
}

proptest! {
    #[test]
    fn the_changes_between_two_worlds_lead_from_one_to_the_other_in_any_order(
        from in world(),
        to in world(),
        order in prop::collection::vec(any::<Index>(), 40),
    ) {
        let mut changes = between(&from, &to);
        let mut now = from;
        for index in order {
            if !changes.is_empty() {
                apply(&changes.swap_remove(index.index(changes.len())), &mut now);
            }
        }
        prop_assert!(changes.is_empty(), "more than 40 changes");
        for namespace in &now.gone_namespaces {
            now.cluster.namespaces.remove(namespace);
        }
        prop_assert_eq!(&now.cluster, &to.cluster);
        let mut in_force = sorted(&now);
        in_force.retain(|object, _| !now.lingering.contains(object));
        prop_assert_eq!(in_force, sorted(&to));
    }

    #[test]
    fn what_lingers_is_in_force_and_its_namespace_has_pods((mut world, changes) in history(12)) {
        for change in &changes {
            apply(change, &mut world);
            let objects: BTreeSet<_> = world.policies.iter().map(PolicyObject::object).collect();
            prop_assert_eq!(objects.len(), world.policies.len(), "each object once");
            prop_assert!(world.lingering.is_subset(&objects));
            for object in &world.lingering {
                prop_assert!(object.namespace.as_ref().is_some_and(|namespace| world.has_pods(namespace)));
            }
            for namespace in &world.gone_namespaces {
                prop_assert!(world.cluster.namespaces[namespace].terminating && world.has_pods(namespace));
            }
        }
    }
}

#[test]
fn a_policy_of_a_namespace_that_is_being_deleted_stays_until_the_last_pod_is_gone() {
    let worlds = draw(&world(), 400);
    let mut seen = 0;
    for mut world in worlds {
        let lingers = |policy: &PolicyObject| {
            let PolicyObject::NetworkPolicy(_) = policy else { return false };
            let namespace = policy.object().namespace.unwrap();
            world.cluster.namespaces.get(&namespace).is_some_and(|known| known.terminating)
                && world.has_pods(&namespace)
        };
        let Some(policy) = world.policies.iter().find(|policy| lingers(policy)).cloned() else { continue };
        seen += 1;
        let object = policy.object();
        let namespace = object.namespace.clone().unwrap();
        apply(&Change::PolicyGone(object), &mut world);
        apply(&Change::NamespaceGone(namespace.clone()), &mut world);
        let pods: Vec<_> =
            world.cluster.pods.keys().filter(|pod| pod.namespace == namespace).cloned().collect();
        for pod in pods {
            assert!(world.policies.contains(&policy) && world.cluster.namespaces.contains_key(&namespace));
            apply(&Change::PodGone(pod), &mut world);
        }
        assert!(!world.policies.contains(&policy) && world.lingering.is_empty());
        assert!(!world.cluster.namespaces.contains_key(&namespace));
    }
    assert!(seen > 10, "{seen}");
}

#[test]
fn every_way_to_decide_is_probed_often() {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut probes = 0;
    for world in draw(&world(), 100) {
        for packet in packets(&world) {
            let decision = decide(&world.policies, &world.cluster, &packet);
            let decider = match decision.decider {
                Decider::Admin(_) => "Admin",
                Decider::Baseline(_) => "Baseline",
                Decider::Namespaced => "Namespaced",
                Decider::OwnAddress => "OwnAddress",
                Decider::OwnNode => "OwnNode",
                Decider::Default => "Default",
                Decider::NotSubject => "NotSubject",
            };
            let answer = match decision.answer {
                Answer::Allow => "allows",
                Answer::Deny => "denies",
                Answer::Ask => "asks",
            };
            *seen.entry(format!("{decider} {answer}")).or_default() += 1;
            probes += 1;
        }
    }
    let ways = [
        "Admin allows",
        "Admin asks",
        "Admin denies",
        "Baseline allows",
        "Baseline asks",
        "Baseline denies",
        "Default allows",
        "Namespaced allows",
        "Namespaced asks",
        "Namespaced denies",
        "OwnAddress allows",
        "OwnNode allows",
    ];
    assert_eq!(seen.keys().collect::<Vec<_>>(), ways, "{seen:?}");
    for (way, count) in &seen {
        assert!(count * 200 > probes, "{way} in only {count} of {probes} probes");
    }
    eprintln!("{seen:?}");
}

#[test]
fn the_compiler_accepts_every_policy() {
    for world in draw(&world(), 300) {
        for policy in &world.policies {
            if let Err(problems) = lower(policy, None) {
                panic!("{world:?}\n{problems:#?}");
            }
        }
    }
}
