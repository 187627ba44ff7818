//! Policy and labels change under traffic.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use netlab::{
    Family, Greeting, Host, KeptStreams, Metronome, Outcome, Server, Sniffer, raw, root_or_skip, tcp_connect,
};
use tests::node::Scene;
use tests::node::manifest::{self, DNS, WEB};

use super::{BRIDGE, PATIENCE, pause};

/// How long a change may take to hold.
const IN_TIME: Duration = Duration::from_secs(1);

#[test]
fn f6_a_new_deny_cuts_what_is_established() {
    if !root_or_skip("f6_a_new_deny_cuts_what_is_established") {
        return;
    }
    for (name, cni) in [("lf6-bridge", BRIDGE), ("lf6-routed", netlab::Cni::Routed)] {
        let scene = Scene::new(name, cni).unwrap();
        let _servers = (
            Server::tcp(&scene.victim, WEB, Greeting::None).unwrap(),
            Server::udp(&scene.victim, DNS).unwrap(),
        );
        let policies = [
            // What comes to the server, what the client sends, and both.
            manifest::policy("victim", "v", "policyTypes: [Ingress], ingress: []"),
            Scene::victims_policy() + &manifest::policy("client", "a", "policyTypes: [Egress], egress: []"),
        ];
        for (case, deny) in policies.iter().enumerate() {
            for family in Family::BOTH {
                scene.polder.apply("victim.yaml", &Scene::victims_policy()).unwrap();
                let kept = KeptStreams::start(
                    &scene.friend,
                    &scene.victim,
                    family,
                    WEB,
                    3,
                    Duration::from_millis(2),
                    Duration::from_secs(5),
                )
                .unwrap();
                let source = scene.friend.address(family);
                let streams = Sniffer::at(&scene.victim, move |packet| {
                    packet.source == Some(source) && packet.protocol == Some(raw::TCP)
                })
                .unwrap();
                let datagrams = Metronome::start(&scene.friend, &scene.victim, family, DNS).unwrap();
                // One that is answered: a flow with traffic both ways.
                let stop = Arc::new(AtomicBool::new(false));
                let echo = echoes(&scene, family, &stop);
                pause(200);
                assert!(streams.count().unwrap() > 10);
                let changed = Instant::now();
                scene.polder.apply("victim.yaml", deny).unwrap();
                let in_force = changed.elapsed();
                pause(1500);
                let end = Instant::now();
                stop.store(true, Ordering::Relaxed);
                let last_echo = echo.join().unwrap();
                let tcp = streams.last().unwrap().saturating_duration_since(changed);
                let udp = datagrams.stop().unwrap().open_until(changed..end).unwrap_or_default();
                let echoed = last_echo.saturating_duration_since(changed);
                println!(
                    "F6 {name} case {case} {family:?}: in force after {in_force:?}; last TCP after {tcp:?}, UDP {udp:?}, \
                     UDP echo {echoed:?}"
                );
                for last in [tcp, udp, echoed] {
                    assert!(last <= IN_TIME, "{name} case {case} {family:?}: still delivered after {last:?}");
                }
                drop(kept);
                assert_eq!(
                    tcp_connect(&scene.friend, scene.victim.address(family), WEB, netlab::PATIENCE).unwrap(),
                    Outcome::TimedOut
                );
            }
        }
        scene.polder.apply("victim.yaml", &Scene::victims_policy()).unwrap();
        let answer = tcp_connect(&scene.friend, scene.victim.ipv4().into(), WEB, PATIENCE).unwrap();
        assert_eq!(answer, Outcome::Connected, "{name}: allowed again");
    }
}

/// Sends datagrams to the victim's echo server until told to stop, and says when the last answer came.
fn echoes(scene: &Scene, family: Family, stop: &Arc<AtomicBool>) -> thread::JoinHandle<Instant> {
    let any = if family == Family::V4 { "0.0.0.0:0" } else { "[::]:0" };
    let socket = scene.friend.run(|| Ok(UdpSocket::bind(any)?)).unwrap();
    socket.connect((scene.victim.address(family), DNS)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let stop = Arc::clone(stop);
    thread::spawn(move || {
        let mut last = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            let mut buffer = [0; 16];
            if socket.send(b"echo").is_ok() && socket.recv(&mut buffer).is_ok() {
                last = Instant::now();
            }
            pause(1);
        }
        last
    })
}

