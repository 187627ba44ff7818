//! The interfaces of one network namespace, kept current by messages. Pure: it says what to ask the kernel next, and
//! others ask.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

use super::snapshot::{Device, Snapshot, Veth};
use super::wire::{Address, Link};

/// What the state needs to know, because a message told half of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Where the other end of this veth of ours is.
    Link(u32),
    /// What is at the far end of this veth of ours, from now on until it is complete.
    Peer(u32),
    /// Which interfaces have a default route.
    Routes,
}

/// What was found at the far end of a veth.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Far {
    pub(super) mac: Option<[u8; 6]>,
    pub(super) addresses: BTreeSet<IpAddr>,
    pub(super) link_local: BTreeSet<Ipv6Addr>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Table {
    links: BTreeMap<u32, Link>,
    /// With the length of the prefix, as one address may be there with two.
    addresses: BTreeMap<u32, BTreeSet<(IpAddr, u8)>>,
    default_routes: BTreeSet<u32>,
    far: BTreeMap<u32, Far>,
    by_far_end: BTreeMap<(i32, u32), u32>,
    needs: Vec<Need>,
    changed: bool,
}

impl Far {
    /// Adds an address that the peer has.
    pub(super) fn insert(&mut self, address: Address) {
        match address.ip {
            IpAddr::V6(address) if address.is_unicast_link_local() => {
                self.link_local.insert(address);
            }
            ip if ip.is_loopback() || address.scope == libc::RT_SCOPE_HOST => {}
            ip => {
                self.addresses.insert(ip);
            }
        }
    }
}

impl Table {
    pub(super) fn link(&self, index: u32) -> Option<&Link> {
        self.links.get(&index)
    }

    /// Our end of the veth whose peer has this index in that namespace.
    pub(super) fn near_end(&self, netns: i32, peer: u32) -> Option<u32> {
        self.by_far_end.get(&(netns, peer)).copied()
    }

    /// Our ends of all veths with their peer elsewhere, and of those where that is not known yet.
    pub(super) fn veths(&self) -> Vec<u32> {
        let veths = self.links.values().filter(|link| link.far_end().is_some() || link.is_unresolved());
        veths.map(|link| link.index).collect()
    }

    /// A message was about a default route.
    pub(super) fn need_routes(&mut self) {
        self.needs.push(Need::Routes);
    }

    /// Takes what is needed since the last call.
    pub(super) fn take_needs(&mut self) -> Vec<Need> {
        std::mem::take(&mut self.needs)
    }

