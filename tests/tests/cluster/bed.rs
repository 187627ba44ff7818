//! A namespace on the cluster, and what a case puts into it.

use std::env;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use kubelab::cluster::Cluster;
use kubelab::programs::HELM;
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::sleep;

use crate::traffic::{Inside, Sink};

/// How long anything may take that is not measured.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);
/// The namespace and the name of the chart's `DaemonSet`.
pub(crate) const POLDER: &str = "polder";
const PAUSE: Duration = Duration::from_millis(20);

/// A case's namespace. It holds the turn of the case; cases that did not end well leave nothing that others would meet.
pub(crate) struct Bed {
    pub(crate) cluster: Cluster,
    pub(crate) client: Client,
    pub(crate) namespace: String,
    _turn: MutexGuard<'static, ()>,
}

/// A pod that runs.
pub(crate) struct Running {
    pub(crate) name: String,
    pub(crate) address: Ipv4Addr,
    pub(crate) inside: Inside,
}

impl Running {
    pub(crate) fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::from((self.address, port))
    }
}

impl Bed {
    /// None if no cluster was brought up for this run.
    pub(crate) async fn new(case: &str) -> Option<Self> {
        static TURN: Mutex<()> = Mutex::const_new(());
        if env::var_os("POLDER_CLUSTER").is_none() {
            eprintln!(
                "**** SKIPPED, NOTHING PROVED: {case} needs a cluster: `cargo xtask test --cluster` ****"
            );
            return None;
        }
        let turn = TURN.lock().await;
        let cluster = Cluster::find().unwrap();
        let client = cluster.client().await.unwrap();
        let stamp = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let namespace = format!("case-{:x}", stamp.as_millis());
        let bed = Self { cluster, client, namespace, _turn: turn };
        bed.make_namespace(&bed.namespace.clone()).await;
        bed.polder_ready().await;
        println!("{case}: in namespace {}", bed.namespace);
        Some(bed)
    }

    pub(crate) async fn make_namespace(&self, name: &str) {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let labels = json!({"metadata": {"name": name, "labels": {"case": name}}});
        namespaces.create(&PostParams::default(), &serde_json::from_value(labels).unwrap()).await.unwrap();
        // A pod is refused until its namespace has an account.
        let accounts: Api<k8s_openapi::api::core::v1::ServiceAccount> =
            Api::namespaced(self.client.clone(), name);
        within("a service account", PATIENCE, async || accounts.get_opt("default").await.unwrap()).await;
    }

    /// Starts the deletion of a namespace and does not wait.
    pub(crate) async fn delete_namespace(&self, name: &str) {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        namespaces.delete(name, &DeleteParams::background()).await.unwrap();
    }

    pub(crate) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Creates a pod that does nothing: its traffic is the test's own, from inside its network namespace.
    pub(crate) async fn create(&self, name: &str, app: &str, node: &str) -> Pod {
        let container = json!({"args": ["pause"]});
        self.create_with(name, app, node, container).await
    }

    /// Creates a pod; the container's image and name are given.
    pub(crate) async fn create_with(&self, name: &str, app: &str, node: &str, container: Value) -> Pod {
        self.pods().create(&PostParams::default(), &pod(name, app, node, container)).await.unwrap()
    }

    /// Creates a pod that does nothing, in its node's own network.
    pub(crate) async fn create_on_host(&self, name: &str, app: &str, node: &str) -> Pod {
        let mut pod = pod(name, app, node, json!({"args": ["pause"]}));
        if let Some(spec) = &mut pod.spec {
            spec.host_network = Some(true);
        }
        self.pods().create(&PostParams::default(), &pod).await.unwrap()
    }

    /// Creates a pod in another namespace and waits for it.
    pub(crate) async fn pod_elsewhere(&self, namespace: &str, name: &str, node: &str) -> Running {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        pods.create(&PostParams::default(), &pod(name, name, node, json!({"args": ["pause"]})))
            .await
            .unwrap();
        self.running_in(&pods, name).await
    }

    /// Waits until a pod has an address and a process.
    pub(crate) async fn running(&self, name: &str) -> Running {
        self.running_in(&self.pods(), name).await
    }

    async fn running_in(&self, pods: &Api<Pod>, name: &str) -> Running {
        let cluster = &self.cluster;
        let (address, pid) = within(&format!("pod {name} running"), PATIENCE, async || {
            let pod = pods.get(name).await.unwrap();
            let status = pod.status.clone().unwrap_or_default();
            let address = status.pod_ip.filter(|_| status.phase.as_deref() == Some("Running"))?;
            let (spec, uid) = (pod.spec.as_ref().unwrap(), pod.uid().unwrap());
            let node = spec.node_name.clone().unwrap();
            let process = match spec.host_network {
                Some(true) => cluster.pod_process_named(&node, &uid, "agnhost").unwrap(),
                _ => cluster.pod_process(&node, &uid).unwrap(),
            };
            Some((address, process?))
        })
        .await;
        Running { name: name.to_owned(), address: address.parse().unwrap(), inside: Inside::of(pid) }
    }

    /// Creates pods and waits for all of them: name, app, node.
    pub(crate) async fn run<const N: usize>(&self, pods: [(&str, &str, &str); N]) -> [Running; N] {
        for (name, app, node) in pods {
            self.create(name, app, node).await;
        }
        let mut running = Vec::new();
        for (name, ..) in pods {
            running.push(self.running(name).await);
        }
        running.try_into().unwrap_or_else(|_| unreachable!("one for each"))
    }

