//! The engine's tables against the naive evaluator, over random clusters and policies of every dialect.
//!
//! Three claims: a compile from nothing answers as the oracle does; events one by one lead to exactly the tables of a
//! compile from nothing, in any order; after every single write of every plan each packet has its old or its new
//! verdict.

use std::sync::Arc;

use datapath::abi::{Address, Endpoint, Generation, Halves, Identity, PortAtom, RuleKey, RuleRow};
use datapath::lookup::{Decision, Maps, Origin, Query, judge};
use datapath::verdict::Verdict;
use policy_compiler::api::PolicyObject;
use policy_compiler::compiler::{Compiler, Event, Scope};
use policy_compiler::delta::Delta;
use policy_compiler::facts::Cluster;
use policy_compiler::image::Image;
use policy_compiler::lower::lower;
use policy_compiler::object::PodKey;
use policy_compiler::oracle::{self, Answer, Packet, Protocol};
use policy_compiler::plan::{Step, plan, plan_between};
use policy_compiler::policy::Policy;
use policy_compiler::tables::{Tables, address};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use tests::changes::{Change, apply, between, history};
use tests::packets::packets;
use tests::requests::requests;
use tests::world::{World, world};

/// Generations in force before a change: one of each parity, and the last one, after which they begin anew.
const IN_FORCE: [Generation; 2] = [6, Generation::MAX];

/// The policies that lowering accepts, as objects and lowered.
fn valid(policies: &[PolicyObject]) -> (Vec<PolicyObject>, Vec<Arc<Policy>>) {
    let lowered = policies
        .iter()
        .filter_map(|object| Some((object.clone(), Arc::new(lower(object, None).ok()?.policy))));
    lowered.unzip()
}

fn compile(world: &World) -> Compiler {
    Compiler::compile(Scope::All, &world.cluster, valid(&world.policies).1)
}

fn query(cluster: &Cluster, packet: &Packet) -> Query {
    let own = cluster.pods.get(&packet.pod).is_some_and(|pod| pod.addresses.contains(&packet.peer));
    let origin = match (own, packet.from_own_node) {
        (true, _) => Origin::OwnAddress,
        (false, true) => Origin::OwnNode,
        (false, false) => Origin::Elsewhere,
    };
    let port = match packet.protocol {
        Protocol::Transport(transport, port) => Some((transport, port)),
        Protocol::Other(_) => None,
    };
    Query { direction: packet.direction, peer: address(packet.peer), port, origin }
}

fn answer(decision: Decision) -> Answer {
    match decision.verdict {
        Verdict::Allow => Answer::Allow,
        Verdict::Deny | Verdict::Reject => Answer::Deny,
        Verdict::Redirect => Answer::Ask,
    }
}

/// The case count: `PROPTEST_CASES` for a long campaign, else enough for every run.
fn config(cases: u32) -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(cases);
    // Seeds of failures are kept beside this file, and tried first from then on.
    let seeds = FileFailurePersistence::WithSource("proptest-regressions");
    ProptestConfig { cases, failure_persistence: Some(Box::new(seeds)), ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(3000))]

    #[test]
    fn every_packet_gets_the_oracles_answer(world in world()) {
        let compiler = compile(&world);
        let (objects, _) = valid(&world.policies);
        for packet in packets(&world) {
            let decision = compiler.judge(&packet.pod, &query(&world.cluster, &packet));
            let expected = oracle::judge(&objects, &world.cluster, &packet);
            prop_assert_eq!(answer(decision), expected, "{:?}: {:?}", packet, decision);
        }
    }

    #[test]
    fn every_request_gets_the_oracles_answer((world, seed) in (world(), any::<u64>())) {
        let compiler = compile(&world);
        let (objects, _) = valid(&world.policies);
        // Where what is asked decides, many requests; elsewhere one, which gets the answer of its connection.
        for (number, packet) in packets(&world).into_iter().enumerate() {
            let query = query(&world.cluster, &packet);
            let asked = compiler.judge(&packet.pod, &query).verdict == Verdict::Redirect;
            let many = if asked { 24 } else { usize::from(number % 16 == 0) };
            for request in requests(seed.wrapping_add(number as u64)).take(many) {
                request.with(|asked| {
                    let decision = compiler.judge_request(&packet.pod, &query, asked);
                    let expected = oracle::judge_request(&objects, &world.cluster, &packet, asked);
                    prop_assert_eq!(answer(decision), expected, "{:?} {:?}: {:?}", packet, request, decision);
                    Ok(())
                })?;
            }
        }
    }

    #[test]
    fn a_node_scope_gives_its_endpoints_the_answers_of_the_whole(world in world()) {
        let whole = compile(&world);
        let (_, policies) = valid(&world.policies);
        for name in world.cluster.nodes.keys() {
            let node = Compiler::compile(Scope::Node(Arc::clone(name)), &world.cluster, policies.iter().cloned());
            let local = |pod: &PodKey| world.cluster.pods.get(pod).is_some_and(|pod| pod.node.as_ref() == Some(name));
            for packet in packets(&world).into_iter().filter(|packet| local(&packet.pod)) {
                let query = query(&world.cluster, &packet);
                prop_assert_eq!(node.judge(&packet.pod, &query), whole.judge(&packet.pod, &query), "{:?}", packet);
            }
            prop_assert!(node.tables().endpoints.keys().all(local));
        }
    }

    #[test]
    fn the_order_in_which_a_world_becomes_known_does_not_show((world, seed) in (world(), any::<u64>())) {
        let mut changes = between(&World::default(), &world);
        shuffle(&mut changes, seed);
        let mut compiler = Compiler::new(Scope::All);
        for change in &changes {
            compiler.apply([event(change)]);
        }
        let expected = Compiler::compile(Scope::All, compiler.cluster(), compiler.policies().cloned());
        prop_assert_eq!(compiler.tables(), expected.tables());
        if compiler.retained().is_empty() {
            let at_once = compile(&world);
            prop_assert_eq!(compiler.tables(), at_once.tables());
        }
    }
}

