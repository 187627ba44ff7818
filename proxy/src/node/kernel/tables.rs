//! The maps that requests are judged by.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::{Context as _, Result};
use datapath::abi::{
    Address, Generation, Halves, Identity, PortAtom, Prefix4, Prefix6, RuleKey, RuleRow, Transport,
};
use datapath::family::{Ipv4, Ipv6};
use datapath::flow::{Flow, FlowKey, Side};
use datapath::hook::{ServiceKey, ServiceRow};
use datapath::interface::Interface;

use super::map::Map;
use super::sys::{self, Word};

/// What requests are judged by: the kernel's maps, or a test's.
pub(crate) trait Source {
    /// The generation in force.
    fn generation(&self) -> io::Result<Generation>;
    /// An interface's row.
    fn interface(&self, number: u32) -> io::Result<Option<Interface>>;
    /// The interface of a local address; 0 if it is none.
    fn local(&self, address: Address) -> io::Result<u32>;
    /// The identity of an address.
    fn address(&self, address: Address) -> io::Result<Option<Halves<Identity>>>;
    /// The identity of the longest prefix of an address.
    fn prefix(&self, address: Address) -> io::Result<Option<Halves<Identity>>>;
    /// The port atom of a port.
    fn port(&self, index: u32) -> io::Result<Option<Halves<PortAtom>>>;
    /// A row of the rule map.
    fn rule(&self, key: &RuleKey) -> io::Result<Option<RuleRow>>;
    /// What a service address stands for, if that is the node itself.
    fn backend(&self, service: SocketAddr) -> io::Result<Option<SocketAddr>>;
    /// The flow of a TCP connection, and which side of it the client is. Both addresses are of one family.
    fn flow(&self, client: SocketAddr, server: SocketAddr) -> io::Result<Option<(Flow, Side)>>;
}

macro_rules! tables {
    ($($name:ident: $key:ty => $value:ty),* $(,)?) => {
        /// The kernel's maps, for reading.
        #[derive(Debug)]
        pub(crate) struct Tables {
            $($name: Map<$key, $value>,)*
            /// The generation in memory, if it could be mapped there: it is read twice a request.
            mapped: Option<Word>,
        }

        impl Tables {
            /// Their names, in the order of [`Tables::fds`].
            pub(crate) const NAMES: &'static [&'static str] = &[$(stringify!($name)),*];

            /// Takes them in the order of their names.
            pub(crate) fn new(fds: impl IntoIterator<Item = OwnedFd>) -> Result<Self> {
                let mut fds = fds.into_iter();
                Ok(Self {
                    $($name: {
                        let fd = fds.next().context(concat!("no map ", stringify!($name), " was handed over"))?;
                        Map::new(fd).context(concat!("the map ", stringify!($name)))?
                    },)*
                    mapped: None,
                })
            }

            /// Their descriptors.
            pub(crate) fn fds(&self) -> Vec<BorrowedFd<'_>> {
                vec![$(self.$name.as_fd()),*]
            }
        }
    };
}

tables! {
    generation: u32 => Generation,
    slots: u32 => Interface,
    interfaces: u32 => Interface,
    locals4: [u8; 4] => u32,
    locals6: [u8; 16] => u32,
    addresses4: [u8; 4] => Halves<Identity>,
    addresses6: [u8; 16] => Halves<Identity>,
    prefixes4: Prefix4 => Halves<Identity>,
    prefixes6: Prefix6 => Halves<Identity>,
    ports: u32 => Halves<PortAtom>,
    rules: RuleKey => RuleRow,
    services: ServiceKey => ServiceRow,
    flows4: FlowKey<Ipv4> => Flow,
    flows6: FlowKey<Ipv6> => Flow,
}

