//! The whole process in network namespaces, before maps that the test writes: without the agent and its programs, whose work
//! plain routing does.
#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

mod maps;
mod place;
mod rig;

use std::fs;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use proxy_api::news::News;
use proxy_api::request::Outcome;
use proxy_api::{NOTABLE, PLAIN};

use crate::rig::{Family, Kernel, Rig, murder, wait};

/// Everything that a test needs, unless this machine lacks it.
fn rig(test: &str) -> Option<Rig> {
    rig_under(test, "true")
}

fn rig_under(test: &str, preparation: &str) -> Option<Rig> {
    rig_on(test, preparation, Kernel::Usual)
}

fn rig_on(test: &str, preparation: &str, kernel: Kernel) -> Option<Rig> {
    let missing = if !nix::unistd::Uid::effective().is_root() {
        "root for network namespaces"
    } else if Command::new("ip").arg("-V").output().is_err() {
        "the program `ip`"
    } else {
        match Rig::under(preparation, kernel) {
            Some(rig) => return Some(rig),
            None => "the proxy's BPF object (cargo xtask bpf)",
        }
    };
    let strict = std::env::var_os("POLDER_STRICT").is_some_and(|value| value == "1");
    assert!(!strict, "{test}: needs {missing}, and POLDER_STRICT=1 forbids to skip it");
    eprintln!("**** SKIPPED, NOTHING PROVED: {test} needs {missing} ****");
    None
}

