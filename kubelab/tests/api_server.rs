//! The API server is the real thing: it validates, authorizes, and remembers.

#![expect(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

use std::path::Path;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{ListParams, PostParams};
use kube::{Api, ResourceExt};
use kubelab::ApiServer;
use serde_json::json;

const NAME: &str = "an_api_server";

fn policy(spec: &serde_json::Value) -> NetworkPolicy {
    let text = json!({"metadata": {"name": "p", "namespace": "default"}, "spec": spec});
    serde_json::from_value(text).unwrap()
}

#[tokio::test]
async fn an_api_server_validates_and_authorizes_and_remembers() {
    let started = Instant::now();
    let Some(mut server) = ApiServer::start_or_skip(NAME) else { return };
    let took = started.elapsed();
    println!("the API server was ready after {:.1} s", took.as_secs_f64());
    assert!(took < Duration::from_mins(1), "{took:?}");

    let client = server.client().await.unwrap();
    let policies: Api<NetworkPolicy> = Api::namespaced(client.clone(), "default");
    let create = PostParams::default();
    let bad = policy(&json!({"podSelector": {}, "ingress": [{"ports": [{"port": 90, "endPort": 80}]}]}));
    let refused = policies.create(&create, &bad).await.unwrap_err().to_string();
    assert!(refused.contains("must be greater than or equal to `port`"), "{refused}");
    let good = policy(&json!({"podSelector": {}, "ingress": [{"ports": [{"port": 80}]}]}));
    policies.create(&create, &good).await.unwrap();

    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "default");
    let account: ServiceAccount = serde_json::from_value(json!({"metadata": {"name": "nobody"}})).unwrap();
    accounts.create(&create, &account).await.unwrap();
    let nobody = server.client_of("default", "nobody").await.unwrap();
    let theirs: Api<NetworkPolicy> = Api::namespaced(nobody, "default");
    let refused = theirs.list(&ListParams::default()).await.unwrap_err().to_string();
    assert!(refused.contains("system:serviceaccount:default:nobody"), "{refused}");

    server.stop_server();
    policies.get("p").await.unwrap_err();
    server.start_server().unwrap();
    assert_eq!(policies.get("p").await.unwrap().name_any(), "p");
    server.check().unwrap();
}

#[tokio::test]
async fn two_api_servers_know_nothing_of_each_other_and_leave_nothing_behind() {
    let Some(one) = ApiServer::start_or_skip(NAME) else { return };
    let Some(other) = ApiServer::start_or_skip(NAME) else { return };
    let namespaces: Api<Namespace> = Api::all(one.client().await.unwrap());
    let own: Namespace = serde_json::from_value(json!({"metadata": {"name": "own"}})).unwrap();
    namespaces.create(&PostParams::default(), &own).await.unwrap();
    let others: Api<Namespace> = Api::all(other.client().await.unwrap());
    assert!(others.get_opt("own").await.unwrap().is_none());
    let folder = one.kubeconfig().parent().map(Path::to_owned).unwrap();
    drop(one);
    assert!(!folder.exists());
}
