//! The dataplane on a real kernel: needs root, iproute2 and the BPF object.
//!
//! Each test has a network namespace and a bpffs of its own, which go with its thread.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test ends at what it did not expect")]

mod flows;
mod hooks;
mod node;

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use agent::dataplane::{Bound, Capacity, Dataplane, Error, Options, PodInterface, Role, Sizes};
use aya::programs::{SchedClassifier, TcAttachType};
use datapath::abi::{
    Address, Anchors, Direction, Endpoint, Identity, PortKey, RuleRow, RuleSetId, Slot, Transport,
};
use datapath::interface::Interface;
use datapath::lookup::{Origin, Query, judge};
use datapath::verdict::{Action, Reason, Tier};
use policy_compiler::image::Image;
use policy_compiler::object::PodKey;
use policy_compiler::plan::adoption::plan_from;
use policy_compiler::tables::{RuleRows, Tables};

use crate::node::{bpf, node_thread, object, on_a_node, pinned, veth};

fn pod(name: &str) -> PodKey {
    PodKey::new("shop", name)
}

fn port(interface: u32, last: u8) -> PodInterface {
    PodInterface {
        interface,
        mac: [2, 0, 0, 0, 0, last],
        ipv4: Some(Ipv4Addr::new(10, 0, 0, last)),
        ipv6: Some(format!("fd00::{last}").parse().unwrap()),
        link_local: None,
    }
}

/// Tables in which one pod has a rule set for both directions: it may speak with identity 7 on TCP 80 to 89.
fn tables(pods: &[PodKey], salt: u64) -> Tables {
    let mut tables = Tables::default();
    let set = RuleSetId::new(100 + salt);
    for pod in pods {
        tables.endpoints.insert(pod.clone(), Endpoint::new(set, set));
    }
    for last in 1..=100_u8 {
        tables.addresses.insert(IpAddr::from([10, 1, 0, last]), Identity::new(7 + salt));
        tables.addresses.insert(format!("fd01::{last}").parse().unwrap(), Identity::new(7 + salt));
    }
    tables.prefixes.set("10.2.0.0/16".parse().unwrap(), Some(Identity::new(8 + salt)));
    tables.prefixes.set("0.0.0.0/0".parse().unwrap(), Some(Identity::new(9 + salt)));
    tables.prefixes.set("fd02::/64".parse().unwrap(), Some(Identity::new(8 + salt)));
    tables.ports[Transport::Tcp as usize].insert(80, 89);
    let mut rows = RuleRows::default();
    let deny = anchor(Slot::new(1, Action::Deny).unwrap());
    rows.any.insert(PortKey::All, deny);
    rows.any.insert(PortKey::Port(Transport::Tcp, 80), RuleRow::EMPTY.with_class(80));
    let allow = row(Slot::new(0, Action::Allow).unwrap());
    rows.peers.insert(Identity::new(7 + salt), Box::new([(PortKey::Port(Transport::Tcp, 80), allow)]));
    tables.rules.insert(set, rows);
    tables
}

fn row(slot: Slot) -> RuleRow {
    let mut row = RuleRow::EMPTY;
    row.offer(Tier::Namespace, slot);
    row
}

/// The row that every rule set has.
fn anchor(slot: Slot) -> RuleRow {
    row(slot).anchoring(Anchors { ports: true, peers: true })
}

/// From what the kernel holds to these tables.
fn make_it(dataplane: &mut Dataplane, tables: &Tables) -> usize {
    let steps = plan_from(&dataplane.image().unwrap(), tables).steps;
    dataplane.perform(&steps).unwrap();
    assert_eq!(dataplane.image().unwrap(), Image::of(tables, dataplane.generation()));
    steps.len()
}

