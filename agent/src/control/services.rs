//! The rows of service addresses, by service: what changes costs what it concerns, and not what the cluster has.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use datapath::hook::{ServiceKey, ServiceRow};
use policy_compiler::compiler::Event;
use policy_compiler::facts::{Cluster, EndpointSlice, Service, ServicePort, TargetPort};

/// Namespace and name.
type Name = (Arc<str>, Arc<str>);

/// Which facts events are about.
#[derive(Debug, Default)]
pub(super) struct Touched {
    pub(super) nodes: bool,
    services: BTreeSet<Name>,
    slices: BTreeSet<Name>,
}

impl Touched {
    pub(super) fn by(events: &[Event]) -> Self {
        let mut touched = Self::default();
        for event in events {
            match event {
                Event::Node(_) | Event::NodeGone(_) => touched.nodes = true,
                Event::Service(Service { namespace, name, .. }) | Event::ServiceGone(namespace, name) => {
                    touched.services.insert((Arc::clone(namespace), Arc::clone(name)));
                }
                Event::EndpointSlice(EndpointSlice { namespace, name, .. })
                | Event::EndpointSliceGone(namespace, name) => {
                    touched.slices.insert((Arc::clone(namespace), Arc::clone(name)));
                }
                Event::Namespace(_)
                | Event::NamespaceGone(_)
                | Event::Pod(_)
                | Event::PodGone { .. }
                | Event::Policy(_)
                | Event::PolicyGone(_) => {}
            }
        }
        touched
    }
}

/// The rows that the kernel is to hold.
#[derive(Debug, Default)]
pub(super) struct Services {
    /// By the service they come from: of two services with one address and port, the last by name has the row.
    rows: BTreeMap<ServiceKey, BTreeMap<Name, ServiceRow>>,
    keys: BTreeMap<Name, Vec<ServiceKey>>,
    slices: BTreeMap<Name, BTreeSet<Name>>,
    service_of: BTreeMap<Name, Name>,
}

/// What the kernel is to be told.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) removed: Vec<ServiceKey>,
    pub(super) set: BTreeMap<ServiceKey, ServiceRow>,
}

impl Services {
    /// All rows of a cluster, on a node with these addresses.
    pub(super) fn of(cluster: &Cluster, own: &BTreeSet<IpAddr>) -> Self {
        let mut services = Self::default();
        let touched = Touched {
            nodes: false,
            services: cluster.services.keys().cloned().collect(),
            slices: cluster.endpoint_slices.keys().cloned().collect(),
        };
        services.change(cluster, own, &touched);
        services
    }

    /// The rows.
    pub(super) fn rows(&self) -> BTreeMap<ServiceKey, ServiceRow> {
        self.rows.keys().filter_map(|key| Some((*key, self.row(key)?))).collect()
    }

    /// How many rows there are.
    pub(super) fn count(&self) -> usize {
        self.rows.len()
    }

    fn row(&self, key: &ServiceKey) -> Option<ServiceRow> {
        self.rows.get(key)?.last_key_value().map(|(_, row)| *row)
    }

    /// Takes in what events touched, as the cluster is after them.
    pub(super) fn change(&mut self, cluster: &Cluster, own: &BTreeSet<IpAddr>, touched: &Touched) -> Change {
        let mut services = touched.services.clone();
        for slice in &touched.slices {
            services.extend(self.follow_slice(cluster, slice));
        }
        let mut before = BTreeMap::new();
        for name in &services {
            for key in self.keys.remove(name).unwrap_or_default() {
                before.entry(key).or_insert_with(|| self.row(&key));
                if let Some(rows) = self.rows.get_mut(&key) {
                    rows.remove(name);
                    if rows.is_empty() {
                        self.rows.remove(&key);
                    }
                }
            }
            for (key, row) in self.rows_of(cluster, own, name) {
                before.entry(key).or_insert_with(|| self.row(&key));
                self.rows.entry(key).or_default().insert(name.clone(), row);
                self.keys.entry(name.clone()).or_default().push(key);
            }
        }
        let mut change = Change::default();
        for (key, before) in before {
            match (self.row(&key), before) {
                (Some(now), before) if before != Some(now) => drop(change.set.insert(key, now)),
                (None, Some(_)) => change.removed.push(key),
                _ => {}
            }
        }
        change
    }

    /// Notes which service a slice belongs to now; gives those it belongs or belonged to.
    fn follow_slice(&mut self, cluster: &Cluster, name: &Name) -> Vec<Name> {
        let mut concerned = Vec::new();
        if let Some(before) = self.service_of.remove(name) {
            if let Some(slices) = self.slices.get_mut(&before) {
                slices.remove(name);
                if slices.is_empty() {
                    self.slices.remove(&before);
                }
            }
            concerned.push(before);
        }
        let slice = cluster.endpoint_slices.get(name);
        if let Some(service) = slice.and_then(|slice| slice.service.clone()) {
            let service = (Arc::clone(&name.0), service);
            self.slices.entry(service.clone()).or_default().insert(name.clone());
            self.service_of.insert(name.clone(), service.clone());
            concerned.push(service);
        }
        concerned
    }

    fn rows_of(
        &self,
        cluster: &Cluster,
        own: &BTreeSet<IpAddr>,
        name: &Name,
    ) -> BTreeMap<ServiceKey, ServiceRow> {
        let Some(service) = cluster.services.get(name) else { return BTreeMap::new() };
        let slices: Vec<&EndpointSlice> = self
            .slices
            .get(name)
            .into_iter()
            .flatten()
            .filter_map(|slice| cluster.endpoint_slices.get(slice).map(|slice| &**slice))
            .collect();
        let mut rows = BTreeMap::new();
        for port in &service.ports {
            for address in &service.addresses {
                let key = key(*address, port.port, port.transport.ip_protocol());
                rows.insert(key, row(backend_here(own, port, &slices, *address)));
            }
        }
        rows
    }
}

