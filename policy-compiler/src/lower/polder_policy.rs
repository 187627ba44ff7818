//! `PolderPolicy` and `ClusterPolderPolicy`: the bounds and CEL rules of their CRDs (`deploy/crds`).

use datapath::abi::Direction;

use super::asks::AsksFields;
use super::cluster_wide::{self, Absent, Dialect, PeerFields, RuleFields};
use super::findings::{Findings, Refused};
use super::{metadata, name, selector};
use crate::api::cluster_network_policy::Protocol;
use crate::api::polder_policy::{ClusterPolderPolicy, EgressRule, IngressRule, PolderPolicy};
use crate::policy::{Action, Block, Mode, NETWORK_POLICY_LEVEL, Namespaces, Pods, Policy, Tier};

/// Levels of the namespace tier go from 0 to this.
const LAST_LEVEL: i32 = 2000;

const OWN: Dialect = Dialect {
    rules: 100,
    items: 25,
    actions: &[
        ("Allow", Action::Allow),
        ("Deny", Action::Deny),
        ("Reject", Action::Reject),
        ("Pass", Action::Pass),
    ],
    ports: "protocols",
    without_namespaces: Absent::Own,
    is_domain: Some(name::is_domain),
    peers_are_optional: true,
    all_peers_at_ingress: true,
};

const CLUSTER: Dialect = Dialect { without_namespaces: Absent::Every, ..OWN };

/// All of a policy, or errors in `findings`.
pub(super) fn lower(policy: &PolderPolicy, findings: &mut Findings<'_>) -> Result<Policy, Refused> {
    let metadata = metadata::namespaced(&policy.metadata, findings);
    let spec = &policy.spec;
    let own = Namespaces::Named(crate::api::namespace(&policy.metadata).into());
    let pods = match &spec.subject.pod_selector {
        Some(pods) => selector::lower(pods, "spec.subject.podSelector", findings),
        None => Err(findings.error(
            "spec.subject.podSelector",
            "the selector is missing",
            "a selector; {} selects every pod of the namespace",
        )),
    };
    let priority = match spec.priority {
        None => Ok(NETWORK_POLICY_LEVEL),
        Some(priority) if (0..=LAST_LEVEL).contains(&priority) => Ok(priority),
        Some(priority) => {
            let message = format!("priority {priority} is out of range");
            Err(findings.error("spec.priority", message, format!("0 to {LAST_LEVEL}")))
        }
    };
    let mode = mode(spec.mode.as_deref(), findings);
    let (ingress, egress) = blocks(&OWN, spec.ingress.as_deref(), spec.egress.as_deref(), findings);
    metadata?;
    Ok(Policy {
        object: findings.object().clone(),
        source: findings.source().cloned(),
        tier: Tier::Namespace,
        mode: mode?,
        log: spec.log == Some(true),
        priority: priority?,
        subject: Pods { namespaces: own, pods: pods? },
        ingress: Block { isolates: spec.ingress.is_some(), ..ingress? },
        egress: Block { isolates: spec.egress.is_some(), ..egress? },
    })
}

/// All of a policy, or errors in `findings`.
pub(super) fn lower_cluster(
    policy: &ClusterPolderPolicy,
    findings: &mut Findings<'_>,
) -> Result<Policy, Refused> {
    let metadata = metadata::cluster(&policy.metadata, findings);
    let spec = &policy.spec;
    let tier = cluster_wide::tier(&spec.tier, findings);
    let priority = cluster_wide::priority(spec.priority, findings);
    let subject = cluster_wide::subject(&CLUSTER, &spec.subject, findings);
    let mode = mode(spec.mode.as_deref(), findings);
    let (ingress, egress) = blocks(&CLUSTER, spec.ingress.as_deref(), spec.egress.as_deref(), findings);
    metadata?;
    Ok(Policy {
        object: findings.object().clone(),
        source: findings.source().cloned(),
        tier: tier?,
        mode: mode?,
        log: spec.log == Some(true),
        priority: priority?,
        subject: subject?,
        ingress: ingress?,
        egress: egress?,
    })
}

fn mode(mode: Option<&str>, findings: &mut Findings<'_>) -> Result<Mode, Refused> {
    match mode {
        None | Some("Enforce") => Ok(Mode::Enforce),
        Some("Audit") => Ok(Mode::Audit),
        Some(other) => {
            Err(findings.error("spec.mode", format!("{other:?} is not a mode"), "Enforce or Audit"))
        }
    }
}

type Blocks = (Result<Block, Refused>, Result<Block, Refused>);

fn blocks(
    dialect: &Dialect,
    ingress: Option<&[IngressRule]>,
    egress: Option<&[EgressRule]>,
    findings: &mut Findings<'_>,
) -> Blocks {
    let rules: Vec<_> = ingress.into_iter().flatten().map(ingress_rule).collect();
    let ingress = cluster_wide::block(dialect, Direction::Ingress, &rules, findings);
    let rules: Vec<_> = egress.into_iter().flatten().map(egress_rule).collect();
    (ingress, cluster_wide::block(dialect, Direction::Egress, &rules, findings))
}

fn ingress_rule(rule: &IngressRule) -> RuleFields<'_, Protocol> {
    RuleFields {
        name: rule.name.as_deref(),
        action: &rule.action,
        peers: rule.from.as_ref().map(|peers| peers.iter().map(PeerFields::from).collect()),
        ports: rule.protocols.as_deref(),
        asks: AsksFields { http: rule.http.as_deref(), grpc: rule.grpc.as_deref(), tls: rule.tls.as_ref() },
    }
}

fn egress_rule(rule: &EgressRule) -> RuleFields<'_, Protocol> {
    RuleFields {
        name: rule.name.as_deref(),
        action: &rule.action,
        peers: rule.to.as_ref().map(|peers| peers.iter().map(PeerFields::from).collect()),
        ports: rule.protocols.as_deref(),
        asks: AsksFields { http: rule.http.as_deref(), grpc: rule.grpc.as_deref(), tls: rule.tls.as_ref() },
    }
}

#[cfg(test)]
mod tests;
