use std::collections::BTreeMap;

use policy_compiler::compiler::Event;
use policy_compiler::compiler::{Compiler, Scope};
use policy_compiler::object::ObjectRef;
use policy_compiler::problem::Problem;
use proptest::collection::vec;
use proptest::prelude::*;

use super::read::Reading;
use super::*;

fn reading<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Reading {
    let documents =
        files.into_iter().map(|(name, text)| Document { name: name.to_owned(), text: text.to_owned() });
    Reading { documents: documents.collect(), ..Reading::default() }
}

fn changed(update: Option<Update>) -> (Vec<Event>, Vec<Event>, Vec<Problem>) {
    match update {
        Some(Update::Changed { events, moved, remarks, .. }) => (events, moved, remarks),
        other => panic!("{other:?}"),
    }
}

fn pod(namespace: &str, name: &str, label: u8, address: u8) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: {namespace}, uid: u-{name}-{address}, \
         labels: {{app: l{label}}}}}, spec: {{nodeName: n1}}, status: {{phase: Running, podIPs: [{{ip: 10.0.0.{address}}}]}}}}"
    )
}

fn policy(namespace: &str, name: &str, subject: u8, peer: u8) -> String {
    format!(
        "{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: {name}, namespace: {namespace}}}, \
         spec: {{podSelector: {{matchLabels: {{app: l{subject}}}}}, policyTypes: [Ingress], ingress: [{{from: \
         [{{namespaceSelector: {{matchLabels: {{team: l{peer}}}}}}}, {{podSelector: {{matchLabels: {{app: l{peer}}}}}}}]}}]}}}}"
    )
}

fn namespace(name: &str, team: u8) -> String {
    format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}, labels: {{team: l{team}}}}}}}")
}

fn node(label: u8) -> String {
    format!(
        "{{apiVersion: v1, kind: Node, metadata: {{name: n1, labels: {{zone: l{label}}}}}, status: {{addresses: \
         [{{type: InternalIP, address: 192.0.2.{label}}}]}}}}"
    )
}

#[test]
fn a_policy_that_only_moved_to_another_line_is_no_event_and_is_told_apart() {
    let mut acceptance = Acceptance::default();
    let (text, below) = (policy("a", "p", 0, 1), format!("# a comment\n{}", policy("a", "p", 0, 1)));
    let (events, moved, _) = changed(acceptance.take(reading([("a.yaml", &*text)])));
    assert!(matches!(&events[..], [Event::Policy(_)]) && moved.is_empty(), "{events:?} {moved:?}");
    let (events, moved, _) = changed(acceptance.take(reading([("a.yaml", &*below)])));
    let [Event::Policy(policy)] = &moved[..] else { panic!("{moved:?}") };
    assert!(events.is_empty(), "{events:?}");
    assert_eq!(policy.locate("").unwrap().to_string(), "a.yaml:2");
    assert!(acceptance.take(reading([("a.yaml", &*below)])).is_none(), "the same reading is no update");
}

#[test]
fn a_namespace_deleted_with_its_policy_leaves_the_policy_in_force_until_its_pods_are_gone() {
    let (of_namespace, of_pod, of_policy) = (namespace("a", 0), pod("a", "x", 0, 1), policy("a", "p", 0, 1));
    let mut acceptance = Acceptance::default();
    let mut compiler = Compiler::new(Scope::All);
    let all = [("n.yaml", &*of_namespace), ("p.yaml", &*of_policy), ("x.yaml", &*of_pod)];
    let (events, _, _) = changed(acceptance.take(reading(all)));
    assert!(
        matches!(&events[..], [Event::Namespace(_), Event::Pod(_), Event::Policy(_)]),
        "namespaces, pods, policies: {events:?}"
    );
    compiler.apply(events);

    let (events, _, _) = changed(acceptance.take(reading([("x.yaml", &*of_pod)])));
    assert!(matches!(&events[..], [Event::NamespaceGone(_), Event::PolicyGone(_)]), "{events:?}");
    compiler.apply(events);
    let object = ObjectRef::namespaced("NetworkPolicy", "a", "p");
    assert!(compiler.retained().contains(&object) && compiler.policy(&object).is_some());

    let (events, _, _) = changed(acceptance.take(reading([("e.yaml", "")])));
    let [Event::PodGone { uid, .. }] = &events[..] else { panic!("{events:?}") };
    assert_eq!(uid.as_deref(), Some("u-x-1"));
    compiler.apply(events);
    assert!(compiler.policy(&object).is_none());
}

#[test]
fn pods_without_an_address_are_kept_out_with_a_remark_at_their_line() {
    let text = "\n{apiVersion: v1, kind: Pod, metadata: {name: p}}\n---\n{apiVersion: apps/v1, kind: Deployment, \
                metadata: {name: d}, spec: {template: {}}}\n";
    let (events, _, remarks) = changed(Acceptance::default().take(reading([("a.yaml", text)])));
    assert!(events.is_empty(), "{events:?}");
    let remarks: Vec<_> = remarks.iter().map(ToString::to_string).collect();
    let no_address = "it has no address, so that no interface is known for it and no peer is it; expected";
    assert_eq!(
        remarks,
        [
            format!("a.yaml:4: Deployment default/d: {no_address} its pods, with status.podIPs"),
            format!("a.yaml:2: Pod default/p: {no_address} status.podIPs"),
        ]
    );
}

