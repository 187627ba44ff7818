//! Service addresses: the sender's policy is asked at the next hook, where the backend is known.

use std::net::IpAddr;

use datapath::abi::{Direction, Transport};
use datapath::hook::Arrival;
use datapath::mark::Mark;

use crate::frames::{ACK, SYN, tcp};
use crate::world::{OUTSIDE, World, arrival, four, hook_to_outside, interface_of, six};

use Direction::{Egress, Ingress};

const WEB: Option<(Transport, u16)> = Some((Transport::Tcp, 8080));

/// Pod 1 may reach pod 2 at port 8080; the service address and its port 80 stand for that.
fn world(index: usize) -> (World, fn(u8) -> IpAddr, IpAddr) {
    let own = [four as fn(u8) -> IpAddr, six][index];
    let service = ["10.96.0.1", "fd96::1"][index].parse().unwrap();
    let mut world = World::new(3);
    for pod in 1..=3 {
        world.close(pod);
    }
    world.serve(service, 80, 6, None);
    world.allow((1, Egress), Some(own(2)), WEB);
    world.allow((2, Ingress), Some(own(1)), WEB);
    (world, own, service)
}

fn each(test: impl Fn(World, fn(u8) -> IpAddr, IpAddr)) {
    for index in [0, 1] {
        let (world, own, service) = world(index);
        test(world, own, service);
    }
}

#[test]
fn the_backend_is_judged_where_it_is_a_pod_of_the_node() {
    each(|world, own, service| {
        let sent = world.out_of(1, &tcp((own(1), 40_000), (service, 80), SYN).bytes());
        assert_eq!(sent.mark, Mark::Deferred(1));
        let at = |pod: u8, port, flags, mark| {
            world.to_pod(pod, &tcp((own(1), 40_000), (own(pod), port), flags).bytes(), mark)
        };
        assert!(at(2, 8080, SYN, sent.mark).passed());
        assert!(!at(2, 8081, SYN, sent.mark).passed());
        assert!(!at(3, 8080, SYN, sent.mark).passed());
        // The answer: judged at the backend's hook, then it has the service's address again.
        let back = world.out_of(2, &tcp((own(2), 8080), (own(1), 40_000), SYN | ACK).bytes());
        assert!(back.passed());
        assert!(
            world.to_pod(1, &tcp((service, 80), (own(1), 40_000), SYN | ACK).bytes(), back.mark).passed()
        );
        // And the next packet by the flows.
        let rules = world.rules_asked.get();
        let sent = world.out_of(1, &tcp((own(1), 40_000), (service, 80), ACK).bytes());
        assert_eq!(sent.mark, Mark::Deferred(1));
        assert!(at(2, 8080, ACK, sent.mark).passed());
        assert_eq!(world.rules_asked.get(), rules);
    });
}

#[test]
fn the_senders_policy_is_asked_even_if_the_backend_is_free() {
    each(|mut world, own, service| {
        world.endpoint(3, |_| datapath::abi::Endpoint::default());
        let sent = world.out_of(1, &tcp((own(1), 40_000), (service, 80), SYN).bytes());
        let frame = tcp((own(1), 40_000), (own(3), 8080), SYN).bytes();
        assert!(!world.to_pod(3, &frame, sent.mark).passed());
        world.allow((1, Egress), Some(own(3)), WEB);
        assert!(world.to_pod(3, &frame, sent.mark).passed());
    });
}

#[test]
fn the_sender_is_known_though_its_address_was_changed_on_the_way() {
    each(|world, own, service| {
        let node: IpAddr = if service.is_ipv4() { "10.0.0.254" } else { "fd00::fe" }.parse().unwrap();
        let sent = world.out_of(1, &tcp((own(1), 40_000), (service, 80), SYN).bytes());
        let masked = tcp((node, 41_000), (own(2), 8080), SYN).bytes();
        assert!(world.to_pod(2, &masked, sent.mark).passed(), "by pod 1's address, not the node's");
        assert!(!world.to_pod(2, &masked, Mark::Deferred(3)).passed());
        assert!(!world.to_pod(2, &masked, Mark::From(3)).passed());
        assert!(!world.to_pod(2, &masked, Mark::Outside).passed());
        assert!(world.out_of(2, &tcp((own(2), 8080), (node, 41_000), SYN | ACK).bytes()).passed());
    });
}