    /// Whether a snapshot differs from the one before the last call.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    pub(super) fn insert_link(&mut self, link: Link) {
        let index = link.index;
        let old = self.links.get(&index);
        if old == Some(&link) {
            return;
        }
        self.changed = true;
        let old_end = old.and_then(Link::far_end);
        let was_up = old.is_some_and(Link::is_up);
        let went_down = old.is_some_and(|old| old.has_flag(libc::IFF_UP)) && !link.has_flag(libc::IFF_UP);
        let end = link.far_end();
        if end != old_end {
            self.forget_far(index, old_end);
        }
        if let Some(end) = end {
            self.by_far_end.insert(end, index);
            if Some(end) != old_end || was_up != link.is_up() {
                self.needs.push(Need::Peer(index));
            }
        }
        if link.is_unresolved() {
            self.needs.push(Need::Link(index));
        }
        // A pair that was torn apart came together again: only the end that moved is announced.
        if let Some(peer) = link.near_peer()
            && self.links.get(&peer).is_some_and(|peer| peer.near_peer() != Some(index))
        {
            self.needs.push(Need::Link(peer));
        }
        // IPv4 routes leave with the device without a message each (`fib_disable_ip`).
        if went_down && self.default_routes.contains(&index) {
            self.needs.push(Need::Routes);
        }
        self.links.insert(index, link);
    }

    pub(super) fn remove_link(&mut self, index: u32) {
        let Some(link) = self.links.remove(&index) else { return };
        self.changed = true;
        self.forget_far(index, link.far_end());
        self.addresses.remove(&index);
        self.default_routes.remove(&index);
        // The peer is gone too, or this end moved to another namespace; of the latter the peer's own end tells nothing.
        if let Some(peer) = link.near_peer().filter(|peer| self.links.contains_key(peer)) {
            self.needs.push(Need::Link(peer));
        }
    }

    /// Takes a dump of all links; one that was disturbed says nothing about what is absent from it.
    pub(super) fn replace_links(&mut self, links: Vec<Link>, complete: bool) {
        if complete {
            let present: BTreeSet<u32> = links.iter().map(|link| link.index).collect();
            let gone: Vec<u32> =
                self.links.keys().filter(|index| !present.contains(index)).copied().collect();
            for index in gone {
                self.remove_link(index);
            }
        }
        for link in links {
            self.insert_link(link);
        }
    }

    pub(super) fn insert_address(&mut self, address: Address) {
        let of_link = self.addresses.entry(address.index).or_default();
        self.changed |= of_link.insert((address.ip, address.prefix));
    }

    pub(super) fn remove_address(&mut self, address: Address) {
        if let Some(of_link) = self.addresses.get_mut(&address.index) {
            self.changed |= of_link.remove(&(address.ip, address.prefix));
            if of_link.is_empty() {
                self.addresses.remove(&address.index);
            }
        }
    }

    /// Takes a dump of all addresses; see [`Self::replace_links`].
    pub(super) fn replace_addresses(&mut self, addresses: Vec<Address>, complete: bool) {
        let mut new = if complete { BTreeMap::new() } else { self.addresses.clone() };
        for address in addresses {
            new.entry(address.index).or_insert_with(BTreeSet::new).insert((address.ip, address.prefix));
        }
        self.changed |= new != self.addresses;
        self.addresses = new;
    }

    pub(super) fn replace_default_routes(&mut self, interfaces: BTreeSet<u32>) {
        self.changed |= interfaces != self.default_routes;
        self.default_routes = interfaces;
    }

    /// Takes what is at the far end of `index`, if that is still where it was asked for.
    pub(super) fn set_far(&mut self, index: u32, asked_at: (i32, u32), far: Far) {
        if self.links.get(&index).and_then(Link::far_end) != Some(asked_at) {
            return;
        }
        if self.far.get(&index) != Some(&far) {
            self.changed = true;
            self.far.insert(index, far);
        }
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot {
            veths: self.links.values().filter_map(|link| Some((link.index, self.veth(link)?))).collect(),
            devices: self.links.values().map(|link| (link.index, self.device(link))).collect(),
            own_addresses: self.addresses.values().flatten().map(|(address, _)| *address).collect(),
        }
    }

    fn forget_far(&mut self, index: u32, end: Option<(i32, u32)>) {
        self.far.remove(&index);
        // The kernel may have given the number of a dead namespace to a new one before this end was announced dead.
        if let Some(end) = end.filter(|end| self.by_far_end.get(end) == Some(&index)) {
            self.by_far_end.remove(&end);
        }
    }

    fn veth(&self, link: &Link) -> Option<Veth> {
        let (netns, peer_interface) = link.far_end()?;
        let far = self.far.get(&link.index).cloned().unwrap_or_default();
        Some(Veth {
            interface: link.index,
            name: link.name.clone(),
            peer_interface,
            netns,
            mac: far.mac,
            addresses: far.addresses.into_iter().collect(),
            link_local: far.link_local.into_iter().collect(),
            up: link.is_up(),
            master: link.master,
        })
    }

    fn device(&self, link: &Link) -> Device {
        let addresses: BTreeSet<IpAddr> =
            self.addresses.get(&link.index).into_iter().flatten().map(|(address, _)| *address).collect();
        Device {
            interface: link.index,
            name: link.name.clone(),
            kind: link.kind.clone(),
            loopback: link.has_flag(libc::IFF_LOOPBACK),
            addresses: addresses.into_iter().collect(),
            has_default_route: self.default_routes.contains(&link.index),
            tunnel_port: link.tunnel_port,
            master: link.master,
            veth_peer_elsewhere: link.far_end().is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn veth(index: u32, lower: u32, netns: Option<i32>) -> Link {
        let (name, kind) = (format!("veth{index}"), "veth".to_owned());
        Link { index, name, kind, lower: Some(lower), netns, ..Link::default() }
    }

    fn address(index: u32, text: &str, prefix: u8) -> Address {
        Address { index, ip: text.parse().unwrap(), prefix, scope: 0 }
    }

    fn far(text: &str) -> Far {
        let mut far = Far { mac: Some([2, 0, 0, 0, 0, 1]), ..Far::default() };
        far.insert(address(0, text, 24));
        far
    }

    #[test]
    fn a_new_veth_is_shown_before_its_peer_is_known_and_its_peer_is_asked_for() {
        let mut table = Table::default();
        table.insert_link(veth(5, 2, Some(0)));
        assert_eq!(table.take_needs(), [Need::Peer(5)]);
        let shown = table.snapshot().veths.remove(&5).unwrap();
        assert_eq!((shown.mac, shown.addresses, shown.peer_interface, shown.netns), (None, vec![], 2, 0));
        table.set_far(5, (0, 2), far("10.0.0.9"));
        assert_eq!(table.snapshot().veths[&5].addresses, ["10.0.0.9".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn an_answer_about_a_peer_that_moved_meanwhile_is_dropped() {
        let mut table = Table::default();
        table.insert_link(veth(5, 2, Some(0)));
        table.insert_link(veth(5, 2, Some(1)));
        table.set_far(5, (0, 2), far("10.0.0.9"));
        assert_eq!(table.snapshot().veths[&5].addresses, Vec::<IpAddr>::new());
        assert_eq!(table.near_end(0, 2), None);
        assert_eq!(table.near_end(1, 2), Some(5));
    }

    #[test]
    fn the_number_of_a_dead_namespace_leads_to_the_newer_veth() {
        let mut table = Table::default();
        table.insert_link(veth(5, 2, Some(0)));
        table.insert_link(veth(6, 2, Some(0)));
        table.remove_link(5);
        assert_eq!(table.near_end(0, 2), Some(6));
    }

    #[test]
    fn an_end_whose_pair_changes_namespace_is_asked_for() {
        let mut table = Table::default();
        table.insert_link(veth(5, 0, None));
        assert_eq!(table.take_needs(), [Need::Link(5)]);
        table.insert_link(veth(5, 6, None));
        table.insert_link(veth(6, 5, None));
        assert_eq!(table.take_needs(), []);
        table.remove_link(6);
        assert_eq!(table.take_needs(), [Need::Link(5)]);
        table.insert_link(veth(5, 6, Some(3)));
        table.take_needs();
        table.insert_link(veth(7, 5, None));
        assert_eq!(table.take_needs(), [Need::Link(5)]);
    }

    #[test]
    fn a_disturbed_dump_removes_nothing_and_a_whole_one_does() {
        let mut table = Table::default();
        table.replace_links(vec![veth(5, 2, Some(0)), veth(6, 2, Some(1))], true);
        table.replace_links(vec![veth(6, 2, Some(1))], false);
        assert_eq!(table.veths(), [5, 6]);
        table.replace_links(vec![veth(6, 2, Some(1))], true);
        assert_eq!(table.veths(), [6]);
    }

    #[test]
    fn an_address_with_two_prefixes_stays_until_both_are_gone() {
        let mut table = Table::default();
        table.insert_address(address(1, "10.0.0.1", 24));
        table.insert_address(address(1, "10.0.0.1", 32));
        table.remove_address(address(1, "10.0.0.1", 32));
        assert_eq!(table.snapshot().own_addresses.len(), 1);
        table.remove_address(address(1, "10.0.0.1", 24));
        assert_eq!(table.snapshot().own_addresses.len(), 0);
    }

    #[test]
    fn a_message_that_says_nothing_new_is_no_change() {
        let mut table = Table::default();
        table.insert_link(veth(5, 2, Some(0)));
        assert!(table.take_changed());
        table.insert_link(veth(5, 2, Some(0)));
        table.remove_address(address(1, "10.0.0.1", 24));
        assert!(!table.take_changed());
    }

    #[test]
    fn a_device_that_goes_down_has_its_default_routes_asked_for() {
        let mut table = Table::default();
        let up = libc::IFF_UP.cast_unsigned();
        table.insert_link(Link { index: 2, name: "eth0".to_owned(), flags: up, ..Link::default() });
        table.replace_default_routes([2].into());
        table.take_needs();
        table.insert_link(Link { index: 2, name: "eth0".to_owned(), ..Link::default() });
        assert_eq!(table.take_needs(), [Need::Routes]);
    }
}
