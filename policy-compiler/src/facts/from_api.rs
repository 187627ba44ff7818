//! Objects of the API to facts: what policy can depend on is taken, and checked only as far as it is used.
//!
//! Every object gives a fact. A value that cannot be used (an address that is none, a port out of range) is left out of
//! the fact and named in a warning: to refuse the whole pod would hide it from the policies that select it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use datapath::abi::Transport;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{
    ContainerPort, EndpointSlice, Namespace, Node, Phase, Pod, Service, ServicePort, TargetPort, Workload,
    labels,
};
use crate::object::{ObjectRef, PodKey};
use crate::problem::{Problem, Severity};

/// The id of every warning about a value that was left out of a fact.
pub const UNUSABLE_VALUE: &str = "unusable-value";

/// The label by which an `EndpointSlice` names its service.
const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

impl Namespace {
    /// What matters of a namespace.
    pub fn from_api(api: &core::Namespace) -> Self {
        let phase = api.status.as_ref().and_then(|status| status.phase.as_deref());
        let terminating = api.metadata.deletion_timestamp.is_some() || phase == Some("Terminating");
        let labels = api.metadata.labels.clone().unwrap_or_default();
        Self::new(name(&api.metadata), labels, terminating)
    }
}

impl Pod {
    /// What matters of a pod.
    pub fn from_api(api: &core::Pod) -> (Self, Vec<Problem>) {
        let mut remarks = Remarks::about("Pod", &api.metadata);
        let key = PodKey::new(namespace(&api.metadata), name(&api.metadata));
        let spec = api.spec.as_ref();
        let pod = Self {
            uid: api.metadata.uid.as_deref().unwrap_or_default().into(),
            labels: labels(api.metadata.labels.as_ref()),
            addresses: pod_addresses(api.status.as_ref(), &mut remarks),
            addresses_made_up: false,
            host_network: spec.and_then(|spec| spec.host_network).unwrap_or_default(),
            phase: phase(api.status.as_ref()),
            node: spec.and_then(|spec| spec.node_name.as_deref()).and_then(set),
            ports: spec.map(|spec| named_ports(spec, &mut remarks)).unwrap_or_default(),
            workload: workload(&api.metadata),
            created: api.metadata.creation_timestamp.as_ref().map(|time| time.0.as_second()),
            key,
        };
        (pod, remarks.problems)
    }
}

impl Node {
    /// What matters of a node.
    pub fn from_api(api: &core::Node) -> (Self, Vec<Problem>) {
        let mut remarks = Remarks::about("Node", &api.metadata);
        let written = api.status.iter().flat_map(|status| status.addresses.iter().flatten()).enumerate();
        let mut addresses = BTreeSet::new();
        for (index, entry) in written {
            match entry.address.parse() {
                Ok(address) => {
                    addresses.insert(address);
                }
                // Hostname, InternalDNS, ExternalDNS: usually no IP address, and rightly so.
                Err(_) if !entry.type_.ends_with("IP") => {}
                Err(_) => remarks.bad_address(format!("status.addresses[{index}].address"), &entry.address),
            }
        }
        let node = Self {
            name: name(&api.metadata).into(),
            labels: labels(api.metadata.labels.as_ref()),
            addresses,
        };
        (node, remarks.problems)
    }
}

impl Service {
    /// What matters of a service.
    pub fn from_api(api: &core::Service) -> (Self, Vec<Problem>) {
        let mut remarks = Remarks::about("Service", &api.metadata);
        let spec = api.spec.as_ref();
        let selector = spec
            .and_then(|spec| spec.selector.as_ref())
            .filter(|selector| !selector.is_empty())
            .map(|selector| selector.iter().map(|(k, v)| (k.as_str().into(), v.as_str().into())).collect());
        let service = Self {
            namespace: namespace(&api.metadata).into(),
            name: name(&api.metadata).into(),
            selector,
            addresses: service_addresses(api, &mut remarks),
            ports: spec.map(|spec| service_ports(spec, &mut remarks)).unwrap_or_default(),
        };
        (service, remarks.problems)
    }
}

