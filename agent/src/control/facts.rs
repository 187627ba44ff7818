//! Addresses of nodes and services, and the settings that depend on them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use datapath::hook::{ServiceKey, ServiceRow};
use policy_compiler::facts::{EndpointSlice, Service, TargetPort};

use super::Control;

/// What the kernel was told last.
#[derive(Debug, Default)]
pub(super) struct Written {
    nodes: Option<BTreeSet<IpAddr>>,
    services: Option<BTreeMap<ServiceKey, ServiceRow>>,
}

impl Written {
    /// Has everything written again.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

impl Control {
    /// The addresses that the cluster knows this node by.
    pub(super) fn own_node_addresses(&self) -> BTreeSet<IpAddr> {
        let node = self.compiler.cluster().nodes.get(self.parts.node.as_str());
        node.map(|node| node.addresses.clone()).unwrap_or_default()
    }

    /// Tells the kernel addresses of nodes and services, as far as they changed.
    pub(super) fn write_facts(&mut self) {
        let cluster: BTreeSet<IpAddr> =
            self.compiler.cluster().nodes.values().flat_map(|node| node.addresses.iter().copied()).collect();
        // Others than this one are known: tunnelled traffic of strangers can be told.
        let known = self.compiler.cluster().nodes.len() > 1;
        let nodes: BTreeSet<IpAddr> = cluster.union(&self.snapshot.own_addresses).copied().collect();
        let services = self.services();
        let tunnels = self.tunnels();
        let result = self.tell_kernel(nodes, services, tunnels, known);
        if let Err(error) = result {
            self.facts.forget();
            self.fall_behind(&format!("addresses of nodes and services: {error}"));
        }
    }

    fn tell_kernel(
        &mut self,
        nodes: BTreeSet<IpAddr>,
        services: BTreeMap<ServiceKey, ServiceRow>,
        tunnels: [u16; 4],
        nodes_known: bool,
    ) -> Result<(), crate::dataplane::Error> {
        let dataplane = &self.parts.dataplane;
        if self.facts.nodes.as_ref() != Some(&nodes) {
            dataplane.set_nodes(&nodes.iter().copied().collect::<Vec<_>>())?;
        }
        if self.facts.services.as_ref() != Some(&services) {
            dataplane.set_services(&services)?;
        }
        let mut settings = dataplane.settings()?;
        let before = settings;
        settings.nodes_known = u8::from(nodes_known);
        settings.services = u8::from(!services.is_empty());
        settings.tunnel_ports = tunnels;
        if settings != before {
            dataplane.configure(&settings)?;
        }
        self.facts = Written { nodes: Some(nodes), services: Some(services) };
        Ok(())
    }

    /// The ports at which nodes accept tunnelled traffic: the well-known ones, and those of devices that are here.
    fn tunnels(&self) -> [u16; 4] {
        // Flannel and Cilium; VXLAN (RFC 7348); Geneve (RFC 8926).
        let mut ports = [8472, 4789, 6081, 0];
        let found = self.snapshot.devices.values().filter_map(|device| device.tunnel_port);
        if let Some(other) = found.into_iter().find(|port| !ports.contains(port)) {
            ports[3] = other;
        }
        ports
    }

    fn services(&self) -> BTreeMap<ServiceKey, ServiceRow> {
        let cluster = self.compiler.cluster();
        let mut slices: BTreeMap<(&str, &str), Vec<&EndpointSlice>> = BTreeMap::new();
        for slice in cluster.endpoint_slices.values() {
            if let Some(service) = &slice.service {
                slices.entry((&slice.namespace, service)).or_default().push(slice);
            }
        }
        let mut rows = BTreeMap::new();
        for service in cluster.services.values() {
            let slices = slices.get(&(&*service.namespace, &*service.name)).map_or(&[][..], Vec::as_slice);
            for port in &service.ports {
                for address in &service.addresses {
                    let key = key(*address, port.port, port.transport.ip_protocol());
                    let backend = self.backend_here(service, port, slices, *address);
                    rows.insert(key, row(backend));
                }
            }
        }
        rows
    }

    /// A backend at one of the node's own addresses: no hook comes after the address was translated.
    fn backend_here(
        &self,
        service: &Service,
        port: &policy_compiler::facts::ServicePort,
        slices: &[&EndpointSlice],
        address: IpAddr,
    ) -> Option<(IpAddr, u16)> {
        let here = slices.iter().find_map(|slice| {
            let own = slice.addresses.iter().find(|backend| {
                backend.is_ipv4() == address.is_ipv4() && self.snapshot.own_addresses.contains(backend)
            })?;
            let named = slice
                .ports
                .iter()
                .find(|(name, transport, _)| *name == port.name && *transport == port.transport);
            let number = match (&port.target, named) {
                (_, Some((_, _, number))) | (TargetPort::Number(number), None) => *number,
                (TargetPort::Name(_), None) => return None,
            };
            Some((*own, number))
        });
        if here.is_some() {
            tracing::trace!(namespace = %service.namespace, service = %service.name, "has a backend on this node itself");
        }
        here
    }
}

fn key(address: IpAddr, port: u16, protocol: u8) -> ServiceKey {
    ServiceKey { address: bytes(address), port, protocol, family: if address.is_ipv4() { 4 } else { 6 } }
}

fn row(backend: Option<(IpAddr, u16)>) -> ServiceRow {
    match backend {
        Some((address, port)) => ServiceRow { backend: bytes(address), port, pad: 0 },
        None => ServiceRow { backend: [0; 16], port: 0, pad: 0 },
    }
}

fn bytes(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&address.octets());
            bytes
        }
        IpAddr::V6(address) => address.octets(),
    }
}
