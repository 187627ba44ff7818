//! What a user sees of requests: lines among the flows, and metrics, at the agent.

use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use agent_api::client::Client;
use agent_api::flow::{FlowLine, FlowVerdict};
use agent_api::reply::Reply;
use agent_api::request::{Flows, Request};
use netlab::{Cni, Family, root_or_skip, tool_or_skip};
use tests::node::{Polder, Proxy};

use crate::bed::{Bed, READ_PUBLIC, policy};
use crate::http::Connection;

/// How soon a request is told. (It takes milliseconds; machines are busy.)
const SOON: Duration = Duration::from_secs(10);

fn bed(name: &str, policies: &str) -> Option<Bed> {
    if !root_or_skip(name) || !tool_or_skip("nft", name) || !tool_or_skip("nginx", name) {
        return None;
    }
    let bed = Bed::new(name, Cni::Routed);
    bed.policies(policies);
    Some(bed)
}

fn public() -> String {
    policy("server", "server", "ingress", &format!("{{action: Allow, {READ_PUBLIC}}}"))
}

fn ask(bed: &Bed, target: &str) -> u16 {
    let mut connection = Connection::open(&bed.client, bed.at(0, Family::V4, false)).unwrap();
    connection.ask("GET", target).unwrap().status
}

/// Flows as they come, until the agent ends.
fn follow(agent: &Polder) -> Receiver<FlowLine> {
    let (flows, told) = channel();
    let mut client = Client::connect(&agent.socket()).unwrap();
    thread::spawn(move || {
        let follow = Flows { follow: true, ..Flows::default() };
        for reply in client.request(&Request::Flows(follow)).unwrap() {
            let is_heard = match reply {
                Ok(Reply::Flow(flow)) => flows.send(flow).is_ok(),
                Ok(Reply::Lost { .. }) => true,
                _ => false,
            };
            if !is_heard {
                return;
            }
        }
    });
    told
}

/// The next request to a path. Asks again until it is told: who has just begun to follow hears of what comes a moment later.
fn told(bed: &Bed, flows: &Receiver<FlowLine>, target: &str) -> FlowLine {
    let deadline = Instant::now() + SOON;
    loop {
        assert!(Instant::now() < deadline, "{target} is not told\n{}", bed.agents[0].log());
        ask(bed, &format!("{target}?token=secret"));
        let again = Instant::now() + Duration::from_millis(500);
        while let Ok(flow) = flows.recv_timeout(again.saturating_duration_since(Instant::now())) {
            if flow.request.as_ref().is_some_and(|request| request.path == target) {
                return flow;
            }
        }
    }
}

/// What is remembered of requests, by path.
fn remembered(agent: &Polder) -> BTreeSet<String> {
    agent.flows().unwrap().into_iter().filter_map(|flow| Some(flow.request?.path)).collect()
}

#[test]
fn requests_are_flows_with_the_names_of_pods_and_rules_and_are_counted_at_the_agent() {
    let Some(bed) = bed("rq-flows", &public()) else { return };
    let flows = follow(&bed.agents[0]);
    let allowed = told(&bed, &flows, "/public/1");
    let denied = told(&bed, &flows, "/secret");
    for (flow, verdict, status) in
        [(&allowed, FlowVerdict::Allowed, 200), (&denied, FlowVerdict::Denied, 403)]
    {
        let request = flow.request.as_ref().unwrap();
        let said =
            (request.protocol.as_str(), request.method.as_str(), request.host.as_str(), request.status);
        assert_eq!(said, ("http1", "GET", "server", Some(status)));
        assert_eq!(
            (flow.source.pod.as_deref(), flow.destination.pod.as_deref()),
            (Some("shop/a"), Some("shop/v"))
        );
        assert_eq!((flow.destination.port, flow.verdict), (Some(8080), verdict));
        let rule = flow.rule.as_ref().unwrap();
        // What it does not allow it denies.
        assert_eq!(
            (rule.policy.as_str(), rule.path.as_str()),
            ("PolderPolicy shop/server", "spec.ingress[0]")
        );
        assert!(!serde_json::to_string(flow).unwrap().contains("token"), "a query is nobody's business");
    }
    let page = bed.agents[0].http("/metrics").unwrap();
    for line in ["polder_proxy_up 1", "polder_policies 1"] {
        assert!(page.lines().any(|found| found == line), "{line} in\n{page}");
    }
    for verdict in ["allowed", "denied"] {
        let series = format!("polder_l7_requests_total{{verdict=\"{verdict}\"}} ");
        let count = page.lines().find_map(|line| line.strip_prefix(&series)).unwrap();
        assert!(count.parse::<u64>().unwrap() > 0);
    }
    assert!(page.contains("polder_l7_request_seconds_bucket"), "{page}");
}