#[test]
fn what_steps_write_is_read_back_and_judged_by() {
    on_a_node("steps", |node| {
        let mut dataplane = node.open();
        let near = veth("pod0");
        assert_eq!(dataplane.bind(&pod("a"), &port(near, 2)).unwrap(), Bound::Placed);
        let question = |address: [u8; 4], port| Query {
            direction: Direction::Ingress,
            peer: Address::V4(address),
            port: Some((Transport::Tcp, port)),
            origin: Origin::Elsewhere,
        };
        let reason = |dataplane: &Dataplane, query: &Query| {
            let live = dataplane.live();
            let decision = judge(&live, &near, query);
            live.finish().unwrap();
            decision.reason
        };
        assert_eq!(reason(&dataplane, &question([10, 1, 0, 1], 80)), Reason::UnknownEndpoint, "held");
        let both = [pod("a"), pod("unbound")];
        make_it(&mut dataplane, &tables(&both, 0));
        assert_eq!(reason(&dataplane, &question([10, 1, 0, 1], 85)), Reason::RuleAllows);
        assert_eq!(reason(&dataplane, &question([10, 1, 0, 1], 90)), Reason::RuleDenies);
        assert_eq!(reason(&dataplane, &question([10, 2, 0, 1], 85)), Reason::RuleDenies);
        make_it(&mut dataplane, &tables(&both, 1000));
        assert_eq!(reason(&dataplane, &question([10, 1, 0, 1], 85)), Reason::RuleAllows);
        assert_eq!(make_it(&mut dataplane, &tables(&both, 1000)), 0, "nothing is left to do");
        make_it(&mut dataplane, &Tables::default());
        assert_eq!(reason(&dataplane, &question([10, 1, 0, 1], 85)), Reason::UnknownEndpoint);
        let uses = dataplane.uses().unwrap();
        let used: Vec<_> = uses.iter().filter(|(_, used, _)| *used > 0).map(|(name, ..)| *name).collect();
        assert_eq!(used, ["locals4", "locals6"], "only where the pod is");
        dataplane.remove(&[near]).unwrap();
        assert!(dataplane.uses().unwrap().iter().all(|(_, used, _)| *used == 0));
        assert_eq!(dataplane.interfaces().count(), 0);
    });
}

#[test]
fn what_is_pinned_survives_the_agent_and_is_taken_over_without_a_write() {
    on_a_node("survives", |node| {
        let near = veth("pod0");
        let wanted = tables(&[pod("a")], 0);
        let mut first = node.open();
        first.bind(&pod("a"), &port(near, 2)).unwrap();
        make_it(&mut first, &wanted);
        first.attach(near, Role::Pod).unwrap();
        assert_eq!(first.take_over().unwrap(), 2);
        let (generation, row) = (first.generation(), *first.interfaces().next().unwrap());
        drop(first);
        assert_eq!(programs(near).len(), 2, "attached without an agent");
        let before = programs(near);

        let mut second = node.open();
        assert!(!second.is_beside_another().unwrap());
        assert_eq!((second.generation(), second.interfaces().next()), (generation, Some(&row)));
        assert_eq!(second.bind(&pod("a"), &port(near, 2)).unwrap(), Bound::Adopted);
        assert_eq!(second.bind(&pod("a"), &port(near, 2)).unwrap(), Bound::Known);
        assert_eq!(make_it(&mut second, &wanted), 0);
        assert_eq!(programs(near), before, "opening changes nothing that is attached");
        assert_eq!(second.take_over().unwrap(), 2);
        assert_eq!(programs(near).len(), 2);
        assert_ne!(programs(near), before);
        second.attach(near, Role::Pod).unwrap();
        assert_eq!(programs(near).len(), 2, "once");
        let found = second.verify();
        assert!(found.is_empty(), "{found:?}");
        let link_local = PodInterface { link_local: Some("fe80::1".parse().unwrap()), ..port(near, 2) };
        assert_eq!(second.bind(&pod("a"), &link_local).unwrap(), Bound::Known);
        assert_eq!(second.interfaces().next().unwrap().link_local[15], 1);
        assert_eq!(
            second.bind(&pod("b"), &port(near, 3)).unwrap(),
            Bound::Placed,
            "another pod's row is not kept"
        );
        assert_eq!(second.interface_of(&pod("a")), None);
        second.uninstall().unwrap();
        assert!(programs(near).is_empty());
        assert!(!node.bpffs.join("polder").exists());
    });
}

/// Ids of the programs on both sides of an interface.
fn programs(interface: u32) -> Vec<u32> {
    let name = nix::net::if_::if_indextoname(interface).unwrap().into_string().unwrap();
    let side = |side| SchedClassifier::query_tcx(&name, side).unwrap().1;
    let both = [side(TcAttachType::Ingress), side(TcAttachType::Egress)];
    both.iter().flatten().map(aya::programs::ProgramInfo::id).collect()
}

