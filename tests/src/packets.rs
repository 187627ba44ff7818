//! Probes for a world: every address and port that something in it speaks of, and their neighbours.

use std::collections::BTreeSet;
use std::iter;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use datapath::abi::{Direction, Transport};
use ipnet::IpNet;
use policy_compiler::facts::Phase;
use policy_compiler::object::PodKey;
use policy_compiler::oracle::{Packet, Protocol};
use serde_json::Value;

use crate::world::{World, spec};

/// Up to this many probes, all combinations are tried. A world that has been shrunk is always below it.
const EXHAUSTIVE: usize = 1000;

/// How often each peer and each protocol is tried at least.
const PARTNERS: usize = 2;

/// Probes for every pod that policy can apply to, in both directions.
///
/// If all combinations of peers and protocols are too many, every peer and every protocol is tried for every pod and
/// direction, with two partners each that change from pod to pod. The same world always gets the same probes.
pub fn packets(world: &World) -> Vec<Packet> {
    let [pods, peers, protocols] = [judged(world).len(), peers(world).len(), protocols(world).len()];
    if pods * 2 * peers * protocols <= EXHAUSTIVE { all_packets(world) } else { some_packets(world) }
}

/// All combinations of pods, directions, peers and protocols, however many. Slow for a world that is not small.
pub fn all_packets(world: &World) -> Vec<Packet> {
    let (peers, protocols) = (peers(world), protocols(world));
    let mut packets = Vec::new();
    for (pod, direction) in hooks(world) {
        for &peer in &peers {
            for &protocol in &protocols {
                packets.push(Packet { pod: pod.clone(), direction, peer, protocol, from_own_node: false });
            }
            packets.push(Packet {
                pod: pod.clone(),
                direction,
                peer,
                protocol: protocols[0],
                from_own_node: true,
            });
        }
    }
    packets
}

fn some_packets(world: &World) -> Vec<Packet> {
    let (peers, protocols) = (peers(world), protocols(world));
    let mut packets = Vec::new();
    let turns = hooks(world).into_iter().flat_map(|hook| iter::repeat_n(hook, PARTNERS));
    for (turn, (pod, direction)) in turns.enumerate() {
        // With a stride of 7, neighbours do not go together with neighbours.
        let partner = |index: usize, of: usize| (index * 7 + turn * 11) % of;
        let mut probe = |peer, protocol, from_own_node| {
            packets.push(Packet { pod: pod.clone(), direction, peer, protocol, from_own_node });
        };
        for (index, &peer) in peers.iter().enumerate() {
            probe(peer, protocols[partner(index, protocols.len())], index % 16 == turn % 16);
        }
        for (index, &protocol) in protocols.iter().enumerate() {
            probe(peers[partner(index, peers.len())], protocol, false);
        }
    }
    packets
}

/// The pods that policy can apply to.
pub fn judged(world: &World) -> Vec<PodKey> {
    let pods = world.cluster.pods.values();
    pods.filter(|pod| !pod.host_network && pod.phase != Phase::Finished).map(|pod| pod.key.clone()).collect()
}

/// All addresses of pods and nodes, those just inside and just outside of every prefix, and two that are nobody's.
pub fn peers(world: &World) -> Vec<IpAddr> {
    let mut peers =
        BTreeSet::from([IpAddr::from([198, 51, 100, 7]), IpAddr::from([0xfd00_u16, 1, 0, 0, 0, 0, 0, 7])]);
    peers.extend(world.cluster.pods.values().flat_map(|pod| pod.addresses.iter().copied()));
    peers.extend(world.cluster.nodes.values().flat_map(|node| node.addresses.iter().copied()));
    for policy in &world.policies {
        visit(&spec(policy), &mut |_, value| {
            if let Some(cidr) = value.as_str().and_then(|text| text.parse::<IpNet>().ok()) {
                peers.extend([cidr.network(), cidr.broadcast()]);
                peers.extend(below(cidr.network()));
                peers.extend(above(cidr.broadcast()));
            }
        });
    }
    peers.into_iter().collect()
}

/// ICMP, and in each protocol with ports the ports that something speaks of, their neighbours, and those at the ends.
pub fn protocols(world: &World) -> Vec<Protocol> {
    let mut ports = BTreeSet::from([0, 1, 12345, u16::MAX]);
    ports.extend(world.cluster.pods.values().flat_map(|pod| pod.ports.iter().map(|port| port.port)));
    for policy in &world.policies {
        visit(&spec(policy), &mut |key, value| {
            let is_port = matches!(key, "port" | "endPort" | "number" | "start" | "end");
            if let Some(port) = value.as_u64().and_then(|port| u16::try_from(port).ok()).filter(|_| is_port) {
                ports.extend([port.saturating_sub(1), port, port.saturating_add(1)]);
            }
        });
    }
    let mut protocols = Vec::with_capacity(ports.len() * 3 + 2);
    for port in ports {
        protocols.extend(Transport::ALL.map(|transport| Protocol::Transport(transport, port)));
    }
    protocols.extend([Protocol::Other(1), Protocol::Other(58)]);
    protocols
}

fn hooks(world: &World) -> Vec<(PodKey, Direction)> {
    judged(world)
        .into_iter()
        .flat_map(|pod| Direction::ALL.map(|direction| (pod.clone(), direction)))
        .collect()
}

/// Visits every value of a document that is neither a list nor a map, with the key it stands under.
fn visit(document: &Value, see: &mut impl FnMut(&str, &Value)) {
    fn walk(key: &str, value: &Value, see: &mut impl FnMut(&str, &Value)) {
        match value {
            Value::Object(fields) => fields.iter().for_each(|(key, value)| walk(key, value, see)),
            Value::Array(items) => items.iter().for_each(|item| walk(key, item, see)),
            leaf => see(key, leaf),
        }
    }
    walk("", document, see);
}

fn below(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(address) => address.to_bits().checked_sub(1).map(|bits| Ipv4Addr::from_bits(bits).into()),
        IpAddr::V6(address) => address.to_bits().checked_sub(1).map(|bits| Ipv6Addr::from_bits(bits).into()),
    }
}

fn above(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(address) => address.to_bits().checked_add(1).map(|bits| Ipv4Addr::from_bits(bits).into()),
        IpAddr::V6(address) => address.to_bits().checked_add(1).map(|bits| Ipv6Addr::from_bits(bits).into()),
    }
}
