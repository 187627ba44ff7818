use policy_compiler::compiler::{Compiler, Scope};
use serde_json::{Value, json};

use super::*;
use crate::kubernetes::snapshot::PolicyStanding;

fn object(value: &Value) -> Seen {
    Seen::Object(value.to_string().into())
}

fn gone(value: &Value) -> Seen {
    Seen::Gone(value.to_string().into())
}

fn namespace(name: &str, terminating: bool) -> Value {
    let phase = if terminating { "Terminating" } else { "Active" };
    json!({"metadata": {"name": name, "uid": format!("uid-{name}"), "resourceVersion": "1"}, "status": {"phase": phase}})
}

fn pod(name: &str, uid: &str, ip: &str) -> Value {
    json!({
        "metadata": {"namespace": "prod", "name": name, "uid": uid, "resourceVersion": "1", "labels": {"app": name}},
        "spec": {"nodeName": "n1", "containers": []}, "status": {"phase": "Running", "podIPs": [{"ip": ip}]},
    })
}

fn policy(name: &str) -> Value {
    json!({
        "metadata": {"namespace": "prod", "name": name, "uid": format!("uid-{name}"), "resourceVersion": "1"},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
    })
}

fn taken(intake: &mut Intake, kind: Kind, seen: Seen) {
    if let Err(Unreadable { problems }) = intake.take(kind, seen) {
        panic!("{problems:?}");
    }
}

/// Lists every kind with these objects.
fn list_all(intake: &mut Intake, objects: &[(Kind, Value)]) {
    for one in FOLLOWED {
        taken(intake, one.kind, Seen::Begun);
        for (_, value) in objects.iter().filter(|(kind, _)| *kind == one.kind) {
            taken(intake, one.kind, object(value));
        }
        taken(intake, one.kind, Seen::Listed);
    }
}

/// What is told, an event a word or two.
fn told(intake: &mut Intake) -> Vec<String> {
    let Some(followed) = intake.give() else { return Vec::new() };
    let brief = |event: &Event| match event {
        Event::Namespace(one) => {
            format!("namespace {}{}", one.name, if one.terminating { " dying" } else { "" })
        }
        Event::NamespaceGone(name) => format!("no namespace {name}"),
        Event::Pod(one) => format!("pod {} {}", one.key.name, one.uid),
        Event::PodGone { key, uid } => format!("no pod {} {}", key.name, uid.as_deref().unwrap_or("any")),
        Event::Policy(one) => format!("policy {}", one.object.name),
        Event::PolicyGone(object) => format!("no policy {}", object.name),
        other => format!("{other:?}"),
    };
    let dying = followed.terminating.iter().map(|name| format!("dying {name}"));
    dying.chain(followed.events.iter().map(brief)).collect()
}

#[test]
fn nothing_is_told_before_every_kind_was_listed() {
    let mut intake = Intake::default();
    taken(&mut intake, Kind::Pod, Seen::Begun);
    taken(&mut intake, Kind::Pod, object(&pod("a", "1", "10.0.0.1")));
    taken(&mut intake, Kind::Pod, Seen::Listed);
    assert!(intake.give().is_none());
    assert_eq!(intake.missing().len(), FOLLOWED.len() - 1);
    for one in FOLLOWED.iter().filter(|one| one.kind != Kind::Pod) {
        assert!(intake.give().is_none(), "{}", one.plural);
        taken(&mut intake, one.kind, if one.custom { Seen::Absent } else { Seen::Begun });
        if !one.custom {
            taken(&mut intake, one.kind, Seen::Listed);
        }
    }
    let followed = intake.give().unwrap();
    assert!(followed.whole);
    assert_eq!((followed.events.len(), followed.listed.len()), (1, 5));
    assert!(intake.give().is_none());
}

