//! `NetworkPolicy` v1, checked as kubernetes `pkg/apis/networking/validation` checks it.

use std::sync::Arc;

use datapath::abi::Direction;
use ipnet::IpNet;
use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::findings::{Findings, Refused, every};
use super::name::{PORT_NAME, is_port_name};
use super::{metadata, network, port, selector};
use crate::api::namespace;
use crate::labels::Selector;
use crate::policy::{
    Action, Block, Mode, NETWORK_POLICY_LEVEL, Namespaces, Network, Peer, PeerTerm, Peers, Pods, Policy,
    Port, PortTerm, Ports, Rule, Tier,
};
use crate::problem::Severity;

/// The id of the warning that rules say nothing, because `policyTypes` leaves their direction out.
pub(super) const UNUSED_RULES: &str = "unused-rules";

/// All of a policy, or errors in `findings`. An absent spec is an empty one, and so selects every pod of the namespace
/// and lets nothing in: `spec` and `podSelector` are optional in the API.
pub(super) fn lower(policy: &NetworkPolicy, findings: &mut Findings<'_>) -> Result<Policy, Refused> {
    let metadata = metadata::namespaced(&policy.metadata, findings);
    let empty = NetworkPolicySpec::default();
    let spec = policy.spec.as_ref().unwrap_or(&empty);
    let own = Namespaces::Named(namespace(&policy.metadata).into());

    let pods = match &spec.pod_selector {
        Some(pods) => selector::lower(pods, "spec.podSelector", findings),
        None => Ok(Selector::everything()),
    };
    let rules: Vec<_> =
        spec.ingress.iter().flatten().map(|rule| (rule.from.as_deref(), rule.ports.as_deref())).collect();
    let ingress = self::rules(Direction::Ingress, &rules, &own, findings);
    let rules: Vec<_> =
        spec.egress.iter().flatten().map(|rule| (rule.to.as_deref(), rule.ports.as_deref())).collect();
    let egress = self::rules(Direction::Egress, &rules, &own, findings);
    let types = policy_types(spec, findings);

    metadata?;
    let (pods, types) = (pods?, types?);
    Ok(Policy {
        object: findings.object().clone(),
        source: findings.source().cloned(),
        tier: Tier::Namespace,
        mode: Mode::Enforce,
        log: false,
        priority: NETWORK_POLICY_LEVEL,
        subject: Pods { namespaces: own, pods },
        ingress: block(Direction::Ingress, types.ingress, ingress?, findings),
        egress: block(Direction::Egress, types.egress, egress?, findings),
    })
}

/// The directions that a policy speaks of.
struct Types {
    ingress: bool,
    egress: bool,
}

/// Absent and empty are defaulted alike: ingress always, egress if there are egress rules.
fn policy_types(spec: &NetworkPolicySpec, findings: &mut Findings<'_>) -> Result<Types, Refused> {
    let path = "spec.policyTypes";
    let names = spec.policy_types.as_deref().unwrap_or_default();
    if names.is_empty() {
        return Ok(Types {
            ingress: true,
            egress: spec.egress.as_ref().is_some_and(|rules| !rules.is_empty()),
        });
    }
    if names.len() > 2 {
        return Err(findings.error(path, format!("the list has {} items", names.len()), "at most 2 items"));
    }
    every(names.iter().enumerate().map(|(index, name)| match name.as_str() {
        "Ingress" | "Egress" => Ok(()),
        other => {
            let message = format!("{other:?} is not a policy type");
            Err(findings.error(format!("{path}[{index}]"), message, "Ingress or Egress"))
        }
    }))?;
    let has = |direction: &str| names.iter().any(|name| name == direction);
    Ok(Types { ingress: has("Ingress"), egress: has("Egress") })
}

const fn path_of(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "spec.ingress",
        Direction::Egress => "spec.egress",
    }
}

