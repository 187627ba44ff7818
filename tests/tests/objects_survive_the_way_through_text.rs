//! Policies written as manifests and read again are the same policies: no field is lost, renamed or read as another.

use manifests::object::Content;
use manifests::parse::parse;
use policy_compiler::api::PolicyObject;
use policy_compiler::lower::lower;
use policy_compiler::policy::Policy;
use proptest::prelude::*;
use serde_json::{Value, json};
use tests::policies::policy;

/// The object as a user would write it, with its kind.
#[expect(clippy::unwrap_used, reason = "API objects are JSON")]
fn written(object: &PolicyObject) -> Value {
    let (version, body) = match object {
        PolicyObject::NetworkPolicy(policy) => ("networking.k8s.io/v1", serde_json::to_value(policy)),
        PolicyObject::ClusterNetworkPolicy(policy) => {
            ("policy.networking.k8s.io/v1alpha2", serde_json::to_value(policy))
        }
        PolicyObject::AdminNetworkPolicy(policy) => {
            ("policy.networking.k8s.io/v1alpha1", serde_json::to_value(policy))
        }
        PolicyObject::BaselineAdminNetworkPolicy(policy) => {
            ("policy.networking.k8s.io/v1alpha1", serde_json::to_value(policy))
        }
        PolicyObject::PolderPolicy(policy) => ("polder.dev/v1alpha1", serde_json::to_value(policy)),
        PolicyObject::ClusterPolderPolicy(policy) => ("polder.dev/v1alpha1", serde_json::to_value(policy)),
    };
    let mut body = body.unwrap();
    body["apiVersion"] = json!(version);
    body["kind"] = json!(&*object.object().kind);
    body
}

fn read(text: &str) -> PolicyObject {
    let parsed = parse("policy.yaml", text.as_bytes());
    assert_eq!(parsed.problems, [], "{text}");
    match <[_; 1]>::try_from(parsed.objects).map(|[object]| object.content) {
        Ok(Content::Policy(policy)) => *policy,
        other => panic!("not one policy: {other:?}"),
    }
}

fn lowered(object: &PolicyObject) -> Option<Policy> {
    lower(object, None).ok().map(|lowered| lowered.policy)
}

proptest! {
    #[test]
    fn a_policy_means_the_same_before_and_after(object in policy()) {
        let value = written(&object);
        // One line of JSON, JSON over many lines, and block YAML are three ways through the reader.
        for text in [value.to_string(), serde_json::to_string_pretty(&value).unwrap(), yaml(&value, 0)] {
            let again = read(&text);
            prop_assert_eq!(lowered(&again), lowered(&object), "{}", text);
        }
    }
}

/// Block YAML, with every string quoted.
fn yaml(value: &Value, depth: usize) -> String {
    let indent = "  ".repeat(depth);
    let mut text = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                text.extend(["\n", &indent, &json!(key).to_string(), ":", &yaml(value, depth + 1)]);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                text.extend(["\n", &indent, "-", &yaml(item, depth + 1)]);
            }
        }
        scalar => text = format!(" {scalar}"),
    }
    text
}
