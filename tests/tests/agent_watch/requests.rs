//! Our own kinds, with rules about requests.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::Result;
use netlab::Host as _;
use serde_json::{Value, json};
use tests::node::lists::{Lists, compiled, published};

use super::cluster::Cluster;
use super::connects;
use super::outages::{is_saved, is_saved_as_gone};
use super::packets::Scene;
use super::rights::apply;
use super::waiting::polctl;

/// How long a change may take on a machine that does much else.
const SOON: Duration = Duration::from_secs(20);

/// For the victim: its friend may ask for a path, over this port.
fn policy(name: &str, port: u16, path: &Value) -> Value {
    json!({
        "apiVersion": "polder.dev/v1alpha1", "kind": "PolderPolicy",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {
            "subject": {"podSelector": {"matchLabels": {"app": "v"}}},
            "ingress": [{
                "action": "Allow",
                "from": [{"pods": {"podSelector": {"matchLabels": {"app": "a"}}}}],
                "protocols": [{"tcp": {"destinationPort": {"number": port}}}],
                "http": [{"path": path}],
            }],
        },
    })
}

/// Applies an object of a kind that the server may not serve yet.
fn applied(cluster: &Cluster, object: &Value) -> Result<()> {
    let deadline = Instant::now() + SOON;
    loop {
        match cluster.apply(object) {
            Err(error) if format!("{error:#}").contains("404") && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(100));
            }
            answer => return answer,
        }
    }
}

/// Waits until the published lists are those of what is in force, and so many.
fn has_lists(scene: &Scene, count: usize) -> Lists {
    let deadline = Instant::now() + SOON;
    loop {
        let wanted = compiled(scene.node.name(), &scene.agent.client().unwrap().world().unwrap()).unwrap();
        let found = if scene.agent.lists().exists() {
            published(&scene.agent.lists()).unwrap()
        } else {
            Lists::new()
        };
        if found == wanted && found.len() == count {
            return found;
        }
        let names = |lists: &Lists| lists.keys().cloned().collect::<Vec<_>>();
        assert!(Instant::now() < deadline, "{:?} in place of {:?}", names(&found), names(&wanted));
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until the published lists are these.
fn until_they_are(scene: &Scene, lists: &Lists) {
    let deadline = Instant::now() + SOON;
    while &has_lists(scene, lists.len()) != lists {
        assert!(Instant::now() < deadline, "other lists are published than {:?}", lists.keys());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn our_own_kinds_are_followed_published_told_of_and_saved() {
    let Some(mut scene) = Scene::start_or_skip("aw-requests") else { return };
    apply(&scene.cluster, &["CustomResourceDefinition"]);
    let mut odd = policy("odd", 80, &json!({"exact": "/a"}));
    odd["spec"]["ingress"][0]["protocols"] = json!([{"udp": {"destinationPort": {"number": 53}}}]);
    let said = format!("{:#}", applied(&scene.cluster, &odd).unwrap_err());
    assert!(said.contains("http, grpc and tls are read from TCP only"), "{said}");

    // It closes what a plain rule had let in: the victim listens at another port.
    let paths = policy("paths", 80, &json!({"exact": "/a"}));
    applied(&scene.cluster, &paths).unwrap();
    let wait = |name: &str| {
        polctl(&scene.cluster, &["wait", &format!("polderpolicy/{name}"), "-n", "shop", "--timeout", "60s"])
    };
    assert_eq!(wait("paths"), (0, "polderpolicy/paths is in force on 1 node\n".to_owned()));
    scene.cluster.delete_policy("victim").unwrap();
    scene.friend_connects(false, SOON);
    assert!(!connects(&scene.attacker, &scene.victim));
    let lists = has_lists(&scene, 1);

    // What the server takes and the compiler refuses closes, and is told of with the reason.
    scene.cluster.apply(&policy("broken", 80, &json!({"regex": "/("}))).unwrap();
    let (code, said) = wait("broken");
    assert_eq!(code, 1, "{said}");
    let path = "refused: spec.ingress[0].http[0].path.regex: ";
    assert!(said.contains(path) && said.contains("the pods that it may select are closed"), "{said}");
    scene.cluster.delete(&policy("broken", 80, &json!({}))).unwrap();
    until_they_are(&scene, &lists);

    // Without a server, and from what was saved.
    is_saved(&scene, "\"paths\"");
    is_saved_as_gone(&scene, "broken");
    scene.cluster.server.stop_server();
    scene.agent.kill9().unwrap();
    let path = scene.agent.lists().join(lists.keys().next().unwrap());
    fs::write(&path, "damaged meanwhile").unwrap();
    scene.agent.start().unwrap();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(7) {
        assert!(!connects(&scene.friend, &scene.victim), "just restarted\n{}", scene.agent.log());
    }
    let from_disk = |reason: &String| reason.contains("is enforced: not heard of yet");
    scene.agent.until("it enforces what was saved", |status| status.reasons.iter().any(from_disk)).unwrap();
    until_they_are(&scene, &lists);

    scene.cluster.server.start_server().unwrap();
    scene.is_enforced(3);
    until_they_are(&scene, &lists);
    scene.cluster.delete(&paths).unwrap();
    scene.friend_connects(true, SOON);
    has_lists(&scene, 0);
}

#[test]
fn a_policy_of_the_whole_cluster_is_followed_and_goes_with_its_definition() {
    let Some(scene) = Scene::start_or_skip("aw-requests-wide") else { return };
    apply(&scene.cluster, &["CustomResourceDefinition"]);
    let wide = json!({
        "apiVersion": "polder.dev/v1alpha1", "kind": "ClusterPolderPolicy", "metadata": {"name": "wide"},
        "spec": {
            "tier": "Admin", "priority": 1, "subject": {"namespaces": {}},
            "ingress": [{"action": "Deny", "http": [{"path": {"prefix": "/admin"}}]}],
        },
    });
    applied(&scene.cluster, &wide).unwrap();
    let (code, said) = polctl(&scene.cluster, &["wait", "clusterpolderpolicy/wide", "--timeout", "60s"]);
    assert_eq!((code, said.as_str()), (0, "clusterpolderpolicy/wide is in force on 1 node\n"));
    assert!(!has_lists(&scene, 2).is_empty(), "with the victim's own policy, and without");
    // Its objects go with a definition. One that was there is missed for a while before that is believed.
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "clusterpolderpolicies.polder.dev"},
    });
    scene.cluster.delete(&definition).unwrap();
    has_lists(&scene, 0);
    scene.friend_connects(true, SOON);
    assert!(!connects(&scene.attacker, &scene.victim));
}
