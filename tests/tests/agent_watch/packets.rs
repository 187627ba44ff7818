//! What the API server holds is what packets meet.

use std::time::{Duration, Instant};

use agent_api::status::EndpointState;
use netlab::{Cni, Greeting, Host, Lab, Node, Pod, Server, root_or_skip};
use serde_json::json;

use super::agent::Agent;
use super::cluster::Cluster;
use super::outages::is_saved;
use super::{WEB, connects, only_from};

/// A node with a victim, a friend of its and an attacker, all known to an API server.
pub(crate) struct Scene {
    pub agent: Agent,
    pub cluster: Cluster,
    pub friend: Pod,
    pub attacker: Pod,
    pub victim: Pod,
    _server: Server,
    pub node: Node,
    _lab: Lab,
}

impl Scene {
    /// Makes one, if this machine can; the agent runs, and the victim's policy is in force.
    pub(crate) fn start_or_skip(name: &str) -> Option<Self> {
        if !root_or_skip(name) {
            return None;
        }
        let cluster = Cluster::start_or_skip(name)?;
        let lab = Lab::new(name).unwrap();
        let node = lab.node(Cni::Bridge { br_netfilter: false }, 1).unwrap();
        let [friend, attacker, victim] = ["a", "b", "v"].map(|name| node.pod(name).unwrap());
        let server = Server::tcp(&victim, WEB, Greeting::None).unwrap();
        cluster.namespace("shop").unwrap();
        cluster.node(node.name(), &[node.ipv4().to_string(), node.ipv6().to_string()]).unwrap();
        for pod in [&friend, &attacker, &victim] {
            cluster.pod(pod.name(), pod.name(), node.name(), &addresses(pod)).unwrap();
        }
        cluster.policy("victim", &only_from("v", "a")).unwrap();
        let mut agent = Agent::prepare(&node, &cluster).unwrap();
        agent.start().unwrap();
        let scene = Self { agent, cluster, friend, attacker, victim, _server: server, node, _lab: lab };
        scene.is_enforced(3);
        Some(scene)
    }

    /// Waits until the agent is ready and enforces so many pods.
    pub(crate) fn is_enforced(&self, pods: usize) {
        let enforced = |status: &agent_api::status::Status| {
            status.endpoints.iter().filter(|one| one.state == EndpointState::Enforced).count() == pods
        };
        self.agent.until("all is enforced", |status| status.ready && enforced(status)).unwrap();
    }

    /// Waits until the attacker can or cannot.
    pub(crate) fn attacker_connects(&self, expected: bool, within: Duration) -> Duration {
        self.becomes(&self.attacker, expected, within)
    }

    /// Waits until the friend can or cannot.
    pub(crate) fn friend_connects(&self, expected: bool, within: Duration) -> Duration {
        self.becomes(&self.friend, expected, within)
    }

    fn becomes(&self, from: &Pod, expected: bool, within: Duration) -> Duration {
        let begun = Instant::now();
        while connects(from, &self.victim) != expected {
            assert!(begun.elapsed() < within, "{}: expected {expected}\n{}", from.name(), self.agent.log());
        }
        begun.elapsed()
    }
}

/// A pod's addresses.
pub(crate) fn addresses(pod: &Pod) -> [String; 2] {
    [pod.ipv4().to_string(), pod.ipv6().to_string()]
}

#[test]
fn policies_pods_and_labels_of_an_api_server_are_what_packets_meet() {
    let Some(scene) = Scene::start_or_skip("aw-packets") else { return };
    assert!(connects(&scene.friend, &scene.victim));
    assert!(!connects(&scene.attacker, &scene.victim));
    let deleted = Instant::now();
    scene.cluster.delete_policy("victim").unwrap();
    scene.attacker_connects(true, Duration::from_secs(5));
    println!("open {:?} after the policy was deleted", deleted.elapsed());
    scene.cluster.policy("victim", &only_from("v", "b")).unwrap();
    scene.is_enforced(3);
    // Replaced is deleted and made anew: for a moment all can.
    scene.friend_connects(false, Duration::from_secs(5));
    scene.attacker_connects(true, Duration::from_secs(5));

    // A pod's address passes to another pod, of other labels.
    scene.cluster.delete_pod("b").unwrap();
    scene.cluster.pod("c", "c", scene.node.name(), &addresses(&scene.attacker)).unwrap();
    scene
        .agent
        .until("the new pod is known", |status| {
            status.endpoints.iter().any(|one| one.pod.as_deref() == Some("shop/c"))
        })
        .unwrap();
    scene.attacker_connects(false, Duration::from_secs(5));

    // The agent's own account of it is the same world.
    let world = scene.agent.client().unwrap().world().unwrap();
    let names: Vec<_> = world.iter().map(|document| document.name.as_str()).collect();
    assert_eq!(names, ["NetworkPolicy/shop/victim.json", "facts/0001.json"]);
    let parsed = manifests::parse::parse(&world[1].name, world[1].text.as_bytes());
    assert_eq!(parsed.problems, []);
    assert!(parsed.objects.iter().any(|object| object.object.to_string() == "Pod shop/c"));
    let verification = scene.agent.client().unwrap().verify().unwrap();
    assert_eq!((verification.differences.len(), verification.disagreements.len()), (0, 0));
}

#[test]
fn k17_a_namespace_being_deleted_keeps_its_policies_while_it_has_pods_even_over_a_restart() {
    let Some(mut scene) = Scene::start_or_skip("aw-k17") else { return };
    // No controller empties the namespace here: this is the order in which it does.
    let namespaces: kube::Api<k8s_openapi::api::core::v1::Namespace> =
        kube::Api::all(scene.cluster.client.clone());
    scene.cluster.runtime.block_on(namespaces.delete("shop", &kube::api::DeleteParams::default())).unwrap();
    scene.cluster.delete_policy("victim").unwrap();
    std::thread::sleep(Duration::from_secs(1));
    assert!(!connects(&scene.attacker, &scene.victim), "its policy was let go before its pods were gone");
    assert!(connects(&scene.friend, &scene.victim));
    is_saved(&scene, "\"standing\":\"retained\"");
    scene.agent.start().unwrap();
    scene.is_enforced(3);
    assert!(!connects(&scene.attacker, &scene.victim), "its policy was let go by the restart");
    assert!(connects(&scene.friend, &scene.victim));
}

#[test]
fn a_policy_that_cannot_be_understood_closes_and_is_told_of() {
    let Some(scene) = Scene::start_or_skip("aw-refused") else { return };
    // This server takes a prefix with a leading zero; what it means is not agreed upon.
    let odd = json!({
        "podSelector": {"matchLabels": {"app": "v"}}, "policyTypes": ["Ingress"],
        "ingress": [{"from": [{"ipBlock": {"cidr": "010.0.0.0/8"}}]}],
    });
    scene.cluster.delete_policy("victim").unwrap();
    scene.attacker_connects(true, Duration::from_secs(5));
    scene.cluster.policy("odd", &odd).unwrap();
    scene.attacker_connects(false, Duration::from_secs(5));
    assert!(!connects(&scene.friend, &scene.victim), "closed for all");
    let status = scene.agent.status().unwrap();
    assert!(status.ready, "one bad policy is no reason to be restarted: {:?}", status.reasons);
    let said: Vec<_> = status.problems.iter().filter(|problem| problem.starts_with("refused: ")).collect();
    assert_eq!(said.len(), 1, "{:?}", status.problems);
    assert!(
        said[0].contains("shop/odd") && said[0].ends_with("the pods that it may select are closed"),
        "{said:?}"
    );
}
