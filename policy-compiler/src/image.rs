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
        let mut ports = vec![Halves::settled(0); 3 << 16];
        for transport in Transport::ALL {
            for (&first, &last) in &tables.ports[transport as usize] {
                let [first_index, last_index] = [first, last].map(|port| transport.port_index(port) as usize);
                ports[first_index..=last_index].fill(Halves::settled(first));
            }
        }
        Self {
            generation,
            endpoints: tables
                .endpoints
                .iter()
                .map(|(key, value)| (key.clone(), Halves::settled(*value)))
                .collect(),
            addresses: tables.addresses.iter().map(|(key, value)| (*key, Halves::settled(*value))).collect(),
            prefixes: tables.prefixes.iter().map(|(key, value)| (*key, Halves::settled(*value))).collect(),
            ports,
            rules: tables.rules.iter().flat_map(|(id, rows)| rows.iter(*id)).collect(),
        }
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