#[test]
fn a_refused_reading_is_reported_once_and_what_follows_is_counted_from_the_last_accepted_one() {
    let mut acceptance = Acceptance::default();
    let (one, two) = (pod("a", "x", 0, 1), pod("a", "z", 0, 2));
    changed(acceptance.take(reading([("x.yaml", &*one)])));
    let broken = [("x.yaml", &*two), ("z.yaml", "{apiVersion: v1, kind: Pod")];
    let Some(Update::Refused { problems }) = acceptance.take(reading(broken)) else { panic!("accepted") };
    assert!(problems[0].to_string().starts_with("z.yaml:2: File z.yaml: "), "{}", problems[0]);
    assert!(acceptance.take(reading(broken)).is_none());
    let (events, _, _) = changed(acceptance.take(reading([("x.yaml", &*two)])));
    assert!(matches!(&events[..], [Event::Pod(_), Event::PodGone { .. }]), "{events:?}");
    // Back to what is in force already: said, because the refusal is over.
    acceptance.take(reading(broken));
    let (events, _, _) = changed(acceptance.take(reading([("x.yaml", &*two)])));
    assert!(events.is_empty());
}

/// One file of the directory written anew or removed. Namespaces go only with all that is in them: one that has pods is
/// kept by the engine (see above), and then its tables are not those of a compile from nothing.
#[derive(Clone, Debug)]
enum Edit {
    Pod(u8, u8, u8, u8),
    Policy(u8, u8, u8, u8),
    Namespace(u8, u8),
    Node(u8),
    Remove(prop::sample::Index),
    RemoveNamespace(u8),
}

fn edit() -> impl Strategy<Value = Edit> {
    let small = 0..3_u8;
    prop_oneof![
        3 => (small.clone(), 0..4_u8, small.clone(), 1..6_u8).prop_map(|(n, p, l, a)| Edit::Pod(n, p, l, a)),
        3 => (small.clone(), 0..4_u8, small.clone(), small.clone()).prop_map(|(n, p, s, l)| Edit::Policy(n, p, s, l)),
        2 => (small.clone(), small.clone()).prop_map(|(n, t)| Edit::Namespace(n, t)),
        1 => (1..4_u8).prop_map(Edit::Node),
        3 => any::<prop::sample::Index>().prop_map(Edit::Remove),
        1 => small.prop_map(Edit::RemoveNamespace),
    ]
}

fn make(edit: &Edit, files: &mut BTreeMap<String, String>) {
    match *edit {
        Edit::Pod(n, p, label, address) => {
            let name = format!("p{p}");
            files.insert(format!("n{n}/pod-{name}.yaml"), pod(&format!("n{n}"), &name, label, address));
        }
        Edit::Policy(n, p, subject, peer) => {
            let name = format!("p{p}");
            files.insert(format!("n{n}/policy-{name}.yaml"), policy(&format!("n{n}"), &name, subject, peer));
        }
        Edit::Namespace(n, team) => {
            files.insert(format!("n{n}/namespace.yaml"), namespace(&format!("n{n}"), team));
        }
        Edit::Node(label) => {
            files.insert("node.yaml".to_owned(), node(label));
        }
        Edit::Remove(index) => {
            let removable: Vec<_> =
                files.keys().filter(|name| !name.ends_with("namespace.yaml")).cloned().collect();
            if !removable.is_empty() {
                files.remove(index.get(&removable));
            }
        }
        Edit::RemoveNamespace(n) => files.retain(|name, _| !name.starts_with(&format!("n{n}/"))),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]
    #[test]
    fn the_events_of_any_edits_lead_to_the_tables_of_a_compile_from_nothing(steps in vec(vec(edit(), 1..4), 1..16)) {
        let mut files = BTreeMap::new();
        let mut acceptance = Acceptance::default();
        let mut compiler = Compiler::new(Scope::All);
        for step in steps {
            for edit in &step {
                make(edit, &mut files);
                // A reading of its own: with a new pod in it the namespace would never have been empty, and its policies
                // stay in force.
                if matches!(edit, Edit::RemoveNamespace(_)) {
                    break;
                }
            }
            let now = || reading(files.iter().map(|(name, text)| (name.as_str(), text.as_str())));
            let Some(update) = acceptance.take(now()) else { continue };
            let (events, moved, _) = changed(Some(update));
            prop_assert!(moved.is_empty());
            compiler.apply(events);
            let mut nothing = Acceptance::default();
            changed(nothing.take(now()));
            let policies = nothing.accepted.policies.into_values().map(Arc::new);
            let fresh = Compiler::compile(Scope::All, &nothing.accepted.cluster, policies);
            prop_assert_eq!(compiler.tables(), fresh.tables());
        }
    }
}
