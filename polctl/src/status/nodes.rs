//! `polctl status --all-nodes`: what every node's agent wrote down.

use std::process::ExitCode;

use agent_api::node::NodeStatus;
use serde_json::{Value, json};

use super::{Args, Output};
use crate::clean::{clean, clean_json};
use crate::cluster::{self, NodeAndAgent};
use crate::connectivity::table::wide as columns;
use crate::{print, yaml};

pub(super) fn run(args: &Args) -> crate::Answer {
    let cluster = args.agent.cluster.connect()?;
    let nodes = cluster.runtime.block_on(cluster::nodes(&cluster.client))?;
    let text = match args.output {
        Output::Table | Output::Wide => text(&nodes, args.output == Output::Wide),
        Output::Json => format!("{}\n", clean_json(&serde_json::to_string_pretty(&json(&nodes))?)),
        Output::Yaml => yaml::document(&json(&nodes))?,
    };
    print::stdout(&text)?;
    Ok(if nodes.iter().all(is_well) { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn status(node: &NodeAndAgent) -> Option<&NodeStatus> {
    node.agent.as_ref()?.status.as_ref()
}

fn is_well(node: &NodeAndAgent) -> bool {
    status(node).is_some_and(|status| status.ready && status.endpoints.failed == 0)
}

/// A row for each node; why it is not ready below, and with `wide` which policies are refused.
fn text(nodes: &[NodeAndAgent], wide: bool) -> String {
    if nodes.is_empty() {
        return "the cluster has no nodes\n".to_owned();
    }
    let rows: Vec<Vec<String>> = nodes
        .iter()
        .map(|node| {
            let name = clean(&node.name).into_owned();
            let Some(status) = status(node) else {
                return vec![
                    name,
                    "no agent".to_owned(),
                    "-".into(),
                    "-".into(),
                    "-".into(),
                    "-".into(),
                    "-".into(),
                ];
            };
            let ends = &status.endpoints;
            vec![
                name,
                if status.ready { "yes" } else { "no" }.to_owned(),
                status.policies.to_string(),
                status.refused_policies.to_string(),
                format!(
                    "{} enforced, {} held, {} unknown, {} failed",
                    ends.enforced, ends.held, ends.unknown, ends.failed
                ),
                clean(&status.agent_version).into_owned(),
                clean(&status.written).into_owned(),
            ]
        })
        .collect();
    let mut out = columns(&["NODE", "READY", "POLICIES", "REFUSED", "ENDPOINTS", "AGENT", "WRITTEN"], &rows);
    for node in nodes {
        let Some(status) = status(node) else { continue };
        for reason in &status.reasons {
            print::put(&mut out, format_args!("{}: {}\n", clean(&node.name), clean(reason)));
        }
    }
    if wide {
        // Every node says the same of a policy, but for those that have not seen it yet.
        let mut said = std::collections::BTreeSet::new();
        for refused in nodes.iter().filter_map(status).flat_map(|status| &status.refused) {
            let namespace =
                if refused.namespace.is_empty() { String::new() } else { format!("{}/", refused.namespace) };
            let (kind, name, message, instead) =
                (&refused.kind, &refused.name, &refused.message, &refused.instead);
            let line = format!("{kind} {namespace}{name}: refused: {message}; {instead}");
            if said.insert(line.clone()) {
                print::put(&mut out, format_args!("{}\n", clean(&line)));
            }
        }
    }
    out
}

fn json(nodes: &[NodeAndAgent]) -> Value {
    let nodes: Vec<Value> =
        nodes.iter().map(|node| json!({"node": node.name, "status": status(node)})).collect();
    json!({ "nodes": nodes })
}

#[cfg(test)]
mod tests {
    use agent_api::node::{EndpointCounts, PolderNode, PolderNodeSpec, RefusedPolicy};

    use super::*;

    #[test]
    fn a_node_without_an_agent_is_not_well_and_refused_policies_are_said_once() {
        let refused = RefusedPolicy {
            kind: "NetworkPolicy".into(),
            namespace: "prod".into(),
            name: "p".into(),
            message: "why".into(),
            instead: "closed".into(),
            ..RefusedPolicy::default()
        };
        let status = NodeStatus {
            ready: true,
            policies: 3,
            refused_policies: 1,
            refused: vec![refused],
            endpoints: EndpointCounts { enforced: 7, ..EndpointCounts::default() },
            agent_version: "0.1.0".into(),
            written: "now".into(),
            ..NodeStatus::default()
        };
        let with = |name: &str| {
            let mut agent = PolderNode::new(name, PolderNodeSpec {});
            agent.status = Some(status.clone());
            NodeAndAgent { name: name.into(), agent: Some(agent) }
        };
        let nodes = [with("n1"), with("n2"), NodeAndAgent { name: "n3".into(), agent: None }];
        assert_eq!(nodes.iter().map(is_well).collect::<Vec<_>>(), [true, true, false]);
        let text = text(&nodes, true);
        assert_eq!(text.lines().count(), 5, "{text}");
        assert!(text.contains("no agent"), "{text}");
        assert!(text.ends_with("NetworkPolicy prod/p: refused: why; closed\n"), "{text}");
    }
}
