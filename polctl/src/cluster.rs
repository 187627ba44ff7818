//! The API server, for the verbs that ask about all nodes.

use std::path::PathBuf;

use agent_api::node::PolderNode;
use anyhow::Context as _;
use k8s_openapi::api::core::v1::Node;
use kube::api::ListParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use tokio::runtime::Runtime;

use crate::clean::clean;

/// How the API server is reached.
#[derive(Clone, Debug, Default, clap::Args)]
#[group(id = "cluster", multiple = true)]
pub(crate) struct Args {
    /// How to reach the API server; else $KUBECONFIG, ~/.kube/config, or as a pod is told
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Which context of it
    #[arg(long, value_name = "NAME")]
    pub(crate) context: Option<String>,
}

/// A connection, and something to wait for its answers with.
pub(crate) struct Cluster {
    pub(crate) client: Client,
    pub(crate) runtime: Runtime,
}

impl Args {
    /// Connects; nothing is asked yet.
    pub(crate) fn connect(&self) -> anyhow::Result<Cluster> {
        // One that goes on while nobody waits: what is carried to and from agents is.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let client = runtime.block_on(async {
            let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
            let config = match &self.kubeconfig {
                Some(path) => {
                    let file = Kubeconfig::read_from(path)?;
                    Config::from_custom_kubeconfig(file, &options).await?
                }
                None if self.context.is_some() => Config::from_kubeconfig(&options).await?,
                None => Config::infer().await?,
            };
            anyhow::Ok(Client::try_from(config)?)
        });
        Ok(Cluster {
            client: client.context("how to reach the API server is not known; say --kubeconfig FILE")?,
            runtime,
        })
    }
}

/// A node, and what the agent there says, if one ever did.
#[derive(Clone, Debug)]
pub(crate) struct NodeAndAgent {
    pub(crate) name: String,
    pub(crate) agent: Option<PolderNode>,
}

/// All nodes, and those that only have an agent's word, by name.
pub(crate) async fn nodes(client: &Client) -> anyhow::Result<Vec<NodeAndAgent>> {
    let nodes: Api<Node> = Api::all(client.clone());
    let agents: Api<PolderNode> = Api::all(client.clone());
    let nodes =
        nodes.list_metadata(&ListParams::default()).await.map_err(failure).context("listing nodes")?;
    let agents = match agents.list(&ListParams::default()).await {
        Ok(agents) => agents,
        Err(kube::Error::Api(status)) if status.code == 404 => {
            anyhow::bail!(
                "the API server does not know the kind PolderNode; is Polder installed in this cluster?"
            )
        }
        Err(error) => return Err(failure(error)).context("listing what agents say (PolderNode)"),
    };
    let mut said: std::collections::BTreeMap<String, PolderNode> =
        agents.items.into_iter().filter_map(|agent| Some((agent.metadata.name.clone()?, agent))).collect();
    let mut all: Vec<NodeAndAgent> = nodes
        .items
        .into_iter()
        .filter_map(|node| node.metadata.name)
        .map(|name| NodeAndAgent { agent: said.remove(&name), name })
        .collect();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(all)
}

/// What the server says, without what it looks like inside.
pub(crate) fn failure(error: kube::Error) -> anyhow::Error {
    match error {
        kube::Error::Api(status) => {
            anyhow::anyhow!(
                "{}",
                clean(&format!("the API server answers {}: {}", status.code, status.message))
            )
        }
        other => anyhow::Error::new(other),
    }
}
