//! Which pod is behind which interface, and which programs are attached.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use nix::errno::Errno;
use nix::net::if_::if_indextoname;
use policy_compiler::object::PodKey;

use super::Control;
use crate::dataplane::{Bound, PodInterface, Role as Hooked};
use crate::endpoint::role::Role;
use crate::endpoint::snapshot::Veth;

impl Control {
    /// Follows the interfaces of the node.
    pub(super) fn follow(&mut self) {
        self.parts.classifier.set_node_addresses(self.own_node_addresses());
        self.roles = self.parts.classifier.roles(&self.snapshot);
        self.forget_gone();
        self.follow_facts();
        if self.armed {
            self.attach_all();
            self.follow_proxies();
            self.bind_all();
        }
    }

    /// From now on every pod's interface is hooked, and closed unless its rules are in.
    pub(super) fn arm(&mut self) {
        self.armed = true;
        self.follow();
    }

    /// Interfaces that are gone, or are no pod's any more.
    fn forget_gone(&mut self) {
        let is_pod = |interface: &u32| self.roles.get(interface) == Some(&Role::Pod);
        let known: Vec<u32> = self.parts.dataplane.interfaces().map(|row| row.number).collect();
        let gone: Vec<u32> = known.into_iter().filter(|interface| !is_pod(interface)).collect();
        if !gone.is_empty()
            && let Err(error) = self.parts.dataplane.remove(&gone)
        {
            self.fall_behind(&format!("removing interfaces that are gone: {error}"));
        }
        let wanted: BTreeSet<u32> =
            self.roles.iter().filter(|(_, role)| **role != Role::Internal).map(|(n, _)| *n).collect();
        let hooked: BTreeSet<u32> =
            self.parts.dataplane.hooks().into_iter().map(|hook| hook.place.interface).collect();
        for interface in hooked.difference(&wanted) {
            if let Err(error) = self.parts.dataplane.detach(*interface) {
                tracing::warn!(interface, %error, "taking programs off an interface");
            }
        }
        self.held.retain(|interface, _| wanted.contains(interface));
        self.failed.retain(|interface, _| wanted.contains(interface));
    }

    fn attach_all(&mut self) {
        let roles: Vec<(u32, Role)> =
            self.roles.iter().map(|(interface, role)| (*interface, *role)).collect();
        for (interface, role) in roles {
            let hooked = match role {
                Role::Internal => continue,
                Role::Pod => Hooked::Pod,
                Role::Outside => Hooked::Outside { early: self.is_uplink(interface) },
                Role::Proxy => Hooked::Proxy,
            };
            // Before it is bound: what has no row yet is dropped.
            match self.parts.dataplane.attach(interface, hooked) {
                Ok(()) => {
                    self.failed.remove(&interface);
                }
                // It went since it was seen, and the next look will say so.
                Err(error) if if_indextoname(interface) == Err(Errno::ENXIO) => {
                    tracing::debug!(interface, %error, "attaching programs to an interface that is gone");
                }
                Err(error) => {
                    let name = self.snapshot.devices.get(&interface).map_or("?", |device| &device.name);
                    tracing::error!(interface, name, %error, "attaching programs");
                    self.failed.insert(interface, format!("attaching programs: {error}"));
                }
            }
        }
    }

    fn is_uplink(&self, interface: u32) -> bool {
        // A tunnel's frames were looked at when they came in by the uplink, and its device has no driver for XDP.
        self.snapshot
            .devices
            .get(&interface)
            .is_some_and(|device| device.tunnel_port.is_none() && device.kind != "ipip")
    }

