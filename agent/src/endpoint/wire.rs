//! The few rtnetlink messages and attributes that discovery reads and writes, as bytes (rtnetlink(7)).
//!
//! Unknown attributes are passed over rather than decoded: a newer kernel's message about something else must not stop
//! discovery. Numbers are in the machine's byte order, but for the ports of tunnels.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Address families as the octet that messages carry.
pub(super) const FAMILIES: [u8; 2] = [INET, INET6];
const INET: u8 = 2;
const INET6: u8 = 10;
/// Octets before the body of every message.
const HEADER: usize = 16;
const IFLA_TARGET_NETNSID: u16 = 46;
const IFLA_VXLAN_PORT: u16 = 15;
const IFLA_GENEVE_PORT: u16 = 5;
const IFA_TARGET_NETNSID: u16 = 10;
const RTEXT_FILTER_SKIP_STATS: u32 = 1 << 3;
/// Bits of an attribute's type that are flags (nested, network byte order).
const TYPE_MASK: u16 = 0x3fff;

/// One message of a datagram.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) sequence: u32,
    pub(super) body: &'a [u8],
}

/// What was read contradicts its own lengths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// A link, as far as discovery cares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) flags: u32,
    pub(super) master: Option<u32>,
    /// `IFLA_LINK`: of a veth its peer, where 0 means that the kernel has not joined the pair yet.
    pub(super) lower: Option<u32>,
    /// `IFLA_LINK_NETNSID`: the namespace that `lower` is in, if another.
    pub(super) netns: Option<i32>,
    pub(super) mac: Option<[u8; 6]>,
    pub(super) tunnel_port: Option<u16>,
}

/// An address of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) index: u32,
    pub(super) ip: IpAddr,
    pub(super) prefix: u8,
    pub(super) scope: u8,
}

impl Link {
    pub(super) fn is_veth(&self) -> bool {
        self.kind == "veth"
    }

    pub(super) fn has_flag(&self, flag: libc::c_int) -> bool {
        self.flags & flag.cast_unsigned() != 0
    }

    /// Up with carrier; of a veth that means both ends are up (`veth_open`).
    pub(super) fn is_up(&self) -> bool {
        self.has_flag(libc::IFF_UP) && self.has_flag(libc::IFF_LOWER_UP)
    }

    /// Namespace and index of a peer that is elsewhere. Kernels without feadc4b6cf42 (5.11) leave `IFLA_LINK` out when
    /// both ends have the same index.
    pub(super) fn far_end(&self) -> Option<(i32, u32)> {
        match (self.is_veth(), self.netns) {
            (true, Some(netns)) if netns >= 0 => Some((netns, self.lower.unwrap_or(self.index))),
            _ => None,
        }
    }

    /// The peer of a veth, if it is in this namespace.
    pub(super) fn near_peer(&self) -> Option<u32> {
        self.lower.filter(|peer| *peer != 0 && self.is_veth() && self.netns.is_none())
    }

    /// A veth of which the message did not say where its peer is: the kernel announces the first end of a new pair
    /// before it joins the two.
    pub(super) fn is_unresolved(&self) -> bool {
        self.is_veth() && self.far_end().is_none() && self.near_peer().is_none()
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn i32_at(bytes: &[u8], at: usize) -> Option<i32> {
    u32_at(bytes, at).map(u32::cast_signed)
}

/// The messages of one datagram.
pub(super) fn messages(mut datagram: &[u8]) -> impl Iterator<Item = Result<Message<'_>, Malformed>> {
    std::iter::from_fn(move || {
        if datagram.is_empty() {
            return None;
        }
        let message = split_message(datagram);
        datagram = message.map_or(&[], |(_, rest)| rest);
        Some(message.map(|(message, _)| message).ok_or(Malformed))
    })
}

fn split_message(bytes: &[u8]) -> Option<(Message<'_>, &[u8])> {
    let length = usize::try_from(u32_at(bytes, 0)?).ok()?;
    let message = Message {
        kind: u16_at(bytes, 4)?,
        flags: u16_at(bytes, 6)?,
        sequence: u32_at(bytes, 8)?,
        body: bytes.get(HEADER..length)?,
    };
    Some((message, bytes.get(length.next_multiple_of(4)..).unwrap_or(&[])))
}

/// The attributes after a fixed header; ends at the first whose length cannot be.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & TYPE_MASK;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some((kind, value))
    })
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// Reads the body of `RTM_NEWLINK` or `RTM_DELLINK`. `None` if it is not about a link as such: a bridge reports changes
/// of its ports with `AF_BRIDGE` in the same group, and wireless events carry no name.
pub(super) fn link(body: &[u8]) -> Option<Link> {
    if *body.first()? != 0 {
        return None;
    }
    let mut link = Link { index: u32_at(body, 4)?, flags: u32_at(body, 8)?, ..Link::default() };
    for (kind, value) in attributes(body.get(16..)?) {
        match kind {
            libc::IFLA_IFNAME => link.name = text(value),
            libc::IFLA_MASTER => link.master = u32_at(value, 0).filter(|master| *master != 0),
            libc::IFLA_LINK => link.lower = u32_at(value, 0),
            libc::IFLA_LINK_NETNSID => link.netns = i32_at(value, 0),
            libc::IFLA_ADDRESS => link.mac = value.try_into().ok(),
            libc::IFLA_LINKINFO => link_info(&mut link, value),
            _ => {}
        }
    }
    (!link.name.is_empty()).then_some(link)
}

