//! A measure that cannot fail measures nothing: each is shown something open, something closed, and the change between.

#![expect(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

use std::time::{Duration, Instant};

use netlab::{
    Cni, Family, Greeting, Host, KeptStreams, Lab, Metronome, PATIENCE, Pod, Server, Sniffer, root_or_skip,
};

const PORT: u16 = 5353;

fn two_pods(name: &str) -> (Lab, [Pod; 2]) {
    let lab = Lab::new(name).unwrap();
    let node = lab.node(Cni::Bridge { br_netfilter: false }, 1).unwrap();
    let pods = ["a", "v"].map(|name| node.pod(name).unwrap());
    (lab, pods)
}

fn set_link(pod: &Pod, state: &str) {
    pod.node().ip(&format!("link set {} {state}\n", pod.host_interface())).unwrap();
}

#[test]
fn a_metronome_says_when_the_way_was_closed() {
    if !root_or_skip("a_metronome_says_when_the_way_was_closed") {
        return;
    }
    let (_lab, [a, v]) = two_pods("metronome");
    for family in Family::BOTH {
        // The neighbour is known from the start, so nothing is lost to its discovery.
        netlab::ping(&a, v.address(family), PATIENCE).unwrap();
        let started = Instant::now();
        let metronome = Metronome::start(&a, &v, family, PORT).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        let closing = Instant::now();
        v.node().ip(&format!("link set {} nomaster\n", v.host_interface())).unwrap();
        let closed = Instant::now();
        std::thread::sleep(Duration::from_millis(200));
        let opening = Instant::now();
        v.node().ip(&format!("link set {} master cni0\n", v.host_interface())).unwrap();
        let opened = Instant::now();
        std::thread::sleep(Duration::from_millis(300));
        let report = metronome.stop().unwrap();

        assert_eq!(report.open_ms(closed..opening), 0, "{:?}", report.delivered());
        assert!(report.open_ms(started..closing) > 50, "{:?}", report.delivered());
        assert!(report.open_until(closing..opening).is_none_or(|late| late <= closed - closing));
        let open = report.closed_until(opened..Instant::now()).expect("it is open again");
        assert!(open < Duration::from_millis(100), "{open:?}");
        let gaps = report.gaps(Duration::from_millis(150));
        assert_eq!(gaps.len(), 1, "{gaps:?}");
        assert_eq!(report.delivered().iter().map(|run| run.clone().count()).sum::<usize>(), report.arrived());
        println!("{family:?}: {} of {} arrived; median {:?}", report.arrived(), report.sent(), {
            let delays = report.delays();
            delays[delays.len() / 2]
        });
    }
}

#[test]
fn a_sandbox_sends_from_the_first_instant() {
    if !root_or_skip("a_sandbox_sends_from_the_first_instant") {
        return;
    }
    let (_lab, [a, v]) = two_pods("sandbox");
    let sandbox = a.node().sandbox("early").unwrap();
    let metronome = Metronome::start(&sandbox, &v, Family::V4, PORT).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    let before = Instant::now();
    let early = sandbox.attach().unwrap();
    // A question for the neighbour that is sent before the link runs is lost, and asked again after a second
    // (net.ipv4.neigh.*.retrans_time_ms).
    std::thread::sleep(Duration::from_millis(1600));
    let report = metronome.stop().unwrap();
    assert!(report.refused() > 10, "there was no route yet");
    let first = report.closed_until(before..Instant::now()).expect("it is reachable");
    assert!(first < Duration::from_millis(1500), "{first:?}");
    early.delete().unwrap();
}

#[test]
fn kept_connections_notice_silence_and_end() {
    if !root_or_skip("kept_connections_notice_silence_and_end") {
        return;
    }
    let (_lab, [a, v]) = two_pods("kept");
    let server = Server::tcp(&v, 80, Greeting::None).unwrap();
    let keep = || {
        let (pause, silence) = (Duration::from_millis(1), Duration::from_millis(150));
        KeptStreams::start(&a, &v, Family::V6, 80, 10, pause, silence).unwrap()
    };
    let undisturbed = keep();
    std::thread::sleep(Duration::from_millis(200));
    let report = undisturbed.stop().unwrap();
    assert!(report.exchanges > 100 && report.interruptions.is_empty(), "{report:?}");

    let silent = keep();
    std::thread::sleep(Duration::from_millis(50));
    set_link(&v, "down");
    std::thread::sleep(Duration::from_millis(400));
    set_link(&v, "up");
    std::thread::sleep(Duration::from_millis(1500));
    let report = silent.stop().unwrap();
    assert!(report.interruptions.len() >= 10, "{report:?}");
    assert!(report.interruptions.iter().all(|one| one.broken.is_none()), "{report:?}");

    let broken = keep();
    std::thread::sleep(Duration::from_millis(50));
    drop(server);
    std::thread::sleep(Duration::from_millis(100));
    let report = broken.stop().unwrap();
    assert_eq!(report.interruptions.iter().filter(|one| one.broken.is_some()).count(), 10, "{report:?}");
}

#[test]
fn a_sniffer_counts_a_flood_without_loss_and_nothing_that_is_sent() {
    if !root_or_skip("a_sniffer_counts_a_flood_without_loss_and_nothing_that_is_sent") {
        return;
    }
    let (_lab, [a, v]) = two_pods("flood");
    let at_victim = Sniffer::marked(&v, b"FLOOD").unwrap();
    let at_sender = Sniffer::marked(&a, b"FLOOD").unwrap();
    netlab::ping(&a, v.ipv4().into(), PATIENCE).unwrap();
    let link = netlab::raw::Ethernet::new(a.mac(), v.mac());
    let frame = link.carry(&netlab::raw::udp((a.ipv4(), 1).into(), (v.ipv4(), PORT).into(), b"FLOOD"));
    let mut wire = netlab::raw::Wire::open(&a, netlab::raw::Method::Plain).unwrap();
    let count = 20_000;
    for _ in 0..count {
        wire.send(&frame).unwrap();
    }
    assert_eq!(at_victim.settled(Duration::from_millis(50)).unwrap(), count);
    // What comes back is the ICMP error of a closed port, which quotes the datagram.
    let back = at_sender.settled(Duration::from_millis(50)).unwrap();
    assert!(back > 0 && back < 100, "{back}");
    assert_eq!(at_victim.frames().first(), Some(&frame));
    at_victim.reset();
    assert_eq!(at_victim.settled(Duration::from_millis(50)).unwrap(), 0);

    v.delete().unwrap();
    assert_eq!(at_victim.settled(Duration::from_millis(50)).unwrap(), 0, "the count outlives the pod");
}