/// What the policy says of a direction: without its type nothing, with it at least that the subject is isolated.
fn block(direction: Direction, has_type: bool, rules: Vec<Rule>, findings: &mut Findings<'_>) -> Block {
    if has_type {
        return Block { isolates: true, rules };
    }
    if !rules.is_empty() {
        let name = match direction {
            Direction::Ingress => "Ingress",
            Direction::Egress => "Egress",
        };
        findings.remark(
            Severity::Warning,
            UNUSED_RULES,
            path_of(direction),
            format!("spec.policyTypes does not name {name}: these rules say nothing"),
            format!("{name} in spec.policyTypes, or no rules here"),
        );
    }
    Block::default()
}

/// A rule of either direction: its peers and its ports.
type RuleFields<'a> = (Option<&'a [NetworkPolicyPeer]>, Option<&'a [NetworkPolicyPort]>);

fn rules(
    direction: Direction,
    rules: &[RuleFields<'_>],
    own: &Namespaces,
    findings: &mut Findings<'_>,
) -> Result<Vec<Rule>, Refused> {
    every(rules.iter().enumerate().map(|(index, (peers, ports))| {
        let path = format!("{}[{index}]", path_of(direction));
        let ports = self::ports(ports.unwrap_or_default(), &format!("{path}.ports"), findings);
        let field = match direction {
            Direction::Ingress => "from",
            Direction::Egress => "to",
        };
        let peers = self::peers(peers.unwrap_or_default(), own, &format!("{path}.{field}"), findings);
        Ok(Rule {
            name: None,
            path: path.into(),
            action: Action::Allow,
            peers: peers?,
            ports: ports?,
            asks: None,
        })
    }))
}

/// "If this field is empty or missing, this rule matches all": here, and only here, an empty list is no restriction.
fn peers(
    peers: &[NetworkPolicyPeer],
    own: &Namespaces,
    path: &str,
    findings: &mut Findings<'_>,
) -> Result<Peers, Refused> {
    if peers.is_empty() {
        return Ok(Peers::Any);
    }
    let peers = every(peers.iter().enumerate().map(|(index, peer)| {
        let path = format!("{path}[{index}]");
        let term = self::peer(peer, own, &path, findings)?;
        Ok(Peer { path: path.into(), term })
    }));
    peers.map(Peers::AnyOf)
}

fn peer(
    peer: &NetworkPolicyPeer,
    own: &Namespaces,
    path: &str,
    findings: &mut Findings<'_>,
) -> Result<PeerTerm, Refused> {
    let pods = peer
        .pod_selector
        .as_ref()
        .map(|pods| selector::lower(pods, &format!("{path}.podSelector"), findings));
    let namespaces = peer
        .namespace_selector
        .as_ref()
        .map(|namespaces| selector::lower(namespaces, &format!("{path}.namespaceSelector"), findings));
    let block = peer.ip_block.as_ref().map(|block| ip_block(block, &format!("{path}.ipBlock"), findings));
    match (pods, namespaces, block) {
        (None, None, None) => {
            Err(findings.error(path, "the peer is empty", "podSelector, namespaceSelector, both, or ipBlock"))
        }
        (None, None, Some(block)) => Ok(PeerTerm::Network(block?)),
        (pods, namespaces, Some(_)) => {
            let other = match (pods, namespaces) {
                (Some(_), Some(_)) => "podSelector and namespaceSelector",
                (Some(_), None) => "podSelector",
                (None, _) => "namespaceSelector",
            };
            Err(findings.error(
                path,
                format!("ipBlock stands beside {other}"),
                "a peer of its own for ipBlock",
            ))
        }
        (pods, namespaces, None) => Ok(PeerTerm::Pods(Pods {
            namespaces: namespaces.transpose()?.map_or_else(|| own.clone(), Namespaces::Matching),
            pods: pods.transpose()?.unwrap_or_else(Selector::everything),
        })),
    }
}

fn ip_block(block: &IPBlock, path: &str, findings: &mut Findings<'_>) -> Result<Network, Refused> {
    let cidr_path = format!("{path}.cidr");
    let cidr = if block.cidr.is_empty() {
        Err(findings.error(cidr_path, "the prefix is missing", "an IPv4 or IPv6 prefix such as 10.0.0.0/8"))
    } else {
        network::cidr(&block.cidr, &cidr_path, findings)
    };
    let except = every(block.except.iter().flatten().enumerate().map(|(index, text)| {
        let path = format!("{path}.except[{index}]");
        let except = network::cidr(text, &path, findings)?;
        match cidr {
            Ok(cidr) if !is_strictly_within(except, cidr) => {
                let message = format!("{except} is not a part of {cidr}");
                Err(findings.error(path, message, format!("a longer prefix within {cidr}")))
            }
            Ok(_) | Err(_) => Ok(except),
        }
    }));
    let (cidr, mut except) = (cidr?, except?);
    except.sort_unstable();
    except.dedup();
    Ok(Network { cidr, except })
}

/// Both are canonical. Prefixes of two families never contain each other.
fn is_strictly_within(inner: IpNet, outer: IpNet) -> bool {
    outer.contains(&inner) && outer.prefix_len() < inner.prefix_len()
}

/// Here too an empty list is no restriction.
fn ports(ports: &[NetworkPolicyPort], path: &str, findings: &mut Findings<'_>) -> Result<Ports, Refused> {
    if ports.is_empty() {
        return Ok(Ports::Any);
    }
    let ports = every(ports.iter().enumerate().map(|(index, port)| {
        let path = format!("{path}[{index}]");
        let term = self::port(port, &path, findings)?;
        Ok(Port { path: path.into(), term })
    }));
    ports.map(Ports::AnyOf)
}

fn port(fields: &NetworkPolicyPort, path: &str, findings: &mut Findings<'_>) -> Result<PortTerm, Refused> {
    let transport = port::transport(fields.protocol.as_deref(), &format!("{path}.protocol"), findings);
    let port_path = format!("{path}.port");
    let end_path = format!("{path}.endPort");
    match (&fields.port, fields.end_port) {
        (None, None) => Ok(PortTerm::Protocol(transport?)),
        (None, Some(end)) => Err(findings.error(
            end_path,
            format!("endPort {end} stands without port"),
            "port, the first of the range",
        )),
        (Some(IntOrString::Int(first)), None) => {
            let number = port::number(*first, &port_path, findings);
            Ok(port::single(transport?, number?))
        }
        (Some(IntOrString::Int(first)), Some(end)) => {
            let number = port::number(*first, &port_path, findings);
            let last = port::number(end, &end_path, findings);
            let (transport, first, last) = (transport?, number?, last?);
            if last < first {
                let message = format!("endPort {last} is below port {first}");
                return Err(findings.error(end_path, message, format!("{first} to 65535")));
            }
            Ok(PortTerm::Range { transport, first, last })
        }
        (Some(IntOrString::String(name)), end) => {
            let end = end.map(|end| {
                let message = format!("endPort {end} stands beside the named port {name:?}");
                findings.error(end_path, message, "no endPort, or a port number")
            });
            let name = port_name(name, port_path, findings);
            end.map_or(Ok(()), Err)?;
            Ok(PortTerm::Named { transport: Some(transport?), name: name? })
        }
    }
}

fn port_name(name: &str, path: String, findings: &mut Findings<'_>) -> Result<Arc<str>, Refused> {
    if is_port_name(name) {
        return Ok(name.into());
    }
    let expected = match name.parse::<u16>() {
        Ok(number) => format!("{number} without quotes, or {PORT_NAME}"),
        Err(_) => PORT_NAME.to_owned(),
    };
    Err(findings.error(path, format!("{name:?} is not a port name"), expected))
}

#[cfg(test)]
mod tests;
