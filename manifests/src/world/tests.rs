//! Clusters of manifests.

use std::fmt::Write;

use datapath::abi::Transport;
use policy_compiler::facts::{ContainerPort, Phase, Workload};
use policy_compiler::labels::Labels;

use super::*;
use crate::parse::parse;

fn loaded(text: &str) -> Loaded {
    let loaded = Loaded::gather([parse("f.yaml", text.as_bytes())]);
    assert_eq!(loaded.problems, []);
    loaded
}

fn world(text: &str) -> World {
    loaded(text).world()
}

/// Pods with their workloads.
fn workloads(text: &str) -> Vec<String> {
    let world = world(text);
    let pods = world.cluster.pods.values();
    pods.map(|pod| format!("{} of {} {}", pod.key, pod.workload.kind, pod.workload.name)).collect()
}

fn owned(kind: &str, name: &str, owner_kind: &str, owner: &str) -> String {
    let version = match kind {
        "Pod" => "v1",
        "Job" | "CronJob" => "batch/v1",
        _ => "apps/v1",
    };
    let owners = match owner {
        "" => String::new(),
        owner => format!(", ownerReferences: [{{kind: {owner_kind}, name: {owner}, controller: true}}]"),
    };
    let spec = match kind {
        "Pod" => "{}",
        "CronJob" => "{jobTemplate: {spec: {template: {}}}}",
        _ => "{template: {}}",
    };
    format!(
        "---\n{{apiVersion: {version}, kind: {kind}, metadata: {{name: {name}{owners}}}, spec: {spec}}}\n"
    )
}

const DEPLOYMENT: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: prod, labels: {not: these}}
spec:
  replicas: 3
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - ports:
        - {name: http, containerPort: 8080}
        - {name: high, containerPort: 80800}
";

#[test]
fn a_workload_without_pods_has_one_that_stands_for_them() {
    let world = world(DEPLOYMENT);
    let key = PodKey::new("prod", "web");
    let pod = world.cluster.pods.get(&key).unwrap();
    let expected = Pod {
        key: key.clone(),
        uid: "".into(),
        labels: Labels::new([("app", "web")]),
        addresses: pod.addresses.clone(),
        addresses_made_up: true,
        host_network: false,
        phase: Phase::Running,
        node: None,
        ports: vec![ContainerPort { name: "http".into(), transport: Transport::Tcp, port: 8080 }],
        workload: Workload { kind: "Deployment".into(), name: "web".into() },
        created: None,
    };
    assert_eq!(**pod, expected);
    assert_eq!(pod.addresses.len(), 1);
    assert_eq!(world.replicas, BTreeMap::from([(key, Replicas::Number(3))]));
    let problems: Vec<_> = world.problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        problems,
        ["f.yaml:12: Deployment prod/web: spec.template.spec.containers[0].ports[1].containerPort: \
          port 80800 is out of range, left out; expected a port from 1 to 65535"]
    );
}

#[test]
fn a_workload_with_pods_or_with_an_owner_in_the_input_has_no_stand_in() {
    let deployment = owned("Deployment", "web", "", "");
    let set = owned("ReplicaSet", "web-1", "Deployment", "web");
    let pod = owned("Pod", "web-1-x", "ReplicaSet", "web-1");
    assert_eq!(workloads(&deployment), ["default/web of Deployment web"]);
    assert_eq!(workloads(&format!("{deployment}{set}")), ["default/web of Deployment web"]);
    assert_eq!(workloads(&format!("{deployment}{set}{pod}")), ["default/web-1-x of Deployment web"]);
    assert_eq!(workloads(&set), ["default/web-1 of Deployment web"]);
    assert_eq!(workloads(&format!("{set}{pod}")), ["default/web-1-x of Deployment web"]);
    assert_eq!(workloads(&pod), ["default/web-1-x of ReplicaSet web-1"]);
}

#[test]
fn a_pod_of_a_cron_job_belongs_to_it_if_the_job_says_so() {
    let cron = owned("CronJob", "backup", "", "");
    let job = owned("Job", "backup-28", "CronJob", "backup");
    let pod = owned("Pod", "backup-28-x", "Job", "backup-28");
    assert_eq!(workloads(&cron), ["default/backup of CronJob backup"]);
    assert_eq!(workloads(&format!("{cron}{job}{pod}")), ["default/backup-28-x of CronJob backup"]);
    assert_eq!(workloads(&pod), ["default/backup-28-x of Job backup-28"]);
}

