//! The API server: how it is reached, and what it is asked.

use std::path::Path;

use anyhow::Context as _;
use http::Request;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta;
use kube::api::{ListParams, WatchParams};
use kube::client::ClientBuilder;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use manifests::kind::Kind;
use serde::Deserialize;
use serde_json::value::RawValue;
use tower::util::MapResponseLayer;

use super::traffic::Received;

/// How many objects a page of a list has.
const PAGE: u32 = 500;

/// A kind that is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Followable {
    pub(super) kind: Kind,
    /// The resource's name in paths.
    pub(super) plural: &'static str,
    /// It is a custom resource, and may be missing.
    pub(super) custom: bool,
}

/// All of them.
pub(super) const FOLLOWED: [Followable; 11] = [
    Followable { kind: Kind::Namespace, plural: "namespaces", custom: false },
    Followable { kind: Kind::Node, plural: "nodes", custom: false },
    Followable { kind: Kind::Pod, plural: "pods", custom: false },
    Followable { kind: Kind::Service, plural: "services", custom: false },
    Followable { kind: Kind::EndpointSlice, plural: "endpointslices", custom: false },
    Followable { kind: Kind::NetworkPolicy, plural: "networkpolicies", custom: false },
    Followable { kind: Kind::ClusterNetworkPolicy, plural: "clusternetworkpolicies", custom: true },
    Followable { kind: Kind::AdminNetworkPolicy, plural: "adminnetworkpolicies", custom: true },
    Followable {
        kind: Kind::BaselineAdminNetworkPolicy,
        plural: "baselineadminnetworkpolicies",
        custom: true,
    },
    Followable { kind: Kind::PolderPolicy, plural: "polderpolicies", custom: true },
    Followable { kind: Kind::ClusterPolderPolicy, plural: "clusterpolderpolicies", custom: true },
];

impl Followable {
    /// Its path, for all namespaces.
    pub(super) fn path(&self) -> String {
        let version = self.kind.api_version();
        let root = if version.contains('/') { "apis" } else { "api" };
        format!("/{root}/{version}/{}", self.plural)
    }

    /// A page of a list that is as new as the server's store.
    pub(super) fn list(&self, continued: Option<String>) -> Result<Request<Vec<u8>>, kube::Error> {
        let parameters = ListParams { limit: Some(PAGE), continue_token: continued, ..ListParams::default() };
        kube::core::Request::new(self.path()).list(&parameters).map_err(kube::Error::BuildRequest)
    }

    /// What happens after a version, for so many seconds.
    pub(super) fn watch(&self, after: &str, seconds: u32) -> Result<Request<Vec<u8>>, kube::Error> {
        let parameters = WatchParams { timeout: Some(seconds), ..WatchParams::default() };
        kube::core::Request::new(self.path()).watch(&parameters, after).map_err(kube::Error::BuildRequest)
    }

    /// A list object by object, as new as the server's store, and what happens after it.
    pub(super) fn stream(&self, seconds: u32) -> Result<Request<Vec<u8>>, kube::Error> {
        let parameters =
            WatchParams { timeout: Some(seconds), send_initial_events: true, ..WatchParams::default() };
        kube::core::Request::new(self.path()).watch(&parameters, "").map_err(kube::Error::BuildRequest)
    }
}

/// A page of a list.
#[derive(Debug, Deserialize)]
pub(super) struct Page {
    #[serde(default)]
    pub(super) metadata: ListMeta,
    #[serde(default)]
    pub(super) items: Option<Vec<Box<RawValue>>>,
}

/// Connects as the configuration says: a file, or what a pod finds in itself. Nothing is asked yet.
pub async fn connect(kubeconfig: Option<&Path>, received: &Received) -> anyhow::Result<Client> {
    let config = match kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(path).with_context(|| format!("reading {}", path.display()))?;
            Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
                .await
                .with_context(|| format!("using {}", path.display()))?
        }
        None => Config::incluster().context(
            "there is no service account to reach the API server with; expected to run in a pod, or --kubeconfig FILE, \
             or --standalone DIR",
        )?,
    };
    let received = received.clone();
    let counted =
        MapResponseLayer::new(move |response: http::Response<_>| response.map(|body| received.count(body)));
    Ok(ClientBuilder::try_from(config)
        .context("preparing the connection to the API server")?
        .with_layer(&counted)
        .build())
}
