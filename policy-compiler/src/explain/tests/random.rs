//! Random situations: the walk leads to the verdict, and every change works when it is made as it is written.

use datapath::abi::Transport;
use datapath::verdict::Verdict;
use serde_json::{Value, json};

use super::fixture::{World, cluster_policy, named, network_policy, tcp};
use crate::explain::{Outcome, Protocol, Side, explain};

/// Splitmix64: the same situations in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        let index = self.roll(of.len() as u64);
        of[usize::try_from(index).unwrap()].clone()
    }

    fn some<T>(&mut self, most: u64, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.roll(most + 1)).map(|_| make(self)).collect()
    }

    fn selector(&mut self) -> Value {
        match self.roll(5) {
            0 => json!({}),
            1 | 2 => json!({"matchLabels": {self.pick(&["k", "l"]): self.pick(&["v", "w"])}}),
            3 => json!({"matchLabels": {"k": self.pick(&["v", "w"]), "l": "v"}}),
            _ => {
                let (key, operator) = (self.pick(&["k", "l"]), self.pick(&["Exists", "DoesNotExist"]));
                json!({"matchExpressions": [{"key": key, "operator": operator}]})
            }
        }
    }

    fn cidr(&mut self) -> &'static str {
        self.pick(&["10.0.0.0/30", "10.0.0.0/8", "10.0.0.4/32", "0.0.0.0/0", "192.168.0.0/16"])
    }

    fn peer(&mut self) -> Value {
        match self.roll(4) {
            0 => json!({"podSelector": self.selector()}),
            1 => json!({"namespaceSelector": self.selector()}),
            2 => json!({"namespaceSelector": self.selector(), "podSelector": self.selector()}),
            _ => json!({"ipBlock": {"cidr": self.cidr()}}),
        }
    }

    fn port(&mut self) -> Value {
        match self.roll(4) {
            0 => json!({"port": "web"}),
            1 => json!({"protocol": "UDP"}),
            2 => json!({"port": 79, "endPort": 81}),
            _ => json!({"port": self.pick(&[80, 443])}),
        }
    }

    fn network_policy(&mut self, number: usize) -> Value {
        let rule = |dice: &mut Self, peers: &str| json!({peers: dice.some(2, Self::peer), "ports": dice.some(2, Self::port)});
        let ingress = self.some(2, |dice| rule(dice, "from"));
        let egress = self.some(2, |dice| rule(dice, "to"));
        let types = self.pick(&[json!(["Ingress"]), json!(["Egress"]), json!(["Ingress", "Egress"])]);
        let name = format!("{}/p{number}", self.pick(&["a", "b"]));
        let selector = self.selector();
        network_policy(
            &name,
            json!({"podSelector": selector, "policyTypes": types, "ingress": ingress, "egress": egress}),
        )
    }

    /// A rule of either kind of cluster-wide policy.
    fn cluster_rule(&mut self, ingress: bool, cluster: bool, baseline: bool) -> Value {
        let allow = if cluster { "Accept" } else { "Allow" };
        let actions =
            if baseline && !cluster { &[allow, "Deny", "Deny"][..] } else { &[allow, "Deny", "Pass"] };
        let pods = json!({"pods": {"namespaceSelector": self.selector(), "podSelector": self.selector()}});
        let mut is_pods = true;
        let peer = match self.roll(if ingress { 2 } else { 4 }) {
            0 => json!({"namespaces": self.selector()}),
            1 => pods,
            2 => {
                is_pods = false;
                json!({"networks": [self.cidr()]})
            }
            _ => {
                is_pods = false;
                json!({"nodes": {}})
            }
        };
        let port = match (self.roll(3), cluster) {
            (0, true) if is_pods => json!({"destinationNamedPort": "web"}),
            (0, false) if is_pods => json!({"namedPort": "web"}),
            (_, true) => json!({"tcp": {"destinationPort": {"number": 80}}}),
            (_, false) => json!({"portNumber": {"port": 80, "protocol": "TCP"}}),
        };
        let mut rule = json!({"action": self.pick(actions), if ingress { "from" } else { "to" }: [peer]});
        if self.roll(2) == 0 {
            rule[if cluster { "protocols" } else { "ports" }] = json!([port]);
        }
        rule
    }

    fn cluster_policy(&mut self, number: usize) -> Value {
        let baseline = self.roll(2) == 0;
        let cluster = self.roll(2) == 0;
        let ingress = self.some(2, |dice| dice.cluster_rule(true, cluster, baseline));
        let egress = self.some(2, |dice| dice.cluster_rule(false, cluster, baseline));
        let subject = if self.roll(2) == 0 {
            json!({"namespaces": {}})
        } else {
            json!({"namespaces": self.selector()})
        };
        let spec = json!({"subject": subject, "ingress": ingress, "egress": egress});
        let priority = i32::try_from(self.roll(3)).unwrap();
        if cluster {
            let tier = if baseline { "Baseline" } else { "Admin" };
            return cluster_policy(&format!("c{number}"), tier, priority, spec);
        }
        let (kind, name) = if baseline {
            ("BaselineAdminNetworkPolicy", "default".to_owned())
        } else {
            ("AdminNetworkPolicy", format!("n{number}"))
        };
        let mut policy = json!({"kind": kind, "metadata": {"name": name}, "spec": spec});
        if !baseline {
            policy["spec"]["priority"] = priority.into();
        }
        policy
    }

    fn world(&mut self) -> World {
        let mut world = World::default();
        world.node("n1", "192.168.0.1");
        world.namespace("a", &[(self.pick(&["k", "l"]), self.pick(&["v", "w"]))]);
        world.namespace("b", &[]);
        for (number, name) in ["a/x", "a/y", "b/x", "b/y"].into_iter().enumerate() {
            let labels = self.some(2, |dice| (dice.pick(&["k", "l"]), dice.pick(&["v", "w"])));
            let pod = world.pod(name, &format!("10.0.0.{},fd00::{}", number + 1, number + 1), &labels);
            pod.addresses_made_up = self.roll(4) == 0;
            pod.node = Some(self.pick(&["n1", "n2"]).into());
            pod.host_network = self.roll(10) == 0;
            if self.roll(2) == 0 {
                pod.ports = vec![named("web", self.pick(&[Transport::Tcp, Transport::Udp]), 80)];
            }
        }
        for number in 0..usize::try_from(self.roll(4)).unwrap() {
            world.policy(self.network_policy(number));
        }
        for number in 0..usize::try_from(self.roll(3)).unwrap() {
            let policy = self.cluster_policy(number);
            let name = |policy: &Value| (policy["kind"].clone(), policy["metadata"]["name"].clone());
            if world.objects.iter().all(|known| name(known) != name(&policy)) {
                world.policy(policy);
            }
        }
        world
    }
}

