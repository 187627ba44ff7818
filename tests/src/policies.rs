//! Random policies: every shape that the API server accepts, in few words.
//!
//! Strategies are boxed where they branch: unboxed, a value of the whole is too large for the stack of a test thread.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
    NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use policy_compiler::api::PolicyObject;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use crate::cidrs::block;
use crate::cluster_policies::{admin_network_policy, baseline_admin_network_policy, cluster_network_policy};
use crate::facts::{KEYS, NAMESPACES, PORT_NAMES, PORTS, VALUES};
use crate::polder_policies::{cluster_polder_policy, polder_policy};

/// The names of policies, of all kinds.
pub const NAMES: &[&str] = &["p", "q", "r"];

/// A policy of any kind.
pub fn policy() -> impl Strategy<Value = PolicyObject> {
    prop_oneof![
        5 => network_policy().prop_map(PolicyObject::NetworkPolicy).boxed(),
        4 => cluster_network_policy().prop_map(PolicyObject::ClusterNetworkPolicy).boxed(),
        2 => admin_network_policy().prop_map(PolicyObject::AdminNetworkPolicy).boxed(),
        1 => baseline_admin_network_policy().prop_map(PolicyObject::BaselineAdminNetworkPolicy).boxed(),
        5 => polder_policy().prop_map(PolicyObject::PolderPolicy).boxed(),
        4 => cluster_polder_policy().prop_map(PolicyObject::ClusterPolderPolicy).boxed(),
    ]
}

/// A `NetworkPolicy`.
pub fn network_policy() -> impl Strategy<Value = NetworkPolicy> {
    // Without a namespace it is in `default`.
    let namespace = prop_oneof![8 => select(NAMESPACES).prop_map(Some), 1 => Just(None)];
    let ingress = few((few(peer().boxed(), 2), few(port().boxed(), 3)).boxed(), 2);
    let egress = few((few(peer().boxed(), 2), few(port().boxed(), 3)).boxed(), 2);
    (select(NAMES), namespace, option::weighted(0.9, selector()), policy_types(), ingress, egress).prop_map(
        |(name, namespace, pod_selector, policy_types, ingress, egress)| {
            let namespace = namespace.map(str::to_owned);
            let ingress = ingress.map(|rules| {
                rules.into_iter().map(|(from, ports)| NetworkPolicyIngressRule { from, ports }).collect()
            });
            let egress = egress.map(|rules| {
                rules.into_iter().map(|(to, ports)| NetworkPolicyEgressRule { to, ports }).collect()
            });
            NetworkPolicy {
                metadata: ObjectMeta { namespace, ..metadata(name) },
                spec: Some(NetworkPolicySpec { pod_selector, policy_types, ingress, egress }),
            }
        },
    )
}

/// A label selector; one that selects everything about four times in ten.
pub fn selector() -> BoxedStrategy<LabelSelector> {
    let match_labels = prop_oneof![
        6 => Just(None),
        1 => Just(Some(Vec::new())),
        4 => (select(KEYS), select(VALUES)).prop_map(|label| Some(vec![label])),
        1 => vec((select(KEYS), select(VALUES)), 2..=2).prop_map(Some),
    ];
    let match_expressions = prop_oneof![
        6 => Just(None),
        1 => Just(Some(Vec::new())),
        3 => requirement().prop_map(|requirement| Some(vec![requirement])),
        1 => vec(requirement(), 2..=2).prop_map(Some),
    ];
    (match_labels, match_expressions)
        .prop_map(|(labels, match_expressions)| {
            let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
            let match_labels = labels.map(|labels| labels.into_iter().map(owned).collect::<BTreeMap<_, _>>());
            LabelSelector { match_expressions, match_labels }
        })
        .boxed()
}

fn requirement() -> impl Strategy<Value = LabelSelectorRequirement> {
    let condition = prop_oneof![
        (select(&["In", "NotIn"][..]), vec(select(VALUES), 1..=2).prop_map(Some)),
        (select(&["Exists", "DoesNotExist"][..]), select(vec![None, Some(Vec::new())])),
    ];
    (select(KEYS), condition).prop_map(|(key, (operator, values))| LabelSelectorRequirement {
        key: key.to_owned(),
        operator: operator.to_owned(),
        values: values.map(|values| values.into_iter().map(str::to_owned).collect()),
    })
}

fn policy_types() -> impl Strategy<Value = Option<Vec<String>>> {
    let ingress = || "Ingress".to_owned();
    let egress = || "Egress".to_owned();
    select(vec![
        None,
        Some(vec![]),
        Some(vec![ingress()]),
        Some(vec![egress()]),
        Some(vec![ingress(), egress()]),
        Some(vec![egress(), ingress()]),
    ])
}

fn peer() -> impl Strategy<Value = NetworkPolicyPeer> {
    prop_oneof![
        2 => selector().prop_map(|pods| NetworkPolicyPeer { pod_selector: Some(pods), ..Default::default() }),
        2 => selector()
            .prop_map(|namespaces| NetworkPolicyPeer { namespace_selector: Some(namespaces), ..Default::default() }),
        1 => (selector(), selector()).prop_map(|(pods, namespaces)| NetworkPolicyPeer {
            pod_selector: Some(pods),
            namespace_selector: Some(namespaces),
            ..Default::default()
        }),
        3 => block().prop_map(|block| NetworkPolicyPeer { ip_block: Some(block), ..Default::default() }),
    ]
}

fn port() -> impl Strategy<Value = NetworkPolicyPort> {
    let number = |port: u16| Some(IntOrString::Int(i32::from(port)));
    let ports = prop_oneof![
        3 => select(PORTS).prop_map(move |port| (number(port), None)),
        1 => Just((None, None)),
        3 => range().prop_map(move |(first, last)| (number(first), Some(i32::from(last)))),
        2 => select(PORT_NAMES).prop_map(|name| (Some(IntOrString::String(name.to_owned())), None)),
    ];
    (protocol(), ports).prop_map(|(protocol, (port, end_port))| NetworkPolicyPort {
        end_port,
        port,
        protocol,
    })
}

/// The name of a protocol with ports; `None` is TCP.
pub fn protocol() -> impl Strategy<Value = Option<String>> {
    select(&[None, Some("TCP"), Some("UDP"), Some("SCTP")][..]).prop_map(|name| name.map(str::to_owned))
}

/// The first and the last port of a range: one port, neighbours, overlaps and all ports are among them.
pub fn range() -> impl Strategy<Value = (u16, u16)> {
    (select(PORTS), select(PORTS)).prop_map(|(one, other)| (one.min(other), one.max(other)))
}

/// A list that is absent, empty, or has up to `most` members.
pub fn few<S: Strategy>(member: S, most: usize) -> impl Strategy<Value = Option<Vec<S::Value>>>
where
    S::Value: Clone,
{
    prop_oneof![3 => Just(None), 1 => Just(Some(Vec::new())), 8 => vec(member, 1..=most).prop_map(Some)]
}

/// The metadata of an object of this name.
pub fn metadata(name: &str) -> ObjectMeta {
    ObjectMeta { name: Some(name.to_owned()), ..Default::default() }
}
