//! What the watches of a real server tell, put together, is what the server holds: whatever happens on the way.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent::kubernetes::{self, Options, Parts, Patience};
use agent::metrics::Metrics;
use agent::source::Update;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::{Api, Client, Config};
use policy_compiler::compiler::{Compiler, Event, Scope};
use serde_json::json;
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;

use super::cluster::Cluster;
use super::only_from;
use super::relay::Relay;

/// A source, and a compiler that takes in what it tells.
struct Told {
    compiler: Compiler,
    updates: mpsc::Receiver<Update>,
    is_whole: bool,
}

impl Told {
    fn start(client: Client, patience: Patience) -> Self {
        let (sender, updates) = mpsc::channel(1);
        let options = Options {
            kubeconfig: None,
            node: "n".to_owned(),
            store: None,
            patience,
            disk_after: Duration::MAX / 4,
        };
        let parts = Parts {
            options,
            resync: Arc::new(Notify::new()),
            updates: sender,
            metrics: Arc::new(Metrics::default()),
            reports: None,
        };
        tokio::spawn(kubernetes::run(client, parts));
        Self { compiler: Compiler::new(Scope::All), updates, is_whole: false }
    }

    /// Takes in until it is as asked for.
    async fn until(&mut self, what: &str, is: impl Fn(&Compiler) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(40);
        while !(self.is_whole && is(&self.compiler)) {
            assert!(Instant::now() < deadline, "waited until {what}: {:?}", self.policies());
            let Ok(update) = timeout(Duration::from_millis(200), self.updates.recv()).await else { continue };
            let Some(Update::Followed(mut followed)) = update else { panic!("{update:?}") };
            self.is_whole |= followed.whole;
            let listed = std::mem::take(&mut followed.listed);
            let mut events = followed.events;
            let cluster = self.compiler.cluster();
            if let Some(names) = listed.get(&manifests::kind::Kind::Pod) {
                let gone = cluster
                    .pods
                    .keys()
                    .filter(|key| !names.contains(&(Arc::clone(&key.namespace), Arc::clone(&key.name))));
                events.extend(gone.map(|key| Event::PodGone { key: key.clone(), uid: None }));
            }
            self.compiler.apply(events);
        }
    }

    fn policies(&self) -> BTreeSet<String> {
        self.compiler.policies().map(|policy| policy.object.to_string()).collect()
    }

    fn pods(&self) -> BTreeSet<String> {
        self.compiler.cluster().pods.keys().map(ToString::to_string).collect()
    }
}

/// A definition of a kind that takes any object.
fn definition(plural: &str, kind: &str, version: &str) -> serde_json::Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {
            "name": format!("{plural}.policy.networking.k8s.io"),
            "annotations": {"api-approved.kubernetes.io": "https://github.com/kubernetes-sigs/network-policy-api/pull/30"},
        },
        "spec": {
            "group": "policy.networking.k8s.io", "scope": "Cluster",
            "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase(), "listKind": format!("{kind}List")},
            "versions": [{"name": version, "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}],
        },
    })
}

#[test]
fn kinds_of_policy_come_and_go_at_run_time() {
    let Some(cluster) = Cluster::start_or_skip("kinds_of_policy_come_and_go_at_run_time") else { return };
    let patience = Patience { absent: Duration::from_secs(2), ..Patience::default() };
    let mut told = cluster.runtime.block_on(async { Told::start(cluster.client.clone(), patience) });
    cluster.runtime.block_on(told.until("the world is whole", |_| true));
    cluster.apply(&definition("adminnetworkpolicies", "AdminNetworkPolicy", "v1alpha1")).unwrap();
    let policy = json!({
        "apiVersion": "policy.networking.k8s.io/v1alpha1", "kind": "AdminNetworkPolicy", "metadata": {"name": "admin"},
        "spec": {"priority": 5, "subject": {"namespaces": {}}, "ingress": [{"action": "Deny", "from": [{"namespaces": {}}]}]},
    });
    let deadline = Instant::now() + Duration::from_mins(1);
    while let Err(error) = cluster.apply(&policy) {
        assert!(Instant::now() < deadline, "{error:#}");
        std::thread::sleep(Duration::from_millis(200));
    }
    let has = |compiler: &Compiler| compiler.policies().any(|policy| &*policy.object.name == "admin");
    cluster.runtime.block_on(told.until("the policy is told", has));
    let definitions: Api<kube::core::DynamicObject> = Api::all_with(
        cluster.client.clone(),
        &kube::core::ApiResource::from_gvk(&kube::core::GroupVersionKind::gvk(
            "apiextensions.k8s.io",
            "v1",
            "CustomResourceDefinition",
        )),
    );
    let name = "adminnetworkpolicies.policy.networking.k8s.io";
    cluster.runtime.block_on(definitions.delete(name, &kube::api::DeleteParams::default())).unwrap();
    cluster.runtime.block_on(told.until("the policy is gone with its kind", |compiler| !has(compiler)));
}

