//! A policy for which the kernel's maps are too small.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::ensure;
use netlab::{Family, Greeting, Host, Metronome, Outcome, Server, root_or_skip, tcp_connect};
use tests::node::Scene;
use tests::node::manifest::{self, DNS, WEB};

use super::{BRIDGE, PATIENCE, pause};

/// How long it may take until the agent says that a policy does not fit.
const SAID: Duration = Duration::from_secs(5);

/// A metric's value.
fn metric(scene: &Scene, name: &str) -> u64 {
    let text = scene.polder.http("/metrics").unwrap();
    let line = text.lines().find(|line| line.split_whitespace().next() == Some(name));
    let value =
        line.and_then(|line| line.split_whitespace().nth(1)).unwrap_or_else(|| panic!("{name}: {text}"));
    value.parse().unwrap_or_else(|_| panic!("{name} {value}"))
}

/// Writes a file that asks for more than there is room for, and sees that what was in force stays in force.
fn overflow(scene: &Scene, map: &str, room: &str, option: &str, file: &str, text: &str) {
    let _server = Server::tcp(&scene.victim, WEB, Greeting::None).unwrap();
    let denied =
        Family::BOTH.map(|family| Metronome::start(&scene.attacker, &scene.victim, family, DNS).unwrap());
    let allowed = [
        Metronome::start(&scene.friend, &scene.victim, Family::V4, DNS).unwrap(),
        // Somebody whom the new policy does not speak of.
        Metronome::start(&scene.attacker, &scene.free, Family::V6, DNS).unwrap(),
    ];
    let failures = metric(scene, "polder_map_write_failures_total");
    let before = scene.polder.status().unwrap();
    let begun = Instant::now();
    scene.polder.write(file, text).unwrap();
    let reasons = scene.polder.within("the agent to say that it does not fit", |client| {
        let status = client.status()?;
        ensure!(!status.ready, "ready");
        Ok(status.reasons)
    });
    let (reasons, said) = (reasons.unwrap(), begun.elapsed());
    println!("F39 {map}: said after {said:?}: {reasons:?}");
    assert!(said <= SAID, "{said:?}");
    let names_it = |reason: &String| {
        reason.contains(&format!("map {map} has room for {room} entries and would need "))
            && reason.contains("the policy that was in force stays in force")
            && reason.contains(option)
    };
    assert!(reasons.iter().any(names_it), "{reasons:?}");
    assert!(scene.polder.http("/readyz").unwrap().starts_with("HTTP/1.1 503"));
    assert!(metric(scene, "polder_map_write_failures_total") > failures);
    // It goes on trying, and to look at the rest.
    pause(2500);
    let answer = tcp_connect(&scene.friend, scene.victim.ipv4().into(), WEB, PATIENCE).unwrap();
    assert_eq!(answer, Outcome::Connected, "what was allowed");
    let now = scene.polder.status().unwrap();
    assert_eq!(now.generation, before.generation, "nothing was put in force");
    assert!(now.hooks.iter().all(|hook| hook.ok), "{:?}", now.hooks);
    let end = Instant::now();
    let open: u64 = denied.into_iter().map(|one| one.stop().unwrap().open_ms(begun..end)).sum();
    let lost: usize =
        allowed.into_iter().map(|one| one.stop().unwrap()).map(|one| one.sent() - one.arrived()).sum();
    println!("F39 {map}: OPEN-ms {open}, allowed datagrams lost {lost}");
    assert_eq!((open, lost), (0, 0), "{map}: OPEN-ms, lost");
    // What fits comes in force again.
    scene.polder.remove(file).unwrap();
    scene.polder.settle().unwrap();
    scene
        .polder
        .apply("victim.yaml", &manifest::policy("victim", "v", "policyTypes: [Ingress], ingress: []"))
        .unwrap();
    let answer =
        tcp_connect(&scene.friend, scene.victim.ipv4().into(), WEB, Duration::from_millis(300)).unwrap();
    assert_eq!(answer, Outcome::TimedOut, "the next change");
    assert!(scene.polder.verify().unwrap().agrees());
}

#[test]
fn f39_a_policy_with_more_rules_than_there_is_room_for_is_refused_as_a_whole() {
    if !root_or_skip("f39_a_policy_with_more_rules_than_there_is_room_for_is_refused_as_a_whole") {
        return;
    }
    let scene = Scene::with("lf39-rules", BRIDGE, &["--rules", "64"]).unwrap();
    // It would open the victim to the attacker too.
    let mut rules = String::from("{from: [{podSelector: {}}]}");
    for port in 0..300 {
        let _written =
            write!(rules, ", {{from: [{{podSelector: {{}}}}], ports: [{{port: {}}}]}}", 1000 + port);
    }
    let text = manifest::policy("much", "v", &format!("policyTypes: [Ingress], ingress: [{rules}]"));
    overflow(&scene, "rules", "64", "--rules", "much.yaml", &text);
}

#[test]
fn f39_a_policy_that_names_more_addresses_than_there_is_room_for_is_refused_as_a_whole() {
    if !root_or_skip("f39_a_policy_that_names_more_addresses_than_there_is_room_for_is_refused_as_a_whole") {
        return;
    }
    let scene = Scene::with("lf39-addresses", BRIDGE, &["--addresses", "16"]).unwrap();
    let mut text = manifest::policy(
        "much",
        "v",
        "policyTypes: [Ingress], ingress: [{from: [{podSelector: {matchLabels: {app: far}}}]}, {from: [{podSelector: {matchLabels: {app: b}}}]}]",
    );
    for number in 0..300_u32 {
        let address = IpAddr::from([
            10,
            77,
            u8::try_from(number / 250).unwrap(),
            u8::try_from(number % 250 + 1).unwrap(),
        ]);
        text += &manifest::pod_at("shop", &format!("far{number}"), "elsewhere", &[address], "app: far");
    }
    overflow(&scene, "addresses4", "16", "--addresses", "much.yaml", &text);
}