proptest! {
    #![proptest_config(config(1000))]

    #[test]
    fn batches_of_events_for_one_node_give_the_tables_of_a_compile_from_nothing(
        ((start, changes), sizes) in (history(12), prop::collection::vec(1_usize..5, 12))
    ) {
        let node = start.cluster.nodes.keys().next().map_or_else(|| "n1".into(), Arc::clone);
        let (_, policies) = valid(&start.policies);
        let mut compiler = Compiler::compile(Scope::Node(Arc::clone(&node)), &start.cluster, policies);
        let mut rest = &changes[..];
        for size in sizes {
            let (batch, after) = rest.split_at(size.min(rest.len()));
            rest = after;
            let before = compiler.tables().clone();
            let delta = compiler.apply(batch.iter().map(event));
            let scope = Scope::Node(Arc::clone(&node));
            let expected = Compiler::compile(scope, compiler.cluster(), compiler.policies().cloned());
            prop_assert_eq!(compiler.tables(), expected.tables(), "after {:?}", batch);
            let image = performed(&before, &plan(&delta, compiler.tables(), IN_FORCE[0]).unwrap());
            prop_assert!(image == Image::of(compiler.tables(), image.generation()), "after {:?}", batch);
        }
    }

    #[test]
    fn events_one_by_one_give_the_tables_of_a_compile_from_nothing((start, changes) in history(12)) {
        let mut world = start.clone();
        let mut compiler = compile(&start);
        for change in changes {
            let before = compiler.tables().clone();
            let delta = compiler.apply([event(&change)]);
            apply(&change, &mut world);
            let expected = Compiler::compile(Scope::All, compiler.cluster(), compiler.policies().cloned());
            prop_assert_eq!(compiler.tables(), expected.tables(), "after {:?}", change);
            let in_force = sorted(compiler.policies().map(|policy| policy.object.to_string()));
            let oracles = sorted(valid(&world.policies).1.iter().map(|policy| policy.object.to_string()));
            prop_assert_eq!(in_force, oracles, "after {:?}", change);
            // What was recorded is what changed, and leads there.
            let image = performed(&before, &plan(&delta, compiler.tables(), IN_FORCE[0]).unwrap());
            prop_assert!(image == Image::of(compiler.tables(), image.generation()), "after {:?}", change);
        }
    }

    #[test]
    fn after_every_write_of_a_change_each_packet_has_its_old_or_its_new_verdict((start, changes) in history(4)) {
        let mut world = start.clone();
        let mut compiler = compile(&start);
        for change in changes {
            let (old_world, old) = (world.clone(), compiler.tables().clone());
            let delta = compiler.apply([event(&change)]);
            apply(&change, &mut world);
            for in_force in IN_FORCE {
                old_or_new(&old_world, &old, &world, compiler.tables(), &delta, in_force)?;
            }
        }
    }

    #[test]
    fn after_every_write_from_any_world_to_any_other_each_packet_has_its_old_or_its_new_verdict(
        (old_world, new_world) in (world(), world())
    ) {
        let (old, new) = (compile(&old_world), compile(&new_world));
        let delta = Delta::between(old.tables(), new.tables());
        for in_force in IN_FORCE {
            old_or_new(&old_world, old.tables(), &new_world, new.tables(), &delta, in_force)?;
        }
        prop_assert_eq!(plan_between(old.tables(), new.tables(), 6), plan(&delta, new.tables(), 6));
        prop_assert!(Delta::between(new.tables(), new.tables()).is_empty());
    }
}

