//! Requests while rules, agents and proxies come and go.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use netlab::{Cni, Family, Host as _, root_or_skip, tool_or_skip};
use tests::node::Proxy;

use crate::bed::{Bed, READ_PUBLIC, policy};
use crate::http::Connection;

const ROUTED: Cni = Cni::Routed;
/// How soon a change of policy must be obeyed. (It takes milliseconds; machines are busy.)
const SOON: Duration = Duration::from_secs(2);

/// A bed on which what is below `/public` may be read.
fn bed(name: &str) -> Option<Bed> {
    if !root_or_skip(name) || !tool_or_skip("nft", name) || !tool_or_skip("nginx", name) {
        return None;
    }
    let bed = Bed::new(name, ROUTED);
    bed.policies(&public());
    Some(bed)
}

fn public() -> String {
    policy("server", "server", "ingress", &format!("{{action: Allow, {READ_PUBLIC}}}"))
}

fn private() -> String {
    public().replace("/public", "/private")
}

fn connect(bed: &Bed, server: usize) -> Connection {
    Connection::open(&bed.client, bed.at(server, Family::V4, false)).unwrap()
}

/// The status of the answer to a request on a connection of its own; `None` if there is none.
fn status(bed: &Bed, server: usize, target: &str) -> Option<u16> {
    let mut connection = Connection::open(&bed.client, bed.at(server, Family::V4, false)).ok()?;
    connection.ask("GET", target).ok().map(|answer| answer.status)
}

#[test]
fn the_next_request_obeys_a_change_and_no_connection_that_is_allowed_breaks() {
    let Some(mut bed) = bed("rq-change") else { return };
    let mut kept = connect(&bed, 0);
    assert_eq!(kept.ask("GET", "/public/1").unwrap().status, 200);
    // Another rule beside it: another rule set, and another generation.
    let more = policy("more", "server", "ingress", "{action: Deny, http: [{path: {prefix: /public/not}}]}");
    bed.policies(&(public() + &more));
    assert_eq!(kept.ask("GET", "/public/2").unwrap().status, 200, "the same connection");
    assert_eq!(kept.ask("GET", "/public/not").unwrap().status, 403, "the new rule");
    let mut kept = connect(&bed, 0);
    assert_eq!(kept.ask("GET", "/public/3").unwrap().status, 200);
    bed.agents[0].restart().unwrap();
    assert_eq!(kept.ask("GET", "/public/4").unwrap().status, 200, "while the agent starts again");
    bed.agents[0].settle().unwrap();
    assert_eq!(kept.ask("GET", "/public/5").unwrap().status, 200);
    // No rule speaks about the server any more.
    bed.policies("");
    assert_eq!(
        kept.ask("GET", "/public/6").unwrap().status,
        200,
        "a connection that nobody needs to read now"
    );
    assert_eq!(kept.ask("GET", "/anything").unwrap().status, 200);
    let mut plain = connect(&bed, 0);
    assert_eq!(plain.ask("GET", "/anything/plain").unwrap().status, 200);
    bed.policies(&private());
    assert_eq!(kept.ask("GET", "/private/7").unwrap().status, 200);
    assert_eq!(kept.ask("GET", "/public/8").unwrap().status, 403);
    assert!(!bed.servers[0].asked().contains("/public/8"), "LEAK");
}

#[test]
fn maps_of_another_layout_break_no_connection_and_the_next_request_obeys_them() {
    let Some(mut bed) = bed("rq-layout") else { return };
    let mut kept = [connect(&bed, 0), connect(&bed, 0)];
    for connection in &mut kept {
        assert_eq!(connection.ask("GET", "/public/1").unwrap().status, 200);
    }
    bed.agents[0].argue(&["--rules", "100000"]);
    bed.agents[0].restart().unwrap();
    assert_eq!(kept[0].ask("GET", "/public/2").unwrap().status, 200, "while the agent makes its maps");
    bed.agents[0].settle().unwrap();
    let begun = Instant::now();
    while !bed.proxies[0].log().contains("another set of maps") {
        assert!(begun.elapsed() < SOON, "{}", bed.proxies[0].log());
        assert_eq!(kept[0].ask("GET", "/public/3").unwrap().status, 200, "while the proxy hears of them");
    }
    for connection in &mut kept {
        assert_eq!(connection.ask("GET", "/public/4").unwrap().status, 200);
    }
    assert_eq!(status(&bed, 0, "/public/5"), Some(200));
    bed.policies(&private());
    assert_eq!(kept[0].ask("GET", "/private/6").unwrap().status, 200);
    assert_eq!(kept[1].ask("GET", "/public/7").unwrap().status, 403);
    assert!(!bed.servers[0].asked().contains("/public/7"), "LEAK");
}

