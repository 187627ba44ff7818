//! Service addresses of all sorts: who is judged is the pod that sends, and the pod that answers.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Node, Service};
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::bed::{Bed, PATIENCE, only, only_friends, within};

/// How long a policy may take to be in force.
const IN_FORCE: Duration = Duration::from_secs(2);
/// How long it is watched that nothing is let through.
const WATCHED: Duration = Duration::from_secs(2);
const ECHO: u16 = 7000;
/// An external address of a service: kube-proxy takes it on every node, and nobody else has it.
const EXTERNAL: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);

/// A service of the pods with `app: server`; the rest of its spec is given.
async fn service(bed: &Bed, name: &str, mut spec: Value) -> Service {
    let services: Api<Service> = Api::namespaced(bed.client.clone(), &bed.namespace);
    spec["selector"] = json!({"app": "server"});
    spec["ports"] = json!([{"port": 80, "targetPort": ECHO}]);
    let object = json!({"metadata": {"name": name}, "spec": spec});
    services.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap()
}

/// Its address in the cluster.
fn cluster_address(service: &Service) -> SocketAddr {
    let address = service.spec.as_ref().and_then(|spec| spec.cluster_ip.clone()).unwrap();
    SocketAddr::from((address.parse::<IpAddr>().unwrap(), 80))
}

/// Its port on each node.
fn node_port(service: &Service) -> u16 {
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.clone()).unwrap();
    ports[0].node_port.unwrap().try_into().unwrap()
}

impl Bed {
    /// A policy's spec: only a node reaches the `server`. Through an overlay its packets to pods of other nodes carry the
    /// address of its tunnel device, which is the first of its pods' network.
    async fn only_node(&self, name: &str) -> Value {
        let node = Api::<Node>::all(self.client.clone()).get(name).await.unwrap();
        let pods = node.spec.and_then(|spec| spec.pod_cidr).unwrap();
        let (tunnel, _) = pods.split_once('/').unwrap();
        let (_, own) = self.cluster.nodes().into_iter().find(|(node, _)| node == name).unwrap();
        let block = |address: &str| json!({"ipBlock": {"cidr": format!("{address}/32")}});
        only(&json!([block(&own.to_string()), block(tunnel)]))
    }
}

#[tokio::test]
async fn a_service_is_judged_by_the_backend_that_is_behind_it() {
    let Some(bed) = Bed::new("service").await else { return };
    let [near, far, friend, other] = bed
        .run([
            ("near", "server", "n1"),
            ("far", "server", "n2"),
            ("friend", "friend", "n1"),
            ("other", "other", "n1"),
        ])
        .await;
    let _echoes = [near.inside.echo(ECHO), far.inside.echo(ECHO)];
    let service = cluster_address(&service(&bed, "server", json!({})).await);
    within("the service reachable", PATIENCE, async || other.inside.connects(service).then_some(())).await;
    bed.policy("friends", &json!({
        "podSelector": {"matchLabels": {"app": "server"}},
        "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "friend"}}}], "ports": [{"port": ECHO}]}],
    }))
    .await;
    bed.policy("outbound", &json!({
        "podSelector": {"matchLabels": {"app": "friend"}},
        "policyTypes": ["Egress"],
        "egress": [{"to": [{"podSelector": {"matchLabels": {"app": "server"}}}], "ports": [{"port": ECHO}]}],
    }))
    .await;
    sleep(IN_FORCE).await;
    for round in 0..8 {
        assert!(friend.inside.connects(service), "friend, round {round}");
    }
    let watched = Instant::now();
    while watched.elapsed() < WATCHED {
        assert!(!other.inside.connects(service), "other");
    }
}

