//! `AdminNetworkPolicy` and `BaselineAdminNetworkPolicy` v1alpha1: the bounds and CEL rules of their CRDs
//! (kubernetes-sigs/network-policy-api v0.1.7).

use datapath::abi::Direction;

use super::asks::AsksFields;
use super::cluster_wide::{self, Absent, Dialect, PeerFields, PortItem, RuleFields};
use super::findings::{Findings, Refused, exactly_one};
use super::{metadata, name, port};
use crate::api::admin_network_policy::{
    AdminNetworkPolicy, BaselineAdminNetworkPolicy, EgressRule, IngressRule, Port,
};
use crate::api::cluster_network_policy::Subject;
use crate::policy::{Action, Mode, Policy, PortTerm, Tier};

const ADMIN: Dialect = Dialect {
    rules: 100,
    items: 100,
    actions: &[("Allow", Action::Allow), ("Deny", Action::Deny), ("Pass", Action::Pass)],
    ports: "ports",
    without_namespaces: Absent::Refused,
    peers_are_optional: false,
    all_peers_at_ingress: false,
    is_domain: Some(name::is_domain_v1alpha1),
};

const BASELINE: Dialect =
    Dialect { actions: &[("Allow", Action::Allow), ("Deny", Action::Deny)], is_domain: None, ..ADMIN };

/// The one name that a `BaselineAdminNetworkPolicy` may have.
const BASELINE_NAME: &str = "default";
/// A `BaselineAdminNetworkPolicy` has no priority. It is asked before every `ClusterNetworkPolicy` of tier Baseline: at
/// the same priority, 0, its kind comes first ([`Policy::order`]).
const BASELINE_PRIORITY: i32 = 0;

/// All of a policy, or errors in `findings`.
pub(super) fn lower(policy: &AdminNetworkPolicy, findings: &mut Findings<'_>) -> Result<Policy, Refused> {
    let metadata = metadata::cluster(&policy.metadata, findings);
    let spec = &policy.spec;
    let priority = cluster_wide::priority(spec.priority, findings);
    let place = metadata.and(priority).map(|priority| (Tier::Admin, priority));
    policy_of(&ADMIN, place, &spec.subject, (&spec.ingress, &spec.egress), findings)
}

/// All of a policy, or errors in `findings`.
pub(super) fn lower_baseline(
    policy: &BaselineAdminNetworkPolicy,
    findings: &mut Findings<'_>,
) -> Result<Policy, Refused> {
    let metadata = metadata::cluster(&policy.metadata, findings);
    let only = match policy.metadata.name.as_deref().unwrap_or_default() {
        // That a name is missing is said already.
        BASELINE_NAME | "" => Ok(()),
        other => {
            let message = format!("{other:?} is not the name of the one BaselineAdminNetworkPolicy");
            Err(findings.error("metadata.name", message, BASELINE_NAME))
        }
    };
    let spec = &policy.spec;
    let place = metadata.and(only).map(|()| (Tier::Baseline, BASELINE_PRIORITY));
    policy_of(&BASELINE, place, &spec.subject, (&spec.ingress, &spec.egress), findings)
}

fn policy_of(
    dialect: &Dialect,
    place: Result<(Tier, i32), Refused>,
    subject: &Subject,
    (ingress, egress): (&[IngressRule], &[EgressRule]),
    findings: &mut Findings<'_>,
) -> Result<Policy, Refused> {
    let subject = cluster_wide::subject(dialect, subject, findings);
    let ingress: Vec<_> = ingress.iter().map(ingress_rule).collect();
    let ingress = cluster_wide::block(dialect, Direction::Ingress, &ingress, findings);
    let egress: Vec<_> = egress.iter().map(egress_rule).collect();
    let egress = cluster_wide::block(dialect, Direction::Egress, &egress, findings);
    let (tier, priority) = place?;
    Ok(Policy {
        object: findings.object().clone(),
        source: findings.source().cloned(),
        tier,
        mode: Mode::Enforce,
        log: false,
        priority,
        subject: subject?,
        ingress: ingress?,
        egress: egress?,
    })
}

fn ingress_rule(rule: &IngressRule) -> RuleFields<'_, Port> {
    RuleFields {
        name: rule.name.as_deref(),
        action: &rule.action,
        peers: Some(rule.from.iter().map(PeerFields::from).collect()),
        ports: rule.ports.as_deref(),
        asks: AsksFields::default(),
    }
}

fn egress_rule(rule: &EgressRule) -> RuleFields<'_, Port> {
    RuleFields {
        name: rule.name.as_deref(),
        action: &rule.action,
        peers: Some(rule.to.iter().map(PeerFields::from).collect()),
        ports: rule.ports.as_deref(),
        asks: AsksFields::default(),
    }
}

impl PortItem for Port {
    fn name(&self) -> Option<&str> {
        self.named_port.as_deref()
    }

    fn lower(&self, path: &str, findings: &mut Findings<'_>) -> Result<PortTerm, Refused> {
        let fields = [
            ("portNumber", self.port_number.is_some()),
            ("namedPort", self.named_port.is_some()),
            ("portRange", self.port_range.is_some()),
        ];
        let one = exactly_one(&fields, path, findings);
        let number = self.port_number.as_ref().map(|number| {
            let path = format!("{path}.portNumber");
            let transport =
                port::transport(number.protocol.as_deref(), &format!("{path}.protocol"), findings);
            let port = port::required(number.port, &format!("{path}.port"), findings);
            Ok(port::single(transport?, port?))
        });
        let named = self
            .named_port
            .as_ref()
            .map(|name| Ok(cluster_wide::named_port(name, &format!("{path}.namedPort"), findings)));
        let range = self.port_range.as_ref().map(|range| {
            let path = format!("{path}.portRange");
            let transport = port::transport(range.protocol.as_deref(), &format!("{path}.protocol"), findings);
            let first = port::required(range.start, &format!("{path}.start"), findings);
            let last = port::required(range.end, &format!("{path}.end"), findings);
            let (transport, first, last) = (transport?, first?, last?);
            // The text of the API asks for start below end, the CRD for nothing. One port is harmless; none at all
            // is a slip of the pen.
            if first > last {
                let message = format!("start {first} is above end {last}");
                return Err(findings.error(path, message, "start not above end"));
            }
            Ok(PortTerm::Range { transport, first, last })
        });
        one?;
        number.or(named).or(range).unwrap_or_else(|| Err(findings.error(path, "no field is set", "a port")))
    }
}

#[cfg(test)]
mod tests;
