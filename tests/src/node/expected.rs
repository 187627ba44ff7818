//! What the oracle says of a probe.

use std::collections::BTreeSet;
use std::net::IpAddr;

use datapath::abi::{Direction, Transport};
use manifests::gather::Loaded;
use manifests::parse::parse;
use netlab::{Family, Packet as Frame, Probe, raw};
use policy_compiler::api::PolicyObject;
use policy_compiler::facts::Cluster;
use policy_compiler::object::PodKey;
use policy_compiler::oracle::{Answer, Packet, Protocol, judge};

/// Somebody who asks or is asked.
#[derive(Clone, Debug)]
pub struct End {
    /// As the laboratory calls it.
    pub name: String,
    /// The pod, if it is one.
    pub pod: Option<PodKey>,
    /// The node it is on, or is; none for a machine outside.
    pub node: Option<String>,
    /// Under which addresses others see it, by family.
    pub seen: [IpAddr; 2],
    /// At which addresses others ask it, by family.
    pub asked: [IpAddr; 2],
}

fn of(addresses: &[IpAddr; 2], family: Family) -> IpAddr {
    addresses[usize::from(family == Family::V6)]
}

/// Policies and the cluster they are about.
#[derive(Debug)]
pub struct Expected {
    policies: Vec<PolicyObject>,
    cluster: Cluster,
}

impl Expected {
    /// Reads manifests.
    ///
    /// # Panics
    ///
    /// If there is an error in them.
    pub fn read(manifests: &[(&str, String)]) -> Self {
        let parsed = manifests.iter().map(|(name, text)| parse(name, text.as_bytes()));
        let loaded = Loaded::gather(parsed);
        assert!(!loaded.has_errors(), "{:?}", loaded.problems);
        let world = loaded.world();
        Self {
            policies: world.policies.into_iter().map(|(policy, _)| policy).collect(),
            cluster: world.cluster,
        }
    }

    /// Whether a probe from one end to another is to be answered.
    pub fn allows(&self, from: &End, to: &End, probe: Probe) -> bool {
        let (family, protocol) = match probe {
            Probe::Tcp(family, port) => (family, Protocol::Transport(Transport::Tcp, port)),
            Probe::Udp(family, port) => (family, Protocol::Transport(Transport::Udp, port)),
            Probe::Ping(family) => (family, Protocol::Other(if family == Family::V4 { 1 } else { 58 })),
        };
        let own_node = from.pod.is_none() && from.node.is_some() && from.node == to.node;
        let hook = |pod: &Option<PodKey>, direction, peer| {
            pod.as_ref().is_none_or(|pod| {
                let packet = Packet { pod: pod.clone(), direction, peer, protocol, from_own_node: own_node };
                judge(&self.policies, &self.cluster, &packet) == Answer::Allow
            })
        };
        hook(&from.pod, Direction::Egress, of(&to.asked, family))
            && hook(&to.pod, Direction::Ingress, of(&from.seen, family))
    }
}

/// A filter for a sniffer at `victim`: true for requests of the other ends that are to be denied.
pub fn denied_at(
    expected: &Expected,
    victim: &End,
    ends: &[End],
    probes: &[Probe],
) -> impl FnMut(&Frame<'_>) -> bool + Send + 'static {
    let mut denied = BTreeSet::new();
    for from in ends.iter().filter(|from| from.name != victim.name) {
        for probe in probes.iter().filter(|probe| !expected.allows(from, victim, **probe)) {
            let (family, protocol, port) = match *probe {
                Probe::Tcp(family, port) => (family, raw::TCP, port),
                Probe::Udp(family, port) => (family, raw::UDP, port),
                Probe::Ping(Family::V4) => (Family::V4, 1, 0),
                Probe::Ping(Family::V6) => (Family::V6, 58, 0),
            };
            denied.insert((of(&from.seen, family), of(&victim.asked, family), protocol, port));
        }
    }
    move |packet| {
        let (Some(source), Some(destination), Some(protocol)) =
            (packet.source, packet.destination, packet.protocol)
        else {
            return false;
        };
        let asks = match protocol {
            raw::TCP => packet.is_syn(),
            raw::UDP => true,
            _ => matches!(packet.icmp, Some((8 | 128, _))),
        };
        let port = packet.ports.map_or(0, |(_, port)| port);
        asks && denied.contains(&(source, destination, protocol, port))
    }
}
