//! Who reaches whom under policy is what the oracle says, however pods and nodes are connected; what is denied does not
//! even arrive.

#![expect(clippy::unwrap_used, reason = "a helper of tests fails as a test does")]

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use netlab::{
    Cni, Family, Greeting, Host, Lab, Outcome, Outside, Pod, Probe, Server, Sniffer, Underlay,
    br_netfilter_present, reachability, root_or_skip,
};
use policy_compiler::object::PodKey;
use tests::node::{End, Expected, Polder, denied_at, manifest};

/// A second TCP port, without a name.
const OTHER: u16 = 9090;
/// How long nothing may arrive until it is taken for settled.
const QUIET: Duration = Duration::from_millis(50);
/// How often a probe that should be answered is asked, on a machine that is busy.
const ATTEMPTS: usize = 5;

/// Two nodes: `a` and `v` of `shop` on one; `b` of `shop` and `c` of `other`, labelled as `a`, on the other.
struct Cluster {
    agents: [Polder; 2],
    _servers: Vec<Server>,
    pods: [Pod; 4],
    client: Outside,
    ends: Vec<End>,
    facts: String,
    _lab: Lab,
}

impl Cluster {
    fn new(name: &str, cni: Cni, by: Underlay) -> Self {
        let lab = Lab::new(name).unwrap();
        let nodes = [lab.node(cni, 1).unwrap(), lab.node(cni, 2).unwrap()];
        lab.join(&[&nodes[0], &nodes[1]], by).unwrap();
        let pods =
            [("a", 0), ("v", 0), ("b", 1), ("c", 1)].map(|(name, node)| nodes[node].pod(name).unwrap());
        let client = lab.outside("client").unwrap();
        let mut facts = manifest::namespace("shop") + &manifest::namespace("other");
        let mut ends = Vec::new();
        for node in &nodes {
            facts += &manifest::node(node);
            // What a node sends into the tunnel to another node's pods comes from the tunnel's own address.
            let [.., number] = node.ipv4().octets();
            let asked = [node.ipv4().into(), node.ipv6().into()];
            let seen = match by {
                Underlay::Routed => asked,
                Underlay::Vxlan => [
                    IpAddr::from([10, 244, number, 0]),
                    format!("fd00:10:244:{number}::").parse::<IpAddr>().unwrap(),
                ],
            };
            let node = node.name().to_owned();
            ends.push(End { name: node.clone(), pod: None, node: Some(node), seen, asked });
        }
        for (pod, namespace, app) in [
            (&pods[0], "shop", "a"),
            (&pods[1], "shop", "v"),
            (&pods[2], "shop", "b"),
            (&pods[3], "other", "a"),
        ] {
            let addresses = [pod.ipv4().into(), pod.ipv6().into()];
            facts += &manifest::pod(namespace, pod, &format!("app: {app}"));
            ends.push(End {
                name: pod.name().to_owned(),
                pod: Some(PodKey::new(namespace, pod.name())),
                node: Some(pod.node().name().to_owned()),
                seen: addresses,
                asked: addresses,
            });
        }
        let addresses = [client.ipv4().into(), client.ipv6().into()];
        ends.push(End {
            name: client.name().to_owned(),
            pod: None,
            node: None,
            seen: addresses,
            asked: addresses,
        });
        let agents =
            nodes.each_ref().map(|node| Polder::start(node, &[("facts.yaml", facts.clone())]).unwrap());
        let mut servers = Vec::new();
        for host in pods.iter().map(|pod| pod as &dyn Host).chain([&client as &dyn Host, &nodes[0]]) {
            servers.push(Server::tcp(host, manifest::WEB, Greeting::None).unwrap());
            servers.push(Server::tcp(host, OTHER, Greeting::None).unwrap());
            servers.push(Server::udp(host, manifest::DNS).unwrap());
        }
        Self { agents, _servers: servers, pods, client, ends, facts, _lab: lab }
    }

    fn end(&self, name: &str) -> &End {
        self.ends.iter().find(|end| end.name == name).unwrap()
    }