/// The last word of the walk.
fn walked(side: &Side) -> Verdict {
    let decided = side.tiers.iter().find_map(|tier| match tier.outcome {
        Outcome::Allowed { .. } => Some(Verdict::Allow),
        Outcome::Denied { .. } | Outcome::DeniedByDefault { .. } | Outcome::NotAmongAllowed { .. } => {
            Some(Verdict::Deny)
        }
        Outcome::Undecided { .. } => Some(Verdict::Redirect),
        Outcome::Rejected { .. } => Some(Verdict::Reject),
        Outcome::NoPolicy | Outcome::NoMatch | Outcome::Passed { .. } | Outcome::NotReached => None,
    });
    decided.unwrap_or(Verdict::Allow)
}

#[test]
fn the_walk_leads_to_the_verdict_and_every_change_works_as_written() {
    let mut dice = Dice(7);
    let (mut denied, mut changed, mut without) = (0, 0, 0);
    for _ in 0..60 {
        let world = dice.world();
        let compiler = world.compile();
        for from in ["a/x", "b/y", "10.9.9.9", "192.168.0.1"] {
            for to in ["a/x", "a/y", "b/x", "10.0.0.4", "10.9.9.9", "192.168.0.1"] {
                let protocol = dice.pick(&[
                    tcp(80),
                    tcp(443),
                    Protocol::Transport(Transport::Udp, 80),
                    Protocol::Other(1),
                ]);
                let connection = world.connection(from, to, protocol);
                let explanation = explain(&compiler, &connection);
                let about = || format!("{from} -> {to} {protocol} {:#?} {explanation:#?}", world.objects);
                for (index, side) in explanation.sides.iter().enumerate() {
                    assert!(side.is_consistent(), "{}", about());
                    assert_eq!(walked(side), side.decision.verdict, "{}", about());
                    for rule in side.tiers.iter().flat_map(|tier| &tier.rules) {
                        let said =
                            rule.why_not.iter().all(|why| !why.text.is_empty() && !why.path.is_empty());
                        assert!(said && rule.matched == rule.why_not.is_empty(), "{}", about());
                    }
                    if side.decision.verdict.is_allow() {
                        continue;
                    }
                    denied += 1;
                    without += usize::from(side.changes.is_empty());
                    for change in &side.changes {
                        let mut edited = world.clone();
                        edited.edit(change);
                        let after = explain(&edited.compile(), &connection);
                        assert!(after.sides[index].decision.verdict.is_allow(), "{change:#?} {}", about());
                        changed += 1;
                    }
                }
            }
        }
    }
    assert!(denied > 100 && changed > 200, "{denied} {changed}");
    // Cluster policies cannot name an address at ingress, and an address that is not known cannot be named at all.
    assert!(without * 4 < denied, "{without} of {denied} without a change");
}
