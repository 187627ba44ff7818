//! What the agent may do with the account that the manifests give it: enough, and no more.

use std::fs;
use std::time::Duration;

use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::authorization::v1::{SelfSubjectAccessReview, SelfSubjectRulesReview};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::{Value, json};
use tests::deploy::objects;

use super::cluster::Cluster;
use super::only_from;
use super::packets::Scene;
use super::waiting::{install, polctl};

/// How long a change may take on a machine that does much else.
const SOON: Duration = Duration::from_secs(10);

/// What the manifests for `kubectl apply` hold of these kinds.
pub(crate) fn apply(cluster: &Cluster, kinds: &[&str]) {
    let objects = objects("polder.yaml").unwrap();
    for kind in kinds {
        let mut found = objects.iter().filter(|object| object["kind"] == *kind).peekable();
        assert!(found.peek().is_some(), "{kind}");
        found.for_each(|object| cluster.apply(object).unwrap());
    }
}

/// A kubeconfig with a token of the agent's account in place of the administrator's keys.
fn kubeconfig(cluster: &Cluster) -> Value {
    let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client.clone(), "polder");
    let request: TokenRequest = serde_json::from_value(json!({"spec": {"audiences": []}})).unwrap();
    let asked =
        async { accounts.create_token_request("polder", &PostParams::default(), &request).await.unwrap() };
    let token = cluster.runtime.block_on(asked).status.unwrap().token;
    let text = fs::read_to_string(cluster.server.kubeconfig()).unwrap();
    let mut kubeconfig: Value = serde_json::from_str(&text).unwrap();
    kubeconfig["users"][0]["user"] = json!({ "token": token });
    kubeconfig
}

#[test]
fn the_account_of_the_manifests_may_do_what_the_agent_does_and_nothing_else() {
    let Some(mut scene) = Scene::start_or_skip("aw-rights") else { return };
    install(&scene.cluster);
    apply(&scene.cluster, &["Namespace", "ServiceAccount", "ClusterRole", "ClusterRoleBinding"]);
    let kubeconfig = kubeconfig(&scene.cluster);
    let path = scene.agent.folder().join("kubeconfig");
    fs::write(&path, kubeconfig.to_string()).unwrap();

    // Enough: from nothing known, every kind is listed and watched, deletions are asked about, and what it says is written.
    scene.agent.kill9().unwrap();
    fs::remove_dir_all(scene.agent.state()).unwrap();
    scene.agent.kubeconfig = path;
    scene.agent.start().unwrap();
    scene.is_enforced(3);
    scene.cluster.policy("victim", &only_from("v", "b")).unwrap();
    scene.friend_connects(false, SOON);
    scene.attacker_connects(true, SOON);
    let (code, said) =
        polctl(&scene.cluster, &["wait", "--for=enforced", "victim", "-n", "shop", "--timeout", "20s"]);
    assert_eq!(code, 0, "{said}");
    scene.cluster.delete_policy("victim").unwrap();
    scene.friend_connects(true, SOON);
    assert!(!scene.agent.log().contains("orbidden"), "{}", scene.agent.log());

    // No more.
    let allowed = |attributes: Value| {
        let review = json!({"spec": {"resourceAttributes": attributes}});
        let review: SelfSubjectAccessReview = serde_json::from_value(review).unwrap();
        let client = client(&scene.cluster, &kubeconfig);
        let asked = async { Api::all(client).create(&PostParams::default(), &review).await };
        scene.cluster.runtime.block_on(asked).unwrap().status.unwrap().allowed
    };
    assert!(allowed(json!({"verb": "list", "resource": "pods"})));
    for (verb, group, resource) in [
        ("get", "", "secrets"),
        ("list", "", "configmaps"),
        ("get", "", "pods"),
        ("create", "", "pods"),
        ("create", "", "pods/exec"),
        ("get", "", "pods/exec"),
        ("patch", "", "nodes"),
        ("delete", "networking.k8s.io", "networkpolicies"),
        ("patch", "networking.k8s.io", "networkpolicies"),
        ("create", "", "serviceaccounts/token"),
        ("list", "polder.dev", "poldernodes"),
        ("delete", "polder.dev", "poldernodes"),
    ] {
        let resource_and_sub: Vec<&str> = resource.splitn(2, '/').collect();
        let mut attributes = json!({"verb": verb, "group": group, "resource": resource_and_sub[0]});
        if let Some(sub) = resource_and_sub.get(1) {
            attributes["subresource"] = json!(sub);
        }
        assert!(!allowed(attributes), "{verb} {group}/{resource}");
    }
    let writes = writes(&scene.cluster, &kubeconfig);
    assert_eq!(
        writes,
        ["events: create", "poldernodes/status: patch", "poldernodes: create", "poldernodes: patch"]
    );
}

fn client(cluster: &Cluster, kubeconfig: &Value) -> Client {
    let kubeconfig: Kubeconfig = serde_json::from_value(kubeconfig.clone()).unwrap();
    cluster.runtime.block_on(async {
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        Client::try_from(config).unwrap()
    })
}

/// Everything that the account may change, but for questions about itself.
fn writes(cluster: &Cluster, kubeconfig: &Value) -> Vec<String> {
    let review: SelfSubjectRulesReview =
        serde_json::from_value(json!({"spec": {"namespace": "shop"}})).unwrap();
    let client = client(cluster, kubeconfig);
    let asked = async { Api::all(client).create(&PostParams::default(), &review).await };
    let status = cluster.runtime.block_on(asked).unwrap().status.unwrap();
    assert!(!status.incomplete);
    let mut writes = Vec::new();
    for rule in status.resource_rules {
        for resource in
            rule.resources.iter().flatten().filter(|resource| !resource.starts_with("selfsubject"))
        {
            let changes = rule.verbs.iter().filter(|verb| !["get", "list", "watch"].contains(&verb.as_str()));
            writes.extend(changes.map(|verb| format!("{resource}: {verb}")));
        }
    }
    writes.sort();
    writes
}
