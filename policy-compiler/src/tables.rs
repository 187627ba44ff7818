//! The tables, as the kernel will hold them, and the look-up over them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use datapath::abi::{
    Address, Endpoint, Generation, Halves, Identity, ListId, PortAtom, PortKey, RuleKey, RuleRow, RuleSetId,
    Transport,
};
use datapath::lookup::{self, Maps};
use ipnet::IpNet;
use rustc_hash::FxHashMap;

use crate::list::Lists;
use crate::object::PodKey;

/// Everything the datapath looks up, at rest: both halves of every value are equal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// Local pods and their rule sets.
    pub endpoints: BTreeMap<PodKey, Endpoint>,
    /// Addresses whose identity is not that of their prefix.
    pub addresses: FxHashMap<IpAddr, Identity>,
    /// Prefixes that policies name.
    pub prefixes: Prefixes,
    /// Port atoms by transport.
    pub ports: [PortAtoms; 3],
    /// Rows of the rule map, by rule set.
    pub rules: FxHashMap<RuleSetId, RuleRows>,
}

/// The rows of one rule set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleRows {
    /// Rows for any peer, by node-wide port atom.
    pub any: BTreeMap<PortKey, RuleRow>,
    /// Rows for one identity, by the rule set's own port class; sorted.
    pub peers: FxHashMap<Identity, Box<[(PortKey, RuleRow)]>>,
    /// The lists of conditional rules that rows name.
    pub lists: Lists,
}

impl RuleRows {
    /// One row.
    pub fn get(&self, identity: Identity, ports: PortKey) -> Option<RuleRow> {
        if identity.is_none() {
            return self.any.get(&ports).copied();
        }
        let rows = self.peers.get(&identity)?;
        rows.binary_search_by_key(&ports, |(key, _)| *key)
            .ok()
            .and_then(|index| rows.get(index))
            .map(|(_, row)| *row)
    }

    /// All rows, with their keys.
    pub fn iter(&self, id: RuleSetId) -> impl Iterator<Item = (RuleKey, RuleRow)> {
        let any = self.any.iter().map(move |(ports, row)| (RuleKey::new(id, Identity::NONE, *ports), *row));
        let peers = self.peers.iter().flat_map(move |(identity, rows)| {
            rows.iter().map(move |(ports, row)| (RuleKey::new(id, *identity, *ports), *row))
        });
        any.chain(peers)
    }
}

/// Port atoms of one transport: first port to last port, disjoint. Ports in none are the rest, atom 0.
pub type PortAtoms = BTreeMap<u16, u16>;

/// The atom of a port.
pub fn port_atom(atoms: &PortAtoms, port: u16) -> PortAtom {
    atoms.range(..=port).next_back().filter(|(_, last)| **last >= port).map_or(0, |(first, _)| *first)
}

/// Prefixes to identities, with a look-up by longest match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prefixes {
    map: BTreeMap<IpNet, Identity>,
    /// How many prefixes there are of each length: lengths without any are not tried. IPv4, then IPv6.
    lengths: [BTreeMap<u8, usize>; 2],
}

impl Prefixes {
    /// Sets or, with `None`, removes a prefix; gives back what it was.
    pub fn set(&mut self, prefix: IpNet, identity: Option<Identity>) -> Option<Identity> {
        let before = match identity {
            Some(identity) => self.map.insert(prefix, identity),
            None => self.map.remove(&prefix),
        };
        let lengths = &mut self.lengths[family(&prefix)];
        match (before, identity) {
            (None, Some(_)) => *lengths.entry(prefix.prefix_len()).or_default() += 1,
            (Some(_), None) => {
                if let Some(count) = lengths.get_mut(&prefix.prefix_len()) {
                    *count -= 1;
                    if *count == 0 {
                        lengths.remove(&prefix.prefix_len());
                    }
                }
            }
            _ => {}
        }
        before
    }

    /// The longest prefix that holds an address and is no longer than `limit`, and its identity.
    pub fn longest(&self, address: IpAddr, limit: u8) -> Option<(IpNet, Identity)> {
        let host = IpNet::from(address);
        self.lengths[family(&host)].range(..=limit).rev().find_map(|(&length, _)| {
            let prefix = IpNet::new(address, length).ok()?.trunc();
            self.map.get_key_value(&prefix).map(|(prefix, identity)| (*prefix, *identity))
        })
    }

    /// What an address in this prefix gets if the prefix itself is not there.
    pub fn inherited(&self, prefix: &IpNet) -> Identity {
        let Some(limit) = prefix.prefix_len().checked_sub(1) else { return Identity::NONE };
        self.longest(prefix.network(), limit).map_or(Identity::NONE, |(_, identity)| identity)
    }

    /// All prefixes, sorted.
    pub fn iter(&self) -> impl Iterator<Item = (&IpNet, &Identity)> {
        self.map.iter()
    }

