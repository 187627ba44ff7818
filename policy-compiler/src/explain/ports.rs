//! All protocols and ports of a connection at once.
//!
//! The tables cut each protocol into port atoms, which no policy can tell apart; one judgement an atom is exact.

use std::fmt;

use datapath::abi::{Direction, Transport};
use datapath::verdict::{Reason, Verdict};
use serde::Serialize;

use super::{Connection, Explanation, Party, Protocol, judge, transport_name, walk};
use crate::compiler::Compiler;
use crate::rule_set::Origin;
use crate::tables::PortAtoms;

/// Protocols and ports that get one answer, and that answer.
#[derive(Clone, Debug, Serialize)]
pub struct PortGroup {
    /// What it is about, sorted.
    pub ports: Vec<PortSpan>,
    /// The answer, for one of them.
    pub explanation: Explanation,
}

/// Ports of a protocol that lie side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct PortSpan {
    /// `TCP`, `UDP`, `SCTP`, or `other` for all protocols without ports (ICMP and so on).
    pub protocol: &'static str,
    /// The first port; absent for `other`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<u16>,
    /// The last port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<u16>,
}

impl PortSpan {
    /// All protocols without ports.
    pub const OTHER: Self = Self { protocol: "other", first: None, last: None };

    /// Whether it is all there is of its protocol. Port 0 does not count: nobody can name it.
    pub fn is_whole(&self) -> bool {
        self.first.is_none_or(|first| first <= 1) && self.last.is_none_or(|last| last == u16::MAX)
    }
}

impl fmt::Display for PortSpan {
    /// `TCP 80`, `TCP 80-90`, `TCP`, `other protocols (ICMP)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.first, self.last) {
            (Some(_), Some(_)) if self.is_whole() => f.write_str(self.protocol),
            (Some(first), Some(last)) if first == last => write!(f, "{} {first}", self.protocol),
            (Some(first), Some(last)) => write!(f, "{} {first}-{last}", self.protocol),
            _ => f.write_str("other protocols (ICMP and so on)"),
        }
    }
}

/// An answer, so far as two of them are told apart: verdicts, reasons, and the rules behind them.
pub type Key = Vec<(Direction, Verdict, Reason, Option<Origin>)>;

/// What tells the answer to one connection from other answers.
pub fn key(compiler: &Compiler, connection: &Connection) -> Key {
    let origin = |rule| compiler.rule(rule).map(|rule| rule.origin.clone());
    let judged = judge(compiler, connection).into_iter();
    let of = judged.map(|(_, direction, decision)| {
        (direction, decision.verdict, decision.reason, decision.rule.and_then(origin))
    });
    of.collect()
}

/// Every protocol and port, grouped by answer; the group of the most ports last.
pub fn all(compiler: &Compiler, from: &Party, to: &Party) -> Vec<PortGroup> {
    let explained = grouped(compiler, from, to).into_iter().map(|group| PortGroup {
        ports: group.ports,
        explanation: walk(compiler, &connection(from, to, group.example)),
    });
    explained.collect()
}

/// The same groups in the same order, with nothing but what tells answers apart.
pub fn keys(compiler: &Compiler, from: &Party, to: &Party) -> Vec<(Vec<PortSpan>, Key)> {
    grouped(compiler, from, to).into_iter().map(|group| (group.ports, group.key)).collect()
}

struct Group {
    key: Key,
    example: Protocol,
    ports: Vec<PortSpan>,
}

fn connection(from: &Party, to: &Party, protocol: Protocol) -> Connection {
    Connection { from: from.clone(), to: to.clone(), protocol, request: None }
}

fn grouped(compiler: &Compiler, from: &Party, to: &Party) -> Vec<Group> {
    // The first protocol of a group is its example.
    let mut groups: Vec<Group> = Vec::new();
    for (example, ports) in classes(compiler, to) {
        let key = key(compiler, &connection(from, to, example));
        match groups.iter_mut().find(|known| known.key == key) {
            Some(known) => known.ports.extend(ports),
            None => groups.push(Group { key, example, ports }),
        }
    }
    for group in &mut groups {
        group.ports = merge(std::mem::take(&mut group.ports));
    }
    groups.sort_by_key(|group| size(&group.ports));
    groups
}

/// What no policy can tell apart, each with an example. The rest of a protocol comes behind its atoms.
fn classes(compiler: &Compiler, to: &Party) -> Vec<(Protocol, Vec<PortSpan>)> {
    let mut classes = Vec::new();
    for transport in Transport::ALL {
        let atoms = &compiler.tables().ports[transport as usize];
        let span = |(first, last)| PortSpan {
            protocol: transport_name(transport),
            first: Some(first),
            last: Some(last),
        };
        classes.extend(
            atoms
                .iter()
                .map(|(&first, &last)| (Protocol::Transport(transport, first), vec![span((first, last))])),
        );
        let rest = rest(atoms);
        if let Some(&(first, _)) = rest.first() {
            classes.push((Protocol::Transport(transport, first), rest.into_iter().map(span).collect()));
        }
    }
    let icmp = match to {
        Party::Pod(_, address) | Party::Address(address) if address.is_ipv6() => 58,
        Party::Pod(..) | Party::Address(_) => 1,
    };
    classes.push((Protocol::Other(icmp), vec![PortSpan::OTHER]));
    classes
}

/// The ports from 1 on that are in no atom.
fn rest(atoms: &PortAtoms) -> Vec<(u16, u16)> {
    let mut rest = Vec::new();
    let mut next = Some(1);
    for (&first, &last) in atoms {
        if let Some(start) = next
            && start < first
        {
            rest.push((start, first - 1));
        }
        next = last.checked_add(1);
    }
    rest.extend(next.map(|start| (start, u16::MAX)));
    rest
}

/// Sorted, and spans that lie side by side made one.
fn merge(mut spans: Vec<PortSpan>) -> Vec<PortSpan> {
    let place =
        |span: &PortSpan| ["TCP", "UDP", "SCTP"].iter().position(|name| *name == span.protocol).unwrap_or(3);
    spans.sort_by_key(|span| (place(span), span.first));
    let mut merged: Vec<PortSpan> = Vec::new();
    for span in spans {
        match merged.last_mut() {
            Some(last)
                if last.protocol == span.protocol
                    && last.last.and_then(|last| last.checked_add(1)) == span.first =>
            {
                last.last = span.last;
            }
            _ => merged.push(span),
        }
    }
    merged
}

/// How much a group holds: one for protocols without ports, the number of ports for the others.
fn size(spans: &[PortSpan]) -> u32 {
    let ports = |span: &PortSpan| match (span.first, span.last) {
        (Some(first), Some(last)) => u32::from(last) - u32::from(first) + 1,
        _ => 1,
    };
    spans.iter().map(ports).sum()
}
