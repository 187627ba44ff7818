//! Random policies of our own kinds, with rules about requests.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use policy_compiler::api::cluster_network_policy as cnp;
use policy_compiler::api::cluster_network_policy::Subject;
use policy_compiler::api::polder_policy as polder;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use crate::cluster_policies::{any_peer, any_protocol, namespaced_pod, priority};
use crate::facts::NAMESPACES;
use crate::policies::{NAMES, metadata, selector};

/// Methods that rules name and requests have.
pub const METHODS: &[&str] = &["GET", "POST", "CONNECT"];
/// Hosts that rules name.
pub const HOSTS: &[&str] = &["a.b", "*.b", "*.a.b", "B", "c"];
/// Paths that rules name as they are.
pub const PATHS: &[&str] = &["/a", "/a/b", "/", "/ab", "/a/b/c", "/svc/m"];
/// Expressions for paths and for headers.
pub const REGEXES: &[&str] = &["/a.*", "/[ab]+", "/a(/b)?", "", "v*", "v|/ab|/a/b/c", "(?i)/A"];
/// Headers that rules name.
pub const HEADERS: &[&str] = &["x-a", "X-B"];
/// Their values.
pub const VALUES: &[&str] = &["v", "vv", "/a"];

/// A `PolderPolicy`; equal priorities are likely, that of `NetworkPolicy` among them.
pub fn polder_policy() -> impl Strategy<Value = polder::PolderPolicy> {
    let level =
        prop_oneof![3 => Just(None), 2 => Just(Some(1000)), 1 => Just(Some(0)), 1 => Just(Some(2000))];
    let subject = prop_oneof![1 => Just(LabelSelector::default()), 1 => selector()];
    (select(NAMES), select(NAMESPACES), subject, level, mode(), directions()).prop_map(
        |(name, namespace, pods, priority, mode, (ingress, egress))| polder::PolderPolicy {
            metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
                namespace: Some(namespace.to_owned()),
                ..metadata(name)
            },
            spec: polder::PolderPolicySpec {
                subject: polder::OwnSubject { pod_selector: Some(pods) },
                priority,
                mode,
                log: None,
                ingress,
                egress,
            },
            status: None,
        },
    )
}

/// A `ClusterPolderPolicy`; equal priorities are likely.
pub fn cluster_polder_policy() -> impl Strategy<Value = polder::ClusterPolderPolicy> {
    let tier = select(&["Admin", "Baseline"][..]);
    let subject = prop_oneof![
        2 => Just(Subject { namespaces: Some(LabelSelector::default()), pods: None }),
        1 => namespaced_pod().prop_map(|pods| Subject { namespaces: None, pods: Some(pods) }),
    ];
    (select(NAMES), tier, priority(), subject, mode(), directions()).prop_map(
        |(name, tier, priority, subject, mode, (ingress, egress))| polder::ClusterPolderPolicy {
            metadata: metadata(name),
            spec: polder::ClusterPolderPolicySpec {
                tier: tier.to_owned(),
                priority: Some(priority),
                subject,
                mode,
                log: None,
                ingress,
                egress,
            },
            status: None,
        },
    )
}

fn mode() -> impl Strategy<Value = Option<String>> {
    prop_oneof![6 => Just(None), 2 => Just(Some("Enforce".to_owned())), 1 => Just(Some("Audit".to_owned()))]
}

type Directions = (Option<Vec<polder::IngressRule>>, Option<Vec<polder::EgressRule>>);

fn directions() -> BoxedStrategy<Directions> {
    let rules = || option::weighted(0.7, vec(rule(), 0..=3));
    (rules(), rules())
        .prop_map(|(ingress, egress)| {
            let ingress = ingress.map(|rules| rules.into_iter().map(Rule::ingress).collect());
            (ingress, egress.map(|rules| rules.into_iter().map(Rule::egress).collect()))
        })
        .boxed()
}

#[derive(Clone, Debug)]
struct Rule {
    action: &'static str,
    peers: Option<Vec<cnp::EgressPeer>>,
    protocols: Option<Vec<cnp::Protocol>>,
    asks: Asks,
}

#[derive(Clone, Debug)]
enum Asks {
    Nothing,
    Http(Vec<polder::Http>),
    Grpc(Vec<polder::Grpc>),
    Tls(polder::Tls),
}

