use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use super::*;

fn contents() -> Contents {
    let mut interner = Interner::default();
    let mut compiler = policy_compiler::compiler::Compiler::new(policy_compiler::compiler::Scope::All);
    let pod = json!({
        "kind": "Pod", "metadata": {"namespace": "prod", "name": "a", "uid": "u", "labels": {"app": "a"}},
        "spec": {"nodeName": "n", "containers": []}, "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}]},
    });
    compiler.apply([fact_event(&pod.to_string(), &mut interner).unwrap()]);
    let policy = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"namespace": "prod", "name": "p", "uid": "v"}, "spec": {"podSelector": {}},
    });
    let object = ObjectRef::namespaced("NetworkPolicy", "prod", "p");
    let text = PolicyText { json: policy.to_string().into(), namespace_uid: Some("w".into()) };
    let policies = vec![SavedPolicy::new(&object, &text, PolicyStanding::Retained).unwrap()];
    Contents { node: "n".to_owned(), cluster: compiler.cluster().clone(), policies }
}

#[test]
fn what_is_written_is_read_back_and_is_for_root_alone() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("state")).unwrap();
    assert!(store.read("n").unwrap().is_none());
    let written = contents();
    store.write(&written).unwrap();
    store.write(&written).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&store.path()), mode(&store.directory)), (0o600, 0o700));
    let saved = store.read("n").unwrap().unwrap();
    assert_eq!(saved.policies, written.policies);
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
fn no_bit_may_be_wrong_and_nothing_may_be_missing() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    store.write(&contents()).unwrap();
    let good = fs::read(store.path()).unwrap();
    for place in 0..good.len() {
        let mut bad = good.clone();
        bad[place] ^= 1;
        fs::write(store.path(), &bad).unwrap();
        let read = store.read("n");
        assert!(read.is_err(), "byte {place} of {}", good.len());
        fs::write(store.path(), &good[..place]).unwrap();
        assert!(store.read("n").is_err(), "cut at {place}");
    }
    fs::write(store.path(), &good).unwrap();
    assert!(store.read("n").unwrap().is_some());
}
