//! Tables of any size: so many peers that policies tell apart, so many rules about the pods under test.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use datapath::abi::{Endpoint, Identity, PortKey, RuleRow, RuleSetId, Slot, Transport};
use datapath::verdict::{Action, Tier};
use policy_compiler::object::PodKey;
use policy_compiler::tables::{RuleRows, Tables};

/// Peer 0.
pub(crate) const PEERS_V4: u32 = 0x0b00_0000;
/// Peer 0.
pub(crate) const PEERS_V6: u128 = 0xfd0b << 112;
/// The lowest port that a rule names.
const FIRST_PORT: u16 = 1024;

/// How large a policy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Policy {
    /// Peers that are told apart, each with an address of each family.
    pub(crate) identities: u32,
    /// Rules, each of which allows one identity at one port.
    pub(crate) rules: u32,
}

impl Policy {
    /// The identity that the last rule allows: other systems ask it last.
    pub(crate) const fn allowed_peer(self) -> u32 {
        (self.rules - 1) % self.identities
    }

    /// The port at which the last rule allows it.
    pub(crate) const fn allowed_port(self) -> u16 {
        self.port(self.rules - 1)
    }

    #[expect(clippy::cast_possible_truncation, reason = "at most a thousand ports")]
    const fn port(self, rule: u32) -> u16 {
        FIRST_PORT + (rule / self.identities) as u16
    }

    /// The tables. `salt` makes rule sets of equal sizes differ, as ids are derived from content.
    pub(crate) fn tables(self, pods: &[(PodKey, [IpAddr; 2])], free: &PodKey) -> Tables {
        let set = RuleSetId::new(u64::from(self.identities) << 20 | u64::from(self.rules));
        let mut tables = Tables::default();
        tables.endpoints.insert(free.clone(), Endpoint::default());
        for (pod, addresses) in pods {
            tables.endpoints.insert(pod.clone(), Endpoint::new(set, set));
            for address in addresses {
                tables.addresses.insert(*address, identity(self.allowed_peer()));
            }
        }
        for peer in 0..self.identities {
            tables.addresses.insert(Ipv4Addr::from_bits(PEERS_V4 + peer).into(), identity(peer));
            tables.addresses.insert(Ipv6Addr::from_bits(PEERS_V6 + u128::from(peer)).into(), identity(peer));
        }
        let mut rows = RuleRows::default();
        rows.any.insert(PortKey::All, row(Slot::new(self.rules, Action::Deny)));
        let mut peers = std::collections::BTreeMap::<Identity, Vec<(PortKey, RuleRow)>>::new();
        for rule in 0..self.rules {
            let port = self.port(rule);
            let key = PortKey::Port(Transport::Tcp, port);
            tables.ports[Transport::Tcp as usize].insert(port, port);
            rows.any.insert(key, RuleRow::EMPTY.with_class(port));
            peers.entry(identity(rule % self.identities)).or_default().push((key, row(Slot::new(rule, Action::Allow))));
        }
        rows.peers = peers.into_iter().map(|(identity, rows)| (identity, rows.into_boxed_slice())).collect();
        tables.rules.insert(set, rows);
        tables
    }
}

fn identity(peer: u32) -> Identity {
    Identity::new(u64::from(peer) + 1)
}

fn row(slot: Option<Slot>) -> RuleRow {
    let mut row = RuleRow::EMPTY;
    row.offer(Tier::Namespace, slot.unwrap_or(Slot::EMPTY));
    row
}
