//! An object's metadata, as far as a user writes it: checked as apimachinery's `ValidateObjectMeta` checks it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::findings::{Findings, Refused};
use super::name::{DNS_LABEL, DNS_SUBDOMAIN, is_dns_label, is_dns_subdomain};
use super::selector::{label_key, label_value};
use crate::api::namespace;

/// The most bytes that the keys and values of all annotations may have together.
const ANNOTATIONS: usize = 256 * 1024;

/// The metadata of an object of the whole cluster. A namespace in it is ignored, as the API server does.
pub(super) fn cluster(metadata: &ObjectMeta, findings: &mut Findings<'_>) -> Result<(), Refused> {
    let name = name(metadata, findings);
    labels_and_annotations(metadata, findings)?;
    name
}

/// The metadata of an object in a namespace.
pub(super) fn namespaced(metadata: &ObjectMeta, findings: &mut Findings<'_>) -> Result<(), Refused> {
    let namespace = namespace(metadata);
    let checked = if is_dns_label(namespace) {
        Ok(())
    } else {
        Err(findings.error(
            "metadata.namespace",
            format!("{namespace:?} is not a namespace's name"),
            DNS_LABEL,
        ))
    };
    cluster(metadata, findings).and(checked)
}

fn name(metadata: &ObjectMeta, findings: &mut Findings<'_>) -> Result<(), Refused> {
    let path = "metadata.name";
    match (metadata.name.as_deref().unwrap_or_default(), metadata.generate_name.as_deref()) {
        (name, _) if is_dns_subdomain(name) => Ok(()),
        ("", Some(prefix)) if !prefix.is_empty() => {
            let message = format!(
                "the name is missing, and metadata.generateName {prefix:?} becomes one only when the object is created"
            );
            Err(findings.error(path, message, DNS_SUBDOMAIN))
        }
        ("", _) => Err(findings.error(path, "the name is missing", DNS_SUBDOMAIN)),
        (name, _) => Err(findings.error(path, format!("{name:?} is not an object's name"), DNS_SUBDOMAIN)),
    }
}

/// Every error is recorded; the last one is returned.
fn labels_and_annotations(metadata: &ObjectMeta, findings: &mut Findings<'_>) -> Result<(), Refused> {
    let mut refused = Ok(());
    for (key, value) in metadata.labels.iter().flatten() {
        refused = label_key(key, "metadata.labels", findings)
            .and(label_value(key, value, "metadata.labels", findings))
            .and(refused);
    }
    let mut size = 0_usize;
    for (key, value) in metadata.annotations.iter().flatten() {
        // The API server checks annotation keys in lower case, label keys as they are.
        refused = label_key(&key.to_lowercase(), "metadata.annotations", findings).and(refused);
        size = size.saturating_add(key.len()).saturating_add(value.len());
    }
    if size > ANNOTATIONS {
        let message = format!("the annotations have {size} bytes together");
        return Err(findings.error("metadata.annotations", message, format!("at most {ANNOTATIONS} bytes")));
    }
    refused
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::name::{LABEL_VALUE, QUALIFIED_NAME};
    use super::super::testing::{errors, policy};
    use super::*;

    #[test]
    fn metadata_is_validated() {
        let name = DNS_SUBDOMAIN;
        let namespace = DNS_LABEL;
        let key = QUALIFIED_NAME;
        let value = LABEL_VALUE;
        let big = "x".repeat(256 * 1024);
        for (metadata, expected) in [
            (json!({}), vec![format!("metadata.name: the name is missing; expected {name}")]),
            (
                json!({"name": "", "generateName": ""}),
                vec![format!("metadata.name: the name is missing; expected {name}")],
            ),
            (
                json!({"generateName": "p-"}),
                vec![format!(
                    "metadata.name: the name is missing, and metadata.generateName \"p-\" becomes one only \
                     when the object is created; expected {name}"
                )],
            ),
            (json!({"name": "A_b"}), vec![format!("metadata.name: \"A_b\" is not an object's name; expected {name}")]),
            (
                json!({"name": "p", "namespace": "a.b"}),
                vec![format!("metadata.namespace: \"a.b\" is not a namespace's name; expected {namespace}")],
            ),
            (
                json!({"name": "p", "labels": {"a b": "c d"}, "annotations": {"e f": "any thing"}}),
                vec![
                    format!("metadata.labels: \"a b\" is not a key; expected {key}"),
                    format!("metadata.labels: \"c d\", a value of \"a b\", is not a label value; expected {value}"),
                    format!("metadata.annotations: \"e f\" is not a key; expected {key}"),
                ],
            ),
            (
                json!({"name": "p", "annotations": {"a": big}}),
                vec![
                    "metadata.annotations: the annotations have 262145 bytes together; expected at most 262144 bytes"
                        .to_owned(),
                ],
            ),
        ] {
            assert_eq!(errors(json!({"kind": "NetworkPolicy", "metadata": metadata, "spec": {}})), expected);
        }
        let upper = json!({"name": "p", "annotations": {"Example.COM/x": ""}, "generateName": "unused-"});
        policy(json!({"kind": "NetworkPolicy", "metadata": upper, "spec": {}}));
    }
}
