use agent_api::status::{Endpoint, EndpointState};

use super::*;
use crate::explain::units::Asked;
use crate::explain::{ask, group, units};
use crate::input::Input;
use crate::party;

const CLUSTER: &str = "
apiVersion: v1
kind: Node
metadata: {name: n1}
status: {addresses: [{type: InternalIP, address: 10.0.0.254}]}
---
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: shop, labels: {app: a}}
spec: {nodeName: n1, containers: [{name: c}]}
status: {phase: Running, podIPs: [{ip: 10.0.0.1}]}
---
apiVersion: v1
kind: Pod
metadata: {name: v, namespace: shop, labels: {app: v}}
spec: {nodeName: n1, containers: [{name: c}]}
status: {phase: Running, podIPs: [{ip: 10.0.0.2}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: made-up, namespace: shop}
spec: {template: {metadata: {labels: {app: x}}, spec: {containers: [{name: c}]}}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: v, namespace: shop}
spec: {podSelector: {matchLabels: {app: v}}, ingress: [{from: [{podSelector: {matchLabels: {app: a}}}], ports: [{port: 80}]}]}
";

fn status(pods: &[&str]) -> Status {
    let endpoints = pods.iter().map(|pod| Endpoint {
        pod: Some((*pod).to_owned()),
        interface: "veth".to_owned(),
        interface_index: 1,
        addresses: Vec::new(),
        state: EndpointState::Enforced,
        ingress: None,
        egress: None,
        why: None,
    });
    let endpoints: Vec<_> = endpoints.collect();
    let rest = r#"{"node": "n1", "version": "", "abi": 1, "started": "2026-01-02T03:04:05Z", "ready": true, "reasons": [],
        "generation": 1, "policies": 1, "problems": [], "endpoints": [], "outside": [], "hooks": [], "maps": [],
        "counters": [], "reconcile": null, "shares": []}"#;
    Status { endpoints, ..serde_json::from_str(rest).unwrap() }
}

/// What would be asked of the kernel: each question and the wanted answer, then the notes.
fn asked(local: &[&str], from: &str, to: &str, asked: &Asked) -> (Vec<String>, Vec<String>) {
    let document = agent_api::world::Document { name: "all.yaml".to_owned(), text: CLUSTER.to_owned() };
    let mut input = Input::of_agent(&[document]);
    let from = party::find(input.compiler.cluster(), from, "shop").unwrap();
    let to = party::find(input.compiler.cluster(), to, "shop").unwrap();
    let units = units::units(&mut input, from, to, asked).unwrap();
    let answers = group::answer(&input.compiler, units, None, false);
    let Questions { questions, kernels } =
        Questions::of(&input.compiler, &status(local), &BTreeSet::new(), &answers);
    let questions = questions.iter().map(|(index, question, wanted)| {
        format!("{index}: {}: {} {}", verify::question(question), wanted.verdict, wanted.reason)
    });
    (questions.collect(), kernels.into_iter().flat_map(|kernel| kernel.notes).collect())
}

fn port(text: &str) -> Asked {
    Asked::Port(ask::port(text).unwrap())
}

#[test]
fn both_sides_are_asked_where_their_pod_is_on_the_node() {
    let (questions, notes) = asked(&["shop/a", "shop/v"], "a", "v", &port("80"));
    assert_eq!(
        questions,
        [
            "0: egress of shop/a to 10.0.0.2, 80/TCP: allow no_policy",
            "0: ingress of shop/v from 10.0.0.1, 80/TCP: allow rule_allows"
        ]
    );
    assert_eq!(notes, Vec::<String>::new());
    let (questions, notes) = asked(&["shop/v"], "a", "v", &Asked::Protocol(1));
    assert_eq!(questions, ["0: ingress of shop/v from 10.0.0.1, a protocol without ports: deny rule_denies"]);
    assert_eq!(notes, ["egress of shop/a: not on node n1"]);
}

#[test]
fn what_the_kernel_cannot_know_is_not_asked() {
    let local = ["shop/a", "shop/v", "shop/made-up"];
    let (questions, notes) = asked(&local, "made-up", "v", &port("80"));
    assert_eq!(questions.len(), 1, "the egress of the other: {questions:?}");
    assert_eq!(notes, ["ingress of shop/v: the other end, pod shop/made-up, has no address yet"]);
    assert_eq!(
        asked(&local, "10.0.0.254", "1.1.1.1", &port("80")).1,
        ["no policy is asked about this connection"]
    );
}

