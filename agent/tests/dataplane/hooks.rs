//! Programs on hooks, and strangers there.

use std::collections::BTreeMap;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::process::Command;

use agent::dataplane::{Dataplane, Flaw, Hook, Hooks, Means, Options, Place, Role};
use aya::programs::tc::{NlOptions, TcAttachOptions};
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType};

use crate::node::{bpf, object, on_a_node, pinned, shell, veth};
use crate::programs;

#[test]
fn a_hook_that_somebody_detached_or_stepped_in_front_of_is_put_right() {
    on_a_node("hooks", |node| {
        let near = veth("pod0");
        let mut dataplane = node.open();
        if !has_tcx() {
            return;
        }
        dataplane.attach(near, Role::Pod).unwrap();
        let pin = node.bpffs.join(format!("polder/links/{near}-from-pod"));

        let mut stranger = aya::Ebpf::load_file(object()).unwrap();
        let stranger = stranger_in_front(&mut stranger, TcAttachOptions::TcxOrder(LinkOrder::first()));
        assert_eq!(position(&dataplane, Hook::FromPod), Some(1));
        let old = programs(near)[1];
        assert_eq!(flaws(&mut dataplane), [(Hook::FromPod, Flaw::Behind)]);
        assert_eq!(position(&dataplane, Hook::FromPod), Some(0));
        assert_ne!(programs(near)[0], old, "a second instance, so that there was no gap");
        assert_eq!(programs(near).len(), 3, "the stranger is still there, behind");
        assert!(pin.exists());
        let _ = stranger;

        std::fs::remove_file(&pin).unwrap();
        assert_eq!(flaws(&mut dataplane), [(Hook::FromPod, Flaw::Unpinned)]);
        assert!(pin.exists());

        detach(&pin);
        assert_eq!(position(&dataplane, Hook::FromPod), None);
        assert_eq!(flaws(&mut dataplane), [(Hook::FromPod, Flaw::Gone)]);
        assert_eq!(position(&dataplane, Hook::FromPod), Some(0));
        assert_eq!(flaws(&mut dataplane), []);
        assert_eq!(
            dataplane.flaws(),
            &BTreeMap::from([(Flaw::Gone, 1), (Flaw::Behind, 1), (Flaw::Unpinned, 1)])
        );

        shell("ip link del pod0");
        assert_eq!(flaws(&mut dataplane), []);
        assert_eq!(dataplane.hooks(), []);
        assert!(!pin.exists(), "what is gone is forgotten");
    });
}

/// The object's clock, as a stranger: what it returns is not our business here.
fn stranger_in_front(object: &mut aya::Ebpf, options: TcAttachOptions) -> &mut SchedClassifier {
    let program: &mut SchedClassifier = object.program_mut("polder_clock").unwrap().try_into().unwrap();
    program.load().unwrap();
    program.attach_with_options("pod0", TcAttachType::Ingress, options).unwrap();
    program
}

fn has_tcx() -> bool {
    SchedClassifier::query_tcx("lo", TcAttachType::Ingress).is_ok()
}

fn position(dataplane: &Dataplane, hook: Hook) -> Option<u32> {
    dataplane.hooks().iter().find(|status| status.place.hook == hook).unwrap().position
}

fn flaws(dataplane: &mut Dataplane) -> Vec<(Hook, Flaw)> {
    let findings = dataplane.verify();
    assert!(findings.iter().all(|finding| finding.failure.is_none()), "{findings:?}");
    findings.iter().map(|finding| (finding.place.hook, finding.flaw)).collect()
}

/// `BPF_LINK_DETACH`, as anybody with the right can do.
fn detach(pin: &Path) {
    const LINK_DETACH: i64 = 34;
    let link = pinned(pin);
    bpf(LINK_DETACH, &[u64::try_from(link.as_raw_fd()).unwrap()]);
}

#[test]
fn filters_of_clsact_are_replaced_in_place_and_put_right() {
    on_a_node("clsact", |node| {
        let near = veth("pod0");
        let options = || Options { hooks: Hooks::Clsact, ..node.options() };
        let mut dataplane = Dataplane::open(&options()).unwrap();
        dataplane.attach(near, Role::Pod).unwrap();
        assert!(dataplane.hooks().iter().all(|hook| hook.means == Means::Clsact && hook.position == Some(0)));
        drop(dataplane);
        let mut dataplane = Dataplane::open(&options()).unwrap();
        dataplane.attach(near, Role::Pod).unwrap();
        dataplane.take_over().unwrap();
        let filters = || {
            let shown =
                Command::new("tc").args(["filter", "show", "dev", "pod0", "ingress"]).output().unwrap();
            String::from_utf8(shown.stdout).unwrap().lines().filter(|line| line.contains("handle 0x")).count()
        };
        assert_eq!(filters(), 1, "replaced, not added");

        let mut stranger = aya::Ebpf::load_file(object()).unwrap();
        let first = NlOptions { priority: 1, ..NlOptions::default() };
        let stranger = stranger_in_front(&mut stranger, TcAttachOptions::Netlink(first));
        assert_eq!(position(&dataplane, Hook::FromPod), Some(1));
        assert_eq!(flaws(&mut dataplane), [(Hook::FromPod, Flaw::Behind)]);
        assert_eq!((position(&dataplane, Hook::FromPod), filters()), (Some(0), 2));
        let _ = stranger;

        shell("tc qdisc del dev pod0 clsact");
        assert_eq!(flaws(&mut dataplane), [(Hook::FromPod, Flaw::Gone), (Hook::ToPod, Flaw::Gone)]);
        assert_eq!(flaws(&mut dataplane), []);
        dataplane.detach(near).unwrap();
        assert_eq!(filters(), 0);
    });
}

#[test]
fn an_uplink_gets_the_early_program_unless_another_is_there() {
    on_a_node("early", |node| {
        let (near, taken) = (veth("up0"), veth("up1"));
        let mut dataplane = node.open();
        dataplane.attach(near, Role::Outside { early: true }).unwrap();
        let early = |dataplane: &Dataplane, of: u32| {
            let hooks = dataplane.hooks();
            let place = |place: &Place| place.interface == of && place.hook == Hook::Early;
            hooks.into_iter().find(|hook| place(&hook.place)).unwrap()
        };
        assert_eq!(early(&dataplane, near).means, Means::Xdp);
        assert_eq!(dataplane.hooks().len(), 3);
        let mut other = aya::Ebpf::load_file(object()).unwrap();
        let other: &mut aya::programs::Xdp = other.program_mut("polder_early").unwrap().try_into().unwrap();
        other.load().unwrap();
        let link = other.attach("up1", aya::programs::XdpMode::Driver).unwrap();
        dataplane.attach(taken, Role::Outside { early: true }).unwrap();
        assert_eq!(early(&dataplane, taken).means, Means::Off("another XDP program is there".to_owned()));
        other.detach(link).unwrap();
        assert_eq!(flaws(&mut dataplane), []);
        detach(&node.bpffs.join(format!("polder/links/{near}-early")));
        assert_eq!(flaws(&mut dataplane), [(Hook::Early, Flaw::Gone)]);
        assert_eq!(early(&dataplane, near).position, Some(0));
    });
}