fn old_or_new(
    old_world: &World,
    old: &Tables,
    new_world: &World,
    new: &Tables,
    delta: &Delta,
    in_force: Generation,
) -> Result<(), TestCaseError> {
    let steps = plan(delta, new, in_force).map_err(|error| TestCaseError::fail(error.to_string()))?;
    let mut image = Image::of(old, in_force);
    // Probes from both worlds, thinned: every step is judged by all of them.
    let mut probes = packets(old_world);
    probes.extend(packets(new_world));
    let stride = 1 + probes.len() * steps.len() / 20_000;
    let probes: Vec<(PodKey, Query)> = probes
        .into_iter()
        .step_by(stride)
        .map(|packet| (packet.pod.clone(), query(&old_world.cluster, &packet)))
        .collect();
    let judged = |maps: &dyn Fn(&PodKey, &Query) -> Decision| -> Vec<Decision> {
        probes.iter().map(|(pod, query)| maps(pod, query)).collect()
    };
    let before = judged(&|pod, query| judge(old, pod, query));
    let after = judged(&|pod, query| judge(new, pod, query));
    let (mut committed, mut late) = (false, true);
    for (index, step) in steps.iter().enumerate() {
        if let Step::AddRule(key, row) = step {
            prop_assert!(image.rule(key).is_none_or(|there| there == *row), "a row is modified: {:?}", key);
        }
        image.perform(step);
        committed |= matches!(step, Step::Commit(_));
        late &= *step != Step::Quiesce;
        if late {
            // A packet that read the generation before the commit and the rest only now.
            let late = Late { image: &image, generation: in_force };
            prop_assert_eq!(
                &judged(&|pod, query| judge(&late, pod, query)),
                &before,
                "late at step {}",
                index
            );
        }
        let now = judged(&|pod, query| judge(&image, pod, query));
        // Stronger than each packet for itself: the whole node moves at once.
        let expected = if committed { &after } else { &before };
        for ((now, expected), probe) in now.iter().zip(expected).zip(&probes) {
            prop_assert_eq!(now, expected, "after step {} {:?}: {:?}", index, step, probe);
        }
    }
    let last = judged(&|pod, query| judge(&image, pod, query));
    prop_assert_eq!(last, after);
    prop_assert!(
        image == Image::of(new, image.generation()),
        "the kernel holds just the new tables in the end"
    );
    Ok(())
}

fn performed(before: &Tables, steps: &[Step]) -> Image {
    let mut image = Image::of(before, IN_FORCE[0]);
    for step in steps {
        image.perform(step);
    }
    image
}

fn event(change: &Change) -> Event {
    match change {
        Change::Pod(pod) => Event::Pod(Box::new(pod.clone())),
        Change::PodGone(key) => Event::PodGone { key: key.clone(), uid: None },
        Change::Namespace(namespace) => Event::Namespace(namespace.clone()),
        Change::NamespaceGone(name) => Event::NamespaceGone(Arc::clone(name)),
        Change::Node(node) => Event::Node(node.clone()),
        Change::NodeGone(name) => Event::NodeGone(Arc::clone(name)),
        Change::Policy(object) => match lower(object, None) {
            Ok(lowered) => Event::Policy(Box::new(lowered.policy)),
            // A watcher keeps what was in force; the oracle of these tests forgets it, so do that here as well.
            Err(_) => Event::PolicyGone(object.object()),
        },
        Change::PolicyGone(object) => Event::PolicyGone(object.clone()),
    }
}

fn sorted(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// Fisher and Yates, with a small generator: the order is an input, so that it shrinks and replays.
fn shuffle<T>(items: &mut [T], mut seed: u64) {
    for last in (1..items.len()).rev() {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        items.swap(last, usize::try_from(seed >> 33).unwrap_or(0) % (last + 1));
    }
}

/// The maps as a packet sees them that read the generation some time ago.
struct Late<'a> {
    image: &'a Image,
    generation: Generation,
}

impl Maps for Late<'_> {
    type EndpointKey = PodKey;

    fn generation(&self) -> Generation {
        self.generation
    }
    fn endpoint(&self, key: &PodKey) -> Option<Halves<Endpoint>> {
        self.image.endpoint(key)
    }
    fn address(&self, address: Address) -> Option<Halves<Identity>> {
        self.image.address(address)
    }
    fn prefix(&self, address: Address) -> Option<Halves<Identity>> {
        self.image.prefix(address)
    }
    fn port(&self, index: u32) -> Option<Halves<PortAtom>> {
        self.image.port(index)
    }
    fn rule(&self, key: &RuleKey) -> Option<RuleRow> {
        self.image.rule(key)
    }
}