#[test]
fn f15_whatever_happens_to_connections_what_is_told_is_what_the_server_holds() {
    let test = "f15_whatever_happens_to_connections_what_is_told_is_what_the_server_holds";
    let Some(cluster) = Cluster::start_or_skip(test) else { return };
    cluster.namespace("shop").unwrap();
    // Its own certificate has this address, whatever the port.
    let address = cluster.address();
    let listener = std::net::TcpListener::bind((address.ip(), 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let relay = Relay::start(listener, address).unwrap();
    let mut config: Config = cluster.runtime.block_on(cluster.server.config()).unwrap();
    config.cluster_url = format!("https://{}:{port}", address.ip()).parse().unwrap();
    // Impatient, so that silence is found out within the test.
    let patience =
        Patience { silence: Duration::from_secs(2), answer: Duration::from_secs(3), ..Patience::default() };
    let mut told =
        cluster.runtime.block_on(async { Told::start(Client::try_from(config).unwrap(), patience) });
    for round in 0..30 {
        let name = format!("p{}", round % 7);
        match round % 5 {
            0 | 1 => drop(cluster.policy(&name, &only_from("v", &format!("a{round}"))).unwrap()),
            2 => drop(cluster.delete_policy(&name)),
            3 => drop(cluster.pod(&name, "v", "n", &[format!("10.1.0.{round}")])),
            _ => drop(cluster.delete_pod(&name)),
        }
        match round % 6 {
            1 => relay.cut(),
            3 => relay.be_silent(true),
            5 => relay.be_silent(false),
            _ => {}
        }
        cluster.runtime.block_on(async {
            let is_enough = |_: &Compiler| true;
            if told.is_whole {
                told.until("anything", is_enough).await;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        });
    }
    relay.be_silent(false);
    let policies: Api<NetworkPolicy> = Api::all(cluster.client.clone());
    let pods: Api<Pod> = Api::all(cluster.client.clone());
    let list = |prefix: &str, names: Vec<(Option<String>, Option<String>)>| -> BTreeSet<String> {
        names.into_iter().map(|(ns, name)| format!("{prefix}{}/{}", ns.unwrap(), name.unwrap())).collect()
    };
    let parameters = kube::api::ListParams::default();
    let (policies, pods) = cluster.runtime.block_on(async {
        (policies.list(&parameters).await.unwrap(), pods.list(&parameters).await.unwrap())
    });
    let policies = list(
        "NetworkPolicy ",
        policies.items.into_iter().map(|one| (one.metadata.namespace, one.metadata.name)).collect(),
    );
    let pods =
        list("", pods.items.into_iter().map(|one| (one.metadata.namespace, one.metadata.name)).collect());
    assert!(!policies.is_empty(), "the test has lost its bite");
    cluster.runtime.block_on(told.until("all is told", |compiler| {
        let of_compiler: BTreeSet<String> =
            compiler.policies().map(|policy| policy.object.to_string()).collect();
        let known: BTreeSet<String> = compiler.cluster().pods.keys().map(ToString::to_string).collect();
        of_compiler == policies && known == pods
    }));
    assert_eq!((told.policies(), told.pods()), (policies, pods));
}
