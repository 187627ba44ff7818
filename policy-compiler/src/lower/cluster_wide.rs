//! What `ClusterNetworkPolicy`, `AdminNetworkPolicy`, `BaselineAdminNetworkPolicy` and our own kinds have in common: everything but
//! their bounds, their words for actions, and how they write ports.

use std::sync::Arc;

use datapath::abi::Direction;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::asks::{self, AsksFields};
use super::findings::{Findings, Refused, every, exactly_one, length, list, no_doubles};
use super::name::{DOMAIN, PORT_NAME, is_port_name};
use super::{network, selector};
use crate::api::cluster_network_policy::{EgressPeer, IngressPeer, NamespacedPod, Subject};
use crate::labels::Selector;
use crate::policy::{
    Action, Block, Namespaces, Network, Peer, PeerTerm, Peers, Pods, Port, PortTerm, Ports, Rule, Tier,
};
use crate::problem::Severity;

/// The id of the warning that a peer matches nothing because there is no DNS policy yet.
pub(super) const NOT_ENFORCEABLE: &str = "not-enforceable";
/// The id of the warning that no container port can have the name that a rule asks for.
pub(super) const IMPOSSIBLE_PORT_NAME: &str = "impossible-port-name";

/// Priorities go from 0 to this.
const LAST_PRIORITY: i32 = 1000;
/// The most characters of a rule's name.
const NAME_LENGTH: usize = 100;
/// The most networks or domain names of a peer.
const PEER_ITEMS: usize = 25;
/// The most characters of a network.
const CIDR_LENGTH: usize = 43;

/// What differs between the kinds.
pub(super) struct Dialect {
    /// The most rules of a direction.
    pub(super) rules: usize,
    /// The most peers, and the most ports, of a rule.
    pub(super) items: usize,
    /// The words for actions.
    pub(super) actions: &'static [(&'static str, Action)],
    /// The name of a rule's port list.
    pub(super) ports: &'static str,
    /// What a pod peer or subject without a `namespaceSelector` means.
    pub(super) without_namespaces: Absent,
    /// Which domain names are taken; `None` if the kind has no `domainNames`.
    pub(super) is_domain: Option<fn(&str) -> bool>,
    /// Whether a rule without a list of peers means everyone.
    pub(super) peers_are_optional: bool,
    /// Whether ingress rules have all kinds of peers; else only pods.
    pub(super) all_peers_at_ingress: bool,
}

/// What a selector of namespaces means that is not there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Absent {
    /// That it is forgotten.
    Refused,
    /// All namespaces.
    Every,
    /// The policy's own.
    Own,
}

/// An item of a rule's port list.
pub(super) trait PortItem {
    /// The port name it asks for, if it does, whether or not it is valid.
    fn name(&self) -> Option<&str>;

    /// Which ports are meant.
    fn lower(&self, path: &str, findings: &mut Findings<'_>) -> Result<PortTerm, Refused>;
}

/// A rule of any of the kinds; `P` is an item of its port list.
pub(super) struct RuleFields<'a, P> {
    pub(super) name: Option<&'a str>,
    pub(super) action: &'a str,
    /// `None`: the list is not there.
    pub(super) peers: Option<Vec<PeerFields<'a>>>,
    pub(super) ports: Option<&'a [P]>,
    pub(super) asks: AsksFields<'a>,
}

/// A peer of either direction.
pub(super) struct PeerFields<'a> {
    namespaces: Option<&'a LabelSelector>,
    pods: Option<&'a NamespacedPod>,
    nodes: Option<&'a LabelSelector>,
    networks: Option<&'a [String]>,
    domain_names: Option<&'a [String]>,
}

impl<'a> From<&'a IngressPeer> for PeerFields<'a> {
    fn from(peer: &'a IngressPeer) -> Self {
        let (namespaces, pods) = (peer.namespaces.as_ref(), peer.pods.as_ref());
        Self { namespaces, pods, nodes: None, networks: None, domain_names: None }
    }
}

impl<'a> From<&'a EgressPeer> for PeerFields<'a> {
    fn from(peer: &'a EgressPeer) -> Self {
        Self {
            namespaces: peer.namespaces.as_ref(),
            pods: peer.pods.as_ref(),
            nodes: peer.nodes.as_ref(),
            networks: peer.networks.as_deref(),
            domain_names: peer.domain_names.as_deref(),
        }
    }
}

