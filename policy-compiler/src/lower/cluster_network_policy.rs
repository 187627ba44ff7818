//! `ClusterNetworkPolicy` v1alpha2: the bounds and CEL rules of its CRD (kubernetes-sigs/network-policy-api).

use datapath::abi::{Direction, Transport};

use super::asks::AsksFields;
use super::cluster_wide::{self, Absent, Dialect, PeerFields, PortItem, RuleFields};
use super::findings::{Findings, Refused, exactly_one};
use super::{metadata, name, port};
use crate::api::cluster_network_policy::{ClusterNetworkPolicy, EgressRule, IngressRule, Port, Protocol};
use crate::policy::{Action, Mode, Policy, PortTerm};

const DIALECT: Dialect = Dialect {
    rules: 25,
    items: 25,
    actions: &[("Accept", Action::Allow), ("Deny", Action::Deny), ("Pass", Action::Pass)],
    ports: "protocols",
    without_namespaces: Absent::Every,
    is_domain: Some(name::is_domain),
    peers_are_optional: false,
    all_peers_at_ingress: false,
};

/// All of a policy, or errors in `findings`.
pub(super) fn lower(policy: &ClusterNetworkPolicy, findings: &mut Findings<'_>) -> Result<Policy, Refused> {
    let metadata = metadata::cluster(&policy.metadata, findings);
    let spec = &policy.spec;
    let tier = cluster_wide::tier(&spec.tier, findings);
    let priority = cluster_wide::priority(spec.priority, findings);
    let subject = cluster_wide::subject(&DIALECT, &spec.subject, findings);
    let ingress: Vec<_> = spec.ingress.iter().map(ingress_rule).collect();
    let ingress = cluster_wide::block(&DIALECT, Direction::Ingress, &ingress, findings);
    let egress: Vec<_> = spec.egress.iter().map(egress_rule).collect();
    let egress = cluster_wide::block(&DIALECT, Direction::Egress, &egress, findings);
    metadata?;
    Ok(Policy {
        object: findings.object().clone(),
        source: findings.source().cloned(),
        tier: tier?,
        mode: Mode::Enforce,
        log: false,
        priority: priority?,
        subject: subject?,
        ingress: ingress?,
        egress: egress?,
    })
}

fn ingress_rule(rule: &IngressRule) -> RuleFields<'_, Protocol> {
    RuleFields {
        name: rule.name.as_deref(),
        action: &rule.action,
        peers: Some(rule.from.iter().map(PeerFields::from).collect()),
        ports: rule.protocols.as_deref(),
        asks: AsksFields::default(),
    }
}

fn egress_rule(rule: &EgressRule) -> RuleFields<'_, Protocol> {
    RuleFields {
        name: rule.name.as_deref(),
        action: &rule.action,
        peers: Some(rule.to.iter().map(PeerFields::from).collect()),
        ports: rule.protocols.as_deref(),
        asks: AsksFields::default(),
    }
}

impl PortItem for Protocol {
    fn name(&self) -> Option<&str> {
        self.destination_named_port.as_deref()
    }

    fn lower(&self, path: &str, findings: &mut Findings<'_>) -> Result<PortTerm, Refused> {
        let protocols = [
            ("tcp", Transport::Tcp, &self.tcp),
            ("udp", Transport::Udp, &self.udp),
            ("sctp", Transport::Sctp, &self.sctp),
        ];
        let name = ("destinationNamedPort", self.destination_named_port.is_some());
        let [tcp, udp, sctp] = protocols.map(|(field, _, ports)| (field, ports.is_some()));
        let one = exactly_one(&[tcp, udp, sctp, name], path, findings);
        let mut term = None;
        for (field, transport, ports) in protocols {
            let Some(ports) = ports else { continue };
            let path = format!("{path}.{field}");
            term = Some(match &ports.destination_port {
                Some(port) => destination(transport, port, &format!("{path}.destinationPort"), findings),
                // `MinProperties=1`: there is no way to say "all of TCP" but to give no protocols, or ports 1 to 65535.
                None => Err(findings.error(path, "no field is set", "destinationPort")),
            });
        }
        if let Some(name) = &self.destination_named_port {
            term =
                Some(Ok(cluster_wide::named_port(name, &format!("{path}.destinationNamedPort"), findings)));
        }
        one?;
        term.unwrap_or_else(|| Err(findings.error(path, "no field is set", "a protocol")))
    }
}

fn destination(
    transport: Transport,
    ports: &Port,
    path: &str,
    findings: &mut Findings<'_>,
) -> Result<PortTerm, Refused> {
    let one =
        exactly_one(&[("number", ports.number.is_some()), ("range", ports.range.is_some())], path, findings);
    let number = ports.number.map(|number| port::number(number, &format!("{path}.number"), findings));
    let range = ports.range.as_ref().map(|range| {
        let path = format!("{path}.range");
        let first = port::required(range.start, &format!("{path}.start"), findings);
        let last = port::required(range.end, &format!("{path}.end"), findings);
        let (first, last) = (first?, last?);
        if first >= last {
            let message = format!("start {first} is not below end {last}");
            return Err(findings.error(path, message, "start below end; number for a single port"));
        }
        Ok(PortTerm::Range { transport, first, last })
    });
    one?;
    let number = number.map(|number| number.map(|number| port::single(transport, number)));
    number.or(range).unwrap_or_else(|| Err(findings.error(path, "no field is set", "number or range")))
}

#[cfg(test)]
mod tests;
