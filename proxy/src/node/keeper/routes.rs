//! Routes of the proxy's network namespace: what comes in is for here, whatever its address, and what is sent from here leaves.
//!
//! ```text
//! rule 0: from here  -> table main:  default via a gateway that nobody is, by eth0
//! rule 1: all        -> table local: every address is one of ours
//! ```
//!
//! The kernel asks for a route when a packet arrives and when one is sent; the one of the other case would send it in a circle.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric, RouteProtocol,
    RouteScope, RouteType,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::netlink::{ADD, CHANGE, Netlink};

/// One neighbour for all destinations: the table of neighbours is small, and shared by all namespaces. (Link-local, RFC 3927
/// and RFC 4291 section 2.5.6; with ARP off nobody is asked for it.)
const GATEWAYS: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(169, 254, 0, 1)), IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1))];

/// A family of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Four,
    Six,
}

impl Family {
    const fn number(self) -> AddressFamily {
        match self {
            Self::Four => AddressFamily::Inet,
            Self::Six => AddressFamily::Inet6,
        }
    }

    const fn gateway(self) -> IpAddr {
        match self {
            Self::Four => GATEWAYS[0],
            Self::Six => GATEWAYS[1],
        }
    }

    /// Bytes of the headers of IP and TCP.
    const fn headers(self) -> u32 {
        match self {
            Self::Four => 40,
            Self::Six => 60,
        }
    }
}

/// Sets routes and rules of a family up. `mtu` is that of the world outside: what the proxy may be sent.
pub(super) fn set(netlink: &Netlink, family: Family, out: u32, lo: u32, mtu: u32) -> Result<()> {
    // First: afterwards the gateway would be an address of ours, and refused as one.
    let mut out_of_here = RouteMessage::default();
    out_of_here.header = header(family, RouteHeader::RT_TABLE_MAIN, RouteType::Unicast);
    out_of_here.header.flags = RouteFlags::Onlink;
    out_of_here.attributes = vec![
        RouteAttribute::Gateway(RouteAddress::from(family.gateway())),
        RouteAttribute::Oif(out),
        RouteAttribute::Metrics(vec![RouteMetric::Advmss(mtu.saturating_sub(family.headers()))]),
    ];
    netlink.tell(RouteNetlinkMessage::NewRoute(out_of_here), ADD).context("adding the default route")?;
    let mut here = RouteMessage::default();
    here.header = RouteHeader { scope: RouteScope::Host, ..header(family, RT_TABLE_LOCAL, RouteType::Local) };
    here.attributes = vec![RouteAttribute::Oif(lo)];
    netlink.tell(RouteNetlinkMessage::NewRoute(here), ADD).context("making every address local")?;
    let all = || vec![RuleAttribute::Priority(1)];
    netlink
        .tell(RouteNetlinkMessage::NewRule(rule(family, RT_TABLE_LOCAL, all())), ADD)
        .context("adding a rule")?;
    let from_here = vec![RuleAttribute::Priority(0), RuleAttribute::Iifname("lo".to_owned())];
    // Removed before the other of the same priority is there, so that it is the one that is meant.
    let first = rule(family, RT_TABLE_LOCAL, vec![RuleAttribute::Priority(0)]);
    netlink.tell(RouteNetlinkMessage::DelRule(first), CHANGE).context("removing the first rule")?;
    let from_here = rule(family, RouteHeader::RT_TABLE_MAIN, from_here);
    netlink.tell(RouteNetlinkMessage::NewRule(from_here), ADD).context("adding the rule of what is sent")
}

/// `RT_TABLE_LOCAL`
const RT_TABLE_LOCAL: u8 = 255;

fn header(family: Family, table: u8, kind: RouteType) -> RouteHeader {
    RouteHeader {
        address_family: family.number(),
        table,
        protocol: RouteProtocol::Static,
        scope: RouteScope::Universe,
        kind,
        ..RouteHeader::default()
    }
}

fn rule(family: Family, table: u8, attributes: Vec<RuleAttribute>) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = family.number();
    message.header.table = table;
    message.header.action = RuleAction::ToTable;
    message.attributes = attributes;
    message
}

/// Whether the kernel has a family at all.
pub(super) fn is_known(family: Family) -> io::Result<bool> {
    let domain = match family {
        Family::Four => socket2::Domain::IPV4,
        Family::Six => socket2::Domain::IPV6,
    };
    match socket2::Socket::new(domain, socket2::Type::STREAM, None) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => Ok(false),
        Err(error) => Err(error),
    }
}
