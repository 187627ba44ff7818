//! The rules that nearly allow what is denied.

use datapath::abi::Direction;
use datapath::verdict::Action;

use super::answer::{NearestMiss, Part, RuleWalk, Side};
use super::ends::Judged;
use super::transport_name;
use super::walk::rule_of;
use super::why::{PeerMiss, peer_text, port_text, wanted};
use crate::compiler::Compiler;
use crate::labels::Requirement;
use crate::policy::{Peers, PortTerm, Ports, Rule};

/// How many are named.
const MOST: usize = 3;
/// The first part of the distance of a rule of which both halves are wrong.
const BOTH: usize = 2;

/// The allow rules that were asked and did not match, closest first: the peer matches and only the port does not; the
/// port matches and the peer lacks a label, then two, ...; the port matches and the peer is something else.
pub(super) fn nearest(compiler: &Compiler, judged: &Judged<'_>, side: &Side) -> Vec<NearestMiss> {
    let mut found: Vec<((usize, usize, u32), &RuleWalk)> = side
        .reached()
        .filter(|rule| rule.does == Action::Allow && !rule.matched)
        .filter_map(|rule| Some((distance(rule)?, rule)))
        .collect();
    found.sort_unstable_by_key(|(distance, _)| *distance);
    // With both halves wrong, a rule is worth naming only where nothing is closer.
    let is_far = |found: &((usize, usize, u32), &RuleWalk)| found.0.0 == BOTH;
    let keep = found.iter().take_while(|found| !is_far(found)).count().max(1);
    found.truncate(keep);
    let near = found.into_iter().filter_map(|(_, rule)| {
        let written = rule_of(compiler, judged, &rule.object, rule.index)?;
        let text = format!("{} would allow this {}", rule.place, conditions(judged, rule, written));
        Some(NearestMiss { place: rule.place.clone(), text })
    });
    near.take(MOST).collect()
}

/// `None` if the rule is too far off to be worth naming.
fn distance(rule: &RuleWalk) -> Option<(usize, usize, u32)> {
    let peer = if rule.peer { 0 } else { closest(rule)?.distance() };
    match (rule.peer, rule.port) {
        (true, _) => Some((0, 0, rule.rank)),
        (false, true) => Some((1, peer, rule.rank)),
        // Both are wrong: only if it is a single label.
        (false, false) => (peer == 1).then_some((BOTH, peer, rule.rank)),
    }
}

fn closest(rule: &RuleWalk) -> Option<&PeerMiss> {
    rule.misses.iter().min_by_key(|miss| miss.distance())
}

fn conditions(judged: &Judged<'_>, rule: &RuleWalk, written: &Rule) -> String {
    let mut all = Vec::new();
    if !rule.port {
        all.push(port_condition(judged, written));
    }
    if rule.request == Some(false) {
        all.push(request_condition(rule));
    }
    if !rule.peer
        && let Some(miss) = closest(rule)
    {
        all.push(peer_condition(judged, miss, written));
    }
    all.join(" and ")
}

/// `if HTTP GET /cart were asked (the method is POST, not GET)`
fn request_condition(rule: &RuleWalk) -> String {
    let why = rule.why_not.iter().find(|why| why.part == Part::Request);
    let why = why.map_or_else(String::new, |why| format!(" ({})", why.text));
    format!("if {} were asked{why}", rule.asks.as_deref().unwrap_or("something else"))
}

/// `on port 8443/TCP or 80/TCP (web)`; `if the destination had a port named web`
fn port_condition(judged: &Judged<'_>, written: &Rule) -> String {
    let Ports::AnyOf(ports) = &written.ports else { return "on any port".to_owned() };
    let (mut numbers, mut absent) = (Vec::new(), Vec::new());
    for port in ports {
        let text = port_text(&port.term);
        let PortTerm::Named { transport, name } = &port.term else {
            numbers.push(text);
            continue;
        };
        match judged.destination.and_then(|pod| pod.named_port(name, *transport)) {
            Some((on, number)) => numbers.push(format!("{number}/{} ({name})", transport_name(on))),
            None => absent.push(name.to_string()),
        }
    }
    let numbers = (!numbers.is_empty()).then(|| format!("on port {}", numbers.join(" or ")));
    let absent =
        (!absent.is_empty()).then(|| format!("if the destination had a port named {}", absent.join(" or ")));
    numbers.into_iter().chain(absent).collect::<Vec<_>>().join(", or ")
}

/// `if pod test/x had app=web (pod test/x has app=db, not app=web)`; `from 10.0.0.0/8`
fn peer_condition(judged: &Judged<'_>, miss: &PeerMiss, written: &Rule) -> String {
    let preposition = match judged.direction {
        Direction::Ingress => "from",
        Direction::Egress => "to",
    };
    if miss.hopeless {
        let term = match &written.peers {
            Peers::AnyOf(peers) => peers.iter().find(|peer| *peer.path == *miss.path),
            Peers::Any => None,
        };
        let who = term.map_or_else(|| "nobody".to_owned(), |peer| peer_text(&peer.term));
        return format!("{preposition} {who} ({})", miss.text);
    }
    let list = |of: &[Requirement]| of.iter().map(wanted).collect::<Vec<_>>().join(" and ");
    let mut all = Vec::new();
    if !miss.namespace.is_empty() {
        all.push(format!("its namespace {}", list(&miss.namespace)));
    }
    if !miss.pod.is_empty() {
        all.push(format!("{} {}", judged.peer.name(), list(&miss.pod)));
    }
    format!("if {} ({})", all.join(" and "), miss.text)
}