#[test]
fn what_comes_together_is_told_once_and_in_an_order_that_means_what_it_says() {
    let mut intake = Intake::default();
    list_all(
        &mut intake,
        &[(Kind::Namespace, namespace("prod", false)), (Kind::Pod, pod("old", "1", "10.0.0.1"))],
    );
    intake.give().unwrap();
    taken(&mut intake, Kind::NetworkPolicy, object(&policy("p")));
    taken(&mut intake, Kind::Pod, gone(&pod("old", "1", "10.0.0.1")));
    taken(&mut intake, Kind::Pod, object(&pod("new", "2", "")));
    taken(&mut intake, Kind::Pod, object(&pod("new", "2", "10.0.0.1")));
    taken(&mut intake, Kind::Namespace, object(&namespace("prod", true)));
    assert_eq!(intake.waiting(), 4);
    // Whoever comes before whoever goes: a namespace whose pods are replaced is never without any.
    assert_eq!(told(&mut intake), ["namespace prod dying", "pod new 2", "no pod old 1", "policy p"]);
}

#[test]
fn a_pod_that_was_replaced_and_went_within_one_batch_is_gone_whichever_it_is() {
    let mut intake = Intake::default();
    list_all(&mut intake, &[(Kind::Pod, pod("a", "1", "10.0.0.1"))]);
    intake.give().unwrap();
    taken(&mut intake, Kind::Pod, gone(&pod("a", "1", "10.0.0.1")));
    taken(&mut intake, Kind::Pod, object(&pod("a", "2", "10.0.0.2")));
    taken(&mut intake, Kind::Pod, gone(&pod("a", "2", "10.0.0.2")));
    assert_eq!(told(&mut intake), ["no pod a any"]);
}

#[test]
fn a_policy_that_is_gone_is_let_go_only_when_its_namespace_was_asked_for() {
    let mut intake = Intake::default();
    let all = [(Kind::Namespace, namespace("prod", false)), (Kind::NetworkPolicy, policy("p"))];
    list_all(&mut intake, &all);
    intake.give().unwrap();
    taken(&mut intake, Kind::NetworkPolicy, gone(&policy("p")));
    let prod: Arc<str> = "prod".into();
    assert_eq!(intake.questions(), [Arc::clone(&prod)]);
    assert_eq!(told(&mut intake), Vec::<String>::new());
    intake.namespace_is(&prod, Some(true));
    assert_eq!(told(&mut intake), ["dying prod", "no policy p"]);

    // One that comes back meanwhile stays.
    taken(&mut intake, Kind::Namespace, object(&namespace("prod", false)));
    taken(&mut intake, Kind::NetworkPolicy, object(&policy("q")));
    taken(&mut intake, Kind::NetworkPolicy, gone(&policy("q")));
    taken(&mut intake, Kind::NetworkPolicy, object(&policy("q")));
    intake.namespace_is(&prod, Some(false));
    assert_eq!(told(&mut intake), ["namespace prod", "policy q", "policy q"]);
}

#[test]
fn a_new_list_shows_which_policies_are_gone() {
    let mut intake = Intake::default();
    let all = [(Kind::Namespace, namespace("prod", true)), (Kind::NetworkPolicy, policy("p"))];
    list_all(&mut intake, &all);
    intake.give().unwrap();
    taken(&mut intake, Kind::NetworkPolicy, Seen::Begun);
    taken(&mut intake, Kind::NetworkPolicy, object(&policy("q")));
    taken(&mut intake, Kind::NetworkPolicy, Seen::Listed);
    assert_eq!(intake.questions(), Vec::<Arc<str>>::new(), "it is known that the namespace is being deleted");
    assert_eq!(told(&mut intake), ["policy q", "no policy p"]);
}

fn saved(name: &str, namespace_uid: Option<&str>, standing: PolicyStanding) -> SavedPolicy {
    let mut value = policy(name);
    value["kind"] = json!("NetworkPolicy");
    let text = PolicyText { json: value.to_string().into(), namespace_uid: namespace_uid.map(Arc::from) };
    SavedPolicy::new(&ObjectRef::namespaced("NetworkPolicy", "prod", name), &text, standing).unwrap()
}

