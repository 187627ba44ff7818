//! A small cluster, policies from JSON, and edits applied as they are written.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use datapath::abi::Transport;
use serde_json::{Value, json};

use crate::api::PolicyObject;
use crate::compiler::{Compiler, Scope};
use crate::explain::{Change, Connection, Explanation, Party, Protocol, explain};
use crate::facts::{Cluster, ContainerPort, Namespace, Node, Phase, Pod, Workload};
use crate::labels::Labels;
use crate::lower::lower;
use crate::object::{PodKey, Source};

/// Facts, and policies as they were written.
#[derive(Clone, Default)]
pub(super) struct World {
    pub(super) cluster: Cluster,
    pub(super) objects: Vec<Value>,
}

impl World {
    pub(super) fn namespace(&mut self, name: &str, labels: &[(&str, &str)]) {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        self.cluster.namespaces.insert(name.into(), Arc::new(Namespace::new(name, labels, false)));
    }

    pub(super) fn node(&mut self, name: &str, address: &str) {
        let addresses = [address.parse().unwrap()].into();
        let node = Node { name: name.into(), labels: Labels::new([("node", name)]), addresses };
        self.cluster.nodes.insert(name.into(), Arc::new(node));
    }

    /// A pod of a Deployment of its name.
    pub(super) fn pod(&mut self, name: &str, address: &str, labels: &[(&str, &str)]) -> &mut Pod {
        let (namespace, name) = name.split_once('/').unwrap();
        let key = PodKey::new(namespace, name);
        let pod = Pod {
            key: key.clone(),
            uid: "".into(),
            labels: Labels::new(labels.iter().copied()),
            addresses: address.split(',').map(|address| address.parse().unwrap()).collect(),
            addresses_made_up: false,
            host_network: false,
            phase: Phase::Running,
            node: None,
            ports: Vec::new(),
            workload: Workload { kind: "Deployment".into(), name: name.into() },
            created: None,
        };
        self.cluster.pods.insert(key.clone(), Arc::new(pod));
        Arc::make_mut(self.cluster.pods.get_mut(&key).unwrap())
    }

    pub(super) fn policy(&mut self, manifest: Value) {
        self.objects.push(manifest);
    }

    /// With line 1 for each object, and line 7 for everything in `spec.ingress[0]`.
    pub(super) fn compile(&self) -> Compiler {
        let source = Arc::new(Source {
            file: "a.yaml".into(),
            line: 1,
            fields: BTreeMap::from([("spec.ingress[0]".to_owned(), 7)]),
        });
        let policies = self.objects.iter().map(|manifest| {
            Arc::new(
                lower(&object(manifest), Some(&source))
                    .unwrap_or_else(|e| panic!("{manifest}: {e:?}"))
                    .policy,
            )
        });
        Compiler::compile(Scope::All, &self.cluster, policies)
    }

    /// `prod/web` or an address.
    pub(super) fn party(&self, text: &str) -> Party {
        match text.split_once('/') {
            Some((namespace, name)) => {
                let key = PodKey::new(namespace, name);
                let address = self.cluster.pods[&key].addresses[0];
                Party::Pod(key, address)
            }
            None => Party::Address(text.parse::<IpAddr>().unwrap()),
        }
    }

    pub(super) fn connection(&self, from: &str, to: &str, protocol: Protocol) -> Connection {
        Connection { from: self.party(from), to: self.party(to), protocol, request: None }
    }

    pub(super) fn explain(&self, from: &str, to: &str, protocol: Protocol) -> Explanation {
        explain(&self.compile(), &self.connection(from, to, protocol))
    }

