//! Trees to typed values, with errors that say where, what was found and what would be right.

use serde::Serialize;
use serde::de::{DeserializeOwned, Deserializer};
use serde_json::Value;
use serde_path_to_error::Segment;

use crate::node::{Content, Node, Step, push_step};

/// Why a tree is no value of a type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mismatch {
    pub(crate) path: String,
    pub(crate) message: String,
    pub(crate) expected: String,
}

/// A value whose fields all have a meaning; also the paths of those that have none.
pub(crate) fn decode_strictly<T: DeserializeOwned + Serialize>(
    node: &Node,
) -> Result<(T, Vec<String>), Mismatch> {
    let mut unknown = Vec::new();
    let mut note = |path: serde_ignored::Path<'_>| unknown.push(ignored_path(&path));
    let value: T = traced(node, serde_ignored::Deserializer::new(node.to_value(), &mut note))?;
    match serde_json::to_value(&value).ok().and_then(|back| list_for_map(node, &back)) {
        None => Ok((value, unknown)),
        Some(steps) => Err(mismatch(node.nearest(&steps), &steps, "found a list, expected a map")),
    }
}

/// A value, whatever else is in the tree. (Not the above with its answer thrown away: these types are large, and every
/// layer is compiled for each of their fields.)
pub(crate) fn decode<T: DeserializeOwned>(node: &Node) -> Result<T, Mismatch> {
    traced(node, node.to_value())
}

fn traced<'de, T, D>(node: &Node, deserializer: D) -> Result<T, Mismatch>
where
    T: DeserializeOwned,
    D: Deserializer<'de, Error = serde_json::Error>,
{
    serde_path_to_error::deserialize(deserializer).map_err(|error| {
        let steps: Vec<_> = error.path().iter().filter_map(step).collect();
        mismatch(node.nearest(&steps), &steps, &error.inner().to_string())
    })
}

/// Where a list was taken for a map: derived types read a list as the values of their fields, in order.
fn list_for_map(node: &Node, value: &Value) -> Option<Vec<Step>> {
    let within = |step: Step, node: &Node, value: &Value| {
        let mut steps = list_for_map(node, value)?;
        steps.insert(0, step);
        Some(steps)
    };
    match (&node.content, value) {
        (Content::Seq(_), Value::Object(_)) => Some(Vec::new()),
        (Content::Seq(items), Value::Array(values)) => {
            let mut pairs = items.iter().zip(values).enumerate();
            pairs.find_map(|(index, (item, value))| within(Step::Index(index), item, value))
        }
        (Content::Map(entries), Value::Object(values)) => entries
            .iter()
            .find_map(|entry| within(Step::Key(entry.key.clone()), &entry.value, values.get(&entry.key)?)),
        _ => None,
    }
}

fn step(segment: &Segment) -> Option<Step> {
    match segment {
        Segment::Seq { index } => Some(Step::Index(*index)),
        Segment::Map { key } => Some(Step::Key(key.clone())),
        Segment::Enum { .. } | Segment::Unknown => None,
    }
}

/// Rewords what serde says, which knows neither how the value was written nor what its reader calls things.
fn mismatch(found: &Node, steps: &[Step], said: &str) -> Mismatch {
    let mut path = String::new();
    for step in steps {
        push_step(&mut path, step);
    }
    if let Some(field) = said.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
        return Mismatch {
            path,
            message: format!("`{field}` is missing"),
            expected: format!("a value for `{field}`"),
        };
    }
    let Some((_, wanted)) = said.rsplit_once(", expected ") else {
        let message = format!("found {}: {said}", found.content);
        return Mismatch { path, message, expected: "a value that can be used here".to_owned() };
    };
    let mut expected = plain_name(wanted);
    if let Content::Bool(_, written) | Content::Number(_, written) = &found.content
        && expected == "a string"
    {
        expected = format!("{expected}: quote it (\"{written}\")");
    }
    Mismatch { path, message: format!("found {}", found.content), expected }
}

