//! What the compiler costs: from nothing, and for one event; for a node of 110 pods in clusters of growing size.
//!
//! `cargo xtask bench compiler [PODS...]`. Figures are medians on this machine; what counts is how they compare with the
//! aims printed beside them (set for a cluster of 10,000 pods) and how they grow from row to row.

#![expect(clippy::expect_used, reason = "the inputs are made here")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use datapath::abi::Transport;
use policy_compiler::api::PolicyObject;
use policy_compiler::compiler::{Compiler, Event, Scope};
use policy_compiler::connectivity::Connectivity;
use policy_compiler::facts::{Cluster, ContainerPort, Namespace, Node, Phase, Pod, Workload};
use policy_compiler::labels::Labels;
use policy_compiler::lower::lower;
use policy_compiler::object::PodKey;
use policy_compiler::plan::plan;
use policy_compiler::policy::Policy;
use serde_json::json;

/// Pods of the node for which tables are made.
const LOCAL_PODS: usize = 110;
const PODS_PER_NAMESPACE: usize = 50;
const POLICIES_PER_NAMESPACE: usize = 5;
const APPS: usize = 10;
const TEAMS: usize = 20;

fn main() {
    let sizes: Vec<usize> = std::env::args().skip(1).filter_map(|arg| arg.parse().ok()).collect();
    let sizes = if sizes.is_empty() { vec![1_000, 10_000, 100_000] } else { sizes };
    println!(
        "node of {LOCAL_PODS} pods; {PODS_PER_NAMESPACE} pods and {POLICIES_PER_NAMESPACE} policies a namespace\n"
    );
    println!(
        "{:>7} {:>8} | {:>10} {:>9} | {:>10} {:>8} {:>9} {:>9} | {:>10} {:>8} | {:>10} {:>6} {:>5}",
        "pods",
        "policies",
        "compile",
        "memory",
        "remote pod",
        "relabel",
        "local pod",
        "first one",
        "new policy",
        "changed",
        "identities",
        "rows",
        "atoms"
    );
    println!(
        "{:>16} | {:>10} {:>9} | {:>10} {:>8} {:>9} {:>9} | {:>10} {:>8} |",
        "aim at 10,000", "<=300ms", "<=200MiB", "<=200us", "<=200us", "<=200us", "", "<=5ms", "<=5ms"
    );
    for size in sizes {
        println!("{}", row(size));
    }
    connectivity(1_000);
}

fn row(size: usize) -> String {
    let (cluster, policies) = cluster(size);
    // Resident memory before and after one compile, which is kept: the facts are the caller's and not counted.
    let before = resident();
    let mut compiler = Compiler::compile(node(), &cluster, policies.iter().cloned());
    let memory = resident().saturating_sub(before);
    let runs = if size > 50_000 { 3 } else { 9 };
    let compile =
        median(runs, |_| timed(|| drop(Compiler::compile(node(), &cluster, policies.iter().cloned()))));

    let events = 200;
    let remote = median(events, |turn| {
        let pod = pod(size + turn, size, "elsewhere");
        let came = event(&mut compiler, Event::Pod(Box::new(pod.clone())));
        came.max(event(&mut compiler, Event::PodGone { key: pod.key, uid: None }))
    });
    let relabel = median(events, |turn| {
        let mut pod = pod(turn * 37 % size, size, "elsewhere");
        pod.labels = Labels::new([("app", format!("app-{}", turn % APPS)), ("canary", "true".to_owned())]);
        event(&mut compiler, Event::Pod(Box::new(pod)))
    });
    let mut came_and_went = |index| {
        let pod = pod(index, size, "node");
        let came = event(&mut compiler, Event::Pod(Box::new(pod.clone())));
        came.max(event(&mut compiler, Event::PodGone { key: pod.key, uid: None }))
    };
    // One more replica of something that runs here, and the first pod here that some policies select: these bring
    // selections that the node did not need before, so what that costs depends on how many pods they match.
    let period = namespaces(size) * APPS;
    let local = median(events, |turn| {
        came_and_went(size.next_multiple_of(period) + turn % LOCAL_PODS * stride(size))
    });
    let first = median(events, |turn| came_and_went(size.next_multiple_of(period) + turn));
    // Where it matters: in namespaces that have pods on this node.
    let here: Vec<usize> = (0..LOCAL_PODS).map(|local| local * stride(size) % namespaces(size)).collect();
    let new = median(100, |turn| {
        let policy = extra_policy(here[turn % here.len()], "new", 9000 + turn);
        let came = event(&mut compiler, Event::Policy(Box::new(policy.clone())));
        came.max(event(&mut compiler, Event::PolicyGone(policy.object)))
    });
    let changed = median(100, |turn| {
        let policy = extra_policy(here[turn % here.len()], "changing", 8000 + turn);
        event(&mut compiler, Event::Policy(Box::new(policy)))
    });

    let sizes = compiler.tables().sizes();
    let mut out = String::new();
    let _ = write!(
        out,
        "{size:>7} {:>8} | {:>10} {:>6}MiB | {:>10} {:>8} {:>9} {:>9} | {:>10} {:>8} | {:>10} {:>6} {:>5}",
        policies.len(),
        show(compile),
        memory >> 20,
        show(remote),
        show(relabel),
        show(local),
        show(first),
        show(new),
        show(changed),
        compiler.in_use().0,
        sizes.rules,
        sizes.port_atoms
    );
    out
}

