//! The maps as the kernel holds them: what [`crate::plan`]'s steps lead through, and what tests judge by after each.

use std::collections::BTreeMap;
use std::net::IpAddr;

use datapath::abi::{Address, Endpoint, Generation, Halves, Identity, PortAtom, RuleKey, RuleRow, Transport};
use datapath::lookup::Maps;
use ipnet::IpNet;
use rustc_hash::FxHashMap;

use crate::object::PodKey;
use crate::plan::Step;
use crate::tables::{Tables, ip_addr};

mod comparison;
pub mod difference;

/// The maps as the kernel holds them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    generation: Generation,
    endpoints: BTreeMap<PodKey, Halves<Endpoint>>,
    addresses: FxHashMap<IpAddr, Halves<Identity>>,
    prefixes: FxHashMap<IpNet, Halves<Identity>>,
    /// Flat, as in the kernel: 3 x 65,536.
    ports: Vec<Halves<PortAtom>>,
    rules: FxHashMap<RuleKey, RuleRow>,
}

impl Image {
    /// The maps of a kernel that holds these tables, at rest.
    pub fn of(tables: &Tables, generation: Generation) -> Self {
        Self {
            generation,
            endpoints: tables
                .endpoints
                .iter()
                .map(|(key, value)| (key.clone(), Halves::settled(*value)))
                .collect(),
            addresses: tables.addresses.iter().map(|(key, value)| (*key, Halves::settled(*value))).collect(),
            prefixes: tables.prefixes.iter().map(|(key, value)| (*key, Halves::settled(*value))).collect(),
            ports: flat(tables).into_iter().map(Halves::settled).collect(),
            rules: tables.rules.iter().flat_map(|(id, rows)| rows.iter(*id)).collect(),
        }
    }

    /// The maps as they were read from a kernel.
    ///
    /// Ports that are not given are 0 in both halves, as an array map has them that nobody wrote. The bits of a prefix
    /// behind its length do not count, as in the kernel's trie.
    pub fn from_parts(
        generation: Generation,
        endpoints: impl IntoIterator<Item = (PodKey, Halves<Endpoint>)>,
        addresses: impl IntoIterator<Item = (IpAddr, Halves<Identity>)>,
        prefixes: impl IntoIterator<Item = (IpNet, Halves<Identity>)>,
        ports: impl IntoIterator<Item = ((Transport, u16), Halves<PortAtom>)>,
        rules: impl IntoIterator<Item = (RuleKey, RuleRow)>,
    ) -> Self {
        let mut flat = vec![Halves::settled(0); PORTS];
        for ((transport, port), atom) in ports {
            flat[transport.port_index(port) as usize] = atom;
        }
        Self {
            generation,
            endpoints: endpoints.into_iter().collect(),
            addresses: addresses.into_iter().collect(),
            prefixes: prefixes.into_iter().map(|(prefix, identity)| (prefix.trunc(), identity)).collect(),
            ports: flat,
            rules: rules.into_iter().collect(),
        }
    }

    /// Local endpoints, sorted.
    pub fn endpoints(&self) -> impl Iterator<Item = (&PodKey, Halves<Endpoint>)> {
        self.endpoints.iter().map(|(key, halves)| (key, *halves))
    }

    /// Exact addresses, in no order.
    pub fn addresses(&self) -> impl Iterator<Item = (IpAddr, Halves<Identity>)> {
        self.addresses.iter().map(|(address, halves)| (*address, *halves))
    }

    /// Prefixes, in no order.
    pub fn prefixes(&self) -> impl Iterator<Item = (IpNet, Halves<Identity>)> {
        self.prefixes.iter().map(|(prefix, halves)| (*prefix, *halves))
    }

    /// All ports of all transports, sorted.
    pub fn ports(&self) -> impl Iterator<Item = ((Transport, u16), Halves<PortAtom>)> {
        every_port().zip(self.ports.iter().copied())
    }