#[test]
fn f9_labels_that_change_are_followed() {
    if !root_or_skip("f9_labels_that_change_are_followed") {
        return;
    }
    let scene = Scene::new("lf9", BRIDGE).unwrap();
    let others = [&scene.friend, &scene.victim, &scene.free]
        .map(|pod| manifest::pod("shop", pod, &format!("app: {}", pod.name())));
    let with = |app: &str| {
        manifest::namespace("shop")
            + &manifest::node(&scene.node)
            + &others.concat()
            + &manifest::pod("shop", &scene.attacker, &format!("app: {app}"))
    };
    flip("F9 pod", &scene, "facts.yaml", [&with("b"), &with("a")]);
    // The same by a label of the namespace.
    let policy =
        "policyTypes: [Ingress], ingress: [{from: [{namespaceSelector: {matchLabels: {trusted: 'yes'}}}]}]";
    scene.polder.apply("victim.yaml", &manifest::policy("victim", "v", policy)).unwrap();
    let trusted = with("b").replacen("labels: {", "labels: {trusted: 'yes', ", 1);
    assert!(trusted.contains("trusted"));
    flip("F9 namespace", &scene, "facts.yaml", [&with("b"), &trusted]);
}

/// Turns a file between a text that denies the attacker and one that allows it, 20 times.
fn flip(what: &str, scene: &Scene, file: &str, [denies, allows]: [&str; 2]) {
    scene.polder.apply(file, denies).unwrap();
    let probe = Metronome::start(&scene.attacker, &scene.victim, Family::V4, DNS).unwrap();
    let mut closed = Vec::new();
    let (mut tightened, mut loosened) = (Vec::new(), Vec::new());
    let mut since = Instant::now();
    for _ in 0..20 {
        pause(20);
        closed.push(since..Instant::now());
        let asked = Instant::now();
        scene.polder.apply(file, allows).unwrap();
        pause(20);
        loosened.push(asked..Instant::now());
        let asked = Instant::now();
        scene.polder.apply(file, denies).unwrap();
        since = Instant::now();
        pause(20);
        tightened.push(asked..Instant::now());
    }
    pause(100);
    closed.push(since..Instant::now());
    let report = probe.stop().unwrap();
    let open: u64 = closed.into_iter().map(|time| report.open_ms(time)).sum();
    let worst = |times: Vec<Option<Duration>>| times.into_iter().flatten().max().unwrap_or_default();
    let opened: Vec<_> = loosened.into_iter().map(|time| report.closed_until(time)).collect();
    assert!(
        opened.iter().all(Option::is_some),
        "{what}: an allowing change did not open the way: {opened:?}"
    );
    let loosening = worst(opened);
    let tightening = worst(tightened.into_iter().map(|time| report.open_until(time)).collect());
    println!("{what}: 20 flips: OPEN-ms {open}; TTE at most {tightening:?} to deny, {loosening:?} to allow");
    assert_eq!(open, 0, "{what}: OPEN-ms while a denying change was in force");
    assert!(tightening <= IN_TIME && loosening <= IN_TIME, "{what}");
}

#[test]
fn f10_no_packet_sees_half_a_change() {
    if !root_or_skip("f10_no_packet_sees_half_a_change") {
        return;
    }
    let scene = Scene::new("lf10", BRIDGE).unwrap();
    let both = scene.node.pod("d").unwrap();
    scene.polder.apply("more.yaml", &manifest::pod("shop", &both, "app: d")).unwrap();
    scene.polder.enforces(&["shop/d"]).unwrap();
    let only = |app: &str| {
        let peers = format!(
            "from: [{{podSelector: {{matchLabels: {{app: {app}}}}}}}, {{podSelector: {{matchLabels: {{app: d}}}}}}]"
        );
        manifest::policy("victim", "v", &format!("policyTypes: [Ingress], ingress: [{{{peers}}}]"))
    };
    scene.polder.apply("victim.yaml", &only("a")).unwrap();
    let never = Family::BOTH.map(|family| Metronome::start(&scene.free, &scene.victim, family, DNS).unwrap());
    let always = Family::BOTH.map(|family| Metronome::start(&both, &scene.victim, family, DNS).unwrap());
    let turns = [&scene.friend, &scene.attacker]
        .map(|pod| Metronome::start(pod, &scene.victim, Family::V4, DNS).unwrap());
    let begun = Instant::now();
    let before = scene.polder.status().unwrap().generation;
    for flip in 0..100 {
        scene.polder.write("victim.yaml", &only(if flip % 2 == 0 { "b" } else { "a" })).unwrap();
        pause(15 + flip % 7 * 5);
    }
    scene.polder.settle().unwrap();
    let generations = scene.polder.status().unwrap().generation - before;
    let end = Instant::now();
    let open: u64 = never.into_iter().map(|one| one.stop().unwrap().open_ms(begun..end)).sum();
    let mut lost = 0;
    for one in always {
        let report = one.stop().unwrap();
        lost += report.sent() - report.arrived();
    }
    let shares = turns.map(|one| {
        let report = one.stop().unwrap();
        report.arrived() * 100 / report.sent()
    });
    println!(
        "F10: 100 flips, {generations} generations: OPEN-ms {open}, always-allowed datagrams lost {lost}, A and B {shares:?} %"
    );
    assert!(generations >= 40, "{generations} generations of 100 flips");
    assert_eq!((open, lost), (0, 0), "OPEN-ms, losses");
    assert!(shares.iter().all(|share| (10..90).contains(share)), "{shares:?}");
}