fn rule() -> BoxedStrategy<Rule> {
    let action = prop_oneof![4 => Just("Allow"), 2 => Just("Deny"), 1 => Just("Reject"), 1 => Just("Pass")];
    let asks = prop_oneof![
        3 => Just(Asks::Nothing),
        6 => vec(http(), 1..=2).prop_map(Asks::Http),
        1 => vec(grpc(), 1..=2).prop_map(Asks::Grpc),
        1 => vec(select(HOSTS), 1..=2).prop_map(|names| Asks::Tls(polder::Tls {
            server_names: names.into_iter().map(str::to_owned).collect(),
        })),
    ];
    let peers = option::weighted(0.6, vec(any_peer(), 1..=2));
    let protocols = option::weighted(0.6, vec(any_protocol(), 1..=2));
    (action, peers, protocols, asks)
        .prop_map(|(action, peers, protocols, asks)| Rule { action, peers, protocols, asks }.valid())
        .boxed()
}

fn http() -> BoxedStrategy<polder::Http> {
    let owned = |words: Vec<&'static str>| words.into_iter().map(str::to_owned).collect::<Vec<_>>();
    let methods = option::weighted(0.5, subsequence(METHODS, 1..=2).prop_map(owned));
    let hosts = option::weighted(0.3, vec(select(HOSTS), 1..=2).prop_map(owned));
    let path = prop_oneof![
        3 => select(PATHS).prop_map(|path| polder::Path { prefix: Some(path.to_owned()), ..Default::default() }),
        2 => select(PATHS).prop_map(|path| polder::Path { exact: Some(path.to_owned()), ..Default::default() }),
        2 => select(REGEXES).prop_map(|regex| polder::Path { regex: Some(regex.to_owned()), ..Default::default() }),
    ];
    let headers = option::weighted(
        0.4,
        subsequence(HEADERS, 1..=2).prop_flat_map(|names| names.into_iter().map(header).collect::<Vec<_>>()),
    );
    (methods, hosts, option::weighted(0.7, path), headers)
        .prop_map(|(methods, hosts, path, headers)| polder::Http { methods, hosts, path, headers })
        .boxed()
}

fn header(name: &'static str) -> BoxedStrategy<polder::Header> {
    let header = move || polder::Header { name: name.to_owned(), ..Default::default() };
    prop_oneof![
        1 => Just(polder::Header { present: Some(true), ..header() }),
        2 => select(VALUES).prop_map(move |value| polder::Header { equal: Some(value.to_owned()), ..header() }),
        2 => select(REGEXES).prop_map(move |regex| polder::Header { regex: Some(regex.to_owned()), ..header() }),
    ]
    .boxed()
}

fn grpc() -> impl Strategy<Value = polder::Grpc> {
    let methods = option::of(Just(vec!["m".to_owned()]));
    methods.prop_map(|methods| polder::Grpc { service: "svc".to_owned(), methods })
}

impl Rule {
    /// The rule without what is refused: names that do not resolve in rules that do not allow, port names beside peers that have
    /// none, and in rules that ask, ports of other protocols than TCP.
    fn valid(mut self) -> Self {
        if let Some(peers) = &mut self.peers {
            peers.retain(|peer| self.action == "Allow" || peer.domain_names.is_none());
            if peers.is_empty() {
                peers.push(cnp::EgressPeer {
                    namespaces: Some(LabelSelector::default()),
                    ..Default::default()
                });
            }
        }
        let nameless = |peer: &cnp::EgressPeer| {
            peer.nodes.is_some() || peer.networks.is_some() || peer.domain_names.is_some()
        };
        let nameless = self.peers.iter().flatten().any(nameless);
        let asks = !matches!(self.asks, Asks::Nothing);
        if let Some(protocols) = &mut self.protocols {
            protocols.retain(|of| !(nameless && of.destination_named_port.is_some()));
            protocols.retain(|of| !(asks && (of.udp.is_some() || of.sctp.is_some())));
        }
        self.protocols = self.protocols.filter(|protocols| !protocols.is_empty());
        self
    }

    fn asks(asks: Asks) -> (Option<Vec<polder::Http>>, Option<Vec<polder::Grpc>>, Option<polder::Tls>) {
        match asks {
            Asks::Nothing => (None, None, None),
            Asks::Http(http) => (Some(http), None, None),
            Asks::Grpc(grpc) => (None, Some(grpc), None),
            Asks::Tls(tls) => (None, None, Some(tls)),
        }
    }

    fn ingress(self) -> polder::IngressRule {
        let (http, grpc, tls) = Self::asks(self.asks);
        let (action, from, protocols) = (self.action.to_owned(), self.peers, self.protocols);
        polder::IngressRule { name: None, action, from, protocols, http, grpc, tls }
    }

    fn egress(self) -> polder::EgressRule {
        let (http, grpc, tls) = Self::asks(self.asks);
        let (action, to, protocols) = (self.action.to_owned(), self.peers, self.protocols);
        polder::EgressRule { name: None, action, to, protocols, http, grpc, tls }
    }
}
