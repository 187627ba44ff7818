//! What an interface is to the node, from what is known of all of them. The table is in the [module above](super).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use anyhow::{Result, bail};
use wildmatch::WildMatch;

use super::snapshot::{Device, Snapshot};

/// `IFNAMSIZ` without its terminator.
const LONGEST_NAME: usize = 15;
/// Kinds by which no packet comes in from anywhere else.
const SILENT_KINDS: [&str; 5] = ["dummy", "ifb", "nlmon", "vcan", "vrf"];
/// Masters that packets of their ports pass again, so that the master alone is enough.
const GATHERING_KINDS: [&str; 2] = ["bond", "team"];

/// Role of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// The near end of a veth that leads into a pod's namespace.
    Pod,
    /// What comes in here comes from outside the node: uplinks, tunnels.
    Outside,
    /// A proxy, which reads requests, is behind it.
    Proxy,
    /// Nothing comes in here that did not pass another interface before, or that the node did not send itself.
    Internal,
}

/// What a user says about interfaces.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Patterns of names (`*`, `?`) of interfaces that are [`Role::Outside`] whatever else they look like.
    pub uplinks: Vec<String>,
}

/// Gives interfaces their roles.
#[derive(Debug)]
pub struct Classifier {
    uplinks: Vec<WildMatch>,
    node_addresses: BTreeSet<IpAddr>,
}

impl Classifier {
    /// Refuses patterns that cannot match any interface.
    pub fn new(options: &Options) -> Result<Self> {
        for pattern in &options.uplinks {
            let fixed = pattern.chars().filter(|letter| *letter != '*').count();
            if pattern.is_empty() || fixed > LONGEST_NAME {
                bail!("--uplink {pattern:?}: an interface name has 1 to {LONGEST_NAME} characters");
            }
            if let Some(letter) = pattern.chars().find(|letter| matches!(letter, '/' | ':' | ',')) {
                bail!("--uplink {pattern:?}: {letter:?} is not allowed; give one pattern each, with * and ?");
            }
        }
        Ok(Self {
            uplinks: options.uplinks.iter().map(|pattern| WildMatch::new(pattern)).collect(),
            node_addresses: BTreeSet::new(),
        })
    }

    /// The addresses that the cluster knows this node by; empty while unknown.
    pub fn set_node_addresses(&mut self, addresses: BTreeSet<IpAddr>) {
        self.node_addresses = addresses;
    }

    /// The role of every interface, by index.
    pub fn roles(&self, snapshot: &Snapshot) -> BTreeMap<u32, Role> {
        let carriers = self.carriers(snapshot);
        let mut roles: BTreeMap<u32, Role> = snapshot
            .devices
            .values()
            .filter(|device| device.kind != "bridge")
            .map(|device| (device.interface, self.port_or_lone(snapshot, device, &carriers)))
            .collect();
        // A bridge is judged by its ports: someone has to see what comes in, and once is enough.
        let watched: BTreeSet<u32> = snapshot
            .devices
            .values()
            .filter(|device| roles.get(&device.interface).is_some_and(|role| *role != Role::Internal))
            .filter_map(|device| device.master)
            .collect();
        for bridge in snapshot.devices.values().filter(|device| device.kind == "bridge") {
            let uplink = is_uplink(bridge, &carriers) && !watched.contains(&bridge.interface);
            let outside = uplink || self.is_named(bridge);
            roles.insert(bridge.interface, if outside { Role::Outside } else { Role::Internal });
        }
        roles
    }

    fn port_or_lone(&self, snapshot: &Snapshot, device: &Device, carriers: &BTreeSet<u32>) -> Role {
        if self.is_named(device) {
            return Role::Outside;
        }
        if device.loopback || SILENT_KINDS.contains(&device.kind.as_str()) {
            return Role::Internal;
        }
        let master = device.master.and_then(|master| snapshot.devices.get(&master));
        if master.is_some_and(|master| GATHERING_KINDS.contains(&master.kind.as_str())) {
            return Role::Internal;
        }
        if device.kind != "veth" || is_uplink(device, carriers) {
            return Role::Outside;
        }
        match device.veth_peer_elsewhere {
            true if is_proxys(&device.name) => Role::Proxy,
            true => Role::Pod,
            false => Role::Internal,
        }
    }

    fn is_named(&self, device: &Device) -> bool {
        self.uplinks.iter().any(|pattern| pattern.matches(&device.name))
    }

    /// Interfaces that carry an address of the node. One that several carry says nothing: some CNIs lend the node's own
    /// address to every pod's veth.
    fn carriers(&self, snapshot: &Snapshot) -> BTreeSet<u32> {
        let mut of_address: BTreeMap<IpAddr, Vec<u32>> = BTreeMap::new();
        for device in snapshot.devices.values() {
            for address in device.addresses.iter().filter(|address| self.node_addresses.contains(address)) {
                of_address.entry(*address).or_default().push(device.interface);
            }
        }
        of_address.into_values().filter(|interfaces| interfaces.len() == 1).flatten().collect()
    }
}

/// Proxies name the near ends of their veths so: `polder0`, `polder1`.
fn is_proxys(name: &str) -> bool {
    let number = name.strip_prefix("polder").unwrap_or_default();
    !number.is_empty() && number.bytes().all(|letter| letter.is_ascii_digit())
}

