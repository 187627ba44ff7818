//! Example tables, as the host looks them up and as they are written into the kernel.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, MapError};
use aya::{Ebpf, Pod};
use datapath::abi::{
    Address, Direction, Endpoint, Generation, Halves, Identity, PortAtom, PortKey, Prefix4, Prefix6, RuleKey,
    RuleRow, RuleSetId, Slot, Transport,
};
use datapath::lookup::{Maps, Origin, Query};
use datapath::verdict::{Action, Tier};

/// `BPF_PROG_TEST_RUN` lets packets come from the loopback device, which every network namespace has as its first.
pub(super) const INTERFACE: u32 = 1;

/// The maps, on the host.
#[derive(Debug, Default)]
pub(super) struct Tables {
    pub(super) generation: Generation,
    endpoints: BTreeMap<u32, Halves<Endpoint>>,
    addresses: BTreeMap<Address, Halves<Identity>>,
    prefixes4: Vec<(Prefix4, Halves<Identity>)>,
    prefixes6: Vec<(Prefix6, Halves<Identity>)>,
    ports: BTreeMap<u32, Halves<PortAtom>>,
    rules: BTreeMap<RuleKey, RuleRow>,
}

/// What passes into the kernel as it lies in memory.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Wire<T>(T);

// SAFETY (all): plain numbers without padding; `datapath` asserts that the sizes are the sums of the fields' sizes.
unsafe impl Pod for Wire<Halves<Endpoint>> {}
unsafe impl Pod for Wire<Halves<Identity>> {}
unsafe impl Pod for Wire<Halves<PortAtom>> {}
unsafe impl Pod for Wire<RuleKey> {}
unsafe impl Pod for Wire<RuleRow> {}

impl Tables {
    /// Tables in which every step of the look-up has something to find, and both generations differ.
    pub(super) fn example() -> Self {
        let [before, after] = [RuleSetId::new(1), RuleSetId::new(2)];
        let [web, admin, range] = [Identity::new(7), Identity::new(8), Identity::new(9)];
        let endpoint =
            Halves::settled(Endpoint::new(before, RuleSetId::NONE)).with(1, Endpoint::new(after, before));
        let mut tables = Self { endpoints: [(INTERFACE, endpoint)].into(), ..Self::default() };
        for (last, identity) in [(7, web), (8, admin)] {
            tables.addresses.insert(Address::V4([10, 0, 0, last]), Halves::settled(identity));
            tables.addresses.insert(v6(last), Halves::settled(identity));
        }
        // An exact entry in one generation only: in the other the prefix speaks.
        tables.addresses.insert(Address::V4([10, 0, 0, 9]), Halves::default().with(1, web));
        for (length, address, identity) in [
            (8, [10, 0, 0, 0], range),
            (16, [10, 1, 0, 0], web),
            (32, [10, 1, 2, 3], admin),
            (0, [0; 4], admin),
        ] {
            tables.prefixes4.push((Prefix4 { length, address }, Halves::settled(identity)));
        }
        let address = [0xfd, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        tables.prefixes6.push((Prefix6 { length: 16, address }, Halves::settled(range)));
        tables.prefixes6.push((Prefix6 { length: 128, address }, Halves::settled(admin)));
        for port in 80..=443 {
            tables.ports.insert(Transport::Tcp.port_index(port), Halves::settled(80));
            tables.ports.insert(Transport::Sctp.port_index(port), Halves::settled(0).with(1, 80));
        }
        let web_ports = PortKey::Port(Transport::Tcp, 80);
        tables.add_rule(before, Identity::NONE, PortKey::All, &[(Tier::Namespace, 9, Action::Deny)]);
        tables.add_rule(before, Identity::NONE, web_ports, &[]);
        tables.add_rule(before, web, web_ports, &[(Tier::Namespace, 3, Action::Allow)]);
        tables.add_rule(
            before,
            range,
            PortKey::All,
            &[(Tier::Admin, 0, Action::Pass), (Tier::Namespace, 4, Action::Allow)],
        );
        tables.add_rule(before, admin, PortKey::All, &[(Tier::Admin, 1, Action::Reject)]);
        tables.add_rule(after, admin, PortKey::All, &[(Tier::Admin, 0, Action::Allow)]);
        tables.add_rule(
            after,
            Identity::NONE,
            PortKey::Port(Transport::Sctp, 80),
            &[(Tier::Baseline, 1, Action::Deny)],
        );
        tables.add_rule(after, range, PortKey::All, &[(Tier::Baseline, 2, Action::Deny)]);
        tables
    }

    /// Adds a row; rows of any peer for certain ports lead on to the class of the same number.
    fn add_rule(
        &mut self,
        set: RuleSetId,
        identity: Identity,
        ports: PortKey,
        rules: &[(Tier, u32, Action)],
    ) {
        let mut row = RuleRow::EMPTY;
        for &(tier, rank, action) in rules {
            row.offer(tier, Slot::new(rank, action).unwrap_or(Slot::EMPTY));
        }
        if let (true, PortKey::Port(_, atom)) = (identity.is_none(), ports) {
            row = row.with_class(atom);
        }
        self.rules.insert(RuleKey::new(set, identity, ports), row);
    }

    /// Writes everything into the kernel's maps.
    pub(super) fn write(&self, ebpf: &mut Ebpf) -> Result<()> {
        self.write_endpoints(ebpf).context("cannot write the endpoints and rules")?;
        self.write_peers(ebpf).context("cannot write the addresses and prefixes")?;
        let mut ports: Array<_, Wire<Halves<PortAtom>>> = map(ebpf, "ports")?.try_into()?;
        for (&index, &atom) in &self.ports {
            ports.set(index, Wire(atom), 0)?;
        }
        let mut generation: Array<_, Generation> = map(ebpf, "generation")?.try_into()?;
        Ok(generation.set(0, self.generation, 0)?)
    }

    fn write_endpoints(&self, ebpf: &mut Ebpf) -> Result<()> {
        let mut endpoints: HashMap<_, u32, Wire<Halves<Endpoint>>> = map(ebpf, "endpoints")?.try_into()?;
        for (&interface, &endpoint) in &self.endpoints {
            endpoints.insert(interface, Wire(endpoint), 0)?;
        }
        let mut rules: HashMap<_, Wire<RuleKey>, Wire<RuleRow>> = map(ebpf, "rules")?.try_into()?;
        for (&key, &row) in &self.rules {
            rules.insert(Wire(key), Wire(row), 0)?;
        }
        Ok(())
    }

    fn write_peers(&self, ebpf: &mut Ebpf) -> Result<()> {
        for (&address, &identity) in &self.addresses {
            match address {
                Address::V4(bytes) => {
                    let mut map: HashMap<_, [u8; 4], Wire<Halves<Identity>>> =
                        map(ebpf, "addresses4")?.try_into()?;
                    map.insert(bytes, Wire(identity), 0)?;
                }
                Address::V6(bytes) => {
                    let mut map: HashMap<_, [u8; 16], Wire<Halves<Identity>>> =
                        map(ebpf, "addresses6")?.try_into()?;
                    map.insert(bytes, Wire(identity), 0)?;
                }
            }
        }
        let mut prefixes: LpmTrie<_, [u8; 4], Wire<Halves<Identity>>> = map(ebpf, "prefixes4")?.try_into()?;
        for (prefix, identity) in &self.prefixes4 {
            prefixes.insert(&Key::new(prefix.length, prefix.address), Wire(*identity), 0)?;
        }
        let mut prefixes: LpmTrie<_, [u8; 16], Wire<Halves<Identity>>> =
            map(ebpf, "prefixes6")?.try_into()?;
        for (prefix, identity) in &self.prefixes6 {
            prefixes.insert(&Key::new(prefix.length, prefix.address), Wire(*identity), 0)?;
        }
        Ok(())
    }
}

impl Maps for Tables {
    type EndpointKey = u32;

