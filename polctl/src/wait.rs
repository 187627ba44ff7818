//! `polctl wait`: until a policy is in force wherever it has to be.
//!
//! ```text
//! policy (uid, version) --selects--> pods --run on--> nodes --PolderNode--> version in force, refused?
//! ```

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use agent_api::node::PolicyOnNode;
use anyhow::{Context as _, bail};
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{DynamicObject, ListParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client};
use manifests::kind::Kind;
use manifests::live;
use manifests::object::Content;
use policy_compiler::facts;
use policy_compiler::lower::lower;
use policy_compiler::policy::{Namespaces, Pods};
use serde_json::{Value, json};

use crate::clean::{clean, clean_json};
use crate::cluster::{self, Cluster, NodeAndAgent};
use crate::{print, yaml};

/// How often it is looked.
const AGAIN: Duration = Duration::from_millis(500);

/// Wait until a policy is in force on every node that has pods which it selects
#[derive(Debug, clap::Args)]
#[command(after_long_help = LONG_HELP)]
pub(crate) struct Args {
    #[command(flatten)]
    cluster: cluster::Args,

    /// The policy: NAME of a NetworkPolicy, or KIND/NAME
    #[arg(value_name = "POLICY")]
    policy: String,

    /// Its namespace
    #[arg(short, long, value_name = "NAMESPACE", default_value = "default")]
    namespace: String,

    /// What to wait for
    #[arg(long = "for", value_enum, default_value_t = For::Enforced)]
    wanted: For,

    /// How long, such as 30s or 2m
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    timeout: Duration,

    /// All nodes, not only those with pods that it selects
    #[arg(long)]
    all_nodes: bool,

    /// How to say it
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum For {
    /// The policy as it is now is in the kernel, and no pod that it selects can be reached past it
    Enforced,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    Text,
    Json,
    Yaml,
}

const LONG_HELP: &str = "\
The policy as it is when it is read is waited for: a later change is another policy. What nodes say is read from their
PolderNode objects, so that no node has to be reached.

KIND is networkpolicy (np, netpol), clusternetworkpolicy (cnp), adminnetworkpolicy (anp), baselineadminnetworkpolicy (banp),
polderpolicy or clusterpolderpolicy.

Examples:
  kubectl apply -f policy.yaml && polctl wait --for=enforced api -n prod --timeout 30s
  polctl wait anp/default-deny --all-nodes

Exit codes:
  0  it is in force
  1  it is not, in the time given, or it is refused: the answer says where and why
  2  it cannot be said: no such policy, no answer of the API server";

fn duration(text: &str) -> Result<Duration, String> {
    let parsed: SignedDuration = text.parse().map_err(|error| format!("{error}; expected 30s, 2m, 1h"))?;
    Duration::try_from(parsed).map_err(|_| "it is negative; expected 30s, 2m, 1h".to_owned())
}

/// How a policy stands on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Standing {
    Enforced,
    Waiting(String),
    Refused(String),
}

/// A policy as it was read.
#[derive(Debug)]
struct Policy {
    kind: Kind,
    live: live::Version,
    /// `None`: it cannot be read here, so all pods may be selected.
    subject: Option<Pods>,
}

