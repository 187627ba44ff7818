//! Addresses of nodes and services as the kernel is told them, and the settings that depend on them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::Control;
use super::services::{Services, Touched};
use crate::dataplane::Error;

/// What the kernel was told last.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// Without it everything is told anew.
    own: Option<BTreeSet<IpAddr>>,
    nodes: BTreeSet<IpAddr>,
    services: Services,
}

impl Written {
    /// Has everything written again.
    pub(super) fn forget(&mut self) {
        self.own = None;
    }
}

impl Control {
    /// The addresses that the cluster knows this node by.
    pub(super) fn own_node_addresses(&self) -> BTreeSet<IpAddr> {
        let node = self.compiler.cluster().nodes.get(self.parts.node.as_str());
        node.map(|node| node.addresses.clone()).unwrap_or_default()
    }

    /// Tells the kernel addresses of nodes and services, as far as they were touched or the node's own changed.
    pub(super) fn write_facts(&mut self, touched: &Touched) {
        if let Err(error) = self.tell_kernel(touched) {
            self.facts.forget();
            self.fall_behind(&format!("addresses of nodes and services: {error}"));
        }
    }

    /// The same, if the node's interfaces changed in what matters here.
    pub(super) fn follow_facts(&mut self) {
        if self.world.is_known && self.facts.own.as_ref() != Some(&self.snapshot.own_addresses) {
            self.write_facts(&Touched::default());
        }
    }

    fn tell_kernel(&mut self, touched: &Touched) -> Result<(), Error> {
        let own = &self.snapshot.own_addresses;
        let (dataplane, cluster) = (&self.parts.dataplane, self.compiler.cluster());
        let all = self.facts.own.as_ref() != Some(own);
        if all || touched.nodes {
            let named = cluster.nodes.values().flat_map(|node| &node.addresses);
            let nodes: BTreeSet<IpAddr> = named.chain(own).copied().collect();
            if all || nodes != self.facts.nodes {
                dataplane.set_nodes(&nodes.iter().copied().collect::<Vec<_>>())?;
                self.facts.nodes = nodes;
            }
        }
        if all {
            self.facts.services = Services::of(cluster, own);
            dataplane.set_services(&self.facts.services.rows())?;
        } else {
            let change = self.facts.services.change(cluster, own, touched);
            dataplane.change_services(self.facts.services.count(), &change.removed, &change.set)?;
        }
        let mut settings = dataplane.settings()?;
        let before = settings;
        // Others than this one are known: tunnelled traffic of strangers can be told.
        settings.nodes_known = u8::from(cluster.nodes.len() > 1);
        settings.services = u8::from(self.facts.services.count() > 0);
        settings.tunnel_ports = self.tunnels();
        if settings != before {
            dataplane.configure(&settings)?;
        }
        self.facts.own = Some(own.clone());
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
}