/// What a manifest's author calls what Rust calls `wanted`.
fn plain_name(wanted: &str) -> String {
    let wanted = wanted.strip_prefix("struct ").unwrap_or(wanted);
    match wanted {
        "a sequence" => "a list".to_owned(),
        "i8" | "i16" | "i32" | "i64" | "u8" | "u16" | "u32" | "u64" => "a whole number".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "IntOrString" => "a whole number or a string".to_owned(),
        name if name.starts_with(|first: char| first.is_ascii_uppercase()) && !name.contains(' ') => {
            "a map".to_owned()
        }
        other => other.to_owned(),
    }
}

fn ignored_path(path: &serde_ignored::Path<'_>) -> String {
    match path {
        serde_ignored::Path::Root => String::new(),
        serde_ignored::Path::Seq { parent, index } => extended(parent, &Step::Index(*index)),
        serde_ignored::Path::Map { parent, key } => extended(parent, &Step::Key(key.clone())),
        serde_ignored::Path::Some { parent }
        | serde_ignored::Path::NewtypeStruct { parent }
        | serde_ignored::Path::NewtypeVariant { parent } => ignored_path(parent),
    }
}

fn extended(parent: &serde_ignored::Path<'_>, step: &Step) -> String {
    let mut path = ignored_path(parent);
    push_step(&mut path, step);
    path
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::networking::v1::NetworkPolicy;
    use policy_compiler::api::cluster_network_policy::ClusterNetworkPolicy;

    use super::*;
    use crate::yaml;

    fn fault<T: DeserializeOwned + Serialize>(text: &str) -> (String, String, String) {
        let Err(fault) =
            decode_strictly::<T>(&yaml::read(text).remove(0).unwrap_or_else(|defect| panic!("{defect:?}")))
        else {
            panic!("decodes: {text}")
        };
        (fault.path, fault.message, fault.expected)
    }

    #[test]
    fn a_mismatch_names_the_field_what_was_found_and_what_would_be_right() {
        for (text, path, message, expected) in [
            ("metadata: {name: y}", "metadata.name", "found a boolean (y)", "a string: quote it (\"y\")"),
            (
                "metadata: {labels: {a: 0x10}}",
                "metadata.labels.a",
                "found a number (0x10)",
                "a string: quote it (\"0x10\")",
            ),
            ("spec: [1]", "spec", "found a list", "a map"),
            ("spec: {ingress: {from: []}}", "spec.ingress", "found a map", "a list"),
            (
                "spec: {podSelector: {}, ingress: [{ports: [{endPort: \"90\"}]}]}",
                "spec.ingress[0].ports[0].endPort",
                "found a string (90)",
                "a whole number",
            ),
            (
                "spec: {podSelector: {}, ingress: [{ports: [{port: 1.5}]}]}",
                "spec.ingress[0].ports[0].port",
                "found a number (1.5)",
                "a whole number or a string",
            ),
        ] {
            let expected = (path.to_owned(), message.to_owned(), expected.to_owned());
            assert_eq!(fault::<NetworkPolicy>(text), expected, "{text}");
        }
    }

    #[derive(Debug, Serialize, serde::Deserialize)]
    struct Rule {
        action: String,
    }

    #[test]
    fn a_missing_field_is_named() {
        let expected =
            ("rules[1]".to_owned(), "`action` is missing".to_owned(), "a value for `action`".to_owned());
        let text = "rules: [{action: Deny}, {}]";
        assert_eq!(fault::<std::collections::BTreeMap<String, Vec<Rule>>>(text), expected);
    }

    #[test]
    fn a_list_is_never_taken_for_a_map() {
        let text = "spec: {tier: Admin, priority: 1, subject: {}, ingress: [{action: Deny, from: [], protocols: [{tcp: []}]}]}";
        let expected =
            ("spec.ingress[0].protocols[0].tcp".to_owned(), "found a list".to_owned(), "a map".to_owned());
        assert_eq!(fault::<ClusterNetworkPolicy>(text), expected);
    }

    #[test]
    fn unknown_fields_are_named() {
        let text = "metadata: {nam: a}\nspec: {podSelector: {}, ingress: [{form: []}]}\nspecs: 1";
        let (_, unknown) = decode_strictly::<NetworkPolicy>(&yaml::read(text).remove(0).unwrap()).unwrap();
        assert_eq!(unknown, ["metadata.nam", "spec.ingress[0].form", "specs"]);
    }
}