fn link_info(link: &mut Link, info: &[u8]) {
    let mut data: &[u8] = &[];
    for (kind, value) in attributes(info) {
        match kind {
            libc::IFLA_INFO_KIND => link.kind = text(value),
            libc::IFLA_INFO_DATA => data = value,
            _ => {}
        }
    }
    let port = match link.kind.as_str() {
        "vxlan" => IFLA_VXLAN_PORT,
        "geneve" => IFLA_GENEVE_PORT,
        _ => return,
    };
    link.tunnel_port = attributes(data)
        .find(|(kind, _)| *kind == port)
        .and_then(|(_, value)| Some(u16::from_be_bytes(value.get(..2)?.try_into().ok()?)));
}

/// Reads the body of `RTM_NEWADDR` or `RTM_DELADDR`; `None` for families other than IP.
pub(super) fn address(body: &[u8]) -> Option<Address> {
    let family = *body.first()?;
    let (mut local, mut remote) = (None, None);
    for (kind, value) in attributes(body.get(8..)?) {
        // On a point-to-point link `IFA_ADDRESS` is the other side's.
        match kind {
            libc::IFA_LOCAL => local = ip(family, value),
            libc::IFA_ADDRESS => remote = ip(family, value),
            _ => {}
        }
    }
    Some(Address {
        index: u32_at(body, 4)?,
        ip: local.or(remote)?,
        prefix: *body.get(1)?,
        scope: *body.get(3)?,
    })
}

fn ip(family: u8, value: &[u8]) -> Option<IpAddr> {
    match family {
        INET => <[u8; 4]>::try_from(value).ok().map(|octets| Ipv4Addr::from(octets).into()),
        INET6 => <[u8; 16]>::try_from(value).ok().map(|octets| Ipv6Addr::from(octets).into()),
        _ => None,
    }
}

/// Whether the body of a route message is about a default route that forwards.
pub(super) fn is_default_route(body: &[u8]) -> bool {
    let cloned = u32_at(body, 8).is_none_or(|flags| flags & libc::RTM_F_CLONED != 0);
    body.get(1) == Some(&0) && body.get(7) == Some(&libc::RTN_UNICAST) && !cloned
}

/// The interfaces by which a default route leaves; none if the route is another.
pub(super) fn default_route(body: &[u8]) -> BTreeSet<u32> {
    let mut interfaces = BTreeSet::new();
    if !is_default_route(body) {
        return interfaces;
    }
    for (kind, value) in attributes(body.get(12..).unwrap_or(&[])) {
        match kind {
            libc::RTA_OIF => interfaces.extend(u32_at(value, 0)),
            libc::RTA_MULTIPATH => interfaces.extend(next_hops(value)),
            _ => {}
        }
    }
    interfaces
}

fn next_hops(mut bytes: &[u8]) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let interface = u32_at(bytes, 4)?;
        // A hop shorter than its own header would never end.
        bytes = bytes.get(length.max(8).next_multiple_of(4)..).unwrap_or(&[]);
        Some(interface)
    })
}

/// The error number in `NLMSG_ERROR` or `NLMSG_DONE`, positive; 0 is success.
pub(super) fn error_number(body: &[u8]) -> i32 {
    i32_at(body, 0).map_or(0, i32::wrapping_neg)
}