fn connectivity(workloads: usize) {
    let (mut cluster, policies) = cluster(workloads);
    for pod in cluster.pods.values_mut() {
        // Every pod a workload of its own.
        let pod = Arc::make_mut(pod);
        pod.workload = Workload { kind: "Deployment".into(), name: Arc::clone(&pod.key.name) };
    }
    let mut lines = 0;
    let took = median(3, |_| {
        timed(|| {
            let compiler = Compiler::compile(Scope::All, &cluster, policies.iter().cloned());
            lines = Connectivity::of(&compiler, &BTreeMap::default()).lines().count();
        })
    });
    println!("\nconnectivity of {workloads} workloads: {} for {lines} lines (aim: <=5s)", show(took));
}

/// One event: brought into the tables, and planned as map writes.
fn event(compiler: &mut Compiler, event: Event) -> Duration {
    timed(|| {
        let delta = compiler.apply([event]);
        let steps = plan(&delta, compiler.tables(), 0).expect("ids are derived from content");
        std::hint::black_box(steps);
    })
}

fn timed(run: impl FnOnce()) -> Duration {
    let start = Instant::now();
    run();
    start.elapsed()
}

fn median(times: usize, run: impl FnMut(usize) -> Duration) -> Duration {
    let mut all: Vec<Duration> = (0..times).map(run).collect();
    all.sort_unstable();
    all[all.len() / 2]
}

fn show(time: Duration) -> String {
    if time < Duration::from_millis(1) {
        format!("{}us", time.as_micros())
    } else {
        format!("{:.1}ms", time.as_secs_f64() * 1e3)
    }
}

/// Resident memory in bytes (`/proc/self/statm`, pages of 4 KiB).
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4096
}

fn node() -> Scope {
    Scope::Node("node".into())
}

fn namespaces(pods: usize) -> usize {
    (pods / PODS_PER_NAMESPACE).max(1)
}

/// A cluster of so many pods, and policies such as people write.
fn cluster(size: usize) -> (Cluster, Vec<Arc<Policy>>) {
    let mut cluster = Cluster::default();
    let namespaces = namespaces(size);
    for index in 0..namespaces {
        let labels = [("team", format!("team-{}", index % TEAMS)), ("env", format!("env-{}", index % 3))];
        let namespace =
            Namespace::new(&namespace(index), labels.map(|(key, value)| (key.to_owned(), value)), false);
        cluster.namespaces.insert(Arc::clone(&namespace.name), Arc::new(namespace));
    }
    let stride = stride(size);
    for index in 0..size {
        let local = index % stride == 0 && index / stride < LOCAL_PODS;
        let pod = pod(index, size, if local { "node" } else { "elsewhere" });
        cluster.pods.insert(pod.key.clone(), Arc::new(pod));
    }
    let nodes = ["node", "elsewhere"].into_iter().zip(1_u8..);
    for (name, last) in nodes {
        let addresses = [IpAddr::V4(Ipv4Addr::new(172, 18, 0, last))].into();
        cluster.nodes.insert(
            name.into(),
            Arc::new(Node { name: name.into(), labels: Labels::new([("a", "b")]), addresses }),
        );
    }
    let policies = (0..namespaces)
        .flat_map(|index| (0..POLICIES_PER_NAMESPACE).map(move |which| Arc::new(policy(index, which))));
    (cluster, policies.collect())
}