impl PeerFields<'_> {
    /// The field that makes this a peer without named ports, if one does.
    fn without_named_ports(&self) -> Option<&'static str> {
        self.networks
            .map(|_| "networks")
            .or(self.nodes.map(|_| "nodes"))
            .or(self.domain_names.map(|_| "domainNames"))
    }
}

/// The tier of a cluster-wide policy that says it.
pub(super) fn tier(tier: &str, findings: &mut Findings<'_>) -> Result<Tier, Refused> {
    let message = match tier {
        "Admin" => return Ok(Tier::Admin),
        "Baseline" => return Ok(Tier::Baseline),
        "" => "the tier is missing".to_owned(),
        other => format!("{other:?} is not a tier"),
    };
    Err(findings.error("spec.tier", message, "Admin or Baseline"))
}

/// A policy's place in its tier.
pub(super) fn priority(priority: Option<i32>, findings: &mut Findings<'_>) -> Result<i32, Refused> {
    let message = match priority {
        Some(priority) if (0..=LAST_PRIORITY).contains(&priority) => return Ok(priority),
        Some(priority) => format!("priority {priority} is out of range"),
        None => "the priority is missing".to_owned(),
    };
    Err(findings.error("spec.priority", message, format!("0 to {LAST_PRIORITY}")))
}

/// The pods that a policy applies to.
pub(super) fn subject(
    dialect: &Dialect,
    subject: &Subject,
    findings: &mut Findings<'_>,
) -> Result<Pods, Refused> {
    let path = "spec.subject";
    let fields = [("namespaces", subject.namespaces.is_some()), ("pods", subject.pods.is_some())];
    let one = exactly_one(&fields, path, findings);
    let namespaces =
        subject.namespaces.as_ref().map(|one| all_pods(one, &format!("{path}.namespaces"), findings));
    let pods =
        subject.pods.as_ref().map(|one| namespaced_pod(dialect, one, &format!("{path}.pods"), findings));
    one?;
    // Just one is there, so that the other way round would be the same.
    namespaces.or(pods).unwrap_or_else(|| Err(findings.error(path, "no field is set", "namespaces or pods")))
}

