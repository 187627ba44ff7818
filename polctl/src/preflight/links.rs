//! The node's interfaces, as far as they matter here.

use std::fs;
use std::io;

use super::netlink::{self, GENERIC, ROUTE, attribute, put, text, u16_at, u32_at, u64_at};

/// An interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    /// The kernel's name for its kind; empty for hardware and loopback.
    pub(super) kind: String,
    /// Its other end is in another namespace.
    pub(super) far: bool,
    /// A default route leaves by it.
    pub(super) default_route: bool,
    /// An XDP program is attached.
    pub(super) xdp: bool,
}

impl Link {
    /// A pod's, most likely: the node's end of a veth whose other end is elsewhere, and no way out of the node.
    pub(super) fn is_pods(&self) -> bool {
        self.kind == "veth" && self.far && !self.default_route
    }
}

/// All interfaces of this namespace.
pub(super) fn links() -> io::Result<Vec<Link>> {
    const GET_LINK: u16 = 18;
    const NEW_LINK: u16 = 16;
    let routes = default_routes(
        &fs::read_to_string("/proc/net/route").unwrap_or_default(),
        &fs::read_to_string("/proc/net/ipv6_route").unwrap_or_default(),
    );
    let answer = netlink::ask(ROUTE, GET_LINK, netlink::DUMP, &[0; 16])?;
    let links = answer.iter().filter(|(kind, _)| *kind == NEW_LINK).filter_map(|(_, body)| link(body));
    Ok(links.map(|link| Link { default_route: routes.contains(&link.name), ..link }).collect())
}

fn link(body: &[u8]) -> Option<Link> {
    let attributes = body.get(16..)?;
    let info = attribute(attributes, 18);
    let xdp = attribute(attributes, 43).and_then(|xdp| attribute(xdp, 2)).and_then(|mode| mode.first());
    Some(Link {
        index: u32_at(body, 4)?,
        name: text(attribute(attributes, 3)?),
        kind: info.and_then(|info| attribute(info, 1)).map(text).unwrap_or_default(),
        far: attribute(attributes, 37).is_some(),
        default_route: false,
        xdp: xdp.is_some_and(|mode| *mode != 0),
    })
}

/// Interfaces with a default route, from `/proc/net/route` and `/proc/net/ipv6_route`.
fn default_routes(ipv4: &str, ipv6: &str) -> Vec<String> {
    let four = ipv4.lines().skip(1).filter_map(|line| {
        let mut words = line.split_whitespace();
        let (name, destination, mask) = (words.next()?, words.next()?, words.nth(5)?);
        (destination == "00000000" && mask == "00000000").then(|| name.to_owned())
    });
    let six = ipv6.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let (destination, length) = (words.next()?, words.next()?);
        let name = words.last()?;
        let is_default = destination.bytes().all(|byte| byte == b'0') && length == "00";
        (is_default && name != "lo").then(|| name.to_owned())
    });
    four.chain(six).collect()
}

/// Whether the driver of an interface runs XDP programs itself; `None` on kernels that do not say (before 6.3).
pub(super) fn native_xdp(index: u32) -> Option<bool> {
    const CONTROLLER: u16 = 16;
    let generic = |command: u8, attributes: &[u8]| [&[command, 1, 0, 0], attributes].concat();
    let family = netlink::ask(GENERIC, CONTROLLER, 0, &generic(3, &put(2, b"netdev\0"))).ok()?;
    let family = family.iter().find_map(|(_, body)| u16_at(attribute(body.get(4..)?, 1)?, 0))?;
    let device = netlink::ask(GENERIC, family, 0, &generic(1, &put(1, &index.to_ne_bytes()))).ok()?;
    let features = device.iter().find_map(|(_, body)| u64_at(attribute(body.get(4..)?, 3)?, 0))?;
    Some(features & 1 != 0)
}

/// How many filters stand at an interface's clsact hooks.
pub(super) fn clsact_filters(index: u32) -> io::Result<usize> {
    const GET_FILTER: u16 = 46;
    const NEW_FILTER: u16 = 44;
    let mut filters = 0;
    for parent in [0xffff_fff2_u32, 0xffff_fff3] {
        let mut body = vec![0; 4];
        body.extend(index.to_ne_bytes());
        body.extend(0_u32.to_ne_bytes());
        body.extend(parent.to_ne_bytes());
        body.extend(0_u32.to_ne_bytes());
        let answer = netlink::ask(ROUTE, GET_FILTER, netlink::DUMP, &body)?;
        // A filter has a handle; its chain is told once more without.
        let is_filter = |body: &[u8]| u32_at(body, 8).is_some_and(|handle| handle != 0);
        filters += answer.iter().filter(|(kind, body)| *kind == NEW_FILTER && is_filter(body)).count();
    }
    Ok(filters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_with_a_default_route_are_found_in_both_families() {
        let ipv4 = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\nens5\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                    cni0\t0001F40A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
        let zero = "0".repeat(32);
        let ipv6 = format!(
            "{zero} 00 {zero} 00 {zero} 00000400 1 0 3 ens6\n{zero} 00 {zero} 00 {zero} ffffffff 1 0 200200 lo\n"
        );
        assert_eq!(default_routes(ipv4, &ipv6), ["ens5", "ens6"]);
    }

    #[test]
    fn loopback_is_among_the_links_and_is_nobodys() {
        let links = links().unwrap();
        let loopback = links.iter().find(|link| link.name == "lo").unwrap();
        assert!(!loopback.is_pods() && !loopback.default_route && loopback.kind.is_empty());
    }
}