    pub(crate) async fn delete(&self, name: &str) {
        self.pods().delete(name, &DeleteParams::default().grace_period(0)).await.unwrap();
    }

    /// Gives a pod another `app`.
    pub(crate) async fn label(&self, name: &str, app: &str) {
        let patch = json!({"metadata": {"labels": {"app": app}}});
        self.pods().patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    }

    /// Gives a pod a label that no other has: `only`, its name.
    pub(crate) async fn label_only(&self, name: &str) {
        let patch = json!({"metadata": {"labels": {"only": name}}});
        self.pods().patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    }

    /// Creates a policy or replaces its spec.
    pub(crate) async fn policy(&self, name: &str, spec: &Value) {
        let policies: Api<NetworkPolicy> = Api::namespaced(self.client.clone(), &self.namespace);
        let object = json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": name},
            "spec": spec,
        });
        let apply = PatchParams::apply("polder-tests").force();
        policies.patch(name, &apply, &Patch::Apply(&object)).await.unwrap();
    }

    /// Deletes a policy.
    pub(crate) async fn delete_policy(&self, name: &str) {
        let policies: Api<NetworkPolicy> = Api::namespaced(self.client.clone(), &self.namespace);
        policies.delete(name, &DeleteParams::default()).await.unwrap();
    }

    /// Waits until datagrams of a sender arrive: without this, that none arrives later would prove nothing.
    pub(crate) async fn heard(&self, sink: &Sink, port: u16) {
        let now = Instant::now();
        within("a datagram that is allowed", PATIENCE, async || sink.first(port, now)).await;
    }

    /// The pods of Polder's `DaemonSet` on a node: none or two for a moment while one is replaced.
    async fn agents(&self, node: &str) -> Vec<Pod> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), POLDER);
        let on_node = ListParams::default()
            .labels("app.kubernetes.io/component=agent")
            .fields(&format!("spec.nodeName={node}"));
        pods.list(&on_node).await.unwrap().items
    }

    /// The pod of Polder's `DaemonSet` on a node.
    pub(crate) async fn agent(&self, node: &str) -> Pod {
        within(&format!("an agent on {node}"), PATIENCE, async || self.agents(node).await.pop()).await
    }

    /// Replaces the agent of a node: the kubelet waits the longer the more often a container of a pod has ended.
    pub(crate) async fn replace_agent(&self, node: &str) {
        let (pods, old) = (Api::<Pod>::namespaced(self.client.clone(), POLDER), self.agent(node).await);
        pods.delete(&old.name_any(), &DeleteParams::default()).await.unwrap();
        within("another agent ready", PATIENCE, async || {
            let agents = self.agents(node).await;
            agents.iter().any(|pod| pod.uid() != old.uid() && is_ready(pod)).then_some(())
        })
        .await;
    }

    /// Runs helm on Polder's namespace; `CHART` is the chart of this repository.
    pub(crate) fn helm(&self, arguments: &[&str]) {
        let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/helm/polder");
        let mut helm = Command::new(HELM.find().unwrap());
        helm.args(arguments.iter().map(|word| if *word == "CHART" { chart } else { word }));
        helm.args(["--namespace", POLDER, "--timeout", "120s"]).env("KUBECONFIG", self.cluster.kubeconfig());
        let output = helm.output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Waits until every node's agent is ready.
    pub(crate) async fn polder_ready(&self) {
        for (node, _) in self.cluster.nodes() {
            within(&format!("the agent of {node} ready"), PATIENCE, async || {
                let agents = self.agents(&node).await;
                let stays = |pod: &Pod| is_ready(pod) && pod.metadata.deletion_timestamp.is_none();
                (agents.len() == 1 && agents.iter().all(stays)).then_some(())
            })
            .await;
        }
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        // A case that failed may have taken it away; otherwise there is nothing to undo.
        let _ = self.cluster.hold_api_server(false);
        // Not waited for: names are not used again.
        let deleted = self.cluster.kubectl(&[
            "delete",
            "namespace",
            &self.namespace,
            "--wait=false",
            "--ignore-not-found",
        ]);
        if let Err(error) = deleted {
            eprintln!("namespace {} stays: {error:#}", self.namespace);
        }
    }
}

/// A policy's spec: only these peers reach the `server`.
pub(crate) fn only(peers: &Value) -> Value {
    json!({"podSelector": {"matchLabels": {"app": "server"}}, "ingress": [{"from": peers}]})
}

/// A policy's spec: only who is labelled `friend` reaches the `server`.
pub(crate) fn only_friends() -> Value {
    only(&json!([{"podSelector": {"matchLabels": {"app": "friend"}}}]))
}

/// A pod of one container that runs the cluster's image; the rest of the container is given.
fn pod(name: &str, app: &str, node: &str, mut container: Value) -> Pod {
    container["name"] = json!("main");
    container["image"] = json!("polder.test/tools:1");
    container["imagePullPolicy"] = json!("Never");
    let pod = json!({
        "metadata": {"name": name, "labels": {"app": app}},
        "spec": {
            "nodeName": node,
            "terminationGracePeriodSeconds": 5,
            "automountServiceAccountToken": false,
            "containers": [container],
        },
    });
    serde_json::from_value(pod).unwrap()
}

/// Whether a pod's condition `Ready` is true.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// How often a pod's containers were started again.
pub(crate) fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    statuses.into_iter().flatten().map(|status| status.restart_count).sum()
}

/// Asks until there is an answer.
pub(crate) async fn within<T>(what: &str, limit: Duration, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(started.elapsed() < limit, "{what}: not within {} s", limit.as_secs());
        sleep(PAUSE).await;
    }
}