/// What a policy says of one direction.
pub(super) fn block<P: PortItem>(
    dialect: &Dialect,
    direction: Direction,
    rules: &[RuleFields<'_, P>],
    findings: &mut Findings<'_>,
) -> Result<Block, Refused> {
    let path = match direction {
        Direction::Ingress => "spec.ingress",
        Direction::Egress => "spec.egress",
    };
    let count = length(rules.len(), (0, dialect.rules), path, findings);
    let rules = every(
        rules
            .iter()
            .enumerate()
            .map(|(index, one)| rule(dialect, direction, one, format!("{path}[{index}]"), findings)),
    );
    count?;
    Ok(Block { isolates: false, rules: rules? })
}

/// A port by the name that the destination pod gives it, whatever its protocol.
pub(super) fn named_port(name: &str, path: &str, findings: &mut Findings<'_>) -> PortTerm {
    if !is_port_name(name) {
        let message = format!("no container port can have the name {name:?}: this matches nothing");
        findings.remark(Severity::Warning, IMPOSSIBLE_PORT_NAME, path, message, PORT_NAME);
    }
    PortTerm::Named { transport: None, name: name.into() }
}

fn rule<P: PortItem>(
    dialect: &Dialect,
    direction: Direction,
    fields: &RuleFields<'_, P>,
    path: String,
    findings: &mut Findings<'_>,
) -> Result<Rule, Refused> {
    let name = rule_name(fields.name, &path, findings);
    let action = action(dialect, fields.action, &path, findings);
    let peers_path = match direction {
        Direction::Ingress => format!("{path}.from"),
        Direction::Egress => format!("{path}.to"),
    };
    let peers = match &fields.peers {
        None if dialect.peers_are_optional => Ok(Peers::Any),
        listed => {
            let listed = listed.as_deref().unwrap_or_default();
            let count = length(listed.len(), (1, dialect.items), &peers_path, findings);
            let peers = every(listed.iter().enumerate().map(|(index, one)| {
                peer(dialect, direction, one, action.ok(), &format!("{peers_path}[{index}]"), findings)
            }));
            count.and(peers).map(|peers| Peers::AnyOf(peers.into_iter().flatten().collect()))
        }
    };
    let ports = ports(dialect, fields.ports, &path, findings);
    // At ingress the ports are the subject's own.
    let names = match direction {
        Direction::Ingress => Ok(()),
        Direction::Egress => named_ports_need_pods(fields, &path, findings),
    };
    let asks = asks::lower(fields.asks, &path, findings);
    let ports = match (ports, &asks) {
        (Ok(ports), Ok(Some(_))) => asks::ports(ports, &path, findings),
        (ports, _) => ports,
    };
    names?;
    Ok(Rule { name: name?, path: path.into(), action: action?, peers: peers?, ports: ports?, asks: asks? })
}

fn rule_name(
    name: Option<&str>,
    path: &str,
    findings: &mut Findings<'_>,
) -> Result<Option<Arc<str>>, Refused> {
    let name = name.unwrap_or_default();
    let length = name.chars().count();
    if length > NAME_LENGTH {
        let message = format!("the name has {length} characters");
        return Err(findings.error(
            format!("{path}.name"),
            message,
            format!("at most {NAME_LENGTH} characters"),
        ));
    }
    Ok(if name.is_empty() { None } else { Some(name.into()) })
}

fn action(dialect: &Dialect, word: &str, path: &str, findings: &mut Findings<'_>) -> Result<Action, Refused> {
    if let Some((_, action)) = dialect.actions.iter().find(|(known, _)| *known == word) {
        return Ok(*action);
    }
    let message = match word {
        "" => "the action is missing".to_owned(),
        word => format!("{word:?} is not an action"),
    };
    let known: Vec<&str> = dialect.actions.iter().map(|(word, _)| *word).collect();
    Err(findings.error(format!("{path}.action"), message, list(&known, "or")))
}

fn ports<P: PortItem>(
    dialect: &Dialect,
    items: Option<&[P]>,
    path: &str,
    findings: &mut Findings<'_>,
) -> Result<Ports, Refused> {
    let Some(items) = items else {
        return Ok(Ports::Any);
    };
    let path = format!("{path}.{}", dialect.ports);
    let count = length(items.len(), (1, dialect.items), &path, findings);
    let ports = every(items.iter().enumerate().map(|(index, item)| {
        let path = format!("{path}[{index}]");
        let term = item.lower(&path, findings)?;
        Ok(Port { path: path.into(), term })
    }));
    count?;
    Ok(Ports::AnyOf(ports?))
}

/// Only pods have named ports: a CEL rule of the egress rule.
fn named_ports_need_pods<P: PortItem>(
    fields: &RuleFields<'_, P>,
    path: &str,
    findings: &mut Findings<'_>,
) -> Result<(), Refused> {
    let name = fields.ports.into_iter().flatten().find_map(PortItem::name);
    let other = fields.peers.iter().flatten().find_map(PeerFields::without_named_ports);
    if let (Some(name), Some(other)) = (name, other) {
        let message =
            format!("the named port {name:?} stands beside a {other} peer, which has no named ports");
        return Err(findings.error(
            path,
            message,
            "port numbers, or a rule of its own for the peers that are pods",
        ));
    }
    Ok(())
}

/// The entries of one peer: one for each network or domain name.
fn peer(
    dialect: &Dialect,
    direction: Direction,
    fields: &PeerFields<'_>,
    action: Option<Action>,
    path: &str,
    findings: &mut Findings<'_>,
) -> Result<Vec<Peer>, Refused> {
    let mut known = vec![("namespaces", fields.namespaces.is_some()), ("pods", fields.pods.is_some())];
    if direction == Direction::Egress || dialect.all_peers_at_ingress {
        known.extend([("nodes", fields.nodes.is_some()), ("networks", fields.networks.is_some())]);
        if dialect.is_domain.is_some() || fields.domain_names.is_some() {
            known.push(("domainNames", fields.domain_names.is_some()));
        }
    }
    let one = exactly_one(&known, path, findings);

    let whole = |term: Result<PeerTerm, Refused>| Ok(vec![Peer { path: path.into(), term: term? }]);
    let mut entries = Vec::new();
    if let Some(namespaces) = fields.namespaces {
        let pods = all_pods(namespaces, &format!("{path}.namespaces"), findings);
        entries.push(whole(pods.map(PeerTerm::Pods)));
    }
    if let Some(pods) = fields.pods {
        let pods = namespaced_pod(dialect, pods, &format!("{path}.pods"), findings);
        entries.push(whole(pods.map(PeerTerm::Pods)));
    }
    if let Some(nodes) = fields.nodes {
        let nodes = selector::lower(nodes, &format!("{path}.nodes"), findings);
        entries.push(whole(nodes.map(PeerTerm::Nodes)));
    }
    if let Some(networks) = fields.networks {
        entries.push(self::networks(networks, &format!("{path}.networks"), findings));
    }
    if let Some(names) = fields.domain_names {
        entries.push(domain_names(dialect, names, action, &format!("{path}.domainNames"), findings));
    }
    one?;
    Ok(every(entries.into_iter())?.into_iter().flatten().collect())
}

/// All pods of the namespaces that a selector matches.
fn all_pods(namespaces: &LabelSelector, path: &str, findings: &mut Findings<'_>) -> Result<Pods, Refused> {
    let namespaces = Namespaces::Matching(selector::lower(namespaces, path, findings)?);
    Ok(Pods { namespaces, pods: Selector::everything() })
}

fn namespaced_pod(
    dialect: &Dialect,
    pod: &NamespacedPod,
    path: &str,
    findings: &mut Findings<'_>,
) -> Result<Pods, Refused> {
    let everything = "a selector; {} selects everything";
    let namespaces_path = format!("{path}.namespaceSelector");
    let namespaces = match &pod.namespace_selector {
        Some(namespaces) => selector::lower(namespaces, &namespaces_path, findings).map(Namespaces::Matching),
        None => match (dialect.without_namespaces, &findings.object().namespace) {
            (Absent::Every, _) => Ok(Namespaces::Matching(Selector::everything())),
            (Absent::Own, Some(own)) => Ok(Namespaces::Named(Arc::clone(own))),
            (Absent::Own, None) | (Absent::Refused, _) => {
                Err(findings.error(namespaces_path, "the selector is missing", everything))
            }
        },
    };
    let pods_path = format!("{path}.podSelector");
    let pods = match &pod.pod_selector {
        Some(pods) => selector::lower(pods, &pods_path, findings),
        None => Err(findings.error(pods_path, "the selector is missing", everything)),
    };
    Ok(Pods { namespaces: namespaces?, pods: pods? })
}

fn networks(networks: &[String], path: &str, findings: &mut Findings<'_>) -> Result<Vec<Peer>, Refused> {
    let count = length(networks.len(), (1, PEER_ITEMS), path, findings);
    let doubles = no_doubles(networks, path, findings);
    let peers = every(networks.iter().enumerate().map(|(index, text)| {
        let path = format!("{path}[{index}]");
        let length = text.chars().count();
        if length > CIDR_LENGTH {
            let message = format!("the network has {length} characters");
            return Err(findings.error(path, message, format!("at most {CIDR_LENGTH} characters")));
        }
        let cidr = network::cidr(text, &path, findings)?;
        Ok(Peer { path: path.into(), term: PeerTerm::Network(Network { cidr, except: Vec::new() }) })
    }));
    count.and(doubles)?;
    peers
}

fn domain_names(
    dialect: &Dialect,
    names: &[String],
    action: Option<Action>,
    path: &str,
    findings: &mut Findings<'_>,
) -> Result<Vec<Peer>, Refused> {
    let Some(is_domain) = dialect.is_domain else {
        let message = format!("{} has no domainNames", findings.object().kind);
        return Err(findings.error(path, message, "namespaces, pods, nodes or networks"));
    };
    let count = length(names.len(), (1, PEER_ITEMS), path, findings);
    let doubles = no_doubles(names, path, findings);
    // No CEL rule says so, only the text of the API. Taken, a deny would be no deny: a name that is resolved to
    // nothing matches nothing.
    let allows = match action {
        Some(Action::Deny | Action::Pass | Action::Reject) => {
            let message = "domainNames stand in a rule that does not let traffic through";
            let allow = dialect.actions.iter().find(|(_, action)| *action == Action::Allow);
            let expected = format!("action {}, or another peer", allow.map_or("", |(word, _)| *word));
            Err(findings.error(path, message, expected))
        }
        Some(Action::Allow) | None => Ok(()),
    };
    let peers = every(names.iter().enumerate().map(|(index, name)| {
        let path = format!("{path}[{index}]");
        if !is_domain(name) {
            return Err(findings.error(path, format!("{name:?} is not a domain name"), DOMAIN));
        }
        let canonical = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        Ok(Peer { path: path.into(), term: PeerTerm::Domain(canonical.into()) })
    }));
    count.and(doubles).and(allows)?;
    findings.remark(
        Severity::Warning,
        NOT_ENFORCEABLE,
        path,
        "domainNames are not enforceable yet: this peer matches nothing until DNS policy exists, so that traffic to \
         these names stays closed unless another rule allows it",
        "networks, to open these destinations today",
    );
    peers
}