#[tokio::test]
async fn whoever_comes_by_a_node_port_or_an_external_address_is_who_it_is() {
    let Some(bed) = Bed::new("node_ports").await else { return };
    let pods = [
        ("server", "server", "n1"),
        ("friend", "friend", "n1"),
        ("other", "other", "n1"),
        ("far-friend", "friend", "n2"),
        ("far-other", "other", "n2"),
    ];
    let [server, friend, other, far_friend, far_other] = bed.run(pods).await;
    let _echo = server.inside.echo(ECHO);
    let everywhere =
        service(&bed, "everywhere", json!({"type": "NodePort", "externalIPs": [EXTERNAL]})).await;
    let local = service(&bed, "local", json!({"type": "NodePort", "externalTrafficPolicy": "Local"})).await;
    let nodes: Vec<Ipv4Addr> = bed.cluster.nodes().into_iter().map(|(_, address)| address).collect();
    let at = |node: usize, service: &Service| SocketAddr::from((nodes[node], node_port(service)));
    let (here, there) = (at(0, &everywhere), at(1, &everywhere));
    let (here_local, external) = (at(0, &local), SocketAddr::from((EXTERNAL, 80)));
    let of_outside = |to: SocketAddr| TcpStream::connect_timeout(&to, Duration::from_millis(700)).is_ok();
    // Before there is any policy all of it works, or nothing below would prove anything.
    for (what, to) in [("here", here), ("there", there), ("local", here_local), ("external", external)] {
        for client in [&other, &far_other] {
            within(&format!("{}: {what}", client.name), PATIENCE, async || {
                client.inside.connects(to).then_some(())
            })
            .await;
        }
        if to != external {
            within(&format!("outside: {what}"), PATIENCE, async || of_outside(to).then_some(())).await;
        }
    }

    bed.policy("server", &only_friends()).await;
    sleep(IN_FORCE).await;
    assert!(far_friend.inside.connects(server.at(ECHO)));
    for to in [here, there, here_local, external] {
        for client in [&other, &far_other] {
            assert!(!client.inside.connects(to), "{} at {to}", client.name);
        }
        assert!(to == external || !of_outside(to), "a client outside at {to}");
    }
    // On its own node a pod is known whatever its packets are made to look like.
    for to in [here, here_local, external] {
        assert!(friend.inside.connects(to), "friend at {to}");
    }

    // A client outside keeps its address only where the service says so, or where no node has to hide it.
    bed.policy("server", &only(&json!([{"ipBlock": {"cidr": "10.89.0.1/32"}}]))).await;
    sleep(IN_FORCE).await;
    assert!(of_outside(here_local), "a client outside, by its own address");
    assert!(!of_outside(there), "by the address of the node that sends it on");
    for client in [&other, &far_other] {
        assert!(!client.inside.connects(here_local), "{}", client.name);
    }
    bed.policy("server", &bed.only_node("n2").await).await;
    sleep(IN_FORCE).await;
    assert!(of_outside(there), "by the address of the node that sends it on");
    assert!(!of_outside(here_local), "by its own address");
}

#[tokio::test]
async fn a_pod_always_reaches_itself_also_through_its_service() {
    let Some(bed) = Bed::new("hairpin").await else { return };
    let [server, other] = bed.run([("server", "server", "n1"), ("other", "other", "n1")]).await;
    let _echo = server.inside.echo(ECHO);
    let address = cluster_address(&service(&bed, "server", json!({})).await);
    within("itself by its service", PATIENCE, async || server.inside.connects(address).then_some(())).await;
    bed.policy("closed", &json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})).await;
    sleep(IN_FORCE).await;
    assert!(server.inside.connects(server.at(ECHO)), "its own address needs no network");
    assert!(server.inside.connects(address), "its own service");
    assert!(!other.inside.connects(address));
}

#[tokio::test]
async fn a_pod_of_the_nodes_network_is_its_node() {
    let Some(bed) = Bed::new("host_network").await else { return };
    let [server] = bed.run([("server", "server", "n1")]).await;
    for (name, node) in [("here", "n1"), ("there", "n2")] {
        // With the label of a friend: its packets are the node's all the same.
        bed.create_on_host(name, "friend", node).await;
    }
    let (here, there) = (bed.running("here").await, bed.running("there").await);
    let _echoes = [server.inside.echo(ECHO), there.inside.echo(ECHO + 1)];
    bed.policy("server", &only_friends()).await;
    sleep(IN_FORCE).await;
    assert!(here.inside.connects(server.at(ECHO)), "its own node always reaches a pod");
    assert!(!there.inside.connects(server.at(ECHO)), "another node is no pod");
    bed.policy("server", &bed.only_node("n2").await).await;
    sleep(IN_FORCE).await;
    assert!(there.inside.connects(server.at(ECHO)), "by its node's address");
    // And the other way round.
    assert!(server.inside.connects(there.at(ECHO + 1)));
    let to = |peer: Value| json!({"podSelector": {"matchLabels": {"app": "server"}}, "policyTypes": ["Egress"], "egress": [{"to": [peer]}]});
    bed.policy("outbound", &to(json!({"podSelector": {"matchLabels": {"app": "friend"}}}))).await;
    sleep(IN_FORCE).await;
    assert!(!server.inside.connects(there.at(ECHO + 1)), "a label says nothing of a node");
    bed.policy("outbound", &to(json!({"ipBlock": {"cidr": format!("{}/32", there.address)}}))).await;
    sleep(IN_FORCE).await;
    assert!(server.inside.connects(there.at(ECHO + 1)));
}
