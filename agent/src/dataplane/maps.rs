//! All maps that user space reads or writes, and how large they are.

use std::os::fd::OwnedFd;
use std::path::Path;

use datapath::abi::{Endpoint, Generation, Halves, Identity, PortAtom, Prefix4, Prefix6, RuleKey, RuleRow};
use datapath::detour::Detour;
use datapath::event::{Count, CounterKey};
use datapath::family::{Ipv4, Ipv6};
use datapath::flow::{Flow, FlowKey};
use datapath::hook::{ServiceKey, ServiceRow};
use datapath::interface::Interface;
use datapath::mark::Mark;
use datapath::settings::Settings;

use super::error::{Error, MapError};
use super::map::Map;
use super::shares::Shares;
use super::sys;
use super::sys::map::RawMap;

/// For how many entries maps have room. Those that grow with the cluster take memory as they fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Flows of each family.
    pub flows: u32,
    /// Addresses of each family that policies on this node tell apart.
    pub addresses: u32,
    /// Prefixes of each family that policies on this node name.
    pub prefixes: u32,
    /// Rows of the rule map.
    pub rules: u32,
    /// Service addresses with their ports.
    pub services: u32,
    /// Addresses of nodes, of each family.
    pub nodes: u32,
    /// Counters.
    pub counters: u32,
    /// Bytes of the buffer of events; a power of two, and of pages.
    pub events: u32,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            flows: 1 << 18,
            addresses: 1 << 17,
            prefixes: 1 << 16,
            rules: 1 << 18,
            services: 1 << 16,
            nodes: 1 << 15,
            counters: 1 << 16,
            events: 1 << 20,
        }
    }
}

impl Sizes {
    /// The sizes by the names of the maps.
    pub(super) fn by_name(&self) -> [(&'static str, u32); 15] {
        [
            ("flows4", self.flows),
            ("flows6", self.flows),
            ("detours4", self.flows),
            ("detours6", self.flows),
            ("addresses4", self.addresses),
            ("addresses6", self.addresses),
            ("prefixes4", self.prefixes),
            ("prefixes6", self.prefixes),
            ("rules", self.rules),
            ("services", self.services),
            ("nodes4", self.nodes),
            ("nodes6", self.nodes),
            ("counters", self.counters),
            ("events", self.events),
            ("shares", u32::from(Mark::MAX_INDEX) + 1),
        ]
    }
}

/// The maps, open.
#[derive(Debug)]
pub(super) struct Maps {
    pub(super) generation: Map<u32, Generation>,
    pub(super) settings: Map<u32, Settings>,
    pub(super) slots: Map<u32, Interface>,
    pub(super) interfaces: Map<u32, Interface>,
    pub(super) numbers: Map<u32, u32>,
    pub(super) locals4: Map<[u8; 4], u32>,
    pub(super) locals6: Map<[u8; 16], u32>,
    pub(super) nodes4: Map<[u8; 4], u8>,
    pub(super) nodes6: Map<[u8; 16], u8>,
    pub(super) services: Map<ServiceKey, ServiceRow>,
    pub(super) addresses4: Map<[u8; 4], Halves<Identity>>,
    pub(super) addresses6: Map<[u8; 16], Halves<Identity>>,
    pub(super) prefixes4: Map<Prefix4, Halves<Identity>>,
    pub(super) prefixes6: Map<Prefix6, Halves<Identity>>,
    pub(super) ports: Map<u32, Halves<PortAtom>>,
    pub(super) rules: Map<RuleKey, RuleRow>,
    pub(super) flows4: Map<FlowKey<Ipv4>, Flow>,
    pub(super) flows6: Map<FlowKey<Ipv6>, Flow>,
    pub(super) detours4: Map<FlowKey<Ipv4>, Detour>,
    pub(super) detours6: Map<FlowKey<Ipv6>, Detour>,
    pub(super) shares: Shares,
    pub(super) counters: Map<CounterKey, Count>,
    pub(super) tallies: Map<u32, u64>,
}

impl Maps {
    /// Opens the maps that are pinned in a directory.
    pub(super) fn open(directory: &Path) -> Result<Self, Error> {
        let cpus = possible_cpus()?;
        let raw = |name: &'static str| raw(directory, name, cpus);
        Ok(Self {
            generation: Map::new("generation", raw("generation")?)?,
            settings: Map::new("settings", raw("settings")?)?,
            slots: Map::new("slots", raw("slots")?)?,
            interfaces: Map::new("interfaces", raw("interfaces")?)?,
            numbers: Map::new("numbers", raw("numbers")?)?,
            locals4: Map::new("locals4", raw("locals4")?)?,
            locals6: Map::new("locals6", raw("locals6")?)?,
            nodes4: Map::new("nodes4", raw("nodes4")?)?,
            nodes6: Map::new("nodes6", raw("nodes6")?)?,
            services: Map::new("services", raw("services")?)?,
            addresses4: Map::new("addresses4", raw("addresses4")?)?,
            addresses6: Map::new("addresses6", raw("addresses6")?)?,
            prefixes4: Map::new("prefixes4", raw("prefixes4")?)?,
            prefixes6: Map::new("prefixes6", raw("prefixes6")?)?,
            ports: Map::new("ports", raw("ports")?)?,
            rules: Map::new("rules", raw("rules")?)?,
            flows4: Map::new("flows4", raw("flows4")?)?,
            flows6: Map::new("flows6", raw("flows6")?)?,
            detours4: Map::new("detours4", raw("detours4")?)?,
            detours6: Map::new("detours6", raw("detours6")?)?,
            shares: Shares::new(Map::new("shares", raw("shares")?)?)?,
            counters: Map::new("counters", raw("counters")?)?,
            tallies: Map::new("tallies", raw("tallies")?)?,
        })
    }

