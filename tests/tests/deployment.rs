//! The manifests that install Polder: valid, and with no right that nobody wrote down here.
#![expect(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

use std::collections::BTreeMap;
use std::path::Path;

use clap::Parser as _;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Container, PodSpec, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tests::deploy::objects;

/// The only object of a kind and name; fails on fields that the kind does not have.
fn only<T: DeserializeOwned>(file: &str, kind: &str, name: &str) -> T {
    let mut found: Vec<Value> = objects(file)
        .unwrap()
        .into_iter()
        .filter(|object| object["kind"] == kind && object["metadata"]["name"] == name)
        .collect();
    assert_eq!(found.len(), 1, "{kind} {name} in {file}");
    let mut unknown = Vec::new();
    let object = serde_ignored::deserialize(found.remove(0), |path| unknown.push(path.to_string())).unwrap();
    assert_eq!(unknown, [""; 0], "fields that a {kind} does not have");
    object
}

fn daemon_set(file: &str) -> PodSpec {
    let set: DaemonSet = only(file, "DaemonSet", "polder");
    set.spec.unwrap().template.spec.unwrap()
}

/// `name: capabilities`, in the order of starting.
fn capabilities(pod: &PodSpec) -> Vec<(String, Vec<String>)> {
    containers(pod)
        .map(|container| {
            let security = container.security_context.as_ref().unwrap();
            assert_eq!(security.privileged, Some(false), "{}", container.name);
            assert_eq!(security.allow_privilege_escalation, Some(false), "{}", container.name);
            assert_eq!(security.read_only_root_filesystem, Some(true), "{}", container.name);
            let capabilities = security.capabilities.as_ref().unwrap();
            assert_eq!(capabilities.drop.as_deref(), Some(&["ALL".to_owned()][..]), "{}", container.name);
            (container.name.clone(), capabilities.add.clone().unwrap_or_default())
        })
        .collect()
}

fn containers(pod: &PodSpec) -> impl Iterator<Item = &Container> {
    pod.init_containers.iter().flatten().chain(&pod.containers)
}

fn named(given: &[(&str, &[&str])]) -> Vec<(String, Vec<String>)> {
    let words = |words: &[&str]| words.iter().map(ToString::to_string).collect();
    given.iter().map(|(name, capabilities)| ((*name).to_owned(), words(capabilities))).collect()
}

/// `folder on the node: type, and who can write there`.
fn folders(pod: &PodSpec) -> BTreeMap<String, (String, Vec<String>)> {
    let volumes = pod.volumes.iter().flatten();
    volumes
        .map(|volume| {
            let host = volume.host_path.as_ref().unwrap();
            let writers = containers(pod).filter(|container| {
                let mut mounts = container.volume_mounts.iter().flatten();
                mounts.any(|mount| mount.name == volume.name && mount.read_only != Some(true))
            });
            let writers = writers.map(|container| container.name.clone()).collect();
            (host.path.clone(), (host.type_.clone().unwrap(), writers))
        })
        .collect()
}

fn folder(kind: &str, writers: &[&str]) -> (String, Vec<String>) {
    (kind.to_owned(), writers.iter().map(ToString::to_string).collect())
}

#[test]
fn the_agent_has_four_capabilities_and_who_looks_before_it_three() {
    let pod = daemon_set("polder.yaml");
    assert_eq!(
        capabilities(&pod),
        named(&[
            ("preflight", &["BPF", "NET_ADMIN", "PERFMON"]),
            ("agent", &["BPF", "NET_ADMIN", "NET_BROADCAST", "PERFMON"]),
        ])
    );
    let security = pod.security_context.as_ref().unwrap();
    assert_eq!(security.seccomp_profile.as_ref().unwrap().type_, "RuntimeDefault");
    assert_eq!((pod.host_network, pod.host_pid, pod.host_ipc), (Some(true), None, None));
}