/// Every how manieth pod is local. Odd and no multiple of 5, so that local pods are spread over the namespaces.
fn stride(size: usize) -> usize {
    let stride = (size / LOCAL_PODS).max(1) | 1;
    if stride.is_multiple_of(5) { stride - 2 } else { stride }
}

fn namespace(index: usize) -> String {
    format!("ns-{index:04}")
}

fn pod(index: usize, size: usize, node: &str) -> Pod {
    let namespace = namespace(index % namespaces(size));
    let app = format!("app-{}", index / namespaces(size) % APPS);
    let address = u32::try_from(index).expect("few pods") + (10 << 24);
    Pod {
        key: PodKey::new(&namespace, &format!("{app}-{index}")),
        uid: format!("uid-{index}").into(),
        labels: Labels::new([
            ("app".to_owned(), app.clone()),
            ("pod-template-hash".to_owned(), format!("{:x}", index * 7919)),
            ("version".to_owned(), format!("v{}", index % 3)),
        ]),
        addresses: vec![IpAddr::V4(Ipv4Addr::from(address))],
        addresses_made_up: false,
        host_network: false,
        phase: Phase::Running,
        node: Some(node.into()),
        ports: vec![ContainerPort { name: "http".into(), transport: Transport::Tcp, port: 8080 }],
        workload: Workload { kind: "Deployment".into(), name: app.into() },
        created: None,
    }
}

fn policy(namespace_index: usize, which: usize) -> Policy {
    let app = |app: usize| json!({"matchLabels": {"app": format!("app-{app}")}});
    let spec = match which {
        0 => json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}),
        1 => json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [
            {"to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace(0)}},
                     "podSelector": app(1)}],
             "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]},
            {"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8", "169.254.169.254/32"]}}],
             "ports": [{"port": 443}]}]}),
        2 => json!({"podSelector": app(0), "ingress": [
            {"from": [{"podSelector": app(1)}, {"podSelector": app(2)}], "ports": [{"port": "http"}]},
            {"from": [{"namespaceSelector": {"matchLabels": {"team": format!("team-{}", namespace_index % TEAMS)}}}],
             "ports": [{"port": 9090}, {"port": 30000, "endPort": 30100}]}]}),
        3 => {
            json!({"podSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["app-1", "app-2"]}]},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [{"podSelector": {}}]}],
            "egress": [{"to": [{"podSelector": app(0)}], "ports": [{"port": "http"}]}]})
        }
        _ => json!({"podSelector": {}, "ingress": [
            {"from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace(1)}},
                       "podSelector": app(3)}], "ports": [{"port": 9100}]}]}),
    };
    network_policy(namespace_index, &format!("policy-{which}"), &spec)
}

fn extra_policy(namespace_index: usize, name: &str, port: usize) -> Policy {
    let spec = json!({"podSelector": {}, "ingress": [
        {"from": [{"podSelector": {"matchLabels": {"app": "app-4"}}}], "ports": [{"port": port}]}]});
    network_policy(namespace_index, name, &spec)
}

fn network_policy(namespace_index: usize, name: &str, spec: &serde_json::Value) -> Policy {
    let object = json!({"metadata": {"name": name, "namespace": namespace(namespace_index)}, "spec": spec});
    let policy = serde_json::from_value(object).expect("well formed");
    lower(&PolicyObject::NetworkPolicy(policy), None).expect("valid").policy
}