/// Which policies are in force after the first world.
fn in_force(saved: Vec<SavedPolicy>, dying: bool, pods: bool) -> Vec<String> {
    let mut intake = Intake::new(saved);
    let mut all = vec![(Kind::Namespace, namespace("prod", dying))];
    if pods {
        all.push((Kind::Pod, pod("a", "1", "10.0.0.1")));
    }
    list_all(&mut intake, &all);
    let mut compiler = Compiler::new(Scope::All);
    compiler.apply(intake.give().unwrap().events);
    for name in intake.questions() {
        intake.namespace_is(&name, Some(dying));
    }
    if let Some(followed) = intake.give() {
        compiler.apply(followed.events);
    }
    compiler.policies().map(|policy| policy.object.name.to_string()).collect()
}

#[test]
fn policies_of_a_namespace_being_deleted_outlive_a_restart() {
    let both = || {
        vec![
            saved("deleted-meanwhile", Some("uid-prod"), PolicyStanding::Written),
            saved("retained", Some("uid-prod"), PolicyStanding::Retained),
            saved("seen-before-its-namespace", None, PolicyStanding::Retained),
            saved("of-an-older-namespace", Some("another"), PolicyStanding::Retained),
        ]
    };
    assert_eq!(in_force(both(), true, true), ["deleted-meanwhile", "retained", "seen-before-its-namespace"]);
    assert_eq!(in_force(both(), true, false), Vec::<String>::new(), "its last pod is gone");
    assert_eq!(in_force(both(), false, true), Vec::<String>::new(), "it is not being deleted");
}

#[test]
fn a_policy_is_saved_with_its_namespace_in_whichever_order_the_two_are_listed() {
    for namespace_first in [true, false] {
        let mut intake = Intake::default();
        let mut followed: Vec<_> = FOLLOWED.iter().collect();
        followed.sort_by_key(|one| (one.kind == Kind::Namespace) != namespace_first);
        for one in followed {
            taken(&mut intake, one.kind, Seen::Begun);
            match one.kind {
                Kind::Namespace => taken(&mut intake, one.kind, object(&namespace("prod", false))),
                Kind::NetworkPolicy => taken(&mut intake, one.kind, object(&policy("web"))),
                _ => {}
            }
            taken(&mut intake, one.kind, Seen::Listed);
        }
        let texts = intake.give().unwrap().texts;
        let uids: Vec<_> = texts.iter().map(|(_, text)| text.namespace_uid.as_deref()).collect();
        assert_eq!(uids, [Some("uid-prod")], "namespace first: {namespace_first}");
    }
}

#[test]
fn a_refused_policy_falls_back_to_what_the_agent_before_had_accepted() {
    let mut intake = Intake::new(vec![saved("p", Some("uid-prod"), PolicyStanding::Written)]);
    let mut refused = policy("p");
    refused["spec"]["mood"] = json!("calm");
    list_all(&mut intake, &[(Kind::Namespace, namespace("prod", false)), (Kind::NetworkPolicy, refused)]);
    let followed = intake.give().unwrap();
    assert!(
        matches!(followed.events.as_slice(), [Event::Namespace(_), Event::Policy(_)]),
        "{:?}",
        followed.events
    );
    let refused = followed.refused.unwrap();
    assert_eq!((refused.len(), refused[0].instead), (1, crate::source::Instead::LastGood));
}

#[test]
fn an_object_that_cannot_be_read_is_said_and_harms_no_other() {
    let mut intake = Intake::default();
    list_all(&mut intake, &[(Kind::Pod, pod("a", "1", "10.0.0.1"))]);
    intake.give().unwrap();
    let Err(Unreadable { problems }) = intake.take(Kind::Pod, object(&json!({"metadata": {"name": 5}})))
    else {
        panic!("read")
    };
    assert_eq!(problems.len(), 1);
    assert!(intake.give().is_none());
}
