//! An API server with objects in it.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client};
use kubelab::ApiServer;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// A server, an administrator's client, and something to wait for it with.
pub(crate) struct Cluster {
    pub server: ApiServer,
    pub client: Client,
    pub runtime: Runtime,
}

impl Cluster {
    /// Starts one, if its programs are there.
    pub(crate) fn start_or_skip(test: &str) -> Option<Self> {
        let server = ApiServer::start_or_skip(test)?;
        let runtime = Runtime::new().unwrap();
        let client = runtime.block_on(server.client()).unwrap();
        Some(Self { server, client, runtime })
    }

    /// Where the server listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.server.url().trim_start_matches("https://").parse().unwrap()
    }

    pub(crate) fn namespace(&self, name: &str) -> Result<()> {
        let object = json!({"metadata": {"name": name}});
        self.create::<Namespace>(&Api::all(self.client.clone()), &object)
    }

    pub(crate) fn node(&self, name: &str, addresses: &[String]) -> Result<()> {
        let api: Api<Node> = Api::all(self.client.clone());
        self.create(&api, &json!({"metadata": {"name": name}}))?;
        let addresses: Vec<Value> =
            addresses.iter().map(|address| json!({"type": "InternalIP", "address": address})).collect();
        self.status(&api, name, &json!({"addresses": addresses}))
    }

    /// A running pod on a node.
    pub(crate) fn pod(&self, name: &str, app: &str, node: &str, addresses: &[String]) -> Result<()> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), "shop");
        self.create(&api, &pod(name, app, node))?;
        self.status(&api, name, &running(addresses))
    }

    pub(crate) fn delete_pod(&self, name: &str) -> Result<()> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), "shop");
        self.runtime.block_on(api.delete(name, &DeleteParams::default().grace_period(0)))?;
        Ok(())
    }

    /// Makes a policy of the namespace `shop`, or replaces it.
    pub(crate) fn policy(&self, name: &str, spec: &Value) -> Result<NetworkPolicy> {
        let api: Api<NetworkPolicy> = Api::namespaced(self.client.clone(), "shop");
        self.runtime.block_on(async {
            let _gone = api.delete(name, &DeleteParams::default()).await;
            let object = serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec}))?;
            api.create(&PostParams::default(), &object).await.with_context(|| format!("policy {name}"))
        })
    }

    pub(crate) fn delete_policy(&self, name: &str) -> Result<()> {
        let api: Api<NetworkPolicy> = Api::namespaced(self.client.clone(), "shop");
        self.runtime.block_on(api.delete(name, &DeleteParams::default()))?;
        Ok(())
    }

    /// Makes an object of whatever kind, or changes it.
    pub(crate) fn apply(&self, object: &Value) -> Result<()> {
        let (api, name) = self.api(object);
        let parameters = PatchParams::apply("test").force();
        self.runtime
            .block_on(api.patch(name, &parameters, &Patch::Apply(object)))
            .with_context(|| name.to_owned())?;
        Ok(())
    }

    /// Deletes an object of whatever kind.
    pub(crate) fn delete(&self, object: &Value) -> Result<()> {
        let (api, name) = self.api(object);
        self.runtime.block_on(api.delete(name, &DeleteParams::default())).with_context(|| name.to_owned())?;
        Ok(())
    }

    /// Where an object is, and its name.
    fn api<'a>(&self, object: &'a Value) -> (Api<DynamicObject>, &'a str) {
        let (group, version) =
            object["apiVersion"].as_str().and_then(|it| it.split_once('/')).unwrap_or(("", "v1"));
        let kind = GroupVersionKind::gvk(group, version, object["kind"].as_str().unwrap_or_default());
        let kind = ApiResource::from_gvk(&kind);
        let api = match object["metadata"]["namespace"].as_str() {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &kind),
            None => Api::all_with(self.client.clone(), &kind),
        };
        (api, object["metadata"]["name"].as_str().unwrap_or_default())
    }

    fn create<K>(&self, api: &Api<K>, object: &Value) -> Result<()>
    where
        K: Clone + std::fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
    {
        let object = serde_json::from_value(object.clone())?;
        self.runtime.block_on(api.create(&PostParams::default(), &object))?;
        Ok(())
    }

    fn status<K>(&self, api: &Api<K>, name: &str, status: &Value) -> Result<()>
    where
        K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
    {
        let patch = Patch::Merge(json!({ "status": status }));
        self.runtime.block_on(api.patch_status(name, &PatchParams::default(), &patch))?;
        Ok(())
    }
}

/// A pod as a scheduler leaves it.
pub(crate) fn pod(name: &str, app: &str, node: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "shop", "labels": {"app": app}},
        "spec": {"nodeName": node, "automountServiceAccountToken": false, "containers": [{"name": "main", "image": "none"}]},
    })
}

/// The status of a pod that runs.
pub(crate) fn running(addresses: &[String]) -> Value {
    let all: Vec<Value> = addresses.iter().map(|ip| json!({ "ip": ip })).collect();
    json!({"phase": "Running", "podIP": addresses[0], "podIPs": all})
}
