//! Frames from outside are looked at before the kernel makes packets of them (XDP), in the driver and behind it.

use std::time::Duration;

use agent_api::status::HookKind;
use netlab::{
    Cni, Family, Greeting, Host, KeptStreams, Lab, Outcome, PATIENCE, Server, Sniffer, raw, root_or_skip,
    tcp_connect, udp_exchange,
};
use tests::node::manifest::{self, DNS, WEB};
use tests::node::{Polder, counted_since};

const QUIET: Duration = Duration::from_millis(100);
/// How long a connection that is denied is waited for.
const IN_VAIN: Duration = Duration::from_millis(300);

/// Everybody may, but for one address of each family.
fn all_but(blocked: &dyn Host) -> String {
    let blocks = format!(
        "{{ipBlock: {{cidr: 0.0.0.0/0, except: ['{}/32']}}}}, {{ipBlock: {{cidr: '::/0', except: ['{}/128']}}}}",
        blocked.ipv4(),
        blocked.ipv6()
    );
    manifest::policy("victim", "v", &format!("policyTypes: [Ingress], ingress: [{{from: [{blocks}]}}]"))
}

#[test]
fn what_policy_denies_ends_at_the_uplink_before_it_is_a_packet() {
    if !root_or_skip("what_policy_denies_ends_at_the_uplink_before_it_is_a_packet") {
        return;
    }
    for (mode, cni, is_early) in [
        ("native", Cni::Routed, true),
        ("generic", Cni::Bridge { br_netfilter: false }, true),
        ("off", Cni::Routed, false),
    ] {
        let lab = Lab::new(&format!("xdp-{mode}")).unwrap();
        let node = lab.node(cni, 1).unwrap();
        let [client, blocked] = ["client", "blocked"].map(|name| lab.outside(name).unwrap());
        let victim = node.pod("v").unwrap();
        let facts =
            manifest::namespace("shop") + &manifest::node(&node) + &manifest::pod("shop", &victim, "app: v");
        let manifests = [("facts.yaml", facts), ("victim.yaml", all_but(&blocked))];
        let polder = Polder::start_with(&node, &manifests, &["--uplink", "eth0", "--xdp", mode]).unwrap();
        polder.enforces(&["shop/v"]).unwrap();
        let hooks = polder.status().unwrap().hooks;
        let early = hooks.iter().find(|hook| hook.kind == HookKind::Xdp);
        assert_eq!(
            early.map(|hook| (hook.interface.as_str(), hook.ok)),
            is_early.then_some(("eth0", true)),
            "{mode}: {hooks:?}"
        );

        let _servers = [
            Server::tcp(&victim, WEB, Greeting::None).unwrap(),
            Server::udp(&victim, DNS).unwrap(),
            Server::tcp(&blocked, WEB, Greeting::None).unwrap(),
        ];
        let sources = Family::BOTH.map(|family| blocked.address(family));
        let asks = move |packet: &netlab::Packet<'_>| {
            packet.source.is_some_and(|source| sources.contains(&source))
                && (packet.is_syn() || packet.protocol == Some(raw::UDP))
        };
        // At the node's uplink, where whoever listens sees what became a packet; and at the pod.
        let (uplink, pod) = (Sniffer::at(&node, asks).unwrap(), Sniffer::at(&victim, asks).unwrap());
        let before = polder.counters().unwrap();
        for family in Family::BOTH {
            let address = victim.address(family);
            assert_eq!(
                tcp_connect(&blocked, address, WEB, IN_VAIN).unwrap(),
                Outcome::TimedOut,
                "{mode} {family:?}"
            );
            assert_ne!(
                udp_exchange(&blocked, address, DNS, b"early", IN_VAIN).unwrap(),
                Outcome::Connected,
                "{mode} {family:?}"
            );
        }
        let (seen, leaked) = (uplink.settled(QUIET).unwrap(), pod.settled(QUIET).unwrap());
        let denied = counted_since(&before, &polder.counters().unwrap(), "ingress rule_denies");
        println!("XDP {mode}: {denied} denied, {seen} of them seen behind the driver, {leaked} at the pod");
        assert_eq!(leaked, 0, "LEAK {mode}");
        assert_eq!(seen > 0, !is_early, "{mode}: seen behind the driver: {:?}", uplink.frames());
        assert!(denied >= 4, "{mode}: {denied} counted");

        for family in Family::BOTH {
            let address = victim.address(family);
            assert_eq!(
                udp_exchange(&client, address, DNS, b"early", PATIENCE).unwrap(),
                Outcome::Connected,
                "{mode} {family:?}"
            );
            let every = Duration::from_millis(2);
            let kept =
                KeptStreams::start(&client, &victim, family, WEB, 3, every, Duration::from_secs(1)).unwrap();
            // What the pod begins is answered, also by who may not begin.
            let begun = tcp_connect(&victim, blocked.address(family), WEB, PATIENCE).unwrap();
            assert_eq!(begun, Outcome::Connected, "{mode} {family:?}: begun by the pod");
            std::thread::sleep(Duration::from_millis(200));
            let report = kept.stop().unwrap();
            assert!(
                report.exchanges > 50 && report.interruptions.is_empty(),
                "{mode} {family:?}: {report:?}"
            );
        }
    }
}