    /// Rows of the rule map, in no order.
    pub fn rules(&self) -> impl Iterator<Item = (RuleKey, RuleRow)> {
        self.rules.iter().map(|(key, row)| (*key, *row))
    }

    /// What packets of addresses in a prefix are judged by if the prefix itself is not there.
    pub(crate) fn inherited(&self, prefix: &IpNet) -> Identity {
        let outer =
            (0..prefix.prefix_len()).rev().filter_map(|length| IpNet::new(prefix.network(), length).ok());
        let mut found = outer.filter_map(|outer| self.prefixes.get(&outer.trunc()));
        found.next().map_or(Identity::NONE, |halves| halves.at(self.generation))
    }

    /// The generation in force.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Performs a step.
    pub fn perform(&mut self, step: &Step) {
        match step {
            Step::AddRule(key, row) => {
                self.rules.insert(*key, *row);
            }
            Step::RemoveRule(key) => {
                self.rules.remove(key);
            }
            Step::SetEndpoint(key, halves) => {
                self.endpoints.insert(key.clone(), *halves);
            }
            Step::RemoveEndpoint(key) => {
                self.endpoints.remove(key);
            }
            Step::SetAddress(address, halves) => {
                self.addresses.insert(*address, *halves);
            }
            Step::RemoveAddress(address) => {
                self.addresses.remove(address);
            }
            Step::SetPrefix(prefix, halves) => {
                self.prefixes.insert(*prefix, *halves);
            }
            Step::RemovePrefix(prefix) => {
                self.prefixes.remove(prefix);
            }
            Step::Ports { transport, first, last, atom } => {
                let [first, last] = [*first, *last].map(|port| transport.port_index(port) as usize);
                self.ports[first..=last].fill(*atom);
            }
            Step::Commit(generation) => self.generation = *generation,
            Step::Quiesce => {}
        }
    }
}

/// How many ports there are: of each transport, 65,536.
const PORTS: usize = Transport::ALL.len() << 16;

/// The ports in the order of the flat map.
fn every_port() -> impl Iterator<Item = (Transport, u16)> {
    Transport::ALL.into_iter().flat_map(|transport| (0..=u16::MAX).map(move |port| (transport, port)))
}

/// The port atoms as the flat map has them.
fn flat(tables: &Tables) -> Vec<PortAtom> {
    let mut ports = vec![0; PORTS];
    for transport in Transport::ALL {
        for (&first, &last) in &tables.ports[transport as usize] {
            let [first_index, last_index] = [first, last].map(|port| transport.port_index(port) as usize);
            ports[first_index..=last_index].fill(first);
        }
    }
    ports
}

/// Whether any look-up asks for this key: one whose ports are written as [`RuleKey::new`] writes them.
pub(crate) fn is_asked_for(key: &RuleKey) -> bool {
    *key == RuleKey::new(key.rule_set(), key.identity(), key.ports())
}

impl Maps for Image {
    type EndpointKey = PodKey;

    fn generation(&self) -> Generation {
        self.generation
    }

    fn endpoint(&self, key: &PodKey) -> Option<Halves<Endpoint>> {
        self.endpoints.get(key).copied()
    }

    fn address(&self, address: Address) -> Option<Halves<Identity>> {
        self.addresses.get(&ip_addr(address)).copied()
    }

    fn prefix(&self, address: Address) -> Option<Halves<Identity>> {
        let host = IpNet::from(ip_addr(address));
        (0..=host.prefix_len()).rev().find_map(|length| {
            let prefix = IpNet::new(host.addr(), length).ok()?.trunc();
            self.prefixes.get(&prefix).copied()
        })
    }

    fn port(&self, index: u32) -> Option<Halves<PortAtom>> {
        self.ports.get(index as usize).copied()
    }

    fn rule(&self, key: &RuleKey) -> Option<RuleRow> {
        self.rules.get(key).copied()
    }
}
