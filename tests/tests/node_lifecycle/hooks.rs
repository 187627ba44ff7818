//! Others meddle with our hooks.

use std::fs;
use std::time::{Duration, Instant};

use agent_api::status::HookKind;
use netlab::{Family, Host, Metronome, root_or_skip, tool_or_skip};
use tests::node::Scene;
use tests::node::manifest::DNS;

use super::stranger::{self, Site};
use super::{BRIDGE, pause};

/// How long a repair may take: hooks are looked at every second, and a busy machine takes its time.
const REPAIRED: Duration = Duration::from_millis(2500);

/// Lets somebody meddle under a denied probe and an allowed one, of which at most so many may be lost; gives how long the
/// denied one arrived afterwards.
fn open_after(scene: &Scene, what: &str, may_lose: usize, meddle: impl FnOnce()) -> Duration {
    let denied = Metronome::start(&scene.attacker, &scene.victim, Family::V4, DNS).unwrap();
    let allowed = Metronome::start(&scene.friend, &scene.victim, Family::V4, DNS).unwrap();
    pause(100);
    let begun = Instant::now();
    meddle();
    pause(3000);
    let end = Instant::now();
    let (denied, allowed) = (denied.stop().unwrap(), allowed.stop().unwrap());
    let open = denied.open_until(begun..end).unwrap_or_default();
    let lost = allowed.sent() - allowed.arrived();
    println!(
        "F12 {what}: OPEN-ms {}, repaired after {open:?}, allowed lost {lost}",
        denied.open_ms(begun..end)
    );
    assert!(open <= REPAIRED, "{what}: still open after {open:?}");
    assert!(lost <= may_lose, "{what}: allowed datagrams lost: {:?}", allowed.gaps(Duration::ZERO));
    for hook in scene.polder.status().unwrap().hooks {
        assert!(hook.ok, "{what}: {hook:?}");
    }
    open
}

/// Whoever adds or removes a clsact qdisc stops the device until no CPU sends by it any more (`qdisc_graft` in
/// `net/sched/sch_api.c`), up to 200 ms on a busy machine: both who meddles and who puts it back.
const QDISC: usize = 300;

#[test]
fn f12_a_clsact_qdisc_that_comes_and_goes_touches_no_link() {
    if !root_or_skip("f12_a_clsact_qdisc_that_comes_and_goes_touches_no_link") {
        return;
    }
    let scene = Scene::new("lf12-tcx", BRIDGE).unwrap();
    assert!(scene.polder.status().unwrap().hooks.iter().any(|hook| hook.kind == HookKind::Tcx));
    let device = scene.victim.host_interface();
    let open = open_after(&scene, "clsact beside tcx", QDISC, || {
        let batch = format!("qdisc add dev {device} clsact\nqdisc del dev {device} clsact\n");
        scene.node.tc(&batch).unwrap();
    });
    assert_eq!(open, Duration::ZERO);
}

#[test]
fn f12_a_clsact_qdisc_that_is_deleted_is_put_back() {
    if !root_or_skip("f12_a_clsact_qdisc_that_is_deleted_is_put_back") {
        return;
    }
    let scene = Scene::with("lf12-clsact", BRIDGE, &["--hooks", "clsact"]).unwrap();
    assert!(scene.polder.status().unwrap().hooks.iter().any(|hook| hook.kind == HookKind::Clsact));
    let device = scene.victim.host_interface();
    open_after(&scene, "clsact deleted", QDISC, || {
        scene.node.tc(&format!("qdisc del dev {device} clsact\n")).unwrap();
    });
    open_after(&scene, "clsact replaced", QDISC, || {
        scene.node.tc(&format!("qdisc del dev {device} clsact\nqdisc add dev {device} clsact\n")).unwrap();
    });
    // A filter of somebody else's, behind ours, is left alone by the repair.
    let filters = |side: &str| scene.node.tc(&format!("filter show dev {device} {side}\n")).unwrap();
    scene
        .node
        .tc(&format!("filter add dev {device} egress prio 49 protocol all bpf bytecode '1,6 0 0 4294967295' flowid 1:1\n"))
        .unwrap();
    open_after(&scene, "only our filters deleted", 0, || {
        scene.node.tc(&format!("filter del dev {device} egress prio 1\n")).unwrap();
    });
    assert!(filters("egress").contains("pref 49"), "{}", filters("egress"));
}

#[test]
fn f12_links_that_are_detached_are_attached_again() {
    let name = "f12_links_that_are_detached_are_attached_again";
    if !root_or_skip(name) || !tool_or_skip("bpftool", name) {
        return;
    }
    let scene = Scene::new("lf12-links", BRIDGE).unwrap();
    let index = scene.victim.host_interface_index().unwrap().to_string();
    let links: Vec<_> = fs::read_dir(scene.polder.bpffs().join("links"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.file_name().unwrap().to_string_lossy().split(['-', '_', '.']).any(|part| part == index)
        })
        .collect();
    assert!(links.len() >= 2, "{links:?}");
    open_after(&scene, "links detached", 0, || {
        for link in &links {
            scene.node.command("bpftool", &["link", "detach", "pinned", link.to_str().unwrap()], "").unwrap();
        }
    });
}

#[test]
fn f12_x3_a_program_in_front_is_overtaken_and_left_alone() {
    if !root_or_skip("f12_x3_a_program_in_front_is_overtaken_and_left_alone") {
        return;
    }
    let scene = Scene::new("lf12-front", BRIDGE).unwrap();
    let index = scene.victim.host_interface_index().unwrap();
    let mut strangers = Vec::new();
    let sites = [Site::Ingress, Site::Egress];
    // An agent that has just started is still loading what it comes in front with.
    pause(3000);
    let before = sites.map(|site| scene.node.run(|| Ok(stranger::count(index, site)?)).unwrap());
    open_after(&scene, "a program in front", 0, || {
        for site in sites {
            strangers.push(scene.node.run(|| Ok(stranger::in_front(index, site)?)).unwrap());
        }
    });
    let after = sites.map(|site| scene.node.run(|| Ok(stranger::count(index, site)?)).unwrap());
    assert_eq!(after, before.map(|count| count + 1), "the stranger's program is still there, and ours once");
    // Both repairs are in the next comparison.
    let reconcile = scene.polder.resync().unwrap().reconcile.unwrap();
    assert_eq!((reconcile.found, reconcile.repaired), (2, 2), "{reconcile:?}");
}