#[test]
fn the_agent_writes_to_three_folders_of_the_node() {
    assert_eq!(
        folders(&daemon_set("polder.yaml")),
        BTreeMap::from([
            ("/etc/cni/net.d".to_owned(), folder("DirectoryOrCreate", &[])),
            ("/run/polder".to_owned(), folder("DirectoryOrCreate", &["agent"])),
            ("/sys/fs/bpf".to_owned(), folder("Directory", &["agent"])),
            ("/var/lib/polder".to_owned(), folder("DirectoryOrCreate", &["agent"])),
        ])
    );
}

#[test]
fn nobody_but_the_node_reaches_the_agents_pages_and_kubelet_does() {
    let pod = daemon_set("polder.yaml");
    let agent = &pod.containers[0];
    let arguments = agent.args.as_ref().unwrap();
    assert!(arguments.contains(&"--metrics=127.0.0.1:9469".to_owned()), "{arguments:?}");
    for probe in [&agent.startup_probe, &agent.liveness_probe, &agent.readiness_probe] {
        let get = probe.as_ref().unwrap().http_get.as_ref().unwrap();
        assert_eq!(get.host.as_deref(), Some("127.0.0.1"));
    }
}

#[test]
fn one_node_after_another_is_updated_and_every_node_has_an_agent_before_its_pods() {
    let set: DaemonSet = only("polder.yaml", "DaemonSet", "polder");
    let strategy = serde_json::to_value(set.spec.unwrap().update_strategy).unwrap();
    assert_eq!(
        strategy,
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}})
    );
    let pod = daemon_set("polder.yaml");
    assert_eq!(pod.priority_class_name.as_deref(), Some("system-node-critical"));
    assert_eq!(serde_json::to_value(pod.tolerations).unwrap(), json!([{"operator": "Exists"}]));
}

#[test]
fn the_proxy_is_set_up_with_eight_capabilities_in_pods_of_its_own_and_asks_no_api_server() {
    let set: DaemonSet = only("polder.yaml", "DaemonSet", "polder-proxy");
    let spec = set.spec.unwrap();
    assert_eq!(
        serde_json::to_value(spec.update_strategy).unwrap(),
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}})
    );
    let pod = spec.template.spec.unwrap();
    let all = ["BPF", "KILL", "NET_ADMIN", "NET_BIND_SERVICE", "SETGID", "SETPCAP", "SETUID", "SYS_ADMIN"];
    assert_eq!(capabilities(&pod), named(&[("proxy", &all)]));
    assert_eq!(
        folders(&pod),
        BTreeMap::from([
            ("/run/polder".to_owned(), folder("DirectoryOrCreate", &["proxy"])),
            ("/sys/fs/bpf".to_owned(), folder("Directory", &["proxy"])),
        ])
    );
    assert_eq!(pod.automount_service_account_token, Some(false));
    let drain = pod.containers[0].args.iter().flatten().find_map(|word| word.strip_prefix("--drain="));
    let drain: i64 = drain.unwrap().parse().unwrap();
    assert!(pod.termination_grace_period_seconds.unwrap() > drain, "it is left the time to drain");
}

/// `group/resources: verbs`
fn rules(role: &str) -> Vec<String> {
    let role: ClusterRole = only("polder.yaml", "ClusterRole", role);
    let rules = role.rules.unwrap().into_iter().map(|rule| {
        assert!(rule.resource_names.is_none() && rule.non_resource_urls.is_none());
        let words = |words: &Option<Vec<String>>| words.as_deref().unwrap_or_default().join(",");
        format!("{}/{}: {}", words(&rule.api_groups), words(&rule.resources), rule.verbs.join(","))
    });
    rules.collect()
}

#[test]
fn users_may_see_our_kinds_and_who_edits_a_namespace_may_write_its_own_policies_only() {
    let labels = |role: &str| {
        let role: ClusterRole = only("polder.yaml", "ClusterRole", role);
        let labels = role.metadata.labels.unwrap_or_default().into_keys();
        let to = labels.filter_map(|label| {
            Some(label.strip_prefix("rbac.authorization.k8s.io/aggregate-to-")?.to_owned())
        });
        to.collect::<Vec<_>>()
    };
    let sees = "polder.dev/poldernodes,polderpolicies,clusterpolderpolicies: get,list,watch";
    assert_eq!((labels("polder-view"), rules("polder-view")), (vec!["view".into()], vec![sees.into()]));
    let writes = "polder.dev/polderpolicies: create,update,patch,delete,deletecollection";
    assert_eq!(
        (labels("polder-edit"), rules("polder-edit")),
        (vec!["admin".into(), "edit".into()], vec![writes.into()])
    );
}

