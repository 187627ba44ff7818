//! What nodes write down, and waiting for it.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use agent_api::node::PolderNode;
use k8s_openapi::api::events::v1::Event;
use kube::{Api, CustomResourceExt as _};
use serde_json::{Value, json};
use tests::node::program;

use super::cluster::Cluster;
use super::only_from;
use super::packets::Scene;

/// Installs the kind, as it is in `deploy`.
pub(crate) fn install(cluster: &Cluster) {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/crds/poldernodes.polder.dev.yaml"));
    let definition: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(definition["spec"], serde_json::to_value(PolderNode::crd()).unwrap()["spec"]);
    cluster.apply(&definition).unwrap();
}

/// What `polctl` says: its exit code and its answer.
pub(crate) fn polctl(cluster: &Cluster, arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new(program("polctl", "polctl").unwrap());
    command.args(arguments).arg("--kubeconfig").arg(cluster.server.kubeconfig()).env("NO_COLOR", "1");
    let output = command.output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code().unwrap_or(-1), said)
}

#[test]
fn a_policy_can_be_waited_for_and_one_that_is_refused_has_an_event() {
    let Some(scene) = Scene::start_or_skip("aw-wait") else { return };
    let cluster = &scene.cluster;
    let (code, said) = polctl(cluster, &["status", "--all-nodes"]);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("is Polder installed in this cluster?"), "{said}");
    install(cluster);
    // It was not there when the agent first wrote: it tries again.
    let deadline = Instant::now() + Duration::from_mins(1);
    while polctl(cluster, &["status", "--all-nodes"]).0 != 0 {
        assert!(
            Instant::now() < deadline,
            "{:?}\n{}",
            polctl(cluster, &["status", "--all-nodes"]),
            scene.agent.log()
        );
        std::thread::sleep(Duration::from_millis(200));
    }
    let mut took = Vec::new();
    for round in 0..5 {
        let from = if round % 2 == 0 { "b" } else { "a" };
        cluster.policy("victim", &only_from("v", from)).unwrap();
        let begun = Instant::now();
        let (code, said) =
            polctl(cluster, &["wait", "--for=enforced", "victim", "-n", "shop", "--timeout", "20s"]);
        assert_eq!((code, said.as_str()), (0, "victim is in force on 1 node\n"));
        took.push(begun.elapsed());
        // It is true.
        assert_eq!(super::connects(&scene.attacker, &scene.victim), from == "b");
    }
    println!("polctl wait: {took:?}");

    let odd = json!({"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "010.0.0.0/8"}}]}]});
    let refused = cluster.policy("odd", &odd).unwrap();
    let (code, said) = polctl(cluster, &["wait", "odd", "-n", "shop", "--timeout", "20s", "-o", "json"]);
    let value: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        (code, &value["enforced"], &value["nodes"][0]["state"]),
        (1, &json!(false), &json!("refused"))
    );
    let events: Api<Event> = Api::namespaced(cluster.client.clone(), "shop");
    let uid = refused.metadata.uid.unwrap();
    let name = format!("polder-{uid}-{}", refused.metadata.generation.unwrap());
    let event = cluster.runtime.block_on(async {
        loop {
            match events.get(&name).await {
                Ok(event) => return event,
                Err(error) => assert!(Instant::now() < deadline + Duration::from_mins(1), "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    assert_eq!(event.reason.as_deref(), Some("NotEnforced"));
    assert_eq!(event.regarding.unwrap().uid.as_deref(), Some(uid.as_str()));
    let note = event.note.unwrap();
    assert!(note.contains("010.0.0.0/8") && note.starts_with("Not enforced as written, the pods"), "{note}");
    let (code, said) = polctl(cluster, &["status", "--all-nodes", "-o", "wide"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("NetworkPolicy shop/odd: refused: "), "{said}");
}