#[test]
fn maps_of_another_size_are_filled_beside_the_old_and_flows_keep_their_numbers() {
    on_a_node("beside", |node| {
        let near = [veth("pod0"), veth("pod1")];
        let wanted = tables(&[pod("a")], 0);
        let mut first = node.open();
        first.bind(&pod("gone"), &port(near[0], 1)).unwrap();
        first.bind(&pod("a"), &port(near[1], 2)).unwrap();
        make_it(&mut first, &wanted);
        first.attach(near[1], Role::Pod).unwrap();
        first.take_over().unwrap();
        let index = first.interfaces().find(|row| row.number == near[1]).unwrap().index;
        let generation = first.generation();
        drop(first);
        let options = node.options();
        let sizes = Sizes { rules: 1 << 10, ..options.sizes };
        let mut second = Dataplane::open(&Options { sizes, ..options }).unwrap();
        assert!(second.is_beside_another().unwrap());
        assert!(second.generation() > generation, "no flow was judged under this one");
        assert_eq!(second.bind(&pod("a"), &port(near[1], 2)).unwrap(), Bound::Placed);
        assert_eq!(second.interfaces().next().unwrap().index, index);
        make_it(&mut second, &wanted);
        assert_eq!(second.take_over().unwrap(), 2);
        assert!(!second.is_beside_another().unwrap());
        let sets = std::fs::read_dir(node.bpffs.join("polder")).unwrap();
        let sets =
            sets.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with('v'));
        assert_eq!(sets.count(), 1, "the old maps are gone");
        let found = second.verify();
        assert!(found.is_empty(), "{found:?}");
    });
}

#[test]
fn what_does_not_fit_is_refused_whole() {
    on_a_node("capacity", |node| {
        let options = node.options();
        let sizes = Sizes { rules: 5, addresses: 150, ..options.sizes };
        let mut dataplane = Dataplane::open(&Options { sizes, ..options }).unwrap();
        let wanted = tables(&[pod("a")], 0);
        dataplane.fits(&wanted).unwrap();
        make_it(&mut dataplane, &wanted);
        let (before, other) = (dataplane.image().unwrap(), tables(&[pod("a")], 1));
        let steps = plan_from(&before, &other).steps;
        dataplane.fits(&other).unwrap();
        match dataplane.perform(&steps) {
            // Three rows for each, and both must be there for a moment.
            Err(Error::Capacity(Capacity { map: "rules", needed: 6, size: 5 })) => {}
            other => panic!("{other:?}"),
        }
        assert_eq!(dataplane.image().unwrap(), before);
        let mut large = wanted.clone();
        large.addresses.extend((0..=255).map(|last| (IpAddr::from([10, 9, 0, last]), Identity::new(7))));
        assert_eq!(dataplane.fits(&large), Err(Capacity { map: "addresses4", needed: 356, size: 150 }));
        let steps = plan_from(&before, &large).steps;
        assert!(matches!(
            dataplane.perform(&steps),
            Err(Error::Capacity(Capacity { map: "addresses4", .. }))
        ));
        assert_eq!(dataplane.image().unwrap(), before);
    });
}

#[test]
fn two_dataplanes_in_two_namespaces_do_not_see_each_other() {
    on_a_node("two", |node| {
        let near = veth("pod0");
        let mut here = node.open();
        here.bind(&pod("a"), &port(near, 2)).unwrap();
        make_it(&mut here, &tables(&[pod("a")], 0));
        here.attach(near, Role::Pod).unwrap();
        here.take_over().unwrap();
        let (image, before) = (here.image().unwrap(), programs(near));
        let other = node_thread("two-other", move |node| {
            let same_number = veth("pod0");
            let mut there = node.open();
            there.bind(&pod("b"), &port(same_number, 2)).unwrap();
            make_it(&mut there, &tables(&[pod("b")], 5));
            there.attach(same_number, Role::Pod).unwrap();
            assert_eq!(there.take_over().unwrap(), 2);
            assert_eq!(same_number, near);
            let found = there.verify();
            assert!(found.is_empty(), "{found:?}");
            there.uninstall().unwrap();
        });
        other.join().unwrap();
        assert_eq!((here.image().unwrap(), programs(near)), (image, before));
        let found = here.verify();
        assert!(found.is_empty(), "{found:?}");
    });
}

