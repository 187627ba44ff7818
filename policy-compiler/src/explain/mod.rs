//! Why one connection is allowed or denied, and what would change that.
//!
//! ```text
//! Connection --ends--> the sides that are judged --judge (the tables)--> Decision        THE verdict
//!                                  |                                         |
//!                                  +--walk (rule set, identity)--> tiers, rules --why--> wording
//!                                                                     |
//!                                                                     +--miss--> nearest misses
//!                                                                     +--change--> edits that were tried and work
//! ```
//!
//! There is no second engine here. The verdict is [`Compiler::judge`]; whether a rule matches comes from the compiled
//! rule set and the peer's identity; an edit is offered after it was compiled and judged. Only the wording of why
//! something does not match looks at selectors and labels.

mod answer;
mod audit;
mod change;
mod ends;
mod miss;
pub mod ports;
mod request;
#[cfg(test)]
mod tests;
mod walk;
mod why;

use std::net::IpAddr;

pub use datapath::abi::{Direction, Transport};
use datapath::lookup::{Decision, Query};
use datapath::verdict::Verdict;

pub use answer::{
    Blast, Change, End, EndKind, Explanation, Mismatch, NearestMiss, Outcome, Part, Place, RuleWalk, Side,
    TierWalk,
};
use ends::{Ends, Judged};
pub use request::{HttpRequest, Request};

use crate::compiler::Compiler;
use crate::object::PodKey;

/// A connection that is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Who opens it.
    pub from: Party,
    /// Who is called.
    pub to: Party,
    /// Protocol and destination port.
    pub protocol: Protocol,
    /// What is asked over it, if that is known.
    pub request: Option<Request>,
}

/// One end of a connection.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Party {
    /// A pod, at one of its addresses. A host-network pod counts as that address of its node.
    Pod(PodKey, IpAddr),
    /// An address. If it is a pod's and no node's, that pod is meant.
    Address(IpAddr),
}

/// What follows the IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// A protocol with ports, and the destination port.
    Transport(Transport, u16),
    /// Any other, by its IANA number: 1 is ICMP, 58 is `ICMPv6`.
    Other(u8),
}

impl Protocol {
    /// Protocol and port as the look-up wants them: `None` if the protocol has no ports.
    pub fn port(self) -> Option<(Transport, u16)> {
        match self {
            Self::Transport(transport, port) => Some((transport, port)),
            Self::Other(_) => None,
        }
    }
}

impl std::fmt::Display for Protocol {
    /// `443/TCP`, `ICMP`, `protocol 47`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Transport(transport, port) => write!(f, "{port}/{}", transport_name(*transport)),
            Self::Other(1) => f.write_str("ICMP"),
            Self::Other(58) => f.write_str("ICMPv6"),
            Self::Other(number) => write!(f, "protocol {number}"),
        }
    }
}

/// As the API writes it.
pub const fn transport_name(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "TCP",
        Transport::Udp => "UDP",
        Transport::Sctp => "SCTP",
    }
}

/// As JSON has it.
pub const fn direction_name(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    }
}

/// As JSON has it.
pub const fn verdict_name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allow => "allow",
        Verdict::Deny => "deny",
        Verdict::Reject => "reject",
        Verdict::Redirect => "redirect",
    }
}

/// Explains a connection: verdict, walk, nearest misses, and for each denied side the smallest changes that would allow
/// it. Every change is compiled and judged, so this costs up to some dozens of compiles; see [`walk`] for less.
pub fn explain(compiler: &Compiler, connection: &Connection) -> Explanation {
    let ends = Ends::new(compiler, connection);
    let mut explanation = walk(compiler, connection);
    for (side, judged) in explanation.sides.iter_mut().zip(ends.judged(connection)) {
        if matches!(side.decision.verdict, Verdict::Deny | Verdict::Reject) {
            side.changes = change::smallest(compiler, &judged, side);
        }
    }
    explanation
}

/// Explains a connection, without the changes.
pub fn walk(compiler: &Compiler, connection: &Connection) -> Explanation {
    let ends = Ends::new(compiler, connection);
    let sides: Vec<Side> =
        ends.judged(connection).iter().map(|judged| walk::side(compiler, judged)).collect();
    let mut notes = ends.notes(compiler);
    if connection.request.is_some() && !sides.iter().any(Side::is_conditional) {
        notes.push(
            "no rule about requests applies to this connection: the verdict on it stands for every request sent over it"
                .to_owned(),
        );
    }
    if connection.request.is_none() && sides.iter().any(Side::is_conditional) {
        notes.push(
            "what is asked decides: name a request (--http 'GET /', --grpc service/method, --tls name) for a verdict on it"
                .to_owned(),
        );
    }
    notes.extend(audit::note(compiler, connection));
    if sides.is_empty() {
        notes.push("neither end is a pod that policy is about, so that no policy is asked".to_owned());
    }
    if !sides.iter().all(Side::is_consistent) {
        notes.push(
            "the walk does not lead to the verdict of the tables: this is a bug, please report it".to_owned(),
        );
    }
    let verdict = overall(sides.iter().map(|side| side.decision.verdict));
    Explanation {
        allowed: verdict.is_allow(),
        verdict: verdict_name(verdict),
        from: ends.from.describe(),
        to: ends.to.describe(),
        protocol: connection.protocol.to_string(),
        http: connection.request.as_ref().and_then(Request::http).cloned(),
        tls: connection.request.as_ref().and_then(Request::tls).map(str::to_owned),
        sides,
        notes,
    }
}

/// What the sides say together: closed if one of them is; else what is asked decides, if it does for one of them.
pub fn overall(sides: impl IntoIterator<Item = Verdict>) -> Verdict {
    let mut overall = Verdict::Allow;
    for verdict in sides {
        match verdict {
            Verdict::Deny | Verdict::Reject => return verdict,
            Verdict::Redirect => overall = verdict,
            Verdict::Allow => {}
        }
    }
    overall
}

/// Only the judgements: for each side that policy is about, egress first, the pod and the decision.
pub fn judge(compiler: &Compiler, connection: &Connection) -> Vec<(PodKey, Direction, Decision)> {
    let ends = Ends::new(compiler, connection);
    let judged = ends.judged(connection);
    judged.iter().map(|judged| (judged.pod.key.clone(), judged.direction, judged.decide(compiler))).collect()
}

impl Judged<'_> {
    /// The verdict: the tables, by the datapath's look-up.
    fn decide(&self, compiler: &Compiler) -> Decision {
        let query = Query {
            direction: self.direction,
            peer: crate::tables::address(self.peer.address),
            port: self.protocol.port(),
            origin: self.origin,
        };
        match self.request {
            Some(request) => request.with(|request| compiler.judge_request(&self.pod.key, &query, request)),
            None => compiler.judge(&self.pod.key, &query),
        }
    }
}
