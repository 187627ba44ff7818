use std::os::unix::fs::PermissionsExt as _;

use policy_compiler::compiler::Event;
use serde_json::json;

use super::*;

fn facts(manifests: &[serde_json::Value]) -> Cluster {
    let mut interner = super::super::intern::Interner::default();
    let mut compiler = policy_compiler::compiler::Compiler::new(policy_compiler::compiler::Scope::All);
    compiler
        .apply(manifests.iter().map(|fact| read::fact_event(&fact.to_string(), &mut interner).unwrap().1));
    compiler.cluster().clone()
}

fn pod(name: &str, app: &str) -> serde_json::Value {
    json!({
        "kind": "Pod", "metadata": {"namespace": "prod", "name": name, "uid": "u", "labels": {"app": app}},
        "spec": {"nodeName": "n", "containers": []}, "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}]},
    })
}

fn policy(name: &str, app: &str, standing: PolicyStanding) -> SavedPolicy {
    let policy = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"namespace": "prod", "name": name, "uid": "v"},
        "spec": {"podSelector": {"matchLabels": {"app": app}}},
    });
    let object = ObjectRef::namespaced("NetworkPolicy", "prod", name);
    let text = PolicyText { json: policy.to_string().into(), namespace_uid: Some("w".into()) };
    SavedPolicy::new(&object, &text, standing).unwrap()
}

fn contents() -> Contents {
    Contents {
        cluster: facts(&[pod("a", "a")]),
        policies: vec![policy("p", "a", PolicyStanding::Retained)],
        gone: Vec::new(),
    }
}

/// What changed: a pod's label, another pod, a policy, a policy that is gone.
fn changes() -> [Contents; 2] {
    let first = Contents {
        cluster: facts(&[pod("a", "x"), pod("b", "b")]),
        policies: vec![policy("q", "a", PolicyStanding::Written)],
        gone: Vec::new(),
    };
    let gone =
        vec![ObjectRef::namespaced("NetworkPolicy", "prod", "p"), ObjectRef::namespaced("Pod", "prod", "b")];
    let policies = vec![policy("q", "b", PolicyStanding::Written)];
    [first, Contents { cluster: Cluster::default(), policies, gone }]
}

fn write(store: &Store, contents: &Contents) -> Writer {
    store.write("n", contents, Vec::new).unwrap()
}

/// Pods and the labels that tell them apart, and policies.
fn told(saved: &Saved) -> (Vec<String>, Vec<&SavedPolicy>) {
    let pods = saved.followed.events.iter().filter_map(|event| match event {
        Event::Pod(pod) => Some(format!("{} {:?}", pod.key.name, pod.labels.get("app"))),
        _ => None,
    });
    (pods.collect(), saved.policies.iter().collect())
}

#[test]
fn what_is_written_is_read_back_and_is_for_root_alone() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("state")).unwrap();
    assert!(store.read("n").unwrap().is_none());
    let written = contents();
    write(&store, &written);
    write(&store, &written);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&store.path()), mode(&store.directory)), (0o600, 0o700));
    let saved = store.read("n").unwrap().unwrap();
    assert_eq!((&saved.policies, saved.lost), (&written.policies, 0));
    let events = &saved.followed.events;
    assert!(
        matches!(events.as_slice(), [Event::Pod(_), Event::Policy(_), Event::PolicyGone(_)]),
        "{events:?}"
    );
    assert!(saved.followed.whole);
    let error = store.read("another").unwrap_err();
    assert!(format!("{error:#}").ends_with("it is of node n; expected another"), "{error:#}");
}

#[test]
fn of_what_changed_the_last_word_counts() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let mut writer = write(&store, &contents());
    for changes in changes() {
        writer.append(&changes).unwrap();
    }
    let saved = store.read("n").unwrap().unwrap();
    assert_eq!(
        told(&saved),
        (vec!["a Some(\"x\")".to_owned()], vec![&policy("q", "b", PolicyStanding::Written)])
    );
    assert_eq!((saved.followed.events.len(), saved.followed.texts.len()), (2, 1));
    assert!(!writer.is_long(1 << 20) && writer.is_long(1));
    // What changes while everything is written is not lost either.
    let mut meanwhile = Some(changes());
    store.write("n", &contents(), || meanwhile.take().into_iter().flatten().collect()).unwrap();
    assert_eq!(told(&store.read("n").unwrap().unwrap()), told(&saved));
}

#[test]
fn no_bit_may_be_wrong_and_nothing_may_be_missing() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let mut writer = write(&store, &contents());
    let mut complete = vec![(fs::metadata(store.path()).unwrap().len(), store.read("n").unwrap().unwrap())];
    for changes in changes() {
        writer.append(&changes).unwrap();
        complete.push((fs::metadata(store.path()).unwrap().len(), store.read("n").unwrap().unwrap()));
    }
    let good = fs::read(store.path()).unwrap();
    // What is read is what was there before the damage, or nothing.
    let is_good = |place: usize, length: usize| {
        let before = complete.iter().rfind(|(end, _)| *end <= place as u64);
        match (store.read("n"), before) {
            (Ok(Some(saved)), Some((end, good))) => {
                assert_eq!(told(&saved), told(good), "byte {place} of {length}");
                assert_eq!(saved.lost, length as u64 - end);
            }
            (Err(error), None) => assert!(!format!("{error:#}").is_empty()),
            (read, _) => panic!("byte {place} of {length}: {read:?}"),
        }
    };
    for place in 0..good.len() {
        let mut bad = good.clone();
        bad[place] ^= 1;
        fs::write(store.path(), &bad).unwrap();
        is_good(place, good.len());
        fs::write(store.path(), &good[..place]).unwrap();
        is_good(place, place);
    }
    fs::write(store.path(), &good).unwrap();
    assert!(store.read("n").unwrap().is_some());
}
