//! Facts as manifests that read back as the same facts. Only what policy can depend on is in them.

use std::net::IpAddr;
use std::sync::Arc;

use datapath::abi::Transport;
use policy_compiler::facts::{Cluster, EndpointSlice, Namespace, Node, Phase, Pod, Service, TargetPort};
use serde_json::{Map, Value, json};

/// All facts of a cluster, one manifest each: namespaces, nodes, pods, services, endpoint slices.
pub fn cluster(cluster: &Cluster) -> impl Iterator<Item = Value> {
    let namespaces = cluster.namespaces.values().map(|fact| namespace(fact));
    let nodes = cluster.nodes.values().map(|fact| node(fact));
    let pods = cluster.pods.values().map(|fact| pod(fact));
    let services = cluster.services.values().map(|fact| service(fact));
    let slices = cluster.endpoint_slices.values().map(|fact| endpoint_slice(fact));
    namespaces.chain(nodes).chain(pods).chain(services).chain(slices)
}

/// The same, of a cluster that is given away: manifests are made one at a time, and what leads to each fact is let go.
pub fn cluster_of(cluster: Cluster) -> impl Iterator<Item = Value> + Send {
    let Cluster { namespaces, pods, nodes, services, endpoint_slices } = cluster;
    let namespaces = namespaces.into_values().map(|fact| namespace(&fact));
    let nodes = nodes.into_values().map(|fact| node(&fact));
    let pods = pods.into_values().map(|fact| pod(&fact));
    let services = services.into_values().map(|fact| service(&fact));
    let slices = endpoint_slices.into_values().map(|fact| endpoint_slice(&fact));
    namespaces.chain(nodes).chain(pods).chain(services).chain(slices)
}

/// A namespace.
pub fn namespace(fact: &Namespace) -> Value {
    let mut value = json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": &*fact.name, "labels": map(fact.labels.iter())},
    });
    if fact.terminating {
        value["status"] = json!({"phase": "Terminating"});
    }
    value
}

/// A node.
pub fn node(fact: &Node) -> Value {
    let addresses: Vec<Value> =
        fact.addresses.iter().map(|address| json!({"type": "InternalIP", "address": address})).collect();
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": &*fact.name, "labels": map(fact.labels.iter())},
        "status": {"addresses": addresses},
    })
}

/// A pod. Addresses that are made up are not written.
pub fn pod(fact: &Pod) -> Value {
    let mut metadata = json!({
        "name": &*fact.key.name, "namespace": &*fact.key.namespace, "labels": map(fact.labels.iter()),
    });
    if !fact.uid.is_empty() {
        metadata["uid"] = json!(&*fact.uid);
    }
    if let Some(created) = fact.created.and_then(|second| jiff::Timestamp::from_second(second).ok()) {
        metadata["creationTimestamp"] = json!(created.to_string());
    }
    if *fact.workload.kind != *"Pod" || fact.workload.name != fact.key.name {
        metadata["ownerReferences"] = json!([{
            "apiVersion": "apps/v1", "kind": &*fact.workload.kind, "name": &*fact.workload.name, "controller": true,
        }]);
    }
    let ports: Vec<Value> = fact
        .ports
        .iter()
        .map(|port| {
            json!({"name": &*port.name, "containerPort": port.port, "protocol": protocol(port.transport)})
        })
        .collect();
    let mut spec = json!({"containers": [{"name": "all", "ports": ports}]});
    if let Some(node) = &fact.node {
        spec["nodeName"] = json!(&**node);
    }
    if fact.host_network {
        spec["hostNetwork"] = json!(true);
    }
    let phase = match fact.phase {
        Phase::Pending => "Pending",
        Phase::Running => "Running",
        Phase::Finished => "Succeeded",
    };
    let known: &[IpAddr] = if fact.addresses_made_up { &[] } else { &fact.addresses };
    let addresses: Vec<Value> = known.iter().map(|ip| json!({"ip": ip})).collect();
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec,
        "status": {"phase": phase, "podIPs": addresses},
    })
}

/// A service.
pub fn service(fact: &Service) -> Value {
    let ports: Vec<Value> = fact
        .ports
        .iter()
        .map(|port| {
            let target = match &port.target {
                TargetPort::Number(number) => json!(number),
                TargetPort::Name(name) => json!(&**name),
            };
            named(
                port.name.as_ref(),
                json!({"protocol": protocol(port.transport), "port": port.port, "targetPort": target}),
            )
        })
        .collect();
    let mut spec = json!({"clusterIPs": fact.addresses, "ports": ports});
    if let Some(selector) = &fact.selector {
        spec["selector"] = map(selector.iter().map(|(key, value)| (&**key, &**value)));
    }
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": &*fact.name, "namespace": &*fact.namespace}, "spec": spec,
    })
}

/// An endpoint slice.
pub fn endpoint_slice(fact: &EndpointSlice) -> Value {
    let labels = fact.service.iter().map(|service| ("kubernetes.io/service-name", &**service));
    let ports: Vec<Value> = fact
        .ports
        .iter()
        .map(|(name, transport, port)| {
            named(name.as_ref(), json!({"protocol": protocol(*transport), "port": port}))
        })
        .collect();
    let is_v6 = fact.addresses.iter().any(IpAddr::is_ipv6);
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": &*fact.name, "namespace": &*fact.namespace, "labels": map(labels)},
        "addressType": if is_v6 { "IPv6" } else { "IPv4" },
        "endpoints": [{"addresses": fact.addresses}], "ports": ports,
    })
}

fn named(name: Option<&Arc<str>>, mut port: Value) -> Value {
    if let Some(name) = name {
        port["name"] = json!(&**name);
    }
    port
}

fn map<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Value {
    Value::Object(pairs.map(|(key, value)| (key.to_owned(), json!(value))).collect::<Map<_, _>>())
}

const fn protocol(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "TCP",
        Transport::Udp => "UDP",
        Transport::Sctp => "SCTP",
    }
}