#[test]
fn without_a_follower_denials_are_remembered_and_of_what_is_allowed_only_what_a_policy_logs() {
    let Some(bed) = bed("rq-logs", &public()) else { return };
    let asked = |target: &str| {
        let deadline = Instant::now() + SOON;
        while !remembered(&bed.agents[0]).contains(target) {
            assert!(Instant::now() < deadline, "{target} is not remembered");
            ask(&bed, target);
            thread::sleep(Duration::from_millis(100));
        }
    };
    assert_eq!(ask(&bed, "/public/quiet"), 200);
    asked("/secret/1");
    assert!(!remembered(&bed.agents[0]).contains("/public/quiet"));
    let logged = public().replace("spec: {", "spec: {log: true, ");
    bed.policies(&logged);
    asked("/public/logged");
    let audited =
        public().replace("spec: {", "spec: {mode: Audit, ").replace("name: server", "name: audited");
    bed.policies(&(public() + &audited));
    assert_eq!(ask(&bed, "/public/quiet"), 200);
    asked("/secret/2");
    let problems = bed.agents[0].status().unwrap().problems;
    assert!(
        problems.iter().any(|problem| problem.contains("PolderPolicy shop/audited (polctl")),
        "{problems:?}"
    );
    let page = bed.agents[0].http("/metrics").unwrap();
    assert!(page.contains("\npolder_policies_audited 1\n"), "{page}");
    assert!(!remembered(&bed.agents[0]).contains("/public/quiet"));
}

#[test]
fn requests_are_told_over_the_death_of_who_reads_them_and_by_an_older_proxy_beside_a_newer() {
    let Some(mut bed) = bed("rq-tells", &public()) else { return };
    let flows = follow(&bed.agents[0]);
    told(&bed, &flows, "/secret/1");
    bed.proxies[0].kill_workers().unwrap();
    let deadline = Instant::now() + SOON;
    while Connection::open(&bed.client, bed.at(0, Family::V4, false))
        .is_ok_and(|mut connection| connection.ask("GET", "/public/again").is_err())
    {
        assert!(Instant::now() < deadline, "{}", bed.proxies[0].log());
    }
    told(&bed, &flows, "/secret/2");
    // What is allowed has a stream of its own; whoever is not followed yet when a newer one comes is not followed any more.
    told(&bed, &flows, "/public/2");
    // A connection of the older one's goes on there.
    let mut kept = Connection::open(&bed.client, bed.at(0, Family::V4, false)).unwrap();
    assert_eq!(kept.ask("GET", "/public/kept/1").unwrap().status, 200);
    let newer = Proxy::start(&bed.agents[0]).unwrap();
    bed.proxies[0].drain().unwrap();
    told(&bed, &flows, "/secret/newer");
    assert_eq!(kept.ask("GET", "/public/kept/2").unwrap().status, 200);
    let of_older = |flow: FlowLine| flow.request.is_some_and(|request| request.path == "/public/kept/2");
    assert!(std::iter::from_fn(|| flows.recv_timeout(SOON).ok()).any(of_older), "the older one still tells");
    drop(kept);
    bed.proxies[0].ended().unwrap();
    told(&bed, &flows, "/secret/last");
    bed.proxies.push(newer);
    for proxy in &mut bed.proxies {
        proxy.kill9().unwrap();
    }
    let page = bed.agents[0].http("/metrics").unwrap();
    assert!(page.contains("\npolder_proxy_up 0\n") && !page.contains("polder_l7_"), "{page}");
    assert!(bed.agents[0].status().unwrap().ready, "nothing of it disturbs the agent");
}
