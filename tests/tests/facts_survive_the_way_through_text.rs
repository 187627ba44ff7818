//! Facts written as manifests and read again are the same facts: what an agent saves, and what it tells its clients, is what
//! it knows.

use std::collections::BTreeSet;
use std::sync::Arc;

use datapath::abi::Transport;
use manifests::live;
use manifests::object::Content;
use manifests::write;
use manifests::kind::Kind;
use policy_compiler::facts::{EndpointSlice, Namespace, Node, Pod, Service, ServicePort, TargetPort};
use proptest::prelude::*;
use serde_json::Value;
use tests::facts;

fn read(kind: Kind, value: &Value) -> Content {
    live::read(kind, &value.to_string()).unwrap_or_else(|problems| panic!("{value}: {problems:?}")).content
}

proptest! {
    #[test]
    fn pods_do(pod in facts::pod()) {
        let Content::Pod(api) = read(Kind::Pod, &write::pod(&pod)) else { panic!("a pod") };
        let (mut again, remarks) = Pod::from_api(&api);
        // The API has each address once.
        let mut once = pod.clone();
        let mut seen = BTreeSet::new();
        once.addresses.retain(|address| seen.insert(*address));
        again.addresses_made_up = once.addresses_made_up;
        prop_assert_eq!((again, remarks), (once, vec![]));
    }

    #[test]
    fn namespaces_do(namespace in facts::namespace()) {
        let Content::Namespace(api) = read(Kind::Namespace, &write::namespace(&namespace)) else { panic!("one") };
        prop_assert_eq!(Namespace::from_api(&api), namespace);
    }

    #[test]
    fn nodes_do(node in facts::node()) {
        let Content::Node(api) = read(Kind::Node, &write::node(&node)) else { panic!("a node") };
        prop_assert_eq!(Node::from_api(&api), (node, vec![]));
    }

    #[test]
    fn services_and_their_slices_do(
        addresses in prop::collection::btree_set(any::<std::net::IpAddr>(), 0..3),
        ports in prop::collection::vec((any::<bool>(), 0..3_usize, 1..=u16::MAX, any::<bool>(), 1..=u16::MAX), 0..3),
        selector in prop::option::of(prop::collection::btree_map("[a-z]{1,3}", "[a-z]{0,3}", 1..3)),
        has_service in any::<bool>(),
    ) {
        let name = |named: bool| named.then(|| Arc::from("http"));
        let service = Service {
            namespace: "prod".into(),
            name: "web".into(),
            selector: selector.map(|all| all.into_iter().map(|(k, v)| (k.into(), v.into())).collect()),
            addresses: addresses.clone(),
            ports: ports.iter().map(|&(named, transport, port, by_name, target)| ServicePort {
                name: name(named),
                transport: Transport::ALL[transport],
                port,
                target: if by_name { TargetPort::Name("web".into()) } else { TargetPort::Number(target) },
            }).collect(),
        };
        let Content::Service(api) = read(Kind::Service, &write::service(&service)) else { panic!("a service") };
        prop_assert_eq!(Service::from_api(&api), (service, vec![]));

        let slice = EndpointSlice {
            namespace: "prod".into(),
            name: "web-1".into(),
            service: has_service.then(|| "web".into()),
            addresses,
            ports: ports.iter().map(|&(named, transport, port, ..)| (name(named), Transport::ALL[transport], port)).collect(),
        };
        let Content::EndpointSlice(api) = read(Kind::EndpointSlice, &write::endpoint_slice(&slice)) else {
            panic!("a slice")
        };
        prop_assert_eq!(EndpointSlice::from_api(&api), (slice, vec![]));
    }
}