    fn generation(&self) -> Generation {
        self.generation
    }

    fn endpoint(&self, interface: &u32) -> Option<Halves<Endpoint>> {
        self.endpoints.get(interface).copied()
    }

    fn address(&self, address: Address) -> Option<Halves<Identity>> {
        self.addresses.get(&address).copied()
    }

    fn prefix(&self, address: Address) -> Option<Halves<Identity>> {
        match address {
            Address::V4(bytes) => longest(
                &bytes,
                self.prefixes4.iter().map(|(prefix, found)| (prefix.length, &prefix.address[..], found)),
            ),
            Address::V6(bytes) => longest(
                &bytes,
                self.prefixes6.iter().map(|(prefix, found)| (prefix.length, &prefix.address[..], found)),
            ),
        }
    }

    fn port(&self, index: u32) -> Option<Halves<PortAtom>> {
        self.ports.get(&index).copied()
    }

    fn rule(&self, key: &RuleKey) -> Option<RuleRow> {
        self.rules.get(key).copied()
    }
}

/// The questions to ask of the example: every combination of a peer, a protocol, a port and a direction.
pub(super) fn queries() -> Vec<Query> {
    let exact = [[10, 0, 0, 7], [10, 0, 0, 8], [10, 0, 0, 9]];
    let by_prefix = [[10, 1, 2, 3], [10, 1, 2, 2], [10, 2, 0, 0], [192, 0, 2, 1]];
    let v4 = exact.into_iter().chain(by_prefix).map(Address::V4);
    let peers = v4.chain([7, 8, 9, 0].map(v6)).chain([Address::V6([0xfc; 16])]);
    let mut queries = Vec::new();
    for peer in peers {
        for transport in Transport::ALL {
            for port in [1, 79, 80, 443, 444, u16::MAX] {
                for direction in Direction::ALL {
                    queries.push(Query {
                        direction,
                        peer,
                        port: Some((transport, port)),
                        origin: Origin::Elsewhere,
                    });
                }
            }
        }
    }
    queries
}

fn v6(last: u8) -> Address {
    Address::V6([0xfd, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last])
}

/// The longest of the prefixes that hold an address.
fn longest<'a>(
    address: &[u8],
    prefixes: impl Iterator<Item = (u32, &'a [u8], &'a Halves<Identity>)>,
) -> Option<Halves<Identity>> {
    let bit = |bytes: &[u8], index: u32| bytes[index as usize / 8] >> (7 - index % 8) & 1;
    prefixes
        .filter(|(length, prefix, _)| (0..*length).all(|index| bit(address, index) == bit(prefix, index)))
        .max_by_key(|(length, ..)| *length)
        .map(|(_, _, found)| *found)
}

fn map<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut aya::maps::Map> {
    Ok(ebpf.map_mut(name).ok_or_else(|| MapError::InvalidName { name: name.to_owned() })?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_wins_and_the_empty_one_holds_everything() {
        let tables = Tables::example();
        let found = |bytes| tables.prefix(Address::V4(bytes)).map(|halves| halves.at(0).get());
        assert_eq!((found([10, 1, 2, 3]), found([10, 1, 2, 2])), (Some(8), Some(7)));
        assert_eq!((found([10, 9, 0, 0]), found([11, 0, 0, 0])), (Some(9), Some(8)));
        assert_eq!(tables.prefix(Address::V6([0xfc; 16])), None);
    }
}