/// A backend at one of the node's own addresses: no hook comes after the address was translated.
fn backend_here(
    own: &BTreeSet<IpAddr>,
    port: &ServicePort,
    slices: &[&EndpointSlice],
    address: IpAddr,
) -> Option<(IpAddr, u16)> {
    slices.iter().find_map(|slice| {
        let is_here = |backend: &&IpAddr| backend.is_ipv4() == address.is_ipv4() && own.contains(*backend);
        let here = slice.addresses.iter().find(is_here)?;
        let named = slice
            .ports
            .iter()
            .find(|(name, transport, _)| *name == port.name && *transport == port.transport);
        let number = match (&port.target, named) {
            (_, Some((_, _, number))) | (TargetPort::Number(number), None) => *number,
            (TargetPort::Name(_), None) => return None,
        };
        Some((*here, number))
    })
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

#[cfg(test)]
mod tests {
    use datapath::abi::Transport;

    use super::*;

    fn service(name: &str, address: [u8; 4], port: u16) -> Service {
        let target = TargetPort::Number(8080);
        Service {
            namespace: "shop".into(),
            name: name.into(),
            selector: None,
            addresses: BTreeSet::from([address.into()]),
            ports: vec![ServicePort { name: None, transport: Transport::Tcp, port, target }],
        }
    }

    fn slice(name: &str, service: Option<&str>, backend: [u8; 4]) -> EndpointSlice {
        EndpointSlice {
            namespace: "shop".into(),
            name: name.into(),
            service: service.map(Into::into),
            addresses: BTreeSet::from([backend.into()]),
            ports: vec![(None, Transport::Tcp, 9000)],
        }
    }

    /// Applies an event to the cluster as the compiler does, and to the services; what was told must lead to the same
    /// rows as all of the cluster at once.
    fn apply(
        services: &mut Services,
        cluster: &mut Cluster,
        told: &mut BTreeMap<ServiceKey, ServiceRow>,
        event: Event,
    ) -> usize {
        let own = BTreeSet::from([IpAddr::from([192, 0, 2, 1])]);
        let touched = Touched::by(std::slice::from_ref(&event));
        let named = |namespace: &Arc<str>, name: &Arc<str>| (Arc::clone(namespace), Arc::clone(name));
        match event {
            Event::Service(one) => {
                drop(cluster.services.insert(named(&one.namespace, &one.name), Arc::new(one)));
            }
            Event::ServiceGone(namespace, name) => drop(cluster.services.remove(&(namespace, name))),
            Event::EndpointSlice(one) => {
                cluster.endpoint_slices.insert(named(&one.namespace, &one.name), Arc::new(one));
            }
            Event::EndpointSliceGone(namespace, name) => {
                drop(cluster.endpoint_slices.remove(&(namespace, name)));
            }
            other => panic!("{other:?}"),
        }
        let change = services.change(cluster, &own, &touched);
        for key in &change.removed {
            assert!(told.remove(key).is_some(), "{key:?} was never told");
        }
        told.extend(&change.set);
        assert_eq!(*told, Services::of(cluster, &own).rows());
        assert_eq!(told.len(), services.count());
        change.removed.len() + change.set.len()
    }

    #[test]
    fn what_is_told_of_a_change_is_what_it_concerns_and_leads_to_the_rows_of_the_whole_cluster() {
        let (mut services, mut cluster, mut told) = <(Services, Cluster, BTreeMap<_, _>)>::default();
        let here = [192, 0, 2, 1];
        let gone = |name: &str| ("shop".into(), name.into());
        let slice_gone = |name: &str| {
            let (namespace, name) = gone(name);
            Event::EndpointSliceGone(namespace, name)
        };
        let service_gone = |name: &str| {
            let (namespace, name) = gone(name);
            Event::ServiceGone(namespace, name)
        };
        let steps = [
            (Event::Service(service("a", [10, 96, 0, 1], 80)), 1),
            (Event::Service(service("b", [10, 96, 0, 2], 80)), 1),
            (Event::Service(service("b", [10, 96, 0, 2], 80)), 0),
            // A backend elsewhere is no news to the kernel; one here is.
            (Event::EndpointSlice(slice("s", Some("a"), [10, 1, 1, 1])), 0),
            (Event::EndpointSlice(slice("s", Some("a"), here)), 1),
            (Event::EndpointSlice(slice("s", Some("b"), here)), 2),
            (slice_gone("s"), 1),
            (Event::EndpointSlice(slice("t", Some("c"), here)), 0),
            // It takes the address that `a` has; the last by name has the row.
            (Event::Service(service("c", [10, 96, 0, 1], 80)), 1),
            (service_gone("a"), 0),
            (Event::Service(service("a", [10, 96, 0, 1], 80)), 0),
            (service_gone("c"), 1),
            (Event::Service(service("a", [10, 96, 0, 1], 443)), 2),
            (service_gone("a"), 1),
            (service_gone("b"), 1),
        ];
        for (number, (event, expected)) in steps.into_iter().enumerate() {
            let changed = apply(&mut services, &mut cluster, &mut told, event);
            assert_eq!(changed, expected, "step {number}");
        }
        assert!(told.is_empty());
    }
}
