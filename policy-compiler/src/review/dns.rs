//! Pods that can reach something, but not find out where it is.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use datapath::abi::{Direction, RuleSetId, Transport};
use datapath::lookup::{Origin as From, Query, decide};

use super::{Remark, cells, listed};
use crate::compiler::Compiler;
use crate::facts::{Cluster, Pod};
use crate::object::ObjectRef;
use crate::policy::Policy;
use crate::problem::{Problem, Severity};
use crate::rule_set::{Origin, RuleSet};
use crate::tables::address;

/// The id of findings about pods that are isolated from DNS.
pub(super) const ISOLATED_FROM_DNS: &str = "isolated-from-dns";

/// How the cluster's DNS is found: `CoreDNS` kept the label of what it replaced, and everything else relies on that.
const DNS_NAMESPACE: &str = "kube-system";
const DNS_LABEL: (&str, &str) = ("k8s-app", "kube-dns");
const DNS_PORT: u16 = 53;

/// What is known of the cluster's DNS.
struct Dns {
    /// Empty if it is not known where it is.
    servers: Vec<Server>,
}

struct Server {
    addresses: Vec<IpAddr>,
    /// By transport: a server may listen on another port than its service shows.
    ports: [u16; 2],
}

const TRANSPORTS: [Transport; 2] = [Transport::Udp, Transport::Tcp];

/// What a pod can do.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Reach {
    /// By [`TRANSPORTS`].
    dns: [bool; 2],
    /// Anything at all.
    anything: bool,
}

pub(super) fn review(compiler: &Compiler, found: &mut Vec<Problem>) {
    let dns = Dns::of(compiler.cluster());
    let mut by_policy = BTreeMap::<ObjectRef, Vec<(&Arc<Pod>, Reach)>>::new();
    let sizes = sizes(compiler);
    for (key, endpoint) in &compiler.tables().endpoints {
        let Some(pod) = compiler.cluster().pods.get(key).filter(|pod| !is_dns(pod)) else { continue };
        let id = endpoint.rule_set(Direction::Egress);
        let Some(set) = compiler.rule_set_by_id(id) else { continue };
        // Of the policies that isolate it, the one that most pods share is where DNS would be opened.
        let isolating = set.rules().iter().find_map(|rule| match &rule.origin {
            Origin::Isolation { policies } => policies.iter().max_by_key(|policy| sizes.get(*policy)),
            Origin::Rule { .. } | Origin::Claim { .. } => None,
        });
        if let Some(policy) = isolating {
            by_policy.entry(policy.clone()).or_default().push((pod, dns.reach(compiler, pod, id)));
        }
    }
    for (object, pods) in by_policy {
        if let Some(policy) = compiler.policy(&object) {
            found.extend(finding(policy, &pods, &dns));
        }
    }
}

/// How many pods each policy isolates at egress.
fn sizes(compiler: &Compiler) -> BTreeMap<ObjectRef, usize> {
    let mut sizes = BTreeMap::new();
    for endpoint in compiler.tables().endpoints.values() {
        let set = compiler.rule_set_by_id(endpoint.rule_set(Direction::Egress));
        for rule in set.map(RuleSet::rules).unwrap_or_default() {
            if let Origin::Isolation { policies } = &rule.origin {
                for policy in policies {
                    *sizes.entry(policy.clone()).or_default() += 1;
                }
            }
        }
    }
    sizes
}