fn request(kind: u16, flags: libc::c_int, fixed: &[u8], attributes: &[(u16, [u8; 4])]) -> Vec<u8> {
    let length = HEADER + fixed.len() + 8 * attributes.len();
    let mut bytes = Vec::with_capacity(length);
    bytes.extend(u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(u16::try_from(flags | libc::NLM_F_REQUEST).unwrap_or(u16::MAX).to_ne_bytes());
    // Sequence (set when it is sent) and port.
    bytes.extend([0; 8]);
    bytes.extend(fixed);
    for (kind, value) in attributes {
        bytes.extend(8u16.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
    }
    bytes
}

/// Numbers a request.
pub(super) fn set_sequence(request: &mut [u8], sequence: u32) {
    request[8..12].copy_from_slice(&sequence.to_ne_bytes());
}

/// Asks for one link, of another namespace if one is named, or (index 0) for all of this one.
pub(super) fn get_link(index: u32, netns: Option<i32>) -> Vec<u8> {
    let mut fixed = [0; 16];
    fixed[4..8].copy_from_slice(&index.to_ne_bytes());
    let flags = if index == 0 { libc::NLM_F_DUMP } else { 0 };
    let mut attributes = vec![(libc::IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS.to_ne_bytes())];
    attributes.extend(netns.map(|netns| (IFLA_TARGET_NETNSID, netns.to_ne_bytes())));
    request(libc::RTM_GETLINK, flags, &fixed, &attributes)
}

/// Asks for the addresses of one family: all of this namespace, or those of one link in another.
pub(super) fn get_addresses(family: u8, of: Option<(i32, u32)>) -> Vec<u8> {
    let mut fixed = [0; 8];
    fixed[0] = family;
    let (netns, index) = of.unzip();
    fixed[4..8].copy_from_slice(&index.unwrap_or(0).to_ne_bytes());
    let attributes: Vec<_> =
        netns.map(|netns: i32| (IFA_TARGET_NETNSID, netns.to_ne_bytes())).into_iter().collect();
    request(libc::RTM_GETADDR, libc::NLM_F_DUMP, &fixed, &attributes)
}

/// Asks for the unicast routes of one family in all tables.
pub(super) fn get_routes(family: u8) -> Vec<u8> {
    let mut fixed = [0; 12];
    fixed[0] = family;
    fixed[7] = libc::RTN_UNICAST;
    request(libc::RTM_GETROUTE, libc::NLM_F_DUMP, &fixed, &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(4 + value.len()).unwrap();
        let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn vxlan() -> Vec<u8> {
        let mut body = vec![0; 16];
        body[4..8].copy_from_slice(&7u32.to_ne_bytes());
        body[8..12].copy_from_slice(&1u32.to_ne_bytes());
        let info = [
            attribute(libc::IFLA_INFO_KIND, b"vxlan\0"),
            attribute(libc::IFLA_INFO_DATA | 0x8000, &attribute(IFLA_VXLAN_PORT, &8472u16.to_be_bytes())),
        ];
        body.extend(attribute(libc::IFLA_IFNAME, b"flannel.1\0"));
        body.extend(attribute(libc::IFLA_ADDRESS, &[2, 0, 0, 0, 0, 9]));
        body.extend(attribute(libc::IFLA_LINK_NETNSID, &3i32.to_ne_bytes()));
        body.extend(attribute(libc::IFLA_LINKINFO, &info.concat()));
        body
    }

    #[test]
    fn a_link_is_read_with_what_is_nested_in_it() {
        let expected = Link {
            index: 7,
            name: "flannel.1".to_owned(),
            kind: "vxlan".to_owned(),
            flags: 1,
            netns: Some(3),
            mac: Some([2, 0, 0, 0, 0, 9]),
            tunnel_port: Some(8472),
            ..Link::default()
        };
        assert_eq!(link(&vxlan()), Some(expected));
    }

    #[test]
    fn a_bridge_that_reports_its_port_reports_no_link() {
        let mut body = vxlan();
        body[0] = 7;
        assert_eq!(link(&body), None);
    }

    #[test]
    fn a_peer_with_the_same_index_is_known_without_being_named() {
        let veth = Link { index: 4, kind: "veth".to_owned(), netns: Some(0), ..Link::default() };
        assert_eq!(veth.far_end(), Some((0, 4)));
    }

    #[test]
    fn of_a_point_to_point_address_the_local_one_counts() {
        let mut body = vec![INET, 32, 0, 0, 5, 0, 0, 0];
        body[4..8].copy_from_slice(&5u32.to_ne_bytes());
        body.extend(attribute(libc::IFA_ADDRESS, &[10, 0, 0, 1]));
        body.extend(attribute(libc::IFA_LOCAL, &[10, 0, 0, 2]));
        let expected = Address { index: 5, ip: Ipv4Addr::new(10, 0, 0, 2).into(), prefix: 32, scope: 0 };
        assert_eq!(address(&body), Some(expected));
    }

    #[test]
    fn a_default_route_over_several_hops_leaves_by_all_of_them() {
        let hop = |interface: u32| [vec![8, 0, 0, 0], interface.to_ne_bytes().to_vec()].concat();
        let mut body = vec![0; 12];
        body[7] = libc::RTN_UNICAST;
        body.extend(attribute(libc::RTA_MULTIPATH, &[hop(3), hop(4)].concat()));
        assert_eq!(default_route(&body), [3, 4].into());
        body[1] = 24;
        assert_eq!(default_route(&body), BTreeSet::new());
    }

    #[test]
    fn what_is_cut_short_or_lies_about_its_length_is_read_to_an_end() {
        let whole = vxlan();
        for length in 0..whole.len() {
            let cut = &whole[..length];
            let _ = (link(cut), address(cut), default_route(cut), next_hops(cut).count(), error_number(cut));
            let read: Vec<_> = messages(cut).collect();
            assert!(read.len() <= length);
        }
        let mut request = get_link(0, Some(1));
        assert_eq!(messages(&request).flatten().count(), 1);
        for length in [0, 15, 255] {
            request[..4].copy_from_slice(&u32::to_ne_bytes(length));
            assert_eq!(messages(&request).map(Result::err).collect::<Vec<_>>(), [Some(Malformed)]);
        }
    }
}
