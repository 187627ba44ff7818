//! JSON to a tree of what is kept of it: what policy cannot depend on is skipped where it stands.
//!
//! A tree, and not the typed value at once: those types are large, and every way to read them is compiled for each of
//! their fields. What is kept is a small part.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Number;

use crate::kind::Keep;
use crate::node::{Content, Entry, Node};

/// Reads a value, as if only what is kept had been written. Everything is on line 1.
pub(crate) fn from_json(json: &str, keep: Keep) -> Result<Node, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_str(json);
    let node = Kept(keep).deserialize(&mut reader)?;
    reader.end()?;
    Ok(node)
}

/// What is kept of the value to come.
#[derive(Clone, Copy)]
struct Kept(Keep);

#[expect(clippy::unnecessary_wraps, reason = "it is what every visit of a value answers")]
fn node<E>(content: Content) -> Result<Node, E> {
    Ok(Node { line: 1, content })
}

fn number<E>(number: Number) -> Result<Node, E> {
    let written = number.to_string().into();
    node(Content::Number(number, written))
}

impl<'de> DeserializeSeed<'de> for Kept {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Kept {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        node(Content::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        node(Content::Bool(value, value.to_string().into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        number(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        number(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Node, E> {
        number(Number::from_f64(value).ok_or_else(|| E::custom("a number is not finite"))?)
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        node(Content::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Node, E> {
        node(Content::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let keep = if let Keep::Items(keep) = self.0 { *keep } else { Keep::All };
        let mut kept = Vec::new();
        while let Some(item) = items.next_element_seed(Self(keep))? {
            kept.push(item);
        }
        node(Content::Seq(kept))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut kept = Vec::new();
        while let Some(key) = entries.next_key::<String>()? {
            let keep = self.0.of_key(&key);
            if matches!(keep, Keep::Nothing) {
                entries.next_value::<IgnoredAny>()?;
            } else {
                kept.push(Entry { key, line: 1, value: entries.next_value_seed(Self(keep))? });
            }
        }
        node(Content::Map(kept))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kind::Kind;
    use crate::reduce::reduce;

    #[test]
    fn what_is_not_kept_is_not_even_looked_at() {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "a", "annotations": 7, "managedFields": "odd", "labels": {"a": "b"}},
            "spec": {"containers": [{"image": [], "ports": [{"containerPort": 80, "name": "http", "hostIP": {}}]}]},
            "status": {"podIPs": [{"ip": "10.0.0.1"}], "conditions": 5},
        });
        let read = from_json(&pod.to_string(), Kind::Pod.keep()).unwrap();
        // The same as by way of the whole tree.
        let tree = crate::json::read(&pod.to_string()).unwrap().remove(0);
        assert_eq!(read.to_value(), reduce(tree, Kind::Pod.keep()).to_value());
        assert_eq!(read.get("metadata").unwrap().to_value(), json!({"name": "a", "labels": {"a": "b"}}));
    }
}