    /// Asks every pair every probe under these policies, and gives what is not as the oracle has it.
    fn differences(&self, case: &str, policies: &str) -> Vec<String> {
        let expected =
            Expected::read(&[("facts.yaml", self.facts.clone()), ("policies.yaml", policies.to_owned())]);
        for agent in &self.agents {
            agent.apply("policies.yaml", policies).unwrap();
        }
        let mut probes = Probe::all(manifest::WEB, manifest::DNS);
        probes.extend(Family::BOTH.map(|family| Probe::Tcp(family, OTHER)));
        let sniffers: Vec<_> = self
            .pods
            .iter()
            .map(|pod| {
                let filter = denied_at(&expected, self.end(pod.name()), &self.ends, &probes);
                (pod.name(), Sniffer::at(pod, filter).unwrap())
            })
            .collect();
        let node = self.agents[0].node();
        let mut hosts: Vec<&dyn Host> = self.pods.iter().map(|pod| pod as &dyn Host).collect();
        hosts.extend([&self.client as &dyn Host, node]);
        let matrix = reachability(&hosts, &probes).unwrap();
        let mut differences = Vec::new();
        let (mut asked, mut denied) = (0, 0);
        for from in &hosts {
            for to in &hosts {
                for probe in &probes {
                    let wanted = expected.allows(self.end(from.name()), self.end(to.name()), *probe);
                    asked += 1;
                    denied += usize::from(!wanted);
                    let mut found = matrix.get(from.name(), to.name(), *probe).unwrap();
                    for _ in 1..ATTEMPTS {
                        if wanted && found != Outcome::Connected {
                            found = probe.ask(*from, *to).unwrap();
                        }
                    }
                    if wanted != (found == Outcome::Connected) {
                        let wanted = if wanted { "allowed" } else { "denied" };
                        differences.push(format!(
                            "{case}: {} -> {} {probe}: {found}, expected to be {wanted}",
                            from.name(),
                            to.name()
                        ));
                    }
                }
            }
        }
        for (pod, sniffer) in sniffers {
            let leaked = sniffer.settled(QUIET).unwrap();
            if leaked > 0 {
                differences.push(format!("{case}: LEAK {leaked} at {pod}"));
            }
        }
        assert!(case == "none" || denied > 10, "{case}: the policies deny {denied} of {asked} probes");
        println!("{case}: {asked} probes, {denied} denied, {} differences", differences.len());
        differences
    }
}

fn cases() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    let mut cases: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .map(|path| {
            (path.file_stem().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(path).unwrap())
        })
        .collect();
    cases.sort();
    assert!(cases.len() >= 6, "{} cases", cases.len());
    cases
}

fn agrees_with_the_oracle(name: &str, cni: Cni, by: Underlay) {
    let test = format!("placement {name}");
    if !root_or_skip(&test) || matches!(cni, Cni::Bridge { br_netfilter: true }) && !br_netfilter_present() {
        return;
    }
    let begun = Instant::now();
    let cluster = Cluster::new(name, cni, by);
    let mut differences = cluster.differences("none", "# no policy\n");
    for (case, policies) in cases() {
        differences.extend(cluster.differences(&case, &policies));
    }
    // The kernel still holds what is meant, after all these changes.
    for agent in &cluster.agents {
        let verification = agent.verify().unwrap();
        assert!(verification.agrees(), "{verification:?}");
    }
    println!("{name}: {:?}", begun.elapsed());
    assert!(differences.is_empty(), "{name}:\n{}", differences.join("\n"));
}

#[test]
fn bridged_pods_of_nodes_joined_by_vxlan_reach_whom_the_oracle_allows() {
    agrees_with_the_oracle("m-b0-vxlan", Cni::Bridge { br_netfilter: false }, Underlay::Vxlan);
}

#[test]
fn bridged_pods_that_pass_netfilter_of_nodes_joined_by_vxlan_reach_whom_the_oracle_allows() {
    agrees_with_the_oracle("m-b1-vxlan", Cni::Bridge { br_netfilter: true }, Underlay::Vxlan);
}

#[test]
fn bridged_pods_of_routed_nodes_reach_whom_the_oracle_allows() {
    agrees_with_the_oracle("m-b0-routed", Cni::Bridge { br_netfilter: false }, Underlay::Routed);
}

#[test]
fn bridged_pods_that_pass_netfilter_of_routed_nodes_reach_whom_the_oracle_allows() {
    agrees_with_the_oracle("m-b1-routed", Cni::Bridge { br_netfilter: true }, Underlay::Routed);
}

#[test]
fn routed_pods_of_nodes_joined_by_vxlan_reach_whom_the_oracle_allows() {
    agrees_with_the_oracle("m-r-vxlan", Cni::Routed, Underlay::Vxlan);
}

#[test]
fn routed_pods_of_routed_nodes_reach_whom_the_oracle_allows() {
    agrees_with_the_oracle("m-r-routed", Cni::Routed, Underlay::Routed);
}