impl Tables {
    /// Opens the maps that are pinned in a directory.
    pub(crate) fn open(directory: &Path) -> Result<Self> {
        let open = |name: &&str| {
            let path = directory.join(name);
            let opened = sys::pinned(&path).and_then(|fd| fd.ok_or_else(|| io::ErrorKind::NotFound.into()));
            opened.with_context(|| format!("opening the pinned map {}", path.display()))
        };
        Self::new(Self::NAMES.iter().map(open).collect::<Result<Vec<_>>>()?)
    }

    /// Has the generation read from memory from now on, and not by a system call.
    ///
    /// # Errors
    ///
    /// It cannot be mapped, and is read as before.
    pub(crate) fn map_generation(&mut self, generation: &OwnedFd) -> io::Result<()> {
        self.mapped = Some(Word::map(generation.as_fd())?);
        Ok(())
    }
}

impl Source for Tables {
    fn generation(&self) -> io::Result<Generation> {
        match &self.mapped {
            Some(word) => Ok(word.get()),
            // An array has every key.
            None => Ok(self.generation.get(&0)?.unwrap_or(0)),
        }
    }

    fn interface(&self, number: u32) -> io::Result<Option<Interface>> {
        match self.slots.get(&Interface::slot(number))? {
            Some(row) if row.number == number && number != 0 => Ok(Some(row)),
            _ => self.interfaces.get(&number),
        }
    }

    fn local(&self, address: Address) -> io::Result<u32> {
        let found = match address {
            Address::V4(bytes) => self.locals4.get(&bytes),
            Address::V6(bytes) => self.locals6.get(&bytes),
        };
        Ok(found?.unwrap_or(0))
    }

    fn address(&self, address: Address) -> io::Result<Option<Halves<Identity>>> {
        match address {
            Address::V4(bytes) => self.addresses4.get(&bytes),
            Address::V6(bytes) => self.addresses6.get(&bytes),
        }
    }

    fn prefix(&self, address: Address) -> io::Result<Option<Halves<Identity>>> {
        match address {
            Address::V4(address) => self.prefixes4.get(&Prefix4 { length: 32, address }),
            Address::V6(address) => self.prefixes6.get(&Prefix6 { length: 128, address }),
        }
    }

    fn port(&self, index: u32) -> io::Result<Option<Halves<PortAtom>>> {
        self.ports.get(&index)
    }

    fn rule(&self, key: &RuleKey) -> io::Result<Option<RuleRow>> {
        self.rules.get(key)
    }

    fn backend(&self, service: SocketAddr) -> io::Result<Option<SocketAddr>> {
        let tcp = Transport::Tcp.ip_protocol();
        let key = match service.ip() {
            IpAddr::V4(ip) => ServiceKey::new(Ipv4(u32::from_ne_bytes(ip.octets())), service.port(), tcp),
            IpAddr::V6(ip) => ServiceKey::new(Ipv6::from_bytes(&ip.octets()), service.port(), tcp),
        };
        let row = self.services.get(&key)?.filter(|row| row.backend != [0; 16]);
        Ok(row.map(|ServiceRow { backend, port, .. }| match service.ip() {
            IpAddr::V4(_) => {
                let [a, b, c, d, ..] = backend;
                SocketAddr::from(([a, b, c, d], port))
            }
            IpAddr::V6(_) => SocketAddr::from((backend, port)),
        }))
    }

    fn flow(&self, client: SocketAddr, server: SocketAddr) -> io::Result<Option<(Flow, Side)>> {
        let tcp = Transport::Tcp.ip_protocol();
        match (client.ip(), server.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let end = |ip: std::net::Ipv4Addr| Ipv4(u32::from_ne_bytes(ip.octets()));
                let (key, side) = FlowKey::new(tcp, (end(from), client.port()), (end(to), server.port()));
                Ok(self.flows4.get(&key)?.map(|flow| (flow, side)))
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let end = |ip: std::net::Ipv6Addr| Ipv6::from_bytes(&ip.octets());
                let (key, side) = FlowKey::new(tcp, (end(from), client.port()), (end(to), server.port()));
                Ok(self.flows6.get(&key)?.map(|flow| (flow, side)))
            }
            _ => Ok(None),
        }
    }
}
