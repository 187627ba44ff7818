//! What a network namespace has in interfaces at one moment: values only, no netlink.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

/// A veth whose other end (the peer) is in another network namespace.
///
/// `mac`, `addresses` and `link_local` are read at the peer: whoever has `CAP_NET_ADMIN` in that namespace decides what
/// they say, so they are claims to be compared with what the cluster says, and two veths may claim one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Veth {
    /// Index of the end in this namespace.
    pub interface: u32,
    /// Name of the end in this namespace.
    pub name: String,
    /// Index of the peer, in its own namespace.
    pub peer_interface: u32,
    /// The number by which this namespace knows the peer's (`IFLA_LINK_NETNSID`); the kernel reuses it when that
    /// namespace is gone.
    pub netns: i32,
    /// Link address of the peer; none until the peer was asked.
    pub mac: Option<[u8; 6]>,
    /// Addresses of the peer in both families, sorted; IPv6 ones also while tentative. Without host-scoped and IPv6
    /// link-local ones.
    pub addresses: Vec<IpAddr>,
    /// IPv6 link-local addresses of the peer, sorted.
    pub link_local: Vec<Ipv6Addr>,
    /// Both ends are up.
    pub up: bool,
    /// The bridge (or other master) that the end in this namespace is a port of.
    pub master: Option<u32>,
}

/// A device of this namespace, as seen from this side: every one, the near ends of [`Veth`]s too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its index.
    pub interface: u32,
    /// Its name.
    pub name: String,
    /// The kernel's name for its kind: `vxlan`, `ipip`, `bridge`, `veth`; empty for hardware and loopback.
    pub kind: String,
    /// It is the loopback device, whatever its name.
    pub loopback: bool,
    /// Its addresses, sorted.
    pub addresses: Vec<IpAddr>,
    /// A default route of some routing table and family leaves by it.
    pub has_default_route: bool,
    /// UDP port that a vxlan or geneve device listens on.
    pub tunnel_port: Option<u16>,
    /// The bridge, bond or other master that it is a port of.
    pub master: Option<u32>,
    /// It is a veth with its peer in another namespace.
    pub veth_peer_elsewhere: bool,
}

/// All interfaces of one network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Veths with their peer elsewhere, by the index in this namespace.
    pub veths: BTreeMap<u32, Veth>,
    /// Every device, by index.
    pub devices: BTreeMap<u32, Device>,
    /// All addresses of this namespace, those of loopback too.
    pub own_addresses: BTreeSet<IpAddr>,
}
