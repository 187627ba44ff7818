//! Agents of any node, reached through the API server: what `kubectl exec` does, for the agents' protocol.
//!
//! ```text
//! client --socket pair--> task --websocket--> API server --> kubelet --> `polctl relay` --> the agent's socket
//! ```

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use agent_api::client::Client;
use anyhow::Context as _;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{AttachParams, AttachedProcess, ListParams};
use tokio::io::{copy, stderr};
use tokio::time::timeout;

use crate::clean::clean;
use crate::cluster::{self, Cluster};

/// The pods of agents, as the chart labels them.
const LABEL: &str = "app.kubernetes.io/name=polder,app.kubernetes.io/component=agent";
/// Their container with the agent, and what is called in it.
const CONTAINER: &str = "agent";
const RELAY: [&str; 2] = ["/bin/polctl", "relay"];
/// How much may be on its way, in bytes.
const ON_THE_WAY: usize = 64 << 10;
/// How long a process that has ended may take to say how.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Agents that run, by node.
pub(crate) struct Agents {
    cluster: Cluster,
    /// Namespace and name.
    pods: BTreeMap<String, (String, String)>,
}

impl Agents {
    /// Asks the API server which there are.
    pub(crate) fn find(args: &cluster::Args) -> anyhow::Result<Self> {
        let cluster = args.connect()?;
        let api: Api<Pod> = Api::all(cluster.client.clone());
        let labelled = ListParams::default().labels(LABEL);
        let list = cluster
            .runtime
            .block_on(api.list(&labelled))
            .map_err(cluster::failure)
            .context("listing agents' pods")?;
        let pods: BTreeMap<_, _> = list.items.into_iter().filter_map(running).collect();
        anyhow::ensure!(
            !pods.is_empty(),
            "no agent runs in this cluster: no running pod has the label {LABEL}"
        );
        Ok(Self { cluster, pods })
    }

    /// The nodes on which agents run.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &str> {
        self.pods.keys().map(String::as_str)
    }

    /// Connects to the agent of a node. The connection lasts as long as this.
    pub(crate) fn connect(&self, node: &str) -> anyhow::Result<Client> {
        let (namespace, name) = self.pods.get(node).with_context(|| {
            let known: Vec<&str> = self.nodes().collect();
            format!("no agent runs on a node {node}; expected one of: {}", known.join(", "))
        })?;
        let (near, far) = UnixStream::pair().context("a socket pair")?;
        let api: Api<Pod> = Api::namespaced(self.cluster.client.clone(), namespace);
        let opened = async {
            let parameters = AttachParams::default()
                .container(CONTAINER)
                .stdin(true)
                .max_stdin_buf_size(ON_THE_WAY)
                .max_stdout_buf_size(ON_THE_WAY);
            let process = api.exec(name, RELAY, &parameters).await.map_err(cluster::failure)?;
            far.set_nonblocking(true)?;
            tokio::spawn(carry(process, tokio::net::UnixStream::from_std(far)?));
            anyhow::Ok(())
        };
        let opened = self.cluster.runtime.block_on(opened);
        opened.with_context(|| format!("running {} in pod {namespace}/{name}", RELAY.join(" ")))?;
        Client::over(near, Path::new(&format!("node {node}")))
            .map_err(|error| crate::agent::failure(&format!("node {node}"), &error))
    }
}

/// The node and the name of an agent's pod, if it runs.
fn running(pod: Pod) -> Option<(String, (String, String))> {
    let status = pod.status?;
    let agent = status.container_statuses?.into_iter().find(|one| one.name == CONTAINER)?;
    agent.state?.running?;
    Some((pod.spec?.node_name?, (pod.metadata.namespace?, pod.metadata.name?)))
}

/// Carries bytes until either end has no more. What went wrong the other process says itself, and the client sees the end.
async fn carry(mut process: AttachedProcess, mut near: tokio::net::UnixStream) {
    let (Some(mut stdin), Some(mut stdout), Some(mut complaints), Some(status)) =
        (process.stdin(), process.stdout(), process.stderr(), process.take_status())
    else {
        return;
    };
    tokio::spawn(async move { copy(&mut complaints, &mut stderr()).await });
    let (mut from_client, mut to_client) = near.split();
    let ended = tokio::select! {
        // The client has no more questions.
        ended = copy(&mut from_client, &mut stdin) => ended.map(|_| None),
        ended = copy(&mut stdout, &mut to_client) => match ended {
            Ok(_) => Ok(timeout(LAST_WORDS, status).await.ok().flatten()),
            Err(error) => Err(error),
        },
    };
    match ended {
        Err(error) => anstream::eprintln!("the connection to the agent's pod: {error}"),
        Ok(Some(status)) if status.status.as_deref() == Some("Failure") => {
            anstream::eprintln!("in the agent's pod: {}", clean(&status.message.unwrap_or_default()));
        }
        Ok(_) => {}
    }
    process.abort();
}