fn finding(policy: &Policy, pods: &[(&Arc<Pod>, Reach)], dns: &Dns) -> Option<Problem> {
    let cut_off = |(_, reach): &&(&Arc<Pod>, Reach)| !reach.dns[0] && !reach.dns[1];
    let partly = |(_, reach): &&(&Arc<Pod>, Reach)| reach.dns[0] != reach.dns[1];
    let none: Vec<_> = pods.iter().filter(cut_off).collect();
    let half: Vec<_> = pods.iter().filter(partly).collect();
    let whom = dns.describe();
    let names = |pods: &[&(&Arc<Pod>, Reach)]| {
        listed(pods.iter().map(|(pod, _)| workload(pod)).collect::<BTreeSet<_>>())
    };
    let open: Vec<_> = none.iter().copied().filter(|(_, reach)| reach.anything).collect();
    let (severity, message) = if none.len() == pods.len() {
        let message = format!("none of the pods that this policy isolates ({}) reaches {whom}", names(&none));
        (Severity::Warning, message)
    } else if !open.is_empty() {
        (
            Severity::Warning,
            format!(
                "of the pods that this policy isolates, {} reach other things, but not {whom}",
                names(&open)
            ),
        )
    } else if !none.is_empty() {
        (
            Severity::Note,
            format!("of the pods that this policy isolates, {} reach nothing, {whom} included", names(&none)),
        )
    } else if !half.is_empty() {
        let lacking =
            if half.iter().all(|(_, reach)| reach.dns[0]) { "UDP, but not TCP" } else { "TCP, but not UDP" };
        let message =
            format!("{} reach {whom} on {lacking}: answers that are too long for UDP need TCP", names(&half));
        (Severity::Note, message)
    } else {
        return None;
    };
    let expected =
        "an egress rule to the pods k8s-app=kube-dns of namespace kube-system, port 53 on UDP and TCP"
            .to_owned();
    let (id, path) =
        (ISOLATED_FROM_DNS, if policy.egress.rules.is_empty() { "spec.policyTypes" } else { "spec.egress" });
    Some(Remark { severity, id, path, message, expected }.of(policy))
}

fn workload(pod: &Pod) -> String {
    format!("{}/{}", pod.key.namespace, pod.workload.name)
}

fn is_dns(pod: &Pod) -> bool {
    &*pod.key.namespace == DNS_NAMESPACE && pod.labels.get(DNS_LABEL.0) == Some(DNS_LABEL.1)
}

impl Dns {
    fn of(cluster: &Cluster) -> Self {
        let servers = cluster.pods.values().filter(|pod| is_dns(pod) && pod.owns_addresses());
        let servers = servers.map(|pod| {
            let port = |names: &[&str], transport| {
                let named = names.iter().find_map(|name| pod.named_port(name, Some(transport)));
                named.map_or(DNS_PORT, |(_, port)| port)
            };
            Server {
                addresses: pod.addresses.clone(),
                ports: [port(&["dns"], Transport::Udp), port(&["dns-tcp", "dns"], Transport::Tcp)],
            }
        });
        Self { servers: servers.collect() }
    }

    fn describe(&self) -> &'static str {
        if self.servers.is_empty() { "port 53 of anything" } else { "the cluster's DNS" }
    }

    fn reach(&self, compiler: &Compiler, pod: &Pod, id: RuleSetId) -> Reach {
        let allows = |identity, port: cells::Port| {
            let atom = port.map(|(transport, port)| (transport, compiler.tables().atom(transport, port)));
            decide(compiler.tables(), id, || identity, || atom).verdict.is_allow()
        };
        let identities: Vec<_> = cells::identities(compiler, id).collect();
        let ports = compiler.rule_set_by_id(id).map(cells::ports).unwrap_or_default();
        let anything = identities.iter().any(|&identity| ports.iter().any(|&port| allows(identity, port)));
        let dns = [0, 1].map(|index| {
            let transport = TRANSPORTS[index];
            if self.servers.is_empty() {
                return identities.iter().any(|&identity| allows(identity, Some((transport, DNS_PORT))));
            }
            self.servers.iter().any(|server| {
                server.addresses.iter().any(|&to| {
                    let port = Some((transport, server.ports[index]));
                    let query = Query {
                        direction: Direction::Egress,
                        peer: address(to),
                        port,
                        origin: From::Elsewhere,
                    };
                    compiler.judge(&pod.key, &query).verdict.is_allow()
                })
            })
        });
        Reach { dns, anything }
    }
}
