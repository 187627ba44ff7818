//! The kernel's maps, read by system calls: for questions, and for comparing them with what was intended.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;

use datapath::abi::{
    Address, Endpoint, Generation, Halves, Identity, PortAtom, Prefix4, Prefix6, RuleKey, RuleRow, Transport,
};
use datapath::lookup;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use policy_compiler::image::Image;
use policy_compiler::object::PodKey;

use super::error::MapError;
use super::maps::Maps;

/// The kernel's maps, as the look-up asks them.
///
/// The look-up knows no failures; the first one is kept, and an answer holds only if [`Self::finish`] finds none.
#[derive(Debug)]
pub struct LiveMaps<'a> {
    maps: &'a Maps,
    failed: RefCell<Option<MapError>>,
}

impl<'a> LiveMaps<'a> {
    pub(super) fn new(maps: &'a Maps) -> Self {
        Self { maps, failed: RefCell::new(None) }
    }

    /// The first failure of a system call since the last time this was asked.
    pub fn finish(&self) -> Result<(), MapError> {
        self.failed.take().map_or(Ok(()), Err)
    }

    fn told<T>(&self, result: Result<Option<T>, MapError>) -> Option<T> {
        result.unwrap_or_else(|error| {
            self.failed.borrow_mut().get_or_insert(error);
            None
        })
    }
}

impl lookup::Maps for LiveMaps<'_> {
    /// The index of an interface.
    type EndpointKey = u32;

    fn generation(&self) -> Generation {
        self.told(self.maps.generation().map(Some)).unwrap_or(0)
    }

    fn endpoint(&self, key: &u32) -> Option<Halves<Endpoint>> {
        self.told(self.maps.endpoint(*key))
    }

    fn address(&self, address: Address) -> Option<Halves<Identity>> {
        self.told(match address {
            Address::V4(bytes) => self.maps.addresses4.get(&bytes),
            Address::V6(bytes) => self.maps.addresses6.get(&bytes),
        })
    }

    fn prefix(&self, address: Address) -> Option<Halves<Identity>> {
        self.told(match address {
            Address::V4(address) => self.maps.prefixes4.get(&Prefix4 { length: 32, address }),
            Address::V6(address) => self.maps.prefixes6.get(&Prefix6 { length: 128, address }),
        })
    }

    fn port(&self, index: u32) -> Option<Halves<PortAtom>> {
        self.told(self.maps.ports.get(&index))
    }

    fn rule(&self, key: &RuleKey) -> Option<RuleRow> {
        self.told(self.maps.rules.get(key))
    }
}

/// All maps, read. `endpoints` are the pods and what they have, as their names are not in the kernel.
pub(super) fn image(maps: &Maps, endpoints: BTreeMap<PodKey, Halves<Endpoint>>) -> Result<Image, MapError> {
    let addresses4 = maps.addresses4.entries()?.into_iter().map(|(key, value)| (IpAddr::from(key), value));
    let addresses6 = maps.addresses6.entries()?.into_iter().map(|(key, value)| (IpAddr::from(key), value));
    let mut prefixes = Vec::new();
    maps.prefixes4.each(|key, value| prefixes.extend(net4(key).map(|net| (net, value))))?;
    maps.prefixes6.each(|key, value| prefixes.extend(net6(&key).map(|net| (net, value))))?;
    let mut ports = Vec::new();
    maps.ports.each(|index, atom| ports.extend(port(index).map(|port| (port, atom))))?;
    let rules = maps.rules.entries()?;
    Ok(Image::from_parts(maps.generation()?, endpoints, addresses4.chain(addresses6), prefixes, ports, rules))
}

/// The key of a prefix.
pub(super) fn prefix4(prefix: Ipv4Net) -> Prefix4 {
    Prefix4 { length: u32::from(prefix.prefix_len()), address: prefix.network().octets() }
}

/// The key of a prefix.
pub(super) fn prefix6(prefix: Ipv6Net) -> Prefix6 {
    Prefix6 { length: u32::from(prefix.prefix_len()), address: prefix.network().octets() }
}

/// The trie holds no longer prefix than the family has bits.
fn net4(key: Prefix4) -> Option<IpNet> {
    IpNet::new(IpAddr::from(key.address), u8::try_from(key.length).ok()?).ok()
}

fn net6(key: &Prefix6) -> Option<IpNet> {
    IpNet::new(IpAddr::from(key.address), u8::try_from(key.length).ok()?).ok()
}

fn port(index: u32) -> Option<(Transport, u16)> {
    let transport = *Transport::ALL.get((index >> 16) as usize)?;
    Some((transport, u16::try_from(index & 0xffff).ok()?))
}