    /// An interface's row.
    pub(super) fn interface(&self, number: u32) -> Result<Option<Interface>, MapError> {
        match self.slots.get(&Interface::slot(number))? {
            Some(row) if row.number == number && number != 0 => Ok(Some(row)),
            _ => self.interfaces.get(&number),
        }
    }

    /// The halves of an interface's endpoint.
    pub(super) fn endpoint(&self, number: u32) -> Result<Option<Halves<Endpoint>>, MapError> {
        Ok(self.interface(number)?.map(|row| row.endpoint))
    }

    /// All interfaces that have a row.
    pub(super) fn all_interfaces(&self) -> Result<Vec<Interface>, MapError> {
        let mut rows = Vec::new();
        self.slots.each(|_, row| rows.push(row))?;
        self.interfaces.each(|_, row| rows.push(row))?;
        rows.retain(|row| row.number != 0);
        Ok(rows)
    }

    /// The generation in force.
    pub(super) fn generation(&self) -> Result<Generation, MapError> {
        Ok(self.generation.get(&0)?.unwrap_or(0))
    }

    /// How many entries there are, and for how many there is room, of the maps that can become full.
    pub(super) fn uses(&self) -> Result<Vec<(&'static str, usize, usize)>, MapError> {
        macro_rules! uses {
            ($($map:ident),*) => { vec![$((self.$map.name(), self.$map.count()?, self.$map.size())),*] };
        }
        Ok(uses![
            addresses4, addresses6, prefixes4, prefixes6, rules, flows4, flows6, detours4, detours6,
            services, nodes4, nodes6, locals4, locals6, counters
        ])
    }
}

/// Which interface has which of our numbers, in a set of maps of whatever ABI; none if it has no map that says so.
pub(super) fn numbers(directory: &Path) -> Result<Vec<(u32, u32)>, Error> {
    let path = directory.join("numbers");
    let failed = |error| Error::Pin { path: path.clone(), operation: "open the pinned map", error };
    let Some(fd) = sys::pinned(&path).map_err(failed)? else { return Ok(Vec::new()) };
    let raw = RawMap::new(fd, possible_cpus()?).map_err(failed)?;
    match Map::<u32, u32>::new("numbers", raw) {
        Ok(map) => Ok(map.entries()?),
        Err(error) => {
            tracing::warn!(%error, "interfaces get other numbers than another agent gave them");
            Ok(Vec::new())
        }
    }
}

/// The generation in force in a set of maps of this ABI.
pub(super) fn generation(directory: &Path) -> Result<Generation, Error> {
    let map = Map::<u32, Generation>::new("generation", raw(directory, "generation", possible_cpus()?)?)?;
    Ok(map.get(&0)?.unwrap_or(0))
}

/// What programs are told in a set of maps of this ABI.
pub(super) fn settings(directory: &Path) -> Result<Settings, Error> {
    let map = Map::<u32, Settings>::new("settings", raw(directory, "settings", possible_cpus()?)?)?;
    Ok(map.get(&0)?.unwrap_or_default())
}

fn raw(directory: &Path, name: &'static str, cpus: usize) -> Result<RawMap, Error> {
    let path = directory.join(name);
    let failed = |error| Error::Pin { path: path.clone(), operation: "open the pinned map", error };
    let fd: OwnedFd = sys::pinned(&path)
        .map_err(failed)?
        .ok_or_else(|| failed(std::io::Error::from(std::io::ErrorKind::NotFound)))?;
    RawMap::new(fd, cpus).map_err(failed)
}

/// How many CPUs per-CPU values are there for.
pub(super) fn possible_cpus() -> Result<usize, Error> {
    aya::util::nr_cpus().map_err(|(path, error)| Error::Pin {
        path: path.into(),
        operation: "read which CPUs are possible",
        error,
    })
}
