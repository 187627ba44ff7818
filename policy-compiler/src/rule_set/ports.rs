//! The ports of a ranked rule, by transport, and which rows for any peer they cover.

use std::collections::BTreeSet;
use std::sync::Arc;

use datapath::abi::{Direction, PortAtom, PortKey, Transport};

use super::Recipe;
use crate::policy::PortTerm;
use crate::tables::{PortAtoms, port_atom};
use crate::terms::NamedPort;

/// The ports of a ranked rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RankedPorts {
    Any,
    AnyOf(PortList),
}

/// The ports of a rule, by transport; ranges are disjoint and as few as will do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PortList {
    /// Whether the whole protocol is meant.
    pub(super) whole: [bool; 3],
    /// First to last.
    pub(super) ranges: [PortAtoms; 3],
    /// Of the peer: what these are differs from identity to identity.
    pub(super) named: BTreeSet<NamedPort>,
}

impl RankedPorts {
    /// Whether they cover the ports of a row for any peer, whatever the peer is.
    pub(super) fn cover(&self, key: PortKey) -> bool {
        match (self, key) {
            (Self::Any, key) => key == PortKey::All,
            (Self::AnyOf(_), PortKey::All) => false,
            (Self::AnyOf(ports), PortKey::Port(transport, atom)) => ports.cover(transport, atom),
        }
    }
}

impl PortList {
    /// From the terms of a rule. At ingress, a named port is a number of the endpoint itself.
    pub(super) fn new<'a>(ports: impl Iterator<Item = &'a PortTerm>, recipe: &Recipe) -> Self {
        let mut list = Self::default();
        let mut ranges = BTreeSet::new();
        for port in ports {
            match port {
                PortTerm::Protocol(transport) => list.whole[*transport as usize] = true,
                PortTerm::Range { transport, first, last } => {
                    ranges.insert((*transport, *first, *last));
                }
                PortTerm::Named { transport, name } => {
                    let named = NamedPort { name: Arc::clone(name), transport: *transport };
                    match recipe.direction {
                        Direction::Ingress => {
                            let numbers = recipe.named.get(&named).into_iter().flatten();
                            ranges.extend(numbers.map(|&(transport, port)| (transport, port, port)));
                        }
                        Direction::Egress => {
                            list.named.insert(named);
                        }
                    }
                }
            }
        }
        for (transport, first, last) in ranges {
            let of = &mut list.ranges[transport as usize];
            match of.last_entry() {
                Some(mut before) if u32::from(first) <= u32::from(*before.get()) + 1 => {
                    let end = before.get_mut();
                    *end = last.max(*end);
                }
                _ => {
                    of.insert(first, last);
                }
            }
        }
        list
    }

    /// Whether a port is covered whoever the peer is. (0 is the rest of the protocol, which no range holds.)
    pub(super) fn cover(&self, transport: Transport, port: PortAtom) -> bool {
        self.whole[transport as usize] || port_atom(&self.ranges[transport as usize], port) != 0
    }
}
