//! One agent beside another, and one after another of another ABI.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use aya::maps::{Array, Map, MapData};
use datapath::abi::ABI_VERSION;
use netlab::{Cni, Family, Greeting, KeptStreams, Metronome, Server, root_or_skip};
use tests::node::Scene;
use tests::node::manifest::{DNS, WEB};

use super::{BRIDGE, pause};

/// The names below a directory, sorted.
fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// The sets of maps that are pinned.
pub(crate) fn sets(bpffs: &Path) -> Vec<String> {
    names(bpffs).into_iter().filter(|name| name.starts_with('v')).collect()
}

/// Has what is pinned look like the work of an agent with another ABI number.
fn disguise(bpffs: &Path, abi: u64) {
    let sets = sets(bpffs);
    let [set] = sets.as_slice() else { panic!("one set of maps, not {sets:?}") };
    let (_, layout) = set.split_once('-').unwrap();
    fs::rename(bpffs.join(set), bpffs.join(format!("v{abi}-{layout}"))).unwrap();
    let map = Map::Array(MapData::from_pin(bpffs.join("abi")).unwrap());
    let mut state: Array<_, [u64; 3]> = Array::try_from(map).unwrap();
    let [before, layout, object] = state.get(&0, 0).unwrap();
    assert_eq!(before, u64::from(ABI_VERSION));
    state.set(0, [abi, layout, object], 0).unwrap();
}

#[test]
fn a_second_agent_at_one_root_says_so_and_touches_nothing() {
    if !root_or_skip("a_second_agent_at_one_root_says_so_and_touches_nothing") {
        return;
    }
    let scene = Scene::new("second", BRIDGE).unwrap();
    let bpffs = scene.polder.bpffs();
    let before = (names(&bpffs), names(&bpffs.join("links")), scene.polder.status().unwrap().hooks);
    let denied = Metronome::start(&scene.attacker, &scene.victim, Family::V4, DNS).unwrap();
    let allowed = Metronome::start(&scene.friend, &scene.victim, Family::V4, DNS).unwrap();
    let begun = Instant::now();
    for arguments in [&["--rules", "1000"][..], &[], &["--uninstall"]] {
        let asked = Instant::now();
        let (code, said) = scene
            .polder
            .rival(|command| {
                command.args(arguments);
            })
            .unwrap();
        println!("{arguments:?}: ended with {code:?} after {:?}: {said}", asked.elapsed());
        assert_eq!(code, Some(1), "{arguments:?}: {said}");
        let expected = format!("bpffs directory {}: another agent has it", bpffs.display());
        assert!(said.contains(&expected), "{arguments:?}: {said}");
    }
    let end = Instant::now();
    let (denied, allowed) = (denied.stop().unwrap(), allowed.stop().unwrap());
    assert_eq!((denied.open_ms(begun..end), allowed.sent() - allowed.arrived()), (0, 0), "OPEN-ms, lost");
    let after = (names(&bpffs), names(&bpffs.join("links")), scene.polder.status().unwrap().hooks);
    assert_eq!(after, before);
    let verification = scene.polder.verify().unwrap();
    assert!(verification.agrees(), "{verification:?}");
}

#[test]
fn f2_an_agent_of_another_abi_takes_over_without_a_gap() {
    if !root_or_skip("f2_an_agent_of_another_abi_takes_over_without_a_gap") {
        return;
    }
    for (name, cni, arguments) in [
        ("abi-bridge", BRIDGE, &[][..]),
        ("abi-routed", Cni::Routed, &[]),
        ("abi-clsact", BRIDGE, &["--hooks", "clsact"]),
    ] {
        let mut scene = Scene::with(name, cni, arguments).unwrap();
        let bpffs = scene.polder.bpffs();
        let (own, links) = (sets(&bpffs), names(&bpffs.join("links")));
        let _server = Server::tcp(&scene.victim, WEB, Greeting::None).unwrap();
        let silence = Duration::from_secs(1);
        let every = Duration::from_millis(2);
        let kept = Family::BOTH.map(|family| {
            KeptStreams::start(&scene.friend, &scene.victim, family, WEB, 5, every, silence).unwrap()
        });
        let denied =
            Family::BOTH.map(|family| Metronome::start(&scene.attacker, &scene.victim, family, DNS).unwrap());
        let allowed =
            Family::BOTH.map(|family| Metronome::start(&scene.friend, &scene.victim, family, DNS).unwrap());
        let begun = Instant::now();
        // An upgrade, a downgrade, and one that is broken off and begins anew.
        let abi = u64::from(ABI_VERSION);
        for (other, killed_after) in
            [(abi - 1, None), (abi + 1, None), (abi + 7, Some(60)), (abi - 1, Some(130))]
        {
            pause(100);
            scene.polder.kill9().unwrap();
            disguise(&bpffs, other);
            scene.polder.restart().unwrap();
            if let Some(after) = killed_after {
                pause(after);
                scene.polder.restart().unwrap();
            }
            scene.polder.settle().unwrap();
            assert_eq!(sets(&bpffs), own, "{name}: only the maps of this ABI are left");
            assert_eq!(names(&bpffs.join("links")), links, "{name}");
        }
        pause(100);
        let end = Instant::now();
        let open: u64 = denied.into_iter().map(|one| one.stop().unwrap().open_ms(begun..end)).sum();
        let lost: usize =
            allowed.into_iter().map(|one| one.stop().unwrap()).map(|one| one.sent() - one.arrived()).sum();
        let mut interruptions = Vec::new();
        for one in kept {
            interruptions.extend(one.stop().unwrap().interruptions);
        }
        println!(
            "F2 {name}: 4 changes of ABI: OPEN-ms {open}, INTR {}, allowed datagrams lost {lost}",
            interruptions.len()
        );
        assert_eq!((open, interruptions.len(), lost), (0, 0, 0), "{name}: {interruptions:?}");
        assert!(scene.polder.status().unwrap().hooks.iter().all(|hook| hook.ok), "{name}");
        let verification = scene.polder.verify().unwrap();
        assert!(verification.agrees(), "{name}: {verification:?}");
    }
}