#[test]
fn f7_a_connection_that_nobody_read_is_cut_when_a_rule_comes() {
    let Some(bed) = bed("rq-cut") else { return };
    bed.policies("");
    for server in [0, 1] {
        let mut plain = connect(&bed, server);
        assert_eq!(plain.ask("GET", "/forbidden/before").unwrap().status, 200);
        bed.policies(&public());
        let begun = Instant::now();
        let refused = plain.ask("GET", "/forbidden/after");
        assert!(refused.is_err(), "{refused:?}");
        assert!(begun.elapsed() < SOON, "it is reset, not left hanging");
        let mut again = connect(&bed, server);
        assert_eq!(again.ask("GET", "/public/again").unwrap().status, 200);
        assert!(!bed.servers[server].asked().contains("/forbidden/after"), "LEAK");
        bed.policies("");
    }
}

/// What a rule of the client's asks is known behind the service address, where the packet leaves the node.
#[test]
fn f7_behind_a_service_the_client_is_told_too() {
    let Some(mut bed) = bed("rq-told") else { return };
    let egress = policy("client", "a", "egress", &format!("{{action: Allow, {READ_PUBLIC}}}"));
    for family in Family::BOTH {
        bed.policies("");
        let to = bed.at(1, family, true);
        let mut plain = Connection::open(&bed.client, to).unwrap();
        assert_eq!(plain.ask("GET", "/forbidden/before").unwrap().status, 200);
        bed.policies(&egress);
        let begun = Instant::now();
        assert!(plain.ask("GET", "/forbidden/after").is_err(), "{family:?}");
        assert!(begun.elapsed() < SOON, "{family:?}: it is reset, not left hanging");
        let mut again = Connection::open(&bed.client, to).unwrap();
        assert_eq!(again.ask("GET", "/public/again").unwrap().status, 200);
        assert_eq!(again.ask("GET", "/forbidden/again").unwrap().status, 403);
    }
    bed.proxies[0].kill9().unwrap();
    for family in Family::BOTH {
        let begun = Instant::now();
        assert!(Connection::open(&bed.client, bed.at(1, family, true)).is_err(), "{family:?}");
        assert!(begun.elapsed() < SOON, "{family:?}: one that begins is rejected");
    }
    let asked = bed.servers[1].asked();
    assert!(!asked.contains("/forbidden/after") && !asked.contains("/forbidden/again"), "LEAK");
}

#[test]
fn f38_without_a_proxy_the_port_is_closed_at_once_and_others_are_not() {
    let Some(mut bed) = bed("rq-none") else { return };
    let open = policy(
        "open",
        "server",
        "ingress",
        "{action: Allow, protocols: [{tcp: {destinationPort: {number: 9090}}}]}",
    );
    bed.policies(&(public() + &open));
    let _other = netlab::Server::tcp(&bed.pods[0], 9090, netlab::Greeting::None).unwrap();
    let mut kept = connect(&bed, 0);
    assert_eq!(kept.ask("GET", "/public/1").unwrap().status, 200);
    bed.proxies[0].kill9().unwrap();
    let begun = Instant::now();
    assert!(kept.ask("GET", "/public/2").is_err());
    assert!(begun.elapsed() < SOON, "a connection that had a proxy is reset");
    let begun = Instant::now();
    assert_eq!(status(&bed, 0, "/public/3"), None);
    assert!(begun.elapsed() < SOON, "one that begins is rejected");
    let nine = (bed.pods[0].ipv4(), 9090).into();
    assert!(Connection::open(&bed.client, nine).is_ok(), "a port without rules about requests");
    bed.agents[0]
        .within("the agent to say so", |client| {
            let said = client.status()?.problems;
            anyhow::ensure!(
                said.iter().any(|problem| problem.contains("no proxy runs on this node")),
                "{said:?}"
            );
            Ok(())
        })
        .unwrap();
    let proxy = Proxy::start(&bed.agents[0]).unwrap();
    assert_eq!(status(&bed, 0, "/public/4"), Some(200));
    assert_eq!(status(&bed, 0, "/secret"), Some(403));
    bed.proxies.push(proxy);
}

