//! Maps for tests: what they say, and what changes while they are read.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;

use datapath::abi::{Address, Endpoint, Generation, Halves, Identity, PortAtom, RuleKey, RuleRow};
use datapath::flow::{Flow, Side};
use datapath::interface::Interface;

use crate::kernel::tables::Source;

/// Maps of one flow.
#[derive(Debug, Default)]
pub(crate) struct Fake {
    pub(crate) generation: Cell<Generation>,
    /// How often the generation changes when a rule is read.
    pub(crate) changes: Cell<u32>,
    /// How many values were read, without the generation.
    pub(crate) reads: Cell<u32>,
    pub(crate) interfaces: RefCell<BTreeMap<u32, Interface>>,
    pub(crate) flow: Cell<Option<(Flow, Side)>>,
    pub(crate) addresses: RefCell<BTreeMap<Address, Halves<Identity>>>,
    pub(crate) rules: RefCell<BTreeMap<RuleKey, RuleRow>>,
}

impl Fake {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn with_interface(self, number: u32, ipv4: [u8; 4]) -> Self {
        let row = Interface { number, ipv4, ..Interface::default() };
        self.interfaces.borrow_mut().insert(number, row);
        self
    }

    pub(crate) fn set_endpoint(&self, number: u32, endpoint: Halves<Endpoint>) {
        if let Some(row) = self.interfaces.borrow_mut().get_mut(&number) {
            row.endpoint = endpoint;
        }
    }

    fn read<T>(&self, value: T) -> T {
        self.reads.set(self.reads.get() + 1);
        value
    }
}

impl Source for Fake {
    fn generation(&self) -> io::Result<Generation> {
        Ok(self.generation.get())
    }

    fn interface(&self, number: u32) -> io::Result<Option<Interface>> {
        Ok(self.read(self.interfaces.borrow().get(&number).copied()))
    }

    fn local(&self, address: Address) -> io::Result<u32> {
        let interfaces = self.interfaces.borrow();
        let local = interfaces.values().find(|row| address == Address::V4(row.ipv4));
        Ok(self.read(local.map_or(0, |row| row.number)))
    }

    fn address(&self, address: Address) -> io::Result<Option<Halves<Identity>>> {
        Ok(self.read(self.addresses.borrow().get(&address).copied()))
    }

    fn prefix(&self, _: Address) -> io::Result<Option<Halves<Identity>>> {
        Ok(self.read(None))
    }

    fn port(&self, _: u32) -> io::Result<Option<Halves<PortAtom>>> {
        Ok(self.read(None))
    }

    fn rule(&self, key: &RuleKey) -> io::Result<Option<RuleRow>> {
        if let Some(left) = self.changes.get().checked_sub(1) {
            self.changes.set(left);
            self.generation.set(self.generation.get() + 1);
        }
        Ok(self.read(self.rules.borrow().get(key).copied()))
    }

    fn flow(&self, _: SocketAddr, _: SocketAddr) -> io::Result<Option<(Flow, Side)>> {
        Ok(self.read(self.flow.get()))
    }
}
