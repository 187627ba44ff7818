//! As little power as possible, and none missing without a word.

use std::fs;

use netlab::{Family, Metronome, root_or_skip, tool_or_skip};
use tests::node::manifest::DNS;
use tests::node::{Polder, Scene};

use super::{BRIDGE, pause};

const ALL: [&str; 3] = ["bpf", "net_admin", "perfmon"];

/// What `setpriv` is told so that a process has these and no others.
fn bounding(capabilities: &[&str]) -> String {
    capabilities.iter().fold("-all".to_owned(), |text, one| format!("{text},+{one}"))
}

#[test]
fn s1_three_capabilities_are_enough_to_enforce() {
    let name = "s1_three_capabilities_are_enough_to_enforce";
    if !root_or_skip(name) || !tool_or_skip("setpriv", name) {
        return;
    }
    let mut scene = Scene::new("ls1", BRIDGE).unwrap();
    scene.polder.limit(Some(bounding(&ALL)));
    let denied = Metronome::start(&scene.attacker, &scene.victim, Family::V4, DNS).unwrap();
    let allowed = Metronome::start(&scene.friend, &scene.victim, Family::V4, DNS).unwrap();
    let begun = std::time::Instant::now();
    scene.polder.restart().unwrap();
    scene.polder.settle().unwrap();
    let pid = scene.polder.process().unwrap();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap().trim().to_owned();
    // CAP_NET_ADMIN 12, CAP_PERFMON 38, CAP_BPF 39.
    assert_eq!(effective, format!("{:016x}", 1_u64 << 12 | 1 << 38 | 1 << 39));
    // A change comes in force, a new pod is found and enforced, and all agrees.
    let pod = scene.node.pod("e").unwrap();
    scene.polder.apply("more.yaml", &tests::node::manifest::pod("shop", &pod, "app: b")).unwrap();
    scene.polder.enforces(&["shop/e"]).unwrap();
    pause(200);
    let end = std::time::Instant::now();
    let (denied, allowed) = (denied.stop().unwrap(), allowed.stop().unwrap());
    assert_eq!((denied.open_ms(begun..end), allowed.sent() - allowed.arrived()), (0, 0), "OPEN-ms, lost");
    let verification = scene.polder.verify().unwrap();
    assert!(verification.agrees(), "{verification:?}");
    assert!(scene.polder.status().unwrap().hooks.iter().all(|hook| hook.ok));
}

#[test]
fn f44_without_one_of_them_the_agent_says_which_and_leaves_everything_as_it_is() {
    let name = "f44_without_one_of_them_the_agent_says_which_and_leaves_everything_as_it_is";
    if !root_or_skip(name) || !tool_or_skip("setpriv", name) {
        return;
    }
    let mut scene = Scene::new("lf44", BRIDGE).unwrap();
    scene.polder.kill9().unwrap();
    let links = || fs::read_dir(scene.polder.bpffs().join("links")).unwrap().count();
    let before = links();
    let denied = Metronome::start(&scene.attacker, &scene.victim, Family::V4, DNS).unwrap();
    let allowed = Metronome::start(&scene.friend, &scene.victim, Family::V4, DNS).unwrap();
    let begun = std::time::Instant::now();
    let mut said = Vec::new();
    for missing in ALL {
        let rest: Vec<&str> = ALL.into_iter().filter(|one| *one != missing).collect();
        said.push((missing, scene.polder.rival_with(Some(&bounding(&rest)), |_| {}).unwrap()));
    }
    let end = std::time::Instant::now();
    for (missing, (code, text)) in said {
        println!("without {missing}: {code:?}: {text}");
        assert_eq!(code, Some(1), "without {missing}: {text}");
        assert!(text.contains(&format!("CAP_{}", missing.to_uppercase())), "without {missing}: {text}");
    }
    let (denied, allowed) = (denied.stop().unwrap(), allowed.stop().unwrap());
    assert_eq!((denied.open_ms(begun..end), allowed.sent() - allowed.arrived()), (0, 0), "OPEN-ms, lost");
    assert_eq!(links(), before);
    // On a node where nothing was, nothing is made.
    let fresh = Polder::prepare(&scene.node, &[], &[]).unwrap();
    let (code, text) = fresh.rival_with(Some(&bounding(&["net_admin", "perfmon"])), |_| {}).unwrap();
    assert_eq!((code, fresh.bpffs().exists()), (Some(1), false), "{text}");
}