fn is_uplink(device: &Device, carriers: &BTreeSet<u32>) -> bool {
    device.has_default_route || carriers.contains(&device.interface)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(interface: u32, name: &str, kind: &str) -> Device {
        Device {
            interface,
            name: name.to_owned(),
            kind: kind.to_owned(),
            loopback: name == "lo",
            addresses: Vec::new(),
            has_default_route: false,
            tunnel_port: None,
            master: None,
            veth_peer_elsewhere: kind == "veth",
        }
    }

    fn snapshot(devices: impl IntoIterator<Item = Device>) -> Snapshot {
        Snapshot {
            devices: devices.into_iter().map(|device| (device.interface, device)).collect(),
            ..Snapshot::default()
        }
    }

    fn classifier(uplinks: &[&str], node: &[&str]) -> Classifier {
        let uplinks = uplinks.iter().map(|pattern| (*pattern).to_owned()).collect();
        let mut classifier = Classifier::new(&Options { uplinks }).unwrap();
        classifier.set_node_addresses(node.iter().map(|address| address.parse().unwrap()).collect());
        classifier
    }

    fn roles(classifier: &Classifier, snapshot: &Snapshot) -> Vec<Role> {
        classifier.roles(snapshot).into_values().collect()
    }

    #[test]
    fn hardware_and_tunnels_are_outside_and_loopback_dummy_and_near_pairs_are_not() {
        let near = Device { veth_peer_elsewhere: false, ..device(9, "near", "veth") };
        let kinds = ["", "vxlan", "geneve", "ipip", "tun", "wireguard", "vlan"];
        let mut devices: Vec<Device> =
            (2..).zip(kinds).map(|(index, kind)| device(index, "x", kind)).collect();
        devices.extend([device(1, "lo", ""), near, device(10, "kube-ipvs0", "dummy")]);
        let mut expected = vec![Role::Internal];
        expected.extend([Role::Outside; 7]);
        expected.extend([Role::Internal; 2]);
        assert_eq!(roles(&classifier(&[], &[]), &snapshot(devices)), expected);
    }

    #[test]
    fn a_veth_is_a_pod_unless_it_has_the_default_route_or_alone_carries_a_node_address() {
        let node: IpAddr = "172.18.0.2".parse().unwrap();
        let gateway: IpAddr = "10.244.0.1".parse().unwrap();
        let pod = Device { addresses: vec![gateway], ..device(2, "veth1", "veth") };
        let routed = Device { has_default_route: true, ..device(3, "eth0", "veth") };
        let node_carrier = Device { addresses: vec![node], ..device(4, "eth1", "veth") };
        let all = snapshot([pod.clone(), routed, node_carrier.clone()]);
        assert_eq!(roles(&classifier(&[], &["172.18.0.2"]), &all), [Role::Pod, Role::Outside, Role::Outside]);
        assert_eq!(roles(&classifier(&[], &[]), &all), [Role::Pod, Role::Outside, Role::Pod]);

        let lent = Device { addresses: vec![node], ..device(5, "veth2", "veth") };
        let lending = snapshot([node_carrier, lent]);
        assert_eq!(roles(&classifier(&[], &["172.18.0.2"]), &lending), [Role::Pod, Role::Pod]);
    }

    #[test]
    fn a_proxy_is_known_by_the_name_of_its_veth() {
        let near = Device { veth_peer_elsewhere: false, ..device(6, "polder1", "veth") };
        let all = snapshot([
            device(2, "polder0", "veth"),
            device(3, "polder12", "veth"),
            device(4, "polder", "veth"),
            device(5, "polder0a", "veth"),
            near,
            device(7, "polder2", "dummy"),
        ]);
        let expected = [Role::Proxy, Role::Proxy, Role::Pod, Role::Pod, Role::Internal, Role::Internal];
        assert_eq!(roles(&classifier(&[], &[]), &all), expected);
    }

    #[test]
    fn a_pattern_wins_over_what_a_device_looks_like() {
        let devices =
            snapshot([device(1, "lo", ""), device(2, "uplink0", "veth"), device(3, "br0", "bridge")]);
        assert_eq!(
            roles(&classifier(&["uplink?", "br*"], &[]), &devices),
            [Role::Internal, Role::Outside, Role::Outside]
        );
    }

    #[test]
    fn a_bridge_is_internal_where_its_ports_are_seen_and_outside_where_nobody_else_sees() {
        let bridge = Device { has_default_route: true, ..device(2, "br0", "bridge") };
        let port = Device { master: Some(2), ..device(3, "eth0", "") };
        let pod = Device { master: Some(2), ..device(4, "veth1", "veth") };
        let all = snapshot([bridge.clone(), port, pod]);
        assert_eq!(roles(&classifier(&[], &[]), &all), [Role::Internal, Role::Outside, Role::Pod]);
        assert_eq!(roles(&classifier(&[], &[]), &snapshot([bridge])), [Role::Outside]);
        assert_eq!(roles(&classifier(&[], &[]), &snapshot([device(2, "cni0", "bridge")])), [Role::Internal]);
    }

    #[test]
    fn of_a_bond_the_master_is_outside_and_its_ports_are_not_but_ports_of_a_vrf_are() {
        let port = |index, master| Device { master: Some(master), ..device(index, "eth", "") };
        let all = snapshot([device(2, "bond0", "bond"), port(3, 2), device(4, "vrf0", "vrf"), port(5, 4)]);
        assert_eq!(
            roles(&classifier(&[], &[]), &all),
            [Role::Outside, Role::Internal, Role::Internal, Role::Outside]
        );
    }

    #[test]
    fn a_pattern_that_can_match_nothing_is_refused() {
        for pattern in ["", "eth0,eth1", "sixteen-letters-"] {
            let refused = Classifier::new(&Options { uplinks: vec![pattern.to_owned()] });
            assert!(refused.unwrap_err().to_string().contains(&format!("--uplink {pattern:?}")));
        }
    }
}
