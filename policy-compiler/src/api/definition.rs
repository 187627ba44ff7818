//! The definitions of our own kinds, from their types.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use super::polder_policy::{ClusterPolderPolicySpec, PolderPolicySpec};

/// Name and content of each definition.
pub fn definitions() -> [(&'static str, Value); 2] {
    [
        (
            "polderpolicies.polder.dev",
            definition::<PolderPolicySpec>(
                ["PolderPolicy", "polderpolicy", "polderpolicies"],
                "Namespaced",
                "Network policy of a namespace, with rules about requests.",
                &[("Priority", "integer", ".spec.priority"), ("Mode", "string", ".spec.mode")],
            ),
        ),
        (
            "clusterpolderpolicies.polder.dev",
            definition::<ClusterPolderPolicySpec>(
                ["ClusterPolderPolicy", "clusterpolderpolicy", "clusterpolderpolicies"],
                "Cluster",
                "Network policy of the cluster, with rules about requests.",
                &[
                    ("Tier", "string", ".spec.tier"),
                    ("Priority", "integer", ".spec.priority"),
                    ("Mode", "string", ".spec.mode"),
                ],
            ),
        ),
    ]
}

fn definition<T: JsonSchema>(
    [kind, singular, plural]: [&str; 3],
    scope: &str,
    about: &str,
    columns: &[(&str, &str, &str)],
) -> Value {
    let columns: Vec<Value> =
        columns.iter().map(|(name, of, path)| json!({"name": name, "type": of, "jsonPath": path})).collect();
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": format!("{plural}.polder.dev"),
            "labels": {"app.kubernetes.io/part-of": "polder"},
        },
        "spec": {
            "group": "polder.dev",
            "names": {"kind": kind, "listKind": format!("{kind}List"), "singular": singular, "plural": plural},
            "scope": scope,
            "versions": [{
                "name": "v1alpha1",
                "served": true,
                "storage": true,
                "additionalPrinterColumns": columns,
                "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {
                    "type": "object",
                    "description": about,
                    "required": ["spec"],
                    "properties": {
                        "apiVersion": {"type": "string"},
                        "kind": {"type": "string"},
                        "metadata": {"type": "object"},
                        "spec": structural::<T>(),
                        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                    },
                }},
            }],
        },
    })
}

/// A schema as the API server wants it: nothing refers to anything, and each value has one type.
fn structural<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::openapi3().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    plain(&mut schema);
    schema
}

/// Without what is said for other readers of schemas: `null` is read as an absent field, which needs no word.
fn plain(schema: &mut Value) {
    let Value::Object(fields) = schema else { return };
    for word in ["$schema", "title", "nullable"] {
        fields.remove(word);
    }
    // A field that is left out is left out: only what was written as a default is one.
    if fields.get("default").is_some_and(is_nothing) {
        fields.remove("default");
    }
    if let Some(Value::Object(properties)) = fields.get_mut("properties") {
        properties.values_mut().for_each(plain);
    }
    for within in ["items", "additionalProperties"] {
        if let Some(schema) = fields.get_mut(within) {
            plain(schema);
        }
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// `LabelSelector` of meta/v1, with the bounds that keep the cost of validation in sight.
pub(super) fn label_selector(_: &mut SchemaGenerator) -> Schema {
    let mut requirement = Map::new();
    requirement.insert("key".to_owned(), json!({"type": "string", "maxLength": 317}));
    requirement.insert(
        "operator".to_owned(),
        json!({"type": "string", "enum": ["In", "NotIn", "Exists", "DoesNotExist"]}),
    );
    requirement.insert(
        "values".to_owned(),
        json!({"type": "array", "maxItems": 64, "items": {"type": "string", "maxLength": 63}}),
    );
    json_schema!({
        "type": "object",
        "description": "Selects by labels; an empty selector selects everything.",
        "properties": {
            "matchLabels": {
                "type": "object", "maxProperties": 64,
                "additionalProperties": {"type": "string", "maxLength": 63},
            },
            "matchExpressions": {
                "type": "array", "maxItems": 64,
                "items": {"type": "object", "required": ["key", "operator"], "properties": requirement},
            },
        },
        "x-kubernetes-map-type": "atomic",
    })
}