impl EndpointSlice {
    /// What matters of an endpoint slice. Addresses that are names (`addressType: FQDN`) do not.
    pub fn from_api(api: &discovery::EndpointSlice) -> (Self, Vec<Problem>) {
        let mut remarks = Remarks::about("EndpointSlice", &api.metadata);
        let mut addresses = BTreeSet::new();
        let endpoints = if api.address_type == "FQDN" { &[] } else { api.endpoints.as_slice() };
        for (index, endpoint) in endpoints.iter().enumerate() {
            for (place, address) in endpoint.addresses.iter().enumerate() {
                addresses.extend(remarks.address(format!("endpoints[{index}].addresses[{place}]"), address));
            }
        }
        let mut ports = Vec::new();
        for (index, port) in api.ports.iter().flatten().enumerate() {
            let path = format!("ports[{index}]");
            // No number: all ports, which says nothing about one.
            let Some(number) = port.port else { continue };
            let transport = remarks.transport(&path, port.protocol.as_deref());
            let number = remarks.port(format!("{path}.port"), number);
            if let (Some(transport), Some(number)) = (transport, number) {
                ports.push((port.name.as_deref().and_then(set), transport, number));
            }
        }
        let slice = Self {
            namespace: namespace(&api.metadata).into(),
            name: name(&api.metadata).into(),
            service: service_of(&api.metadata),
            addresses,
            ports,
        };
        (slice, remarks.problems)
    }
}

/// The warnings about one object.
struct Remarks {
    object: ObjectRef,
    problems: Vec<Problem>,
}

impl Remarks {
    fn about(kind: &str, metadata: &ObjectMeta) -> Self {
        let object = if kind == "Node" {
            ObjectRef::cluster(kind, name(metadata))
        } else {
            ObjectRef::namespaced(kind, namespace(metadata), name(metadata))
        };
        Self { object, problems: Vec::new() }
    }

    fn left_out(&mut self, path: String, message: &str, expected: &str) {
        self.problems.push(Problem {
            severity: Severity::Warning,
            id: UNUSABLE_VALUE,
            object: self.object.clone(),
            path,
            message: format!("{message}, left out"),
            expected: expected.to_owned(),
            location: None,
        });
    }

    fn bad_address(&mut self, path: String, found: &str) {
        self.left_out(path, &format!("`{found}` is no IP address"), "an address such as 10.0.0.1 or fd00::1");
    }

    fn address(&mut self, path: String, found: &str) -> Option<IpAddr> {
        let parsed = found.parse().ok();
        if parsed.is_none() {
            self.bad_address(path, found);
        }
        parsed
    }

    fn port(&mut self, path: String, found: i32) -> Option<u16> {
        let parsed = u16::try_from(found).ok().filter(|&port| port != 0);
        if parsed.is_none() {
            self.left_out(path, &format!("port {found} is out of range"), "a port from 1 to 65535");
        }
        parsed
    }

    /// The protocol of the port at `path`; TCP if none is written.
    fn transport(&mut self, path: &str, found: Option<&str>) -> Option<Transport> {
        match found {
            None | Some("" | "TCP") => Some(Transport::Tcp),
            Some("UDP") => Some(Transport::Udp),
            Some("SCTP") => Some(Transport::Sctp),
            Some(other) => {
                self.left_out(
                    format!("{path}.protocol"),
                    &format!("protocol `{other}` is unknown"),
                    "TCP, UDP or SCTP",
                );
                None
            }
        }
    }
}

fn name(metadata: &ObjectMeta) -> &str {
    metadata.name.as_deref().unwrap_or_default()
}

fn namespace(metadata: &ObjectMeta) -> &str {
    metadata.namespace.as_deref().filter(|namespace| !namespace.is_empty()).unwrap_or("default")
}

/// A string that says something: the API writes "not set" as the empty string, too.
fn set(value: &str) -> Option<Arc<str>> {
    (!value.is_empty()).then(|| value.into())
}

fn phase(status: Option<&core::PodStatus>) -> Phase {
    match status.and_then(|status| status.phase.as_deref()) {
        Some("Succeeded" | "Failed") => Phase::Finished,
        Some("Running") => Phase::Running,
        _ => Phase::Pending,
    }
}

/// `podIPs`; `podIP` only if there is no list, for it repeats the list's first entry.
fn pod_addresses(status: Option<&core::PodStatus>, remarks: &mut Remarks) -> Vec<IpAddr> {
    let Some(status) = status else { return Vec::new() };
    let listed = status
        .pod_ips
        .iter()
        .flatten()
        .enumerate()
        .map(|(i, ip)| (format!("status.podIPs[{i}].ip"), ip.ip.as_str()));
    let mut written: Vec<_> = listed.filter(|(_, ip)| !ip.is_empty()).collect();
    if written.is_empty() {
        written.extend(
            status.pod_ip.as_deref().filter(|ip| !ip.is_empty()).map(|ip| ("status.podIP".to_owned(), ip)),
        );
    }
    let mut addresses = Vec::new();
    for (path, ip) in written {
        if let Some(address) = remarks.address(path, ip)
            && !addresses.contains(&address)
        {
            addresses.push(address);
        }
    }
    addresses
}

