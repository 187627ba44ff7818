//! Label selectors, checked as apimachinery's `ValidateLabelSelector` checks them.
//!
//! The CRDs check none of this, but no implementation could act on a selector that fails here, so that it refuses
//! objects of every kind.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

use super::findings::{Findings, Refused, every};
use super::name::{LABEL_VALUE, QUALIFIED_NAME, is_label_value, is_qualified_name};
use crate::labels::{Condition, Requirement, Selector, Space};

/// A selector; one without requirements selects everything.
pub(super) fn lower<S: Space>(
    selector: &LabelSelector,
    path: &str,
    findings: &mut Findings<'_>,
) -> Result<Selector<S>, Refused> {
    let labels_path = format!("{path}.matchLabels");
    let labels = every(selector.match_labels.iter().flatten().map(|(key, value)| {
        let checked = label_key(key, &labels_path, findings);
        label_value(key, value, &labels_path, findings)?;
        checked?;
        let values = BTreeSet::from([Arc::from(value.as_str())]);
        Ok(Requirement { key: key.as_str().into(), condition: Condition::In(values) })
    }));
    let expressions = selector.match_expressions.iter().flatten().enumerate();
    let expressions = every(
        expressions
            .map(|(index, one)| requirement(one, &format!("{path}.matchExpressions[{index}]"), findings)),
    );
    Ok(Selector::new(labels?.into_iter().chain(expressions?)))
}

/// Makes a condition of the values beside an operator.
type Combine = fn(BTreeSet<Arc<str>>) -> Condition;

fn requirement(
    requirement: &LabelSelectorRequirement,
    path: &str,
    findings: &mut Findings<'_>,
) -> Result<Requirement, Refused> {
    let key = label_key(&requirement.key, &format!("{path}.key"), findings);
    let values_path = format!("{path}.values");
    let written = requirement.values.as_deref().unwrap_or_default();
    let values = every(written.iter().enumerate().map(|(index, value)| {
        label_value(&requirement.key, value, &format!("{values_path}[{index}]"), findings)?;
        Ok(Arc::from(value.as_str()))
    }));
    let condition: Result<Combine, Refused> = match (requirement.operator.as_str(), written.len()) {
        (operator @ ("In" | "NotIn"), 0) => {
            Err(findings.error(values_path, format!("{operator} has no values"), "one value or more"))
        }
        ("In", _) => Ok(Condition::In),
        ("NotIn", _) => Ok(Condition::NotIn),
        ("Exists", 0) => Ok(|_| Condition::Exists),
        ("DoesNotExist", 0) => Ok(|_| Condition::DoesNotExist),
        (operator @ ("Exists" | "DoesNotExist"), _) => {
            let message = format!("{operator} has values: {}", written.join(", "));
            Err(findings.error(values_path, message, "no values"))
        }
        (operator, _) => {
            let message = format!("{operator:?} is not an operator");
            Err(findings.error(format!("{path}.operator"), message, "In, NotIn, Exists or DoesNotExist"))
        }
    };
    key?;
    Ok(Requirement {
        key: requirement.key.as_str().into(),
        condition: condition?(values?.into_iter().collect()),
    })
}

/// The key of a label, or of an annotation in lower case.
pub(super) fn label_key(key: &str, path: &str, findings: &mut Findings<'_>) -> Result<(), Refused> {
    if is_qualified_name(key) {
        return Ok(());
    }
    Err(findings.error(path, format!("{key:?} is not a key"), QUALIFIED_NAME))
}

/// The value of a label.
pub(super) fn label_value(
    key: &str,
    value: &str,
    path: &str,
    findings: &mut Findings<'_>,
) -> Result<(), Refused> {
    if is_label_value(value) {
        return Ok(());
    }
    Err(findings.error(path, format!("{value:?}, a value of {key:?}, is not a label value"), LABEL_VALUE))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing::{equal, errors, pods_in, policy, values};
    use super::*;

    fn selecting(pods: &Value) -> Value {
        json!({
            "kind": "NetworkPolicy",
            "metadata": {"name": "p", "namespace": "prod"},
            "spec": {"podSelector": pods},
        })
    }

    #[test]
    fn every_kind_of_requirement_is_lowered() {
        let selector = json!({
            "matchLabels": {"app": "web", "empty": ""},
            "matchExpressions": [
                {"key": "a", "operator": "In", "values": ["2", "1", "2"]},
                {"key": "b", "operator": "NotIn", "values": ["x"]},
                {"key": "example.com/c", "operator": "Exists"},
                {"key": "d", "operator": "DoesNotExist", "values": []},
                {"key": "app", "operator": "In", "values": ["web"]},
            ],
        });
        let requirement = |key: &str, condition| Requirement { key: key.into(), condition };
        let expected = [
            equal("app", "web"),
            equal("empty", ""),
            requirement("a", Condition::In(values(&["1", "2"]))),
            requirement("b", Condition::NotIn(values(&["x"]))),
            requirement("example.com/c", Condition::Exists),
            requirement("d", Condition::DoesNotExist),
        ];
        assert_eq!(policy(selecting(&selector)).subject, pods_in("prod", expected));
    }

    #[test]
    fn wrong_requirements_are_refused() {
        let expression = "spec.podSelector.matchExpressions[0]";
        let key = QUALIFIED_NAME;
        let value = LABEL_VALUE;
        for (selector, expected) in [
            (
                json!({"matchLabels": {"a b": "c"}}),
                vec![format!("spec.podSelector.matchLabels: \"a b\" is not a key; expected {key}")],
            ),
            (
                json!({"matchLabels": {"-a": "b c"}}),
                vec![
                    format!("spec.podSelector.matchLabels: \"-a\" is not a key; expected {key}"),
                    format!(
                        "spec.podSelector.matchLabels: \"b c\", a value of \"-a\", is not a label value; \
                         expected {value}"
                    ),
                ],
            ),
            (
                json!({"matchExpressions": [{"key": "a", "operator": "In"}]}),
                vec![format!("{expression}.values: In has no values; expected one value or more")],
            ),
            (
                json!({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": []}]}),
                vec![format!("{expression}.values: NotIn has no values; expected one value or more")],
            ),
            (
                json!({"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b", "c"]}]}),
                vec![format!("{expression}.values: Exists has values: b, c; expected no values")],
            ),
            (
                json!({"matchExpressions": [{"key": "a", "operator": "DoesNotExist", "values": ["b"]}]}),
                vec![format!("{expression}.values: DoesNotExist has values: b; expected no values")],
            ),
            (
                json!({"matchExpressions": [{"key": "a/b/c", "operator": "In", "values": ["ok", "not ok"]}]}),
                vec![
                    format!("{expression}.key: \"a/b/c\" is not a key; expected {key}"),
                    format!(
                        "{expression}.values[1]: \"not ok\", a value of \"a/b/c\", is not a label value; \
                         expected {value}"
                    ),
                ],
            ),
        ] {
            assert_eq!(errors(selecting(&selector)), expected);
        }
    }
}