#[test]
fn the_agent_may_read_what_policies_speak_about_and_write_its_own_state() {
    assert_eq!(
        rules("polder"),
        [
            "/pods,namespaces,nodes,services: list,watch",
            "/namespaces: get",
            "discovery.k8s.io/endpointslices: list,watch",
            "networking.k8s.io/networkpolicies: list,watch",
            "policy.networking.k8s.io/clusternetworkpolicies,adminnetworkpolicies,baselineadminnetworkpolicies: \
             list,watch",
            "polder.dev/polderpolicies,clusterpolderpolicies: list,watch",
            "polder.dev/poldernodes: create,patch",
            "polder.dev/poldernodes/status: patch",
            "events.k8s.io/events: create",
        ]
    );
    let binding: ClusterRoleBinding = only("polder.yaml", "ClusterRoleBinding", "polder");
    assert_eq!(binding.role_ref.name, "polder");
    let subjects = serde_json::to_value(binding.subjects).unwrap();
    assert_eq!(subjects, json!([{"kind": "ServiceAccount", "name": "polder", "namespace": "polder"}]));
    let account: ServiceAccount = only("polder.yaml", "ServiceAccount", "polder");
    assert_eq!(account.automount_service_account_token, Some(false));
}

#[test]
fn what_takes_polder_off_a_node_asks_no_api_server_and_ends_with_nothing_to_do() {
    let pod = daemon_set("uninstall.yaml");
    assert_eq!(pod.automount_service_account_token, Some(false));
    assert_eq!(
        capabilities(&pod),
        named(&[("cni-remove", &[]), ("agent-remove", &["BPF", "NET_ADMIN", "PERFMON"]), ("done", &[])])
    );
    assert_eq!(
        folders(&pod),
        BTreeMap::from([
            ("/etc/cni/net.d".to_owned(), folder("DirectoryOrCreate", &["cni-remove"])),
            ("/opt/cni/bin".to_owned(), folder("DirectoryOrCreate", &["cni-remove"])),
            ("/run/polder".to_owned(), folder("DirectoryOrCreate", &["agent-remove"])),
            ("/sys/fs/bpf".to_owned(), folder("Directory", &["agent-remove"])),
            ("/var/lib/polder".to_owned(), folder("DirectoryOrCreate", &["agent-remove"])),
        ])
    );
}

#[test]
fn the_namespace_lets_such_pods_in_where_pod_security_is_in_force() {
    let namespaces: Vec<Value> =
        objects("polder.yaml").unwrap().into_iter().filter(|object| object["kind"] == "Namespace").collect();
    assert_eq!(namespaces.len(), 1);
    assert_eq!(namespaces[0]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"], "privileged");
}

#[test]
fn the_agent_understands_what_it_is_told() {
    let pod = daemon_set("polder.yaml");
    let arguments = |container: &Container| {
        let words = container.command.iter().flatten().chain(container.args.iter().flatten()).cloned();
        words.chain(["--node=n1".to_owned()]).collect::<Vec<_>>()
    };
    let options = agent::options::Options::try_parse_from(arguments(&pod.containers[0])).unwrap();
    assert_eq!(options.bpffs, Path::new("/bpf/polder"));
    assert_eq!(options.state, Path::new("/var/lib/polder"));
    assert_eq!(options.lists, Path::new("/run/polder/lists"));
    assert!(options.standalone.is_none() && options.kubeconfig.is_none() && !options.uninstall);
    let pod = daemon_set("uninstall.yaml");
    let remove = pod.init_containers.as_ref().unwrap().iter().find(|one| one.name == "agent-remove").unwrap();
    let options = agent::options::Options::try_parse_from(arguments(remove)).unwrap();
    assert!(options.uninstall && options.bpffs == Path::new("/bpf/polder"));
    assert_eq!(options.lists, Path::new("/run/polder/lists"));
}