#[test]
fn what_is_allowed_reaches_the_server_as_the_clients_own_and_what_is_not_does_not() {
    let Some(mut rig) = rig("requests through the process") else { return };
    for family in [Family::Four, Family::Six] {
        let mut client = rig.open(family, 4000);
        assert_eq!(client.get("/public/a"), (200, "yes".to_owned()));
        assert_eq!(client.get("/public/b").0, 200);
        let denied = "denied by policy (rule set 00001a2b3c4d, rank 9)\n";
        assert_eq!(client.get("/private"), (403, denied.to_owned()));
        let peers: Vec<_> =
            std::mem::take(&mut *rig.seen.lock().unwrap()).into_iter().map(|seen| seen.0).collect();
        assert_eq!(peers, [family.client(4000)]);
        assert_eq!(rig.open(family, 4001).get("/private").0, 403);
        assert!(rig.seen.lock().unwrap().is_empty(), "the server hears nothing of what is denied");
    }
    let page = rig.proxy.metrics();
    assert!(page.contains("polder_l7_requests_total{verdict=\"allowed\"} 4\n"), "{page}");
    assert!(page.contains("polder_l7_requests_total{verdict=\"denied\"} 4\n"), "{page}");
    wait("all is in the log", || rig.proxy.access_log().lines().count() == 8);
    let log = rig.proxy.access_log();
    assert!(!log.contains("secret"), "{log}");
    let first = log.lines().next().unwrap();
    for part in
        [r#""client":"10.77.1.1:4000""#, r#""path":"/public/a""#, r#""outcome":"allowed""#, r#""rank":0"#]
    {
        assert!(first.contains(part), "{part} in {first}");
    }
}

#[test]
fn a_connection_that_the_kernel_does_not_know_is_reset() {
    let Some(rig) = rig("a connection without a flow") else { return };
    let reset = match rig.open_unknown(Family::Four, 4000, None) {
        Ok(mut client) => client.try_get("/public/a").map(|_| ()),
        Err(error) => Err(error),
    };
    let kind = reset.unwrap_err().kind();
    assert!(matches!(kind, std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe), "{kind:?}");
    let page = rig.proxy.metrics();
    assert!(page.contains("polder_l7_problems_total{problem=\"no_flow\"} 1\n"), "{page}");
    assert!(rig.seen.lock().unwrap().is_empty());
}

#[test]
fn a_low_port_and_small_segments_are_the_servers_to_see() {
    let Some(mut rig) = rig("ports and segments") else { return };
    rig.pinned.begin(Family::Four.client(80), Family::Four.server());
    let mut client = rig.open_unknown(Family::Four, 80, Some(600)).unwrap();
    assert_eq!(client.get("/public/a").0, 200);
    let (peer, segment) = rig.seen.lock().unwrap()[0];
    assert_eq!(peer, Family::Four.client(80));
    assert!(segment <= 600, "{segment}");
}

#[test]
fn rules_that_change_are_obeyed_by_open_connections() {
    let Some(mut rig) = rig("a change of rules") else { return };
    let mut client = rig.open(Family::Four, 4000);
    assert_eq!(client.get("/public/a").0, 200);
    rig.pinned.turn();
    assert_eq!(client.get("/public/a").0, 403);
    rig.pinned.turn();
    assert_eq!(rig.open(Family::Four, 4001).get("/public/a").0, 200);
}

#[test]
fn nothing_needs_a_setting_of_the_network() {
    // Whatever is to be written is not there.
    let Some(mut rig) = rig_under("settings", "mount -t tmpfs none /proc/sys") else { return };
    for family in [Family::Four, Family::Six] {
        assert_eq!(rig.open(family, 4000).get("/public/a").0, 200);
        assert_eq!(rig.open(family, 4001).get("/private").0, 403);
    }
}

#[test]
fn on_a_node_without_ipv6_requests_of_ipv4_are_judged() {
    let Some(mut rig) = rig_on("a node without IPv6", "true", Kernel::WithoutSix) else { return };
    assert_eq!(rig.open(Family::Four, 4000).get("/public/a").0, 200);
    assert_eq!(rig.open(Family::Four, 4001).get("/private").0, 403);
    assert_eq!(rig.seen.lock().unwrap().len(), 1);
    let sockets = |table: &str| {
        let table = fs::read_to_string(format!("/proc/{}/net/{table}", rig.proxy.id())).unwrap();
        table.lines().filter(|line| line.contains(":0001 ")).count()
    };
    assert_eq!((sockets("tcp"), sockets("tcp6")), (1, 0), "the listener is one of IPv4");
}

#[test]
fn settings_of_a_container_that_may_not_write_them_are_written_all_the_same() {
    let read_only = "mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys";
    let Some(mut rig) = rig_under("read-only settings", read_only) else { return };
    rig.pinned.begin(Family::Four.client(80), Family::Four.server());
    let mut client = rig.open_unknown(Family::Four, 80, None).unwrap();
    assert_eq!(client.get("/public/a").0, 200, "the client's port is one of the first 1024");
    assert!(!rig.proxy.log().contains("WARN"), "{}", rig.proxy.log());
}

#[test]
fn the_process_that_reads_requests_may_do_nothing() {
    // What the container of a keeper has: it needs no more.
    let few =
        "set -- setpriv --bounding-set=-all,+bpf,+kill,+net_admin,+setgid,+setpcap,+setuid,+sys_admin \"$@\"";
    let Some(rig) = rig_under("privileges", few) else { return };
    let [worker] = rig.proxy.workers()[..] else { panic!("one worker") };
    let status = fs::read_to_string(format!("/proc/{worker}/status")).unwrap();
    let value = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!((value("Uid:"), value("Gid:")), (vec!["65534".to_owned(); 4], vec!["65534".to_owned(); 4]));
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(value(set), ["0000000000000000"], "{set}");
    }
    assert_eq!((value("Groups:").len(), value("NoNewPrivs:")), (0, vec!["1".to_owned()]));
    let maps = maps_of(worker);
    assert_eq!(maps.len(), 14);
    // O_CLOEXEC, and nothing that says it may be written to.
    assert!(maps.iter().all(|text| text.contains("flags:\t02000000\n")), "{maps:?}");
    // The generation is in its memory, shared and not to be written to.
    let memory = fs::read_to_string(format!("/proc/{worker}/maps")).unwrap();
    let mapped: Vec<_> = memory.lines().filter(|line| line.contains("bpf-map")).collect();
    assert!(matches!(mapped[..], [line] if line.contains(" r--s ")), "{memory}");
    let keeper = fs::read_to_string(format!("/proc/{}/status", rig.proxy.id())).unwrap();
    // KILL, SETGID, SETUID, SETPCAP, BPF.
    assert!(keeper.contains("CapEff:\t00000080000001e0\n"), "{keeper}");
}

#[test]
fn a_worker_that_dies_is_replaced_within_a_second() {
    let Some(mut rig) = rig("the death of a worker") else { return };
    let before = rig.proxy.workers();
    for round in 0..3 {
        let worker = rig.proxy.workers()[0];
        murder(worker);
        let start = Instant::now();
        assert_eq!(rig.open(Family::Four, 4000 + round).get("/public/a").0, 200);
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    }
    assert_ne!(rig.proxy.workers(), before);
    assert!(rig.proxy.metrics().contains("polder_l7_worker_restarts 3\n"));
}