/// Ports of containers, then of sidecars: the init containers that keep running (KEP-753).
fn named_ports(spec: &core::PodSpec, remarks: &mut Remarks) -> Vec<ContainerPort> {
    let containers =
        spec.containers.iter().enumerate().map(|(i, container)| (format!("spec.containers[{i}]"), container));
    let sidecars = spec.init_containers.iter().flatten().enumerate();
    let sidecars = sidecars
        .filter(|(_, container)| container.restart_policy.as_deref() == Some("Always"))
        .map(|(i, container)| (format!("spec.initContainers[{i}]"), container));
    let mut ports = Vec::new();
    for (path, container) in containers.chain(sidecars) {
        for (index, port) in container.ports.iter().flatten().enumerate() {
            let Some(name) = port.name.as_deref().and_then(set) else { continue };
            let path = format!("{path}.ports[{index}]");
            let transport = remarks.transport(&path, port.protocol.as_deref());
            let number = remarks.port(format!("{path}.containerPort"), port.container_port);
            if let (Some(transport), Some(port)) = (transport, number) {
                ports.push(ContainerPort { name, transport, port });
            }
        }
    }
    ports
}

/// The workload as far as the pod alone tells it: its controller. What made that (the Deployment of a `ReplicaSet`, the
/// `CronJob` of a Job) only the controller can tell; it is not guessed from names.
fn workload(metadata: &ObjectMeta) -> Workload {
    let owners = || metadata.owner_references.iter().flatten();
    let controller = owners().find(|owner| owner.controller == Some(true));
    // Some tools drop the flag.
    match controller.or_else(|| owners().find(|owner| owner.controller.is_none())) {
        Some(owner) => Workload { kind: owner.kind.as_str().into(), name: owner.name.as_str().into() },
        None => Workload { kind: "Pod".into(), name: name(metadata).into() },
    }
}

fn service_addresses(api: &core::Service, remarks: &mut Remarks) -> BTreeSet<IpAddr> {
    let mut written: Vec<(String, &str)> = Vec::new();
    if let Some(spec) = &api.spec {
        written.extend(spec.cluster_ip.as_deref().map(|ip| ("spec.clusterIP".to_owned(), ip)));
        written.extend(indexed("spec.clusterIPs", spec.cluster_ips.as_deref()));
        written.extend(indexed("spec.externalIPs", spec.external_ips.as_deref()));
        written.extend(spec.load_balancer_ip.as_deref().map(|ip| ("spec.loadBalancerIP".to_owned(), ip)));
    }
    let balancer = api.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    for (index, ingress) in balancer.iter().flat_map(|balancer| balancer.ingress.iter().flatten()).enumerate()
    {
        written
            .extend(ingress.ip.as_deref().map(|ip| (format!("status.loadBalancer.ingress[{index}].ip"), ip)));
    }
    // `None`: a headless service.
    written.retain(|(_, ip)| !ip.is_empty() && *ip != "None");
    written.into_iter().filter_map(|(path, ip)| remarks.address(path, ip)).collect()
}

fn indexed<'a>(path: &str, list: Option<&'a [String]>) -> impl Iterator<Item = (String, &'a str)> {
    list.into_iter()
        .flatten()
        .enumerate()
        .map(move |(index, value)| (format!("{path}[{index}]"), value.as_str()))
}

fn service_ports(spec: &core::ServiceSpec, remarks: &mut Remarks) -> Vec<ServicePort> {
    let mut ports = Vec::new();
    for (index, port) in spec.ports.iter().flatten().enumerate() {
        let path = format!("spec.ports[{index}]");
        let transport = remarks.transport(&path, port.protocol.as_deref());
        let number = remarks.port(format!("{path}.port"), port.port);
        let target = match &port.target_port {
            Some(IntOrString::String(name)) if !name.is_empty() => {
                Some(TargetPort::Name(name.as_str().into()))
            }
            Some(IntOrString::Int(number)) if *number != 0 => {
                remarks.port(format!("{path}.targetPort"), *number).map(TargetPort::Number)
            }
            // Not set, in any of its three spellings: the port of the service.
            Some(_) | None => number.map(TargetPort::Number),
        };
        if let (Some(transport), Some(number), Some(target)) = (transport, number, target) {
            ports.push(ServicePort {
                name: port.name.as_deref().and_then(set),
                transport,
                port: number,
                target,
            });
        }
    }
    ports
}

/// By its label; slices mirrored by hand may have only the owner.
fn service_of(metadata: &ObjectMeta) -> Option<Arc<str>> {
    let label =
        metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_NAME_LABEL)).and_then(|name| set(name));
    label.or_else(|| {
        let owner = metadata.owner_references.iter().flatten().find(|owner| owner.kind == "Service");
        owner.and_then(|owner| set(&owner.name))
    })
}

#[cfg(test)]
mod tests;
