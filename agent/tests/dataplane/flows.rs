//! Flows, counters and events of real packets.

use std::net::UdpSocket;
use std::time::Duration;

use agent::dataplane::{PodInterface, Role};
use datapath::abi::{Endpoint, Identity, PortKey, RuleKey, RuleSetId, Slot, Transport};
use datapath::lookup::Maps as _;
use datapath::verdict::Action;
use policy_compiler::tables::Tables;

use crate::node::{Pod, index, on_a_node};
use crate::{anchor, make_it, pod, port, row};

#[test]
fn flows_are_counted_for_their_owner_and_go_with_the_interface_and_drops_are_told() {
    on_a_node("flows", |node| {
        let mut dataplane = node.open();
        let guest = Pod::new("pod0", "10.0.0.2");
        let near = index("pod0");
        let identity = PodInterface { mac: guest.mac(), ipv6: None, ..port(near, 2) };
        dataplane.bind(&pod("a"), &identity).unwrap();
        let mut wanted = Tables::default();
        let set = RuleSetId::new(5);
        wanted.endpoints.insert(pod("a"), Endpoint::new(set, set));
        wanted.ports[Transport::Udp as usize].insert(5300, 5300);
        let allow = row(Slot::new(0, Action::Allow).unwrap());
        wanted.rules.entry(set).or_default().any.insert(PortKey::Port(Transport::Udp, 5300), allow);
        let deny = anchor(Slot::new(1, Action::Deny).unwrap());
        wanted.rules.entry(set).or_default().any.insert(PortKey::All, deny);
        make_it(&mut dataplane, &wanted);
        dataplane.attach(near, Role::Pod).unwrap();
        assert_eq!(dataplane.live().rule(&RuleKey::new(set, Identity::NONE, PortKey::All)), Some(deny));

        let server = UdpSocket::bind("10.0.0.1:5300").unwrap();
        server.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        guest.run(|| {
            let socket = UdpSocket::bind("10.0.0.2:0").unwrap();
            socket.send_to(b"in", "10.0.0.1:5300").unwrap();
            socket.send_to(b"out", "10.0.0.1:5301").unwrap();
        });
        let mut buffer = [0; 8];
        assert_eq!(server.recv(&mut buffer).unwrap(), 2);
        assert_eq!(dataplane.flows_of(near), 1);
        let walk = dataplane.expire_flows().unwrap();
        assert_eq!((walk.flows4, walk.removed4), (1, 0), "it lives for 30 seconds");

        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build().unwrap();
        let events = runtime.block_on(async {
            let mut reader = dataplane.events().unwrap().expect("nobody has it");
            let mut events = Vec::with_capacity(16);
            let next = reader.next(&mut events);
            tokio::time::timeout(Duration::from_secs(5), next).await.unwrap().unwrap();
            events
        });
        let dropped = events.iter().find(|event| event.destination_port == 5301).expect("a drop is told");
        assert_eq!((dropped.cause.name(), dropped.interface), (Some("rule_denies"), near));
        assert!(dataplane.events().unwrap().is_none());
        let counters = dataplane.counters().unwrap();
        let denied =
            counters.iter().find(|(key, _)| key.interface == near && key.cause.name() == Some("rule_denies"));
        assert_eq!(denied.map(|(_, count)| count.packets), Some(1));

        let walk = dataplane.remove(&[near]).unwrap();
        assert_eq!((walk.flows4, walk.removed4), (1, 1));
        assert_eq!(dataplane.flows_of(near), 0);
        assert!(dataplane.counters().unwrap().iter().all(|(key, _)| key.interface != near));
    });
}