#[test]
fn another_set_of_maps_judges_the_next_request_of_every_connection_and_breaks_none() {
    let Some(mut rig) = rig("another set of maps") else { return };
    let mut open: Vec<_> = (4000..4003).map(|port| rig.open(Family::Four, port)).collect();
    for client in &mut open {
        assert_eq!(client.get("/public/a").0, 200);
    }
    let before = rig.proxy.workers();
    rig.pinned.replace();
    for port in 4000..4003 {
        rig.pinned.begin(Family::Four.client(port), Family::Four.server());
    }
    // Until then the old set is read, which does not know of a connection that begins.
    sleep(Duration::from_millis(500));
    assert_eq!(rig.open(Family::Four, 4003).get("/public/a").0, 200);
    assert_eq!(open[0].get("/public/b").0, 200);
    rig.pinned.turn();
    for client in &mut open {
        assert_eq!(client.get("/public/c").0, 403, "by the rules of the set that is in use");
    }
    assert_eq!(rig.proxy.workers(), before);
    assert_eq!(maps_of(before[0]).len(), 14, "the old set is let go of");
}

#[test]
fn whoever_asks_is_told_of_requests_as_they_end() {
    let Some(mut rig) = rig("streams of requests") else { return };
    let (mut notable, mut plain) = (rig.proxy.stream(NOTABLE), rig.proxy.stream(PLAIN));
    let mut open = rig.open(Family::Four, 4000);
    assert_eq!(open.get("/public/a").0, 200);
    assert_eq!(rig.open(Family::Four, 4001).get("/private").0, 403);
    let told = |line: Option<String>| {
        let line = line.unwrap();
        assert!(!line.contains("secret"), "{line}");
        match serde_json::from_str(&line).unwrap() {
            News::Request(request) => (request.path.into_owned(), request.outcome, request.status),
            other @ News::Lost(_) => panic!("{other:?}"),
        }
    };
    assert_eq!(told(plain.next()), ("/public/a".to_owned(), Outcome::Allowed, Some(200)));
    assert_eq!(told(notable.next()), ("/private".to_owned(), Outcome::Denied, Some(403)));
}

#[test]
fn many_connections_at_a_time_and_ports_that_are_used_again_are_served() {
    let Some(mut rig) = rig("many connections") else { return };
    for _ in 0..3 {
        let mut open: Vec<_> = (0..300).map(|port| rig.open(Family::Four, 5000 + port)).collect();
        for client in &mut open {
            assert_eq!(client.get("/public/a").0, 200);
        }
        for client in open {
            // Otherwise the ports would be in use for a minute at the client's, too.
            client.reset();
        }
    }
    let page = rig.proxy.metrics();
    assert!(page.contains("polder_l7_requests_total{verdict=\"allowed\"} 900\n"), "{page}");
}

#[test]
fn everything_ends_with_the_keeper_however_that_ends() {
    let Some(mut rig) = rig("the end of the keeper") else { return };
    let worker = rig.proxy.workers()[0];
    let mut open = rig.open(Family::Four, 4000);
    assert_eq!(open.get("/public/a").0, 200);
    murder(rig.proxy.id());
    wait("the keeper ends", || rig.proxy.has_ended().is_some());
    wait("the worker ends", || !fs::exists(format!("/proc/{worker}")).unwrap());
    wait("nothing is left", || !rig.has_device());
}

#[test]
fn it_ends_when_it_was_told_to_and_no_connection_is_left() {
    let Some(mut rig) = rig("the end") else { return };
    let mut open = rig.open(Family::Four, 4000);
    assert_eq!(open.get("/public/a").0, 200);
    rig.proxy.terminate();
    sleep(Duration::from_millis(1500));
    assert_eq!(rig.proxy.has_ended(), None);
    assert_eq!(open.get("/public/b").0, 200);
    assert_eq!(rig.open(Family::Four, 4001).get("/public/a").0, 200, "new ones are taken, too");
    drop(open);
    wait("it ends", || rig.proxy.has_ended().is_some());
    assert_eq!(rig.proxy.has_ended(), Some(true));
    wait("nothing is left of it", || !rig.has_device());
}

/// What the kernel says of each map that a process has open.
fn maps_of(process: u32) -> Vec<String> {
    let descriptors = fs::read_dir(format!("/proc/{process}/fdinfo")).unwrap();
    descriptors
        .map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap())
        .filter(|text| text.contains("map_type"))
        .collect()
}