pub(crate) fn run(args: &Args) -> crate::Answer {
    let For::Enforced = args.wanted;
    let Cluster { client, runtime } = args.cluster.connect()?;
    let deadline = Instant::now() + args.timeout;
    let (standings, enforced) = runtime.block_on(async {
        let policy = read(&client, args).await?;
        loop {
            let standings = standings(&client, &policy, args.all_nodes).await?;
            let enforced = standings.values().all(|standing| *standing == Standing::Enforced);
            let refused = standings.values().any(|standing| matches!(standing, Standing::Refused(_)));
            if enforced || refused || Instant::now() + AGAIN > deadline {
                return anyhow::Ok((standings, enforced));
            }
            tokio::time::sleep(AGAIN).await;
        }
    })?;
    let text = match args.output {
        Output::Text => text(args, &standings, enforced),
        Output::Json => {
            format!("{}\n", clean_json(&serde_json::to_string_pretty(&value(&standings, enforced))?))
        }
        Output::Yaml => yaml::document(&value(&standings, enforced))?,
    };
    print::stdout(&text)?;
    Ok(if enforced { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// The kind, as users abbreviate it, and the name.
fn meant(policy: &str) -> anyhow::Result<(Kind, &str)> {
    let (kind, name) = policy.split_once('/').unwrap_or(("networkpolicy", policy));
    let kind = match kind.to_lowercase().split('.').next().unwrap_or_default() {
        "networkpolicy" | "networkpolicies" | "np" | "netpol" => Kind::NetworkPolicy,
        "clusternetworkpolicy" | "clusternetworkpolicies" | "cnp" => Kind::ClusterNetworkPolicy,
        "adminnetworkpolicy" | "adminnetworkpolicies" | "anp" => Kind::AdminNetworkPolicy,
        "baselineadminnetworkpolicy" | "baselineadminnetworkpolicies" | "banp" => {
            Kind::BaselineAdminNetworkPolicy
        }
        "polderpolicy" | "polderpolicies" => Kind::PolderPolicy,
        "clusterpolderpolicy" | "clusterpolderpolicies" => Kind::ClusterPolderPolicy,
        _ => bail!(
            "{}: found kind {kind:?}; expected networkpolicy, cnp, anp, banp, polderpolicy or clusterpolderpolicy",
            clean(policy)
        ),
    };
    Ok((kind, name))
}

async fn read(client: &Client, args: &Args) -> anyhow::Result<Policy> {
    let (kind, name) = meant(&args.policy)?;
    let (group, version) = kind.api_version().split_once('/').unwrap_or_default();
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind.name()));
    let api: Api<DynamicObject> = if kind.is_namespaced() {
        Api::namespaced_with(client.clone(), &args.namespace, &resource)
    } else {
        Api::all_with(client.clone(), &resource)
    };
    let object = api.get(name).await.map_err(cluster::failure);
    let object = object.with_context(|| format!("{} {}", kind.name(), clean(name)))?;
    let text = serde_json::to_string(&object)?;
    let version = live::version(&text)?;
    let subject = match live::read(kind, &text).map(|read| read.content) {
        Ok(Content::Policy(object)) => lower(&object, None).ok().map(|lowered| lowered.policy.subject),
        Ok(_) | Err(_) => None,
    };
    Ok(Policy { kind, live: version, subject })
}

async fn standings(
    client: &Client,
    policy: &Policy,
    all: bool,
) -> anyhow::Result<BTreeMap<String, Standing>> {
    let nodes = cluster::nodes(client).await?;
    let selected = if all { None } else { selected(client, policy).await? };
    let mut standings = BTreeMap::new();
    for node in &nodes {
        if selected.as_ref().is_none_or(|selected| selected.contains_key(&node.name)) {
            standings.insert(node.name.clone(), standing(node, policy)?);
        }
    }
    Ok(standings)
}

/// How many pods it selects on each node; `None` if that cannot be made out.
async fn selected(client: &Client, policy: &Policy) -> anyhow::Result<Option<BTreeMap<String, usize>>> {
    let Some(subject) = &policy.subject else { return Ok(None) };
    let all = ListParams::default();
    let namespaces: Vec<String> = match &subject.namespaces {
        Namespaces::Named(name) => vec![name.to_string()],
        Namespaces::Matching(selector) => {
            let listed = Api::<Namespace>::all(client.clone()).list(&all).await.map_err(cluster::failure)?;
            let known = listed.items.iter().map(facts::Namespace::from_api);
            known.filter(|one| selector.matches(&one.labels)).map(|one| one.name.to_string()).collect()
        }
    };
    let mut on_nodes = BTreeMap::new();
    for namespace in namespaces {
        let pods =
            Api::<Pod>::namespaced(client.clone(), &namespace).list(&all).await.map_err(cluster::failure)?;
        for pod in pods.items.iter().map(|pod| facts::Pod::from_api(pod).0) {
            if let Some(node) = &pod.node
                && pod.owns_addresses()
                && subject.pods.matches(&pod.labels)
            {
                *on_nodes.entry(node.to_string()).or_default() += 1;
            }
        }
    }
    Ok(Some(on_nodes))
}

fn standing(node: &NodeAndAgent, policy: &Policy) -> anyhow::Result<Standing> {
    let Some(status) = node.agent.as_ref().and_then(|agent| agent.status.as_ref()) else {
        return Ok(Standing::Waiting("no agent has said anything about this node".to_owned()));
    };
    let live = &policy.live;
    let Some(found) = status.policy(policy.kind.name(), &live.uid, &live.resource_version) else {
        bail!(
            "whether version {} is in force on {} cannot be told",
            clean(&live.resource_version),
            clean(&node.name)
        )
    };
    Ok(match found {
        PolicyOnNode::Enforced if status.endpoints.failed > 0 => {
            Standing::Waiting(format!("{} interfaces of pods have failed", status.endpoints.failed))
        }
        PolicyOnNode::Enforced => Standing::Enforced,
        PolicyOnNode::Pending if status.reasons.is_empty() => Standing::Waiting("not there yet".to_owned()),
        PolicyOnNode::Pending => Standing::Waiting(status.reasons.join("; ")),
        PolicyOnNode::Refused(refused) => {
            Standing::Refused(format!("{}; {}", refused.message, refused.instead))
        }
    })
}

fn text(args: &Args, standings: &BTreeMap<String, Standing>, enforced: bool) -> String {
    let policy = clean(&args.policy);
    let nodes = if standings.len() == 1 { "node" } else { "nodes" };
    if enforced {
        let note = if standings.is_empty() { ": it selects no pod" } else { "" };
        return format!("{policy} is in force on {} {nodes}{note}\n", standings.len());
    }
    let mut out = format!("{policy} is not in force everywhere:\n");
    for (node, standing) in standings {
        match standing {
            Standing::Enforced => {}
            Standing::Waiting(why) => {
                print::put(&mut out, format_args!("  {}: waiting: {}\n", clean(node), clean(why)));
            }
            Standing::Refused(why) => {
                print::put(&mut out, format_args!("  {}: refused: {}\n", clean(node), clean(why)));
            }
        }
    }
    out
}

fn value(standings: &BTreeMap<String, Standing>, enforced: bool) -> Value {
    let nodes: Vec<Value> = standings
        .iter()
        .map(|(node, standing)| match standing {
            Standing::Enforced => json!({"node": node, "state": "enforced"}),
            Standing::Waiting(why) => json!({"node": node, "state": "waiting", "why": why}),
            Standing::Refused(why) => json!({"node": node, "state": "refused", "why": why}),
        })
        .collect();
    json!({"enforced": enforced, "nodes": nodes})
}

#[cfg(test)]
mod tests {
    use agent_api::node::{NodeStatus, PolderNode, PolderNodeSpec, RefusedPolicy};

    use super::*;

    #[test]
    fn kinds_are_named_as_kubectl_names_them() {
        assert_eq!(meant("api").unwrap(), (Kind::NetworkPolicy, "api"));
        assert_eq!(meant("netpol/api").unwrap(), (Kind::NetworkPolicy, "api"));
        let full = "adminnetworkpolicies.policy.networking.k8s.io/a";
        assert_eq!(meant(full).unwrap(), (Kind::AdminNetworkPolicy, "a"));
        assert_eq!(meant("PolderPolicy/a").unwrap(), (Kind::PolderPolicy, "a"));
        assert_eq!(meant("clusterpolderpolicies/a").unwrap(), (Kind::ClusterPolderPolicy, "a"));
        assert!(meant("pod/a").is_err());
        assert_eq!(duration("1m 5s").unwrap(), Duration::from_secs(65));
        assert!(duration("-1s").is_err());
    }

    #[test]
    fn a_node_counts_when_its_agent_says_so_and_not_before() {
        let live =
            live::Version { uid: "u".into(), resource_version: "10".into(), ..live::Version::default() };
        let policy = Policy { kind: Kind::NetworkPolicy, live, subject: None };
        let node = |status: Option<NodeStatus>| {
            let mut agent = PolderNode::new("n", PolderNodeSpec {});
            agent.status = status;
            NodeAndAgent { name: "n".into(), agent: Some(agent) }
        };
        let at = |version: &str| NodeStatus {
            enforced: [("NetworkPolicy".to_owned(), version.to_owned())].into(),
            ..NodeStatus::default()
        };
        let of = |status| standing(&node(status), &policy).unwrap();
        assert_eq!(of(Some(at("10"))), Standing::Enforced);
        assert!(matches!(of(Some(at("9"))), Standing::Waiting(_)));
        assert!(matches!(of(None), Standing::Waiting(_)));
        let mut refused = at("10");
        refused.refused_policies = 1;
        refused.refused =
            vec![RefusedPolicy { uid: "u".into(), message: "m".into(), ..RefusedPolicy::default() }];
        assert_eq!(of(Some(refused)), Standing::Refused("m; ".to_owned()));
        assert!(standing(&node(Some(at("opaque"))), &policy).is_err());
    }
}
