//! Maps for tests: what they say, and what changes while they are read.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use datapath::abi::{Address, Endpoint, Generation, Halves, Identity, PortAtom, RuleKey, RuleRow};
use datapath::flow::{Flow, Side};
use datapath::interface::Interface;

use crate::kernel::tables::Source;

/// Maps of one flow.
#[derive(Debug, Default)]
pub(crate) struct Fake {
    pub(crate) generation: AtomicU32,
    /// How often the generation changes when a rule is read.
    pub(crate) changes: AtomicU32,
    /// How many values were read, without the generation.
    pub(crate) reads: AtomicU32,
    pub(crate) interfaces: Mutex<BTreeMap<u32, Interface>>,
    /// What service addresses stand for.
    pub(crate) backend: Mutex<Option<SocketAddr>>,
    pub(crate) flow: Mutex<Option<(Flow, Side)>>,
    pub(crate) addresses: Mutex<BTreeMap<Address, Halves<Identity>>>,
    pub(crate) rules: Mutex<BTreeMap<RuleKey, RuleRow>>,
}

impl Fake {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn with_interface(self, number: u32, ipv4: [u8; 4]) -> Self {
        let row = Interface { number, ipv4, ..Interface::default() };
        self.interfaces.lock().unwrap().insert(number, row);
        self
    }

    pub(crate) fn set_endpoint(&self, number: u32, endpoint: Halves<Endpoint>) {
        if let Some(row) = self.interfaces.lock().unwrap().get_mut(&number) {
            row.endpoint = endpoint;
        }
    }

    pub(crate) fn set_flow(&self, flow: Option<(Flow, Side)>) {
        *self.flow.lock().unwrap() = flow;
    }

    fn read<T>(&self, value: T) -> T {
        self.reads.fetch_add(1, Ordering::Relaxed);
        value
    }
}

impl Source for Fake {
    fn generation(&self) -> io::Result<Generation> {
        Ok(self.generation.load(Ordering::Relaxed))
    }

    fn interface(&self, number: u32) -> io::Result<Option<Interface>> {
        Ok(self.read(self.interfaces.lock().unwrap().get(&number).copied()))
    }

    fn local(&self, address: Address) -> io::Result<u32> {
        let interfaces = self.interfaces.lock().unwrap();
        let local = interfaces.values().find(|row| address == Address::V4(row.ipv4));
        Ok(self.read(local.map_or(0, |row| row.number)))
    }

    fn address(&self, address: Address) -> io::Result<Option<Halves<Identity>>> {
        Ok(self.read(self.addresses.lock().unwrap().get(&address).copied()))
    }

    fn prefix(&self, _: Address) -> io::Result<Option<Halves<Identity>>> {
        Ok(self.read(None))
    }

    fn port(&self, _: u32) -> io::Result<Option<Halves<PortAtom>>> {
        Ok(self.read(None))
    }

    fn rule(&self, key: &RuleKey) -> io::Result<Option<RuleRow>> {
        let left = self.changes.load(Ordering::Relaxed);
        if left > 0 {
            self.changes.store(left - 1, Ordering::Relaxed);
            self.generation.fetch_add(1, Ordering::Relaxed);
        }
        Ok(self.read(self.rules.lock().unwrap().get(key).copied()))
    }

    fn backend(&self, _: SocketAddr) -> io::Result<Option<SocketAddr>> {
        Ok(*self.read(self.backend.lock().unwrap()))
    }

    fn flow(&self, _: SocketAddr, _: SocketAddr) -> io::Result<Option<(Flow, Side)>> {
        Ok(self.read(*self.flow.lock().unwrap()))
    }
}