    /// Does what a change says, on the objects as they were written.
    pub(super) fn edit(&mut self, change: &Change) {
        let place = &change.place;
        if change.position == "create" {
            return self.objects.push(change.add.clone());
        }
        if change.position == "set" {
            return self.label(change);
        }
        let meant = |object: &&mut Value| {
            object["kind"] == *place.kind
                && object["metadata"]["name"] == *place.name
                && object["metadata"]["namespace"].as_str() == place.namespace.as_deref()
        };
        let object = self.objects.iter_mut().find(meant).unwrap();
        let items = change.add.as_array().unwrap();
        let (path, index) = match change.position.strip_prefix("before [") {
            Some(index) => {
                let index: usize = index.trim_end_matches(']').parse().unwrap();
                (place.path.rsplit_once('[').unwrap().0, Some(index))
            }
            None => (&*place.path, None),
        };
        let pointer = format!("/{}", path.replace(['.', '['], "/").replace(']', ""));
        if object.pointer(&pointer).is_none() {
            let field = path.strip_prefix("spec.").unwrap();
            object["spec"][field] = json!([]);
        }
        let list = object.pointer_mut(&pointer).unwrap().as_array_mut().unwrap();
        let index = index.unwrap_or(list.len());
        list.splice(index..index, items.iter().cloned());
    }

    fn label(&mut self, change: &Change) {
        let place = &change.place;
        let more = change.add.as_object().unwrap().iter();
        let more: Vec<(Arc<str>, Arc<str>)> =
            more.map(|(key, value)| (key.as_str().into(), value.as_str().unwrap().into())).collect();
        if place.kind == "Namespace" {
            let labels = self.cluster.namespace_labels(&place.name);
            let labels = labels.pairs().chain(more).map(|(key, value)| (key.to_string(), value.to_string()));
            let namespace = Namespace::new(&place.name, labels, false);
            self.cluster.namespaces.insert((*place.name).into(), Arc::new(namespace));
            return;
        }
        for pod in self.cluster.pods.values_mut() {
            let is_its = *pod.workload.kind == *place.kind && *pod.workload.name == *place.name;
            if is_its && Some(&*pod.key.namespace) == place.namespace.as_deref() {
                let labels = Labels::new(pod.labels.pairs().chain(more.clone()));
                Arc::make_mut(pod).labels = labels;
            }
        }
    }
}

fn object(manifest: &Value) -> PolicyObject {
    let value = manifest.clone();
    match manifest["kind"].as_str().unwrap() {
        "NetworkPolicy" => PolicyObject::NetworkPolicy(serde_json::from_value(value).unwrap()),
        "ClusterNetworkPolicy" => PolicyObject::ClusterNetworkPolicy(serde_json::from_value(value).unwrap()),
        "AdminNetworkPolicy" => PolicyObject::AdminNetworkPolicy(serde_json::from_value(value).unwrap()),
        _ => PolicyObject::BaselineAdminNetworkPolicy(serde_json::from_value(value).unwrap()),
    }
}

pub(super) fn tcp(port: u16) -> Protocol {
    Protocol::Transport(Transport::Tcp, port)
}

pub(super) fn named(name: &str, transport: Transport, port: u16) -> ContainerPort {
    ContainerPort { name: name.into(), transport, port }
}

#[expect(clippy::needless_pass_by_value, reason = "written beside a literal, a `&` says nothing")]
pub(super) fn network_policy(name: &str, spec: Value) -> Value {
    let (namespace, name) = name.split_once('/').unwrap();
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"namespace": namespace, "name": name}, "spec": spec,
    })
}

pub(super) fn cluster_policy(name: &str, tier: &str, priority: i32, mut spec: Value) -> Value {
    spec["tier"] = tier.into();
    spec["priority"] = priority.into();
    json!({
        "apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy",
        "metadata": {"name": name}, "spec": spec,
    })
}

/// Web in prod, which has a port named web; a tester in test; a node with a host-network pod.
pub(super) fn world() -> World {
    let mut world = World::default();
    world.namespace("prod", &[("team", "a")]);
    world.namespace("test", &[("team", "b")]);
    world.node("n1", "192.168.0.1");
    let web = world.pod("prod/web", "10.0.0.1", &[("app", "web"), ("pod-template-hash", "f00")]);
    web.node = Some("n1".into());
    web.ports = vec![named("web", Transport::Tcp, 8443)];
    world.pod("prod/db", "10.0.0.2", &[("app", "db")]);
    world.pod("test/tester", "10.1.2.3", &[("app", "tester")]);
    let host = world.pod("prod/host", "192.168.0.1", &[("app", "web")]);
    (host.host_network, host.node) = (true, Some("n1".into()));
    world
}