#[test]
fn f38_what_reads_requests_is_back_at_once_when_it_dies() {
    let Some(bed) = bed("rq-kill") else { return };
    let mut longest = Duration::ZERO;
    for round in 0..10 {
        let mut kept = connect(&bed, 0);
        assert_eq!(kept.ask("GET", "/public/kept").unwrap().status, 200);
        bed.proxies[0].kill_workers().unwrap();
        let begun = Instant::now();
        assert!(kept.ask("GET", "/public/lost").is_err(), "its connections end with it");
        while status(&bed, 0, "/public/again") != Some(200) {
            assert!(begun.elapsed() < Duration::from_secs(10), "round {round}: {}", bed.proxies[0].log());
        }
        longest = longest.max(begun.elapsed());
        assert_eq!(status(&bed, 0, "/secret"), Some(403));
    }
    println!("back after {longest:?} at most");
    assert!(!bed.servers[0].asked().contains("/secret"), "LEAK");
}

#[test]
fn a_newer_proxy_takes_what_begins_and_the_older_one_ends_when_it_has_nothing_left() {
    let Some(mut bed) = bed("rq-drain") else { return };
    let mut kept = connect(&bed, 0);
    assert_eq!(kept.ask("GET", "/public/1").unwrap().status, 200);
    let newer = Proxy::start(&bed.agents[0]).unwrap();
    assert_eq!(bed.agents[0].status().unwrap().proxies, ["polder1", "polder0"]);
    bed.proxies[0].drain().unwrap();
    let mut begun = connect(&bed, 0);
    for request in 0..20 {
        assert_eq!(kept.ask("GET", &format!("/public/{request}")).unwrap().status, 200);
        assert_eq!(begun.ask("GET", &format!("/public/{request}")).unwrap().status, 200);
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(newer.access("/public/19").unwrap().lines().count(), 20, "the newer one reads what begins");
    drop(kept);
    bed.proxies[0].ended().unwrap();
    assert_eq!(begun.ask("GET", "/public/last").unwrap().status, 200);
    bed.agents[0]
        .within("the older proxy to be gone", |client| {
            let proxies = client.status()?.proxies;
            anyhow::ensure!(proxies == ["polder1"], "{proxies:?}");
            Ok(())
        })
        .unwrap();
    bed.proxies.push(newer);
}

#[test]
fn a_rule_about_a_host_means_it_whatever_port_a_request_names() {
    let Some(bed) = bed("rq-hosts") else { return };
    let port = "protocols: [{tcp: {destinationPort: {number: 8080}}}]";
    let rules = format!(
        "{{action: Deny, {port}, http: [{{hosts: [admin.shop]}}]}}, {{action: Allow, {port}, http: [{{hosts: ['*.shop']}}]}}"
    );
    bed.policies(&policy("server", "server", "ingress", &rules));
    for (host, status) in [
        ("cart.shop", 200),
        ("cart.shop:8080", 200),
        ("admin.shop", 403),
        ("admin.shop:8080", 403),
        ("Admin.Shop.:1", 403),
        ("other", 403),
    ] {
        let mut connection = connect(&bed, 0);
        let request = format!("GET /hosts/{status} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        connection.send(request.as_bytes()).unwrap();
        assert_eq!(connection.answer().unwrap().status, status, "{host}");
    }
    assert!(!bed.servers[0].asked().contains("/hosts/403"), "LEAK");
}

#[test]
fn what_the_proxy_sends_of_no_connection_goes_nowhere_and_it_is_told() {
    let Some(bed) = bed("rq-stray") else { return };
    for family in Family::BOTH {
        let (client, server) = (bed.client.address(family), bed.at(0, family, false));
        let begun = Instant::now();
        let told = bed.proxies[0].stray(client, server).unwrap().unwrap_err();
        assert_eq!(told.kind(), ErrorKind::ConnectionRefused, "{family:?}: {told}");
        assert!(begun.elapsed() < SOON, "{family:?}");
    }
    assert_eq!(bed.servers[0].asked(), "");
}

#[test]
fn f31_the_node_itself_asks_what_it_likes() {
    let Some(bed) = bed("rq-node") else { return };
    let (here, there) = (bed.agents[0].node(), bed.agents[1].node());
    for family in Family::BOTH {
        let to = bed.at(0, family, false);
        let mut probe = Connection::open(here, to).unwrap();
        assert_eq!(probe.ask("GET", "/healthz").unwrap().status, 200, "as kubelet does");
        let mut other = Connection::open(there, to).unwrap();
        let path = format!("/healthz/{family:?}");
        assert_eq!(other.ask("GET", &path).unwrap().status, 403, "another node is anybody");
        let read = bed.proxies[0].access(&path).unwrap();
        assert!(!read.contains("\"path\":\"/healthz\""), "nobody reads what the node asks: {read}");
    }
    assert!(!bed.servers[0].asked().contains("/healthz/"), "LEAK");
}
