use std::collections::BTreeMap;

use policy_compiler::facts::{Namespace, Node, Workload};
use policy_compiler::labels::Labels;

use super::*;

fn pod(cluster: &mut Cluster, name: &str, workload: (&str, &str), address: &str) {
    let (namespace, name) = name.split_once('/').unwrap();
    let key = PodKey::new(namespace, name);
    let pod = Pod {
        key: key.clone(),
        uid: "".into(),
        labels: Labels::new([("app", workload.1)]),
        addresses: vec![address.parse().unwrap()],
        addresses_made_up: false,
        host_network: false,
        phase: Phase::Running,
        node: None,
        ports: Vec::new(),
        workload: Workload { kind: workload.0.into(), name: workload.1.into() },
        created: None,
    };
    cluster.pods.insert(key, Arc::new(pod));
}

fn service(cluster: &mut Cluster, namespace: &str, name: &str, app: &str, address: &str) {
    let service = Service {
        namespace: namespace.into(),
        name: name.into(),
        selector: Some(BTreeMap::from([("app".into(), app.into())])),
        addresses: [address.parse().unwrap()].into(),
        ports: Vec::new(),
    };
    cluster.services.insert((namespace.into(), name.into()), Arc::new(service));
}

/// Deployment `prod/web` with two pods and a service of its name; `web` in test too; `db` only in prod; `svc` and
/// `deploy` as names of namespaces; node `n1`.
fn cluster() -> Cluster {
    let mut cluster = Cluster::default();
    for name in ["prod", "test", "deploy"] {
        cluster.namespaces.insert(name.into(), Arc::new(Namespace::new(name, [], false)));
    }
    pod(&mut cluster, "prod/web-1", ("Deployment", "web"), "10.0.0.1");
    pod(&mut cluster, "prod/web-2", ("Deployment", "web"), "10.0.0.2");
    pod(&mut cluster, "prod/db", ("Pod", "db"), "10.0.0.3");
    pod(&mut cluster, "prod/both-1", ("Deployment", "both"), "10.0.0.4");
    pod(&mut cluster, "prod/both-2", ("StatefulSet", "both"), "10.0.0.5");
    pod(&mut cluster, "test/web", ("Deployment", "web"), "10.0.1.1");
    pod(&mut cluster, "deploy/x", ("Pod", "x"), "10.0.2.1");
    service(&mut cluster, "prod", "web", "web", "10.96.0.1");
    service(&mut cluster, "prod", "db", "web", "10.96.0.2");
    service(&mut cluster, "prod", "front", "web", "10.96.0.3");
    let addresses = ["192.168.0.1".parse().unwrap()].into();
    let node = Node { name: "n1".into(), labels: Labels::new::<&str, &str>([]), addresses };
    cluster.nodes.insert("n1".into(), Arc::new(node));
    cluster
}

/// What a name means, in a line; its notes; or the error.
fn said(text: &str, namespace: &str) -> (String, Vec<String>) {
    match find(&cluster(), text, namespace) {
        Err(error) => (format!("error: {error}"), Vec::new()),
        Ok(found) => {
            let meant = match found.meant {
                Meant::Pods { name, pods } => {
                    let pods: Vec<_> = pods.iter().map(ToString::to_string).collect();
                    format!("{name} = {}", pods.join(" "))
                }
                Meant::Service(service) => format!("service {}/{}", service.namespace, service.name),
                Meant::Addresses { name, addresses } => format!("{name} = {addresses:?}"),
            };
            (meant, found.notes)
        }
    }
}

#[test]
fn a_name_is_a_pod_then_a_workload_then_a_service_then_a_node() {
    for (text, namespace, meant) in [
        ("prod/web-1", "default", "pod prod/web-1 = prod/web-1"),
        ("prod/web", "default", "Deployment prod/web = prod/web-1 prod/web-2"),
        ("web", "prod", "Deployment prod/web = prod/web-1 prod/web-2"),
        ("web", "test", "Deployment test/web = test/web"),
        ("front", "prod", "service prod/front"),
        ("n1", "prod", "node n1 = [192.168.0.1]"),
        ("deploy/web", "prod", "Deployment prod/web = prod/web-1 prod/web-2"),
        ("po/web-1", "prod", "pod prod/web-1 = prod/web-1"),
        ("SVC/web", "prod", "service prod/web"),
        ("no/n1", "prod", "node n1 = [192.168.0.1]"),
        ("prod/sts/both", "default", "StatefulSet prod/both = prod/both-2"),
        ("10.1.1.1", "prod", "10.1.1.1 = [10.1.1.1]"),
        ("fd00::1", "prod", "fd00::1 = [fd00::1]"),
    ] {
        assert_eq!(
            said(text, namespace),
            (
                meant.to_owned(),
                if text.starts_with("deploy/") {
                    vec![
                        "deploy/web is read as a type and a name; for namespace deploy, write deploy/pod/web"
                            .to_owned(),
                    ]
                } else {
                    Vec::new()
                }
            ),
            "{text}"
        );
    }
}

#[test]
fn what_else_a_name_could_mean_is_said() {
    assert_eq!(said("prod/db", "x").1, ["prod/db is also a service: prod/svc/db"]);
    assert_eq!(
        said("10.96.0.3", "x"),
        ("service prod/front".to_owned(), vec!["10.96.0.3 is an address of service prod/front".to_owned()])
    );
    assert_eq!(said("db", "default").1[0], "db is taken from namespace prod: namespace default has none");
}

#[test]
fn a_name_that_means_nothing_or_too_much_is_an_error_that_says_what_would_do() {
    for (text, error) in [
        ("web", "web is in several namespaces, and not in default; expected one of prod/web, test/web"),
        ("prod/wbe", "nothing is called wbe in prod; did you mean prod/web or prod/db?"),
        (
            "frnt",
            "nothing is called frnt in default or any other namespace; expected a pod, workload, service, node or address",
        ),
        (
            "prod/both",
            "both is more than one workload; expected one of prod/deployment/both, prod/statefulset/both",
        ),
        ("a/b/c/d", "a/b/c/d names nothing; expected NAMESPACE/NAME, TYPE/NAME or an address"),
        ("", " names nothing; expected NAMESPACE/NAME, TYPE/NAME or an address"),
        ("prod/x/y", "x is not a type; expected pod, deployment, service or another of kubectl's"),
    ] {
        assert_eq!(said(text, "default").0, format!("error: {error}"), "{text}");
    }
    let (error, _) = said("prod/\u{1b}[2J", "default");
    assert!(!error.contains('\u{1b}'), "{error:?}");
}

#[test]
fn an_ipv4_mapped_address_is_the_ipv4_address() {
    for (mapped, plain) in [
        ("::ffff:10.0.0.2", "10.0.0.2"),
        ("::ffff:a00:2", "10.0.0.2"),
        ("::ffff:10.96.0.3", "10.96.0.3"),
        ("::ffff:1.1.1.1", "1.1.1.1"),
    ] {
        assert_eq!(said(mapped, "prod"), said(plain, "prod"), "{mapped}");
    }
    assert_eq!(said("::10.0.0.2", "prod").0, "::a00:2 = [::a00:2]");
}
