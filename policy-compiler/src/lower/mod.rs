//! Objects of each dialect to the one vocabulary: validation as the API server's, then a plain translation.
//!
//! ```text
//! network_policy ---------------------------------------+
//! cluster_network_policy --+                            +--> metadata, selector, network, port --> Findings
//! admin_network_policy ----+--> cluster_wide -----------+
//! polder_policy -----------+--> asks
//! ```
//!
//! Every function records what is wrong in `Findings` and goes on, so that one pass finds all errors of an object;
//! what is refused has no value, so that no policy can be made of the rest.

mod admin_network_policy;
mod asks;
mod cluster_network_policy;
mod cluster_wide;
mod findings;
mod metadata;
mod name;
mod network;
mod network_policy;
mod polder_policy;
mod port;
mod selector;
#[cfg(test)]
mod testing;

use std::sync::Arc;

use self::findings::Findings;
use crate::api::PolicyObject;
use crate::object::Source;
use crate::policy::Policy;
use crate::problem::Problem;

/// A lowered policy, and what there is to say about it that does not keep it from being enforced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lowered {
    /// The policy.
    pub policy: Policy,
    /// Warnings and notes, located.
    pub remarks: Vec<Problem>,
}

/// Lowers one object. Any error refuses all of it: half a policy is never in force.
///
/// # Errors
///
/// Everything for which the API server would refuse the object, and the few things more that no implementation could
/// act on (`docs/reference/policies.md`); never empty.
pub fn lower(object: &PolicyObject, source: Option<&Arc<Source>>) -> Result<Lowered, Vec<Problem>> {
    let mut findings = Findings::new(object.object(), source);
    let policy = match object {
        PolicyObject::NetworkPolicy(policy) => network_policy::lower(policy, &mut findings),
        PolicyObject::ClusterNetworkPolicy(policy) => cluster_network_policy::lower(policy, &mut findings),
        PolicyObject::AdminNetworkPolicy(policy) => admin_network_policy::lower(policy, &mut findings),
        PolicyObject::BaselineAdminNetworkPolicy(policy) => {
            admin_network_policy::lower_baseline(policy, &mut findings)
        }
        PolicyObject::PolderPolicy(policy) => polder_policy::lower(policy, &mut findings),
        PolicyObject::ClusterPolderPolicy(policy) => polder_policy::lower_cluster(policy, &mut findings),
    };
    findings.finish(policy)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::object::ObjectRef;
    use crate::problem::{INVALID_OBJECT, Severity};

    /// An object of each kind that has every field of the kind.
    fn full() -> [Value; 4] {
        let selector = json!({
            "matchLabels": {"a": "b"},
            "matchExpressions": [{"key": "c", "operator": "In", "values": ["d"]}],
        });
        let metadata =
            json!({"name": "default", "namespace": "prod", "labels": {"a": "b"}, "annotations": {"a": "b"}});
        let pods = json!({"namespaceSelector": selector, "podSelector": selector});
        let to = json!([
            {"namespaces": selector}, {"pods": pods}, {"nodes": selector}, {"networks": ["10.0.0.0/8"]},
            {"domainNames": ["a.b"]},
        ]);
        let protocols = json!([
            {"tcp": {"destinationPort": {"number": 1}}},
            {"udp": {"destinationPort": {"range": {"start": 1, "end": 2}}}},
            {"destinationNamedPort": "http"},
        ]);
        let ports = json!([
            {"portNumber": {"protocol": "UDP", "port": 1}}, {"portRange": {"start": 1, "end": 2}}, {"namedPort": "http"},
        ]);
        let wide = |kind: &str, allow: &str, field: &str, ports: &Value| {
            let from = json!([{"namespaces": selector}, {"pods": pods}]);
            json!({"kind": kind, "metadata": metadata, "spec": {
                "tier": "Admin", "priority": 1, "subject": {"pods": pods},
                "ingress": [{"name": "n", "action": "Deny", "from": from, field: ports}],
                "egress": [{"name": "n", "action": allow, "to": to}],
            }})
        };
        let peers = json!([{"podSelector": selector, "namespaceSelector": selector},
            {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}]);
        let plain = json!([{"protocol": "TCP", "port": 1, "endPort": 2}, {"port": "http"}]);
        [
            json!({"kind": "NetworkPolicy", "metadata": metadata, "spec": {
                "podSelector": selector, "policyTypes": ["Ingress", "Egress"],
                "ingress": [{"from": peers, "ports": plain}], "egress": [{"to": peers, "ports": plain}],
            }}),
            wide("ClusterNetworkPolicy", "Accept", "protocols", &protocols),
            wide("AdminNetworkPolicy", "Allow", "ports", &ports),
            wide("BaselineAdminNetworkPolicy", "Allow", "ports", &ports),
        ]
    }

    /// The JSON pointers of a value and of all values in it.
    fn pointers(value: &Value, here: &str, all: &mut Vec<String>) {
        all.push(here.to_owned());
        match value {
            Value::Array(items) => {
                items
                    .iter()
                    .enumerate()
                    .for_each(|(index, item)| pointers(item, &format!("{here}/{index}"), all));
            }
            Value::Object(fields) => {
                fields.iter().for_each(|(name, field)| pointers(field, &format!("{here}/{name}"), all));
            }
            _ => {}
        }
    }

    #[test]
    fn whatever_stands_in_a_field_the_answer_is_a_policy_or_errors_that_say_what_is_wrong() {
        let odd = [
            json!(null),
            json!(0),
            json!(-1),
            json!(80),
            json!(65536),
            json!(i32::MAX),
            json!(i32::MIN),
            json!(""),
            json!("/"),
            json!("x"),
            json!("*."),
            json!("10.0.0.0/8"),
            json!("::/0"),
            json!("\u{e4}\u{0}\n"),
            json!("x".repeat(300)),
            json!([]),
            json!({}),
            json!([null]),
            json!([""]),
            json!([{}]),
            json!([{}, {}, {}]),
        ];
        let (mut taken, mut refused) = (0, 0);
        for manifest in full() {
            let mut all = Vec::new();
            pointers(&manifest["metadata"], "/metadata", &mut all);
            pointers(&manifest["spec"], "/spec", &mut all);
            for pointer in all {
                for odd in &odd {
                    let mut manifest = manifest.clone();
                    *manifest.pointer_mut(&pointer).unwrap() = odd.clone();
                    let Some(object) = testing::try_object(manifest) else { continue };
                    match lower(&object, None) {
                        Ok(lowered) => {
                            taken += 1;
                            assert_eq!(lowered.policy.object, object.object());
                        }
                        Err(problems) => {
                            refused += 1;
                            assert!(!problems.is_empty(), "{pointer} {odd}");
                            for problem in problems {
                                let complete = !problem.message.is_empty() && !problem.expected.is_empty();
                                assert!(complete && !problem.path.is_empty(), "{problem:?}");
                            }
                        }
                    }
                }
            }
        }
        assert!(taken > 500 && refused > 500, "{taken} taken, {refused} refused: the test has lost its bite");
    }

    #[test]
    fn an_error_refuses_the_object_even_if_a_policy_could_be_made_of_the_rest() {
        let good = testing::policy(full()[0].clone());
        let mut findings = Findings::new(ObjectRef::namespaced("NetworkPolicy", "prod", "default"), None);
        findings.error("spec", "found", "right");
        let problems = findings.finish(Ok(good)).unwrap_err();
        let said: Vec<_> = problems.iter().map(|one| (one.severity, one.id, one.path.as_str())).collect();
        assert_eq!(said, [(Severity::Error, INVALID_OBJECT, "spec")]);
    }
}