#[test]
fn the_backend_is_judged_on_the_way_out_where_it_is_on_another_node() {
    for index in [0, 1] {
        let (mut world, own, service) = world(index);
        let remote = OUTSIDE[index];
        let sent = world.out_of(1, &tcp((own(1), 40_000), (service, 80), SYN).bytes());
        let out = |world: &World, flags, mark: Mark| {
            let frame = tcp((own(1), 40_000), (remote, 8080), flags).bytes();
            let arrival = Arrival { mark: mark.put(0, world.settings.mark_shift), ..arrival(1, &frame) };
            world.at(hook_to_outside, arrival, &frame)
        };
        assert!(!out(&world, SYN, sent.mark).passed());
        world.allow((1, Egress), Some(remote), WEB);
        let seen = out(&world, SYN, sent.mark);
        assert_eq!((seen.passed(), seen.mark), (true, Mark::From(1)), "the device behind asks no more");
        assert!(
            world.to_pod(1, &tcp((service, 80), (own(1), 40_000), SYN | ACK).bytes(), Mark::Outside).passed()
        );
        assert!(out(&world, ACK, Mark::Deferred(1)).passed());
        world.forbid((1, Egress));
        world.commit();
        assert!(!out(&world, ACK, Mark::Deferred(1)).passed(), "judged again");
        assert!(!out(&world, SYN, Mark::Deferred(1)).passed());
    }
}

#[test]
fn a_backend_on_the_node_itself_is_judged_at_once() {
    each(|mut world, own, service| {
        let node: IpAddr = if service.is_ipv4() { "192.0.2.1" } else { "2001:db8::1" }.parse().unwrap();
        world.serve(service, 443, 6, Some((node, 6443)));
        let frame = tcp((own(1), 40_000), (service, 443), SYN).bytes();
        assert!(!world.out_of(1, &frame).passed());
        world.allow((1, Egress), Some(service), Some((Transport::Tcp, 443)));
        assert!(!world.out_of(1, &frame).passed(), "the service's own address is none that policy sees");
        world.allow((1, Egress), Some(node), Some((Transport::Tcp, 6443)));
        assert!(world.out_of(1, &frame).passed());
        assert!(
            world.to_pod(1, &tcp((service, 443), (own(1), 40_000), SYN | ACK).bytes(), Mark::None).passed()
        );
    });
}

#[test]
fn f30_a_pod_reaches_itself_through_a_service_and_others_do_not() {
    each(|world, own, service| {
        let node: IpAddr = if service.is_ipv4() { "10.0.0.254" } else { "fd00::fe" }.parse().unwrap();
        let sent = world.out_of(3, &tcp((own(3), 40_000), (service, 80), SYN).bytes());
        for source in [own(3), node] {
            let frame = tcp((source, 40_000), (own(3), 8080), SYN).bytes();
            assert!(world.to_pod(3, &frame, sent.mark).passed(), "from {source}");
            assert!(!world.to_pod(3, &frame, Mark::Deferred(1)).passed(), "from {source}, and pod 1's");
            assert!(world.out_of(3, &tcp((own(3), 8080), (source, 40_000), SYN | ACK).bytes()).passed());
        }
    });
}

#[test]
fn a_deferred_packet_of_a_pod_that_is_gone_is_dropped() {
    each(|mut world, own, service| {
        world.endpoint(2, |_| datapath::abi::Endpoint::default());
        let sent = world.out_of(1, &tcp((own(1), 40_000), (service, 80), SYN).bytes());
        world.interfaces.remove(&interface_of(1));
        assert!(!world.to_pod(2, &tcp((own(1), 40_000), (own(2), 8080), SYN).bytes(), sent.mark).passed());
    });
}