#[test]
fn the_agent_is_asked_about_its_own_node_and_knows_more_of_its_addresses_than_the_cluster() {
    let (questions, notes) = asked(&["shop/v"], "10.0.0.254", "v", &port("80"));
    assert_eq!(questions, ["0: ingress of shop/v from 10.0.0.254, 80/TCP: allow own_node"]);
    assert_eq!(notes, Vec::<String>::new());

    let mut kernel = Kernel { node: "n1".to_owned(), ..Kernel::default() };
    let pod = PodKey::new("shop", "v");
    let found = judgement::Answer {
        verdict: judgement::Verdict::Allow,
        reason: OWN_NODE.to_owned(),
        rule_set: 0,
        rank: None,
        generation: 12,
    };
    for _ in 0..2 {
        let gateway = question(&pod, Direction::Ingress, [10, 244, 1, 1].into(), Protocol::Other(1));
        kernel.take(gateway, Said { verdict: "deny", reason: "rule_denies".to_owned() }, found.clone());
    }
    assert!(!kernel.differs());
    let note = "10.244.1.1 is an address of node n1 itself, though no Node object says so: a pod is always reached from its own \
                node";
    assert_eq!(kernel.notes, [note]);
}

#[test]
fn without_a_port_every_range_that_rules_tell_apart_is_asked() {
    let (questions, _) = asked(&["shop/v"], "a", "v", &Asked::All);
    assert_eq!(
        questions,
        [
            "0: ingress of shop/v from 10.0.0.1, a protocol without ports: deny rule_denies",
            "0: ingress of shop/v from 10.0.0.1, 80/TCP: allow rule_allows",
            "0: ingress of shop/v from 10.0.0.1, 1/TCP: deny rule_denies",
            "0: ingress of shop/v from 10.0.0.1, 1/UDP: deny rule_denies",
            "0: ingress of shop/v from 10.0.0.1, 1/SCTP: deny rule_denies",
        ]
    );
}

#[test]
fn a_difference_is_said_with_both_verdicts_and_the_generation() {
    let mut kernel = Kernel { node: "n1".to_owned(), ..Kernel::default() };
    let plain = |kernel: &Kernel| anstream::adapter::strip_str(&kernel.text(false)).to_string();
    assert_eq!(plain(&kernel), "kernel: not asked: nothing to ask\n");
    let pod = PodKey::new("shop", "v");
    let asked =
        || question(&pod, Direction::Ingress, [10, 0, 0, 1].into(), Protocol::Transport(Transport::Tcp, 80));
    let said = |verdict, reason: &str| Said { verdict, reason: reason.to_owned() };
    let found = |reason: &str| judgement::Answer {
        verdict: judgement::Verdict::Allow,
        reason: reason.to_owned(),
        rule_set: 1,
        rank: Some(0),
        generation: 12,
    };
    kernel.take(asked(), said("allow", "rule_allows"), found("rule_allows"));
    assert_eq!(plain(&kernel), "kernel: agrees (generation 12)\n");
    kernel.notes.push("egress of shop/a: not on node n1".to_owned());
    assert_eq!(
        plain(&kernel),
        "kernel: agrees (generation 12)\n  not asked: egress of shop/a: not on node n1\n"
    );
    kernel.notes.clear();
    kernel.take(asked(), said("deny", "rule_denies"), found("no_policy"));
    kernel.take(asked(), said("allow", "no_policy"), found("no_policy"));
    assert!(kernel.differs());
    assert_eq!(
        plain(&kernel),
        "kernel: DIFFERS: ingress of shop/v from 10.0.0.1, 80/TCP: the policies say deny (rule_denies), the kernel says \
         allow (no_policy) (generation 12)\n"
    );
    assert_eq!(
        serde_json::to_value(&kernel).unwrap(),
        serde_json::json!({
            "node": "n1", "agrees": false, "generation": 12, "asked": 3,
            "differences": [{
                "question": {"pod": "shop/v", "direction": "ingress", "peer": "10.0.0.1", "port": ["tcp", 80]},
                "wanted": {"verdict": "deny", "reason": "rule_denies"},
                "found": {"verdict": "allow", "reason": "no_policy"}}],
            "notes": [],
        })
    );
}
