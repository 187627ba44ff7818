//! {egress, ingress, both} x {same node, two nodes} x {direct, service} x {bridge, bridge with `br_netfilter`, routed} x {IPv4, IPv6}.

use netlab::{Cni, Family, root_or_skip, tool_or_skip};

use crate::bed::{Bed, READ_PUBLIC, has_br_netfilter, policy};
use crate::http::Connection;

/// What may be asked of a server is said by its own policy, by that of who asks, or by both.
fn policies() -> [(&'static str, String); 3] {
    let ingress = policy("server", "server", "ingress", &format!("{{action: Allow, {READ_PUBLIC}}}"));
    let to = "to: [{pods: {podSelector: {matchLabels: {app: server}}}}]";
    let egress = policy("client", "a", "egress", &format!("{{action: Allow, {to}, {READ_PUBLIC}}}"));
    [("egress", egress.clone()), ("ingress", ingress.clone()), ("both", egress + &ingress)]
}

/// Asks for what is allowed, and for what is not; what went wrong.
fn wrong(bed: &Bed, (server, family, by_service): (usize, Family, bool), mark: &str) -> Option<String> {
    let to = bed.at(server, family, by_service);
    let asked = || -> anyhow::Result<Option<String>> {
        let mut connection = Connection::open(&bed.client, to)?;
        let own = connection.own;
        let expected = format!("{} {} GET /public/{mark}", own.ip(), own.port());
        for _ in 0..2 {
            let answer = connection.ask("GET", &format!("/public/{mark}"))?;
            if (answer.status, answer.body.as_str()) != (200, expected.as_str()) {
                return Ok(Some(format!("{answer:?}, where {expected:?} is right")));
            }
        }
        for (method, target) in
            [("GET", format!("/secret/{mark}")), ("POST", format!("/public/forbidden-{mark}"))]
        {
            let mut connection = Connection::open(&bed.client, to)?;
            let answer = connection.ask(method, &target)?;
            if answer.status != 403 {
                return Ok(Some(format!("{method} {target}: {answer:?}")));
            }
        }
        let mut connection = Connection::open(&bed.client, to)?;
        connection.send(b"\x00\x01 this is no HTTP \r\n\r\n")?;
        let (octets, _) = connection.rest()?;
        if String::from_utf8_lossy(&octets).contains(" 200 ") {
            return Ok(Some("what is no HTTP is answered".to_owned()));
        }
        Ok(None)
    };
    asked().unwrap_or_else(|error| Some(format!("{error:#}")))
}

fn matrix(name: &str, cni: Cni) {
    if !root_or_skip(name) || !tool_or_skip("nft", name) || !tool_or_skip("nginx", name) {
        return;
    }
    let bed = Bed::new(name, cni);
    let mut found = Vec::new();
    for (side, text) in policies() {
        bed.policies(&text);
        for server in [0, 1] {
            for by_service in [false, true] {
                // The answer of a neighbour on the bridge does not pass who would translate it back: it is so without policy.
                if by_service && server == 0 && cni == (Cni::Bridge { br_netfilter: false }) {
                    continue;
                }
                for family in Family::BOTH {
                    let case = format!(
                        "{side}-{}-{}-{family:?}",
                        ["same-node", "two-nodes"][server],
                        if by_service { "service" } else { "direct" }
                    );
                    if let Some(wrong) = wrong(&bed, (server, family, by_service), &case) {
                        found.push(format!("{case}: {wrong}"));
                    }
                }
            }
        }
    }
    for server in &bed.servers {
        let asked = server.asked();
        let leaked: Vec<&str> =
            asked.lines().filter(|line| line.contains("secret") || line.contains("forbidden")).collect();
        assert!(leaked.is_empty(), "LEAK {leaked:?}");
    }
    assert!(found.is_empty(), "{} wrong:\n{}", found.len(), found.join("\n"));
}

#[test]
fn requests_are_judged_on_a_bridge() {
    matrix("rq-bridge", Cni::Bridge { br_netfilter: false });
}

#[test]
fn requests_are_judged_on_a_bridge_whose_packets_pass_iptables() {
    if has_br_netfilter() {
        matrix("rq-brnf", Cni::Bridge { br_netfilter: true });
    }
}

#[test]
fn requests_are_judged_where_pods_are_routed() {
    matrix("rq-routed", Cni::Routed);
}