#[test]
fn a_hundred_thousand_addresses_are_written_in_batches() {
    on_a_node("batches", |node| {
        let mut dataplane = node.open();
        let mut wanted = Tables::default();
        for number in 0..100_000_u32 {
            wanted.addresses.insert(
                IpAddr::from((0x0a00_0000 + number).to_be_bytes()),
                Identity::new(u64::from(number) + 1),
            );
        }
        for number in 0..20_000_u32 {
            let prefix = ipnet::Ipv4Net::new(Ipv4Addr::from(0x2000_0000 + (number << 8)), 24).unwrap();
            wanted.prefixes.set(prefix.into(), Some(Identity::new(u64::from(number) + 1)));
        }
        let steps = plan_from(&dataplane.image().unwrap(), &wanted).steps;
        let start = Instant::now();
        dataplane.perform(&steps).unwrap();
        let performed = start.elapsed();
        let start = Instant::now();
        let image = dataplane.image().unwrap();
        let read = start.elapsed();
        assert_eq!(image, Image::of(&wanted, dataplane.generation()));
        let each = steps.len();
        eprintln!(
            "{each} steps performed in {performed:?}, 120,000 entries and all ports read back in {read:?}"
        );
        // Twice written, and 100,000 of them are to take 150 ms; on a machine that does other things too.
        assert!(performed < Duration::from_secs(3), "{performed:?}");
    });
}

#[test]
fn a_place_that_is_no_bpffs_is_refused_with_what_would_be_right() {
    let options = Options {
        bpffs: std::env::temp_dir().join(format!("polder-no-bpffs-{}", std::process::id())),
        object: Some(object().to_owned()),
        ..Options::default()
    };
    let said = Dataplane::open(&options).map(|_| ()).unwrap_err().to_string();
    assert!(said.contains("is not on a bpffs: `mount -t bpf bpf /sys/fs/bpf`"), "{said}");
}

#[test]
fn a_row_that_somebody_damaged_is_written_anew_and_says_since_when_flows_are_tracked() {
    on_a_node("damaged", |node| {
        let near = veth("pod0");
        let mut dataplane = node.open();
        dataplane.bind(&pod("a"), &port(near, 2)).unwrap();
        let mut untracked = Tables::default();
        untracked.endpoints.insert(pod("a"), Endpoint::default());
        make_it(&mut dataplane, &untracked);
        assert_eq!(dataplane.interfaces().next().unwrap().was_untracked, 0, "it was closed before, not open");
        make_it(&mut dataplane, &tables(&[pod("a")], 0));
        let row = *dataplane.interfaces().next().unwrap();
        let since = dataplane.now().unwrap().wrapping_sub(row.tracked_since);
        assert!(row.was_untracked == 1 && since < 10 * dataplane.rate(), "{since} ticks");

        assert_eq!(dataplane.repair_interfaces().unwrap(), 0);
        clear(&node.maps().join("slots"), Interface::slot(near), size_of::<Interface>());
        clear(&node.maps().join("numbers"), u32::from(row.index), 4);
        assert_eq!(dataplane.repair_interfaces().unwrap(), 1);
        assert_eq!(dataplane.repair_interfaces().unwrap(), 0);
        make_it(&mut dataplane, &tables(&[pod("a")], 0));

        // A removal that was broken off after the row was taken out of sight.
        let taken = dataplane.interfaces().next().unwrap().index;
        drop(dataplane);
        clear(&node.maps().join("slots"), Interface::slot(near), size_of::<Interface>());
        let mut next = node.open();
        assert_eq!(next.interfaces().count(), 0);
        next.bind(&pod("a"), &port(near, 2)).unwrap();
        assert_ne!(next.interfaces().next().unwrap().index, taken, "a number is not given anew at once");
    });
}

/// Writes zeros over an entry of an array.
fn clear(map: &std::path::Path, index: u32, size: usize) {
    use std::os::fd::AsRawFd as _;
    const MAP_UPDATE_ELEM: i64 = 2;
    let (map, zeros) = (pinned(map), vec![0_u8; size]);
    let key = std::ptr::from_ref(&index) as u64;
    bpf(MAP_UPDATE_ELEM, &[u64::try_from(map.as_raw_fd()).unwrap(), key, zeros.as_ptr() as u64, 0]);
}
