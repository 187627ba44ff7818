//! The pair of devices that leads into the proxy's network namespace.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;

use anyhow::{Context as _, Result};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags,
    LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{RouteAttribute, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::netlink::{ADD, CHANGE, Netlink, mtu, name, peer};

/// The side in the proxy's namespace.
pub(super) const INSIDE: &str = "eth0";
/// The side in the host's, as the kernel is asked to name it: polder0, polder1, ... The agent knows it by that.
const OUTSIDE: &str = "polder%d";
/// Of the inside: the agent's programs write it into the packets that they put there. (Locally administered, "POLDR".)
const MAC: [u8; 6] = [0x02, 0x50, 0x4f, 0x4c, 0x44, 0x52];
/// As large as it gets: packets are not to be cut here, whatever size they have outside.
const MTU: u32 = 65535;
/// Where no default route says otherwise.
const USUAL_MTU: u32 = 1500;

/// The side in the host's namespace.
#[derive(Debug)]
pub(super) struct Outside {
    host: Netlink,
    number: u32,
    /// Its name.
    pub(super) name: String,
}

/// Makes the pair, from the inside; the outside is down.
pub(super) fn make(inside: &Netlink, host: Netlink, host_namespace: &File) -> Result<Outside> {
    let outside = vec![
        LinkAttribute::IfName(OUTSIDE.to_owned()),
        LinkAttribute::Mtu(MTU),
        LinkAttribute::NetNsFd(host_namespace.as_raw_fd()),
    ];
    let info = vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(message(0, outside)))),
    ];
    let attributes = vec![
        LinkAttribute::IfName(INSIDE.to_owned()),
        LinkAttribute::Mtu(MTU),
        LinkAttribute::Address(MAC.to_vec()),
        LinkAttribute::LinkInfo(info),
    ];
    inside.tell(RouteNetlinkMessage::NewLink(message(0, attributes)), ADD).context("making the veth pair")?;
    let link = inside.link(by_name(INSIDE)).context("asking for the veth's inside")?;
    let number = peer(&link).context("the kernel does not tell the number of the veth's other side")?;
    let found = host.link(message(number, Vec::new())).context("asking for the veth's outside")?;
    let name = name(&found).context("the kernel does not tell the name of the veth's other side")?.to_owned();
    for (netlink, number) in [(&host, number), (inside, link.header.index)] {
        without_addresses(netlink, number);
    }
    Ok(Outside { host, number, name })
}

/// Sets a link of the inside up. What leaves by it is for no neighbour, so nobody is asked for one.
pub(super) fn set_up(inside: &Netlink, name: &str) -> Result<u32> {
    let number = inside.link(by_name(name)).with_context(|| format!("asking for {name}"))?.header.index;
    let quiet = if name == INSIDE { LinkFlags::Noarp } else { LinkFlags::empty() };
    set_flags(inside, number, LinkFlags::Up | quiet).with_context(|| format!("setting {name} up"))?;
    Ok(number)
}

impl Outside {
    /// Sets it up: the agent sends connections from now on.
    pub(super) fn set_up(self) -> Result<()> {
        set_flags(&self.host, self.number, LinkFlags::Up).with_context(|| format!("setting {} up", self.name))
    }
}

/// The size of packets on the devices of the default routes: the smallest, as a connection may go by any.
pub(super) fn usual_mtu(host: &Netlink) -> u32 {
    smallest_mtu(host).unwrap_or_else(|error| {
        tracing::debug!(%error, "the size of packets outside is not known");
        USUAL_MTU
    })
}

fn smallest_mtu(host: &Netlink) -> io::Result<u32> {
    let mut smallest = None;
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut ask = RouteMessage::default();
        ask.header.address_family = family;
        for route in host.list(RouteNetlinkMessage::GetRoute(ask))? {
            let RouteNetlinkMessage::NewRoute(route) = route else { continue };
            if route.header.destination_prefix_length != 0 {
                continue;
            }
            for attribute in route.attributes {
                let RouteAttribute::Oif(number) = attribute else { continue };
                let found = mtu(&host.link(message(number, Vec::new()))?).unwrap_or(USUAL_MTU);
                // Not that of lo, by which unreachable routes lead.
                if found < MTU {
                    smallest = Some(smallest.map_or(found, |known: u32| known.min(found)));
                }
            }
        }
    }
    Ok(smallest.unwrap_or(USUAL_MTU))
}

/// The kernel gives a device with IPv6 an address of its own, and asks for routers by it.
fn without_addresses(netlink: &Netlink, number: u32) {
    let none = vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)];
    let attributes = vec![LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(none)])];
    if let Err(error) = netlink.tell(RouteNetlinkMessage::SetLink(message(number, attributes)), CHANGE) {
        tracing::debug!(%error, "the veth may get an IPv6 address");
    }
}

fn set_flags(netlink: &Netlink, number: u32, flags: LinkFlags) -> io::Result<()> {
    let mut message = message(number, Vec::new());
    message.header.flags = flags;
    message.header.change_mask = flags;
    netlink.tell(RouteNetlinkMessage::SetLink(message), CHANGE)
}

fn message(number: u32, attributes: Vec<LinkAttribute>) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = number;
    message.attributes = attributes;
    message
}

fn by_name(name: &str) -> LinkMessage {
    message(0, vec![LinkAttribute::IfName(name.to_owned())])
}