    /// Says to the dataplane which pods are behind which interfaces; closes those behind which no pod is known.
    pub(super) fn bind_all(&mut self) {
        if !self.world.is_known {
            return;
        }
        if self.roles.is_empty() {
            self.parts.classifier.set_node_addresses(self.own_node_addresses());
            self.roles = self.parts.classifier.roles(&self.snapshot);
        }
        let snapshot = std::sync::Arc::clone(&self.snapshot);
        let veths: Vec<&Veth> = snapshot
            .veths
            .values()
            .filter(|veth| self.roles.get(&veth.interface) == Some(&Role::Pod))
            .collect();
        let mut claims: BTreeMap<PodKey, Vec<u32>> = BTreeMap::new();
        let found: Vec<(&Veth, Result<PodKey, String>)> =
            veths.iter().map(|veth| (*veth, self.pod_behind(veth))).collect();
        for (veth, pod) in &found {
            if let Ok(pod) = pod {
                claims.entry(pod.clone()).or_default().push(veth.interface);
            }
        }
        for (veth, pod) in found {
            let why = match pod {
                Ok(pod) if self.is_contested(&pod, veth.interface, &claims) => {
                    Some(format!("another interface claims the addresses of {pod} too"))
                }
                Ok(pod) => self.bind(&pod, veth).err(),
                Err(why) => Some(why),
            };
            match why {
                None => {
                    self.held.remove(&veth.interface);
                }
                Some(why) => self.hold(veth, why),
            }
        }
        // In the first pass, and while the kernel is behind, it is caught up with anyway.
        if self.adopted && self.reconciled.is_some() && self.behind.is_none() {
            self.catch_up();
        }
    }

    fn hold(&mut self, veth: &Veth, why: String) {
        match self.parts.dataplane.hold(veth.interface) {
            Ok(closed) => {
                if closed {
                    tracing::info!(interface = veth.name, why, "closed until its rules are in");
                }
                self.held.insert(veth.interface, why);
            }
            Err(error) => {
                self.failed.insert(veth.interface, format!("closing it: {error}"));
            }
        }
    }

    /// Two interfaces with one address: the one that had it keeps it, and if neither had, neither gets it.
    fn is_contested(&self, pod: &PodKey, interface: u32, claims: &BTreeMap<PodKey, Vec<u32>>) -> bool {
        let claimants = claims.get(pod).map_or(&[][..], Vec::as_slice);
        if claimants.len() < 2 {
            return false;
        }
        let keeper = self.parts.dataplane.interface_of(pod).filter(|keeper| claimants.contains(keeper));
        keeper != Some(interface)
    }

    /// The pod whose addresses an interface has.
    fn pod_behind(&self, veth: &Veth) -> Result<PodKey, String> {
        if veth.addresses.is_empty() {
            return Err("it has no address yet".to_owned());
        }
        let owners: BTreeSet<&PodKey> = veth
            .addresses
            .iter()
            .filter_map(|address| self.compiler.owner(*address))
            .map(|pod| &pod.key)
            .collect();
        let addresses = || veth.addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ");
        match owners.len() {
            0 => Err(format!("no pod has the address {}", addresses())),
            1 => {
                let Some(pod) = owners.first() else { return Err("no pod".to_owned()) };
                if self.compiler.tables().endpoints.contains_key(*pod) {
                    Ok((*pod).clone())
                } else {
                    Err(format!("{pod}, which has the address {}, is not a pod of this node", addresses()))
                }
            }
            _ => Err(format!("its addresses {} belong to several pods", addresses())),
        }
    }

    fn bind(&mut self, pod: &PodKey, veth: &Veth) -> Result<(), String> {
        let Some(mac) = veth.mac else { return Err("its link address is not known yet".to_owned()) };
        // The cluster's word, as far as the interface has it: a pod may not add addresses to itself.
        let known =
            self.compiler.cluster().pods.get(pod).map(|pod| pod.addresses.clone()).unwrap_or_default();
        let mut own = known.into_iter().filter(|address| veth.addresses.contains(address));
        let (mut ipv4, mut ipv6) = (None, None);
        for address in &mut own {
            match address {
                IpAddr::V4(address) => ipv4 = ipv4.or(Some(address)),
                IpAddr::V6(address) => ipv6 = ipv6.or(Some(address)),
            }
        }
        let link_local = veth.link_local.first().copied();
        let interface = PodInterface { interface: veth.interface, mac, ipv4, ipv6, link_local };
        match self.parts.dataplane.bind(pod, &interface) {
            Ok(bound) => {
                if self.parts.dataplane.is_open(veth.interface) {
                    self.ask_neighbours(&interface, veth, bound == Bound::Placed);
                }
                tracing::debug!(%pod, interface = veth.name, ?bound, "bound");
                self.adopted |= bound == Bound::Adopted;
                Ok(())
            }
            Err(error) => {
                let why = format!("{pod}: {error}");
                self.failed.insert(veth.interface, why.clone());
                Err(why)
            }
        }
    }
}