#[test]
fn a_workload_whose_pods_are_all_finished_has_a_stand_in_beside_them() {
    let cron = owned("CronJob", "backup", "", "");
    let job = owned("Job", "backup-28", "CronJob", "backup");
    let pod = |name: &str, phase: &str| {
        let pod = owned("Pod", name, "Job", "backup-28");
        pod.replace("spec: {}", &format!("spec: {{}}, status: {{phase: {phase}}}"))
    };
    for phase in ["Succeeded", "Failed"] {
        // The finished pod has the name that the stand-in would have.
        let finished = pod("backup", phase);
        assert_eq!(
            workloads(&format!("{cron}{job}{finished}")),
            ["default/backup of CronJob backup", "default/backup-cronjob of CronJob backup"]
        );
        assert_eq!(
            workloads(&format!("{}{finished}", owned("Job", "backup-28", "", ""))),
            ["default/backup of Job backup-28", "default/backup-28 of Job backup-28"]
        );
        let pending = pod("backup-29-x", "Pending");
        assert_eq!(
            workloads(&format!("{cron}{job}{finished}{pending}")),
            ["default/backup of CronJob backup", "default/backup-29-x of CronJob backup"]
        );
    }
}

#[test]
fn an_owner_without_the_controller_flag_will_do() {
    let set = owned("StatefulSet", "db", "", "");
    let pod = owned("Pod", "db-0", "StatefulSet", "db").replace(", controller: true", "");
    assert_eq!(workloads(&format!("{set}{pod}")), ["default/db-0 of StatefulSet db"]);
}

#[test]
fn stand_ins_of_one_name_are_told_apart() {
    let text = ["Pod", "StatefulSet", "Deployment"].map(|kind| owned(kind, "web", "", "")).concat();
    assert_eq!(
        workloads(&text),
        [
            "default/web of Pod web",
            "default/web-deployment of Deployment web",
            "default/web-statefulset of StatefulSet web",
        ]
    );
}

#[test]
fn made_up_addresses_are_in_no_prefix_that_a_policy_names_and_do_not_depend_on_the_order() {
    let policy = "\
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: n1}, spec: {podSelector: {}, egress: [
  {to: [{ipBlock: {cidr: 0.0.0.0/0, except: [240.0.0.0/4, 10.0.0.0/8]}}]}]}}
";
    let node = "{apiVersion: v1, kind: Node, metadata: {name: n1}, status: {addresses: [{type: InternalIP, address: fd00::1}]}}";
    let mut documents = vec![policy.to_owned(), node.to_owned()];
    documents.extend((0..50).map(|number| owned("Pod", &format!("p{number}"), "", "")));
    let forwards = world(&documents.join("\n---\n"));
    documents.reverse();
    assert_eq!(forwards.cluster, world(&documents.join("\n---\n")).cluster);

    let pools = ["198.18.0.0/15", "fd00:706f:6c64::/48"].map(|net| net.parse::<IpNet>().unwrap());
    let mut all = BTreeSet::new();
    for pod in forwards.cluster.pods.values() {
        assert!(pod.addresses_made_up);
        assert_eq!(pod.addresses.len(), 2, "{}", pod.key);
        assert!(pod.addresses.iter().zip(pools).all(|(address, pool)| pool.contains(address)));
        all.extend(pod.addresses.iter().copied());
    }
    assert_eq!(all.len(), 100);
}

#[test]
fn policies_that_name_everything_are_warned_about() {
    let text = "\
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: n1}, spec: {podSelector: {}, egress: [
  {to: [{ipBlock: {cidr: 0.0.0.0/1}}, {ipBlock: {cidr: 128.0.0.0/1}}]}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: p}}
";
    let problems: Vec<_> =
        world(text).problems.iter().map(|problem| (problem.severity, problem.id)).collect();
    assert_eq!(problems, [(Severity::Warning, MADE_UP_ADDRESSES)]);
}

#[test]
fn pods_that_own_no_address_get_none() {
    let mut text = String::new();
    for (name, spec, status) in [
        ("live", "{}", "{phase: Running, podIPs: [{ip: 10.0.0.1}]}"),
        ("done", "{}", "{phase: Succeeded}"),
        ("host", "{hostNetwork: true}", "{phase: Running}"),
        ("bare", "{}", "null"),
    ] {
        let _ = write!(
            text,
            "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {spec}, status: {status}}}\n"
        );
    }
    let world = world(&text);
    let found: Vec<_> = world
        .cluster
        .pods
        .values()
        .map(|pod| (&*pod.key.name, pod.addresses.len(), pod.addresses_made_up))
        .collect();
    assert_eq!(found, [("bare", 1, true), ("done", 0, false), ("host", 0, false), ("live", 1, false)]);
}
