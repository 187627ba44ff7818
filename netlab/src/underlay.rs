//! How nodes reach the pods of each other.

use std::fmt::Write;

use anyhow::Result;

use crate::host::Host;
use crate::node::Node;

/// The network identifier of flannel's VXLAN.
pub const VXLAN_ID: u32 = 1;
/// The UDP port of flannel's VXLAN, Linux's own choice from before RFC 7348.
pub const VXLAN_PORT: u16 = 8472;

/// What VXLAN over IPv4 takes from each packet: Ethernet, IPv4, UDP and VXLAN headers.
const OVERHEAD: u32 = 14 + 20 + 8 + 8;

/// How nodes are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Underlay {
    /// By routes to each other's subnets through the fabric, as flannel's `host-gw`.
    Routed,
    /// By `flannel.1`, which learns nothing: every neighbour and forwarding entry is written by hand, as flannel does.
    Vxlan,
}

pub(crate) fn join(nodes: &[&Node], by: Underlay) -> Result<()> {
    for node in nodes {
        let mut routes = String::new();
        let mut forwarding = String::new();
        if by == Underlay::Vxlan {
            node.set_pod_mtu(1500 - OVERHEAD)?;
            node.ip(&tunnel(node))?;
        }
        for peer in nodes.iter().filter(|peer| peer.subnet() != node.subnet()) {
            let [network, network6] = peer.subnet().networks();
            let (ipv4, ipv6) = (peer.ipv4(), peer.ipv6());
            match by {
                Underlay::Routed => {
                    writeln!(routes, "route add {network} via {ipv4}\nroute add {network6} via {ipv6}")?;
                }
                Underlay::Vxlan => {
                    // As flannel does, the first address of a subnet stands for the far end of its tunnel.
                    let (via, via6, mac) = (peer.subnet().ipv4(0), peer.subnet().ipv6(0), peer.tunnel_mac());
                    writeln!(routes, "neigh add {via} lladdr {mac} dev flannel.1 nud permanent")?;
                    writeln!(routes, "neigh add {via6} lladdr {mac} dev flannel.1 nud permanent")?;
                    writeln!(routes, "route add {network} via {via} dev flannel.1 onlink")?;
                    writeln!(routes, "route add {network6} via {via6} dev flannel.1 onlink")?;
                    writeln!(forwarding, "fdb append {mac} dev flannel.1 dst {ipv4}")?;
                }
            }
        }
        node.ip(&routes)?;
        if !forwarding.is_empty() {
            node.bridge(&forwarding)?;
        }
    }
    Ok(())
}

fn tunnel(node: &Node) -> String {
    let (subnet, mac) = (node.subnet(), node.tunnel_mac());
    format!(
        "link add flannel.1 address {mac} mtu {mtu} type vxlan id {VXLAN_ID} dev eth0 local {local} \
         dstport {VXLAN_PORT} nolearning\n\
         addr add {ipv4}/32 dev flannel.1\naddr add {ipv6}/128 dev flannel.1 nodad\nlink set flannel.1 up\n",
        mtu = 1500 - OVERHEAD,
        local = node.ipv4(),
        ipv4 = subnet.ipv4(0),
        ipv6 = subnet.ipv6(0),
    )
}