    /// The identity of exactly this prefix.
    pub fn get(&self, prefix: &IpNet) -> Option<Identity> {
        self.map.get(prefix).copied()
    }
}

fn family(prefix: &IpNet) -> usize {
    usize::from(matches!(prefix, IpNet::V6(_)))
}

/// An address as the datapath keys it.
pub fn address(of: IpAddr) -> Address {
    match of {
        IpAddr::V4(address) => Address::V4(address.octets()),
        IpAddr::V6(address) => Address::V6(address.octets()),
    }
}

/// An address as users know it.
pub fn ip_addr(of: Address) -> IpAddr {
    match of {
        Address::V4(octets) => IpAddr::from(octets),
        Address::V6(octets) => IpAddr::from(octets),
    }
}

impl Maps for Tables {
    type EndpointKey = PodKey;

    fn generation(&self) -> Generation {
        0
    }

    fn endpoint(&self, key: &PodKey) -> Option<Halves<Endpoint>> {
        self.endpoints.get(key).copied().map(Halves::settled)
    }

    fn address(&self, address: Address) -> Option<Halves<Identity>> {
        self.addresses.get(&ip_addr(address)).copied().map(Halves::settled)
    }

    fn prefix(&self, address: Address) -> Option<Halves<Identity>> {
        self.prefixes.longest(ip_addr(address), u8::MAX).map(|(_, identity)| Halves::settled(identity))
    }

    fn port(&self, index: u32) -> Option<Halves<PortAtom>> {
        let atoms = self.ports.get((index >> 16) as usize)?;
        #[expect(clippy::cast_possible_truncation, reason = "the low 16 bits are the port")]
        let port = index as u16;
        Some(Halves::settled(port_atom(atoms, port)))
    }

    fn rule(&self, key: &RuleKey) -> Option<RuleRow> {
        self.rules.get(&key.rule_set())?.get(key.identity(), key.ports())
    }
}

impl lookup::Lists for Tables {
    fn list(&self, rule_set: RuleSetId, id: ListId) -> Option<datapath::l7::List<'_>> {
        datapath::l7::List::new(self.rules.get(&rule_set)?.lists.get(id)?.bytes()).ok()
    }
}

/// How many entries each map needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Local endpoints.
    pub endpoints: usize,
    /// Exact addresses.
    pub addresses: usize,
    /// Prefixes.
    pub prefixes: usize,
    /// Port atoms (the port map itself is flat and has always the same size).
    pub port_atoms: usize,
    /// Rule sets.
    pub rule_sets: usize,
    /// Rows of the rule map.
    pub rules: usize,
}

impl Tables {
    /// How many entries each map needs.
    pub fn sizes(&self) -> Sizes {
        let rows =
            |rows: &RuleRows| rows.any.len() + rows.peers.values().map(|rows| rows.len()).sum::<usize>();
        Sizes {
            endpoints: self.endpoints.len(),
            addresses: self.addresses.len(),
            prefixes: self.prefixes.map.len(),
            port_atoms: self.ports.iter().map(BTreeMap::len).sum(),
            rule_sets: self.rules.len(),
            rules: self.rules.values().map(rows).sum(),
        }
    }

    /// The atom of a port.
    pub fn atom(&self, transport: Transport, port: u16) -> PortAtom {
        port_atom(&self.ports[transport as usize], port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_wins_and_a_limit_gives_what_is_inherited() {
        let mut prefixes = Prefixes::default();
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        prefixes.set(net("0.0.0.0/0"), Some(Identity::new(1)));
        prefixes.set(net("10.0.0.0/8"), Some(Identity::new(2)));
        prefixes.set(net("10.1.0.0/16"), Some(Identity::NONE));
        let longest =
            |text: &str| prefixes.longest(text.parse().unwrap(), u8::MAX).map(|(_, identity)| identity);
        assert_eq!(longest("10.1.2.3"), Some(Identity::NONE));
        assert_eq!(longest("10.2.2.3"), Some(Identity::new(2)));
        assert_eq!(longest("11.0.0.1"), Some(Identity::new(1)));
        assert_eq!(longest("fd00::1"), None);
        assert_eq!(prefixes.inherited(&net("10.1.0.0/16")), Identity::new(2));
        assert_eq!(prefixes.inherited(&net("0.0.0.0/0")), Identity::NONE);
        prefixes.set(net("10.1.0.0/16"), None);
        assert_eq!(
            prefixes.longest("10.1.2.3".parse().unwrap(), u8::MAX).map(|(net, _)| net),
            Some(net("10.0.0.0/8"))
        );
    }

    #[test]
    fn a_port_outside_every_atom_is_the_rest() {
        let atoms = PortAtoms::from([(80, 84), (85, 85)]);
        let atom = |port| port_atom(&atoms, port);
        assert_eq!([atom(79), atom(80), atom(84), atom(85), atom(86), atom(0)], [0, 80, 80, 85, 0, 0]);
    }
}
