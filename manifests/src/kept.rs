//! JSON straight to typed values, without what is not kept of it: no tree in between, and what policy cannot depend on
//! is skipped where it stands.

use std::fmt;

use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error, IgnoredAny, IntoDeserializer,
    MapAccess, SeqAccess, Visitor,
};

use crate::kind::Keep;

/// Reads a value, as if only what is kept had been written.
pub(crate) fn from_json<T: DeserializeOwned>(json: &str, keep: Keep) -> Result<T, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_str(json);
    let value = T::deserialize(Kept { inner: &mut reader, keep })?;
    reader.end()?;
    Ok(value)
}

/// Something that gives values, and what is kept of them.
struct Kept<I> {
    inner: I,
    keep: Keep,
}

macro_rules! forwarded {
    ($($method:ident($($argument:ident: $type:ty),*)),* $(,)?) => {$(
        fn $method<V: Visitor<'de>>(self, $($argument: $type,)* visitor: V) -> Result<V::Value, Self::Error> {
            self.inner.$method($($argument,)* Kept { inner: visitor, keep: self.keep })
        }
    )*};
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Kept<D> {
    type Error = D::Error;

    forwarded! {
        deserialize_any(), deserialize_bool(), deserialize_i8(), deserialize_i16(), deserialize_i32(), deserialize_i64(),
        deserialize_u8(), deserialize_u16(), deserialize_u32(), deserialize_u64(), deserialize_f32(), deserialize_f64(),
        deserialize_char(), deserialize_str(), deserialize_string(), deserialize_bytes(), deserialize_byte_buf(),
        deserialize_option(), deserialize_unit(), deserialize_unit_struct(name: &'static str),
        deserialize_newtype_struct(name: &'static str), deserialize_seq(), deserialize_tuple(length: usize),
        deserialize_tuple_struct(name: &'static str, length: usize), deserialize_map(),
        deserialize_struct(name: &'static str, fields: &'static [&'static str]),
        deserialize_enum(name: &'static str, variants: &'static [&'static str]), deserialize_identifier(),
        deserialize_ignored_any(),
    }
}

macro_rules! visited {
    ($($method:ident: $type:ty),* $(,)?) => {$(
        fn $method<E: Error>(self, value: $type) -> Result<Self::Value, E> {
            self.inner.$method(value)
        }
    )*};
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Kept<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    visited! {
        visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64, visit_str: &str,
        visit_borrowed_str: &'de str, visit_string: String, visit_bytes: &[u8],
    }

    fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
        self.inner.visit_none()
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        self.inner.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<Self::Value, D::Error> {
        self.inner.visit_some(Kept { inner, keep: self.keep })
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<Self::Value, D::Error> {
        self.inner.visit_newtype_struct(Kept { inner, keep: self.keep })
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<Self::Value, A::Error> {
        self.inner.visit_enum(data)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Self::Value, A::Error> {
        let keep = if let Keep::Items(keep) = self.keep { *keep } else { Keep::All };
        self.inner.visit_seq(Kept { inner: items, keep })
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<Self::Value, A::Error> {
        self.inner.visit_map(Entries { inner: entries, keep: self.keep, of_next: Keep::All })
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Kept<A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        self.inner.next_element_seed(Kept { inner: seed, keep: self.keep })
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Kept<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<S::Value, D::Error> {
        self.inner.deserialize(Kept { inner, keep: self.keep })
    }
}

/// The entries of a map that are kept.
struct Entries<A> {
    inner: A,
    keep: Keep,
    of_next: Keep,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Entries<A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        while let Some(key) = self.inner.next_key::<String>()? {
            self.of_next = self.keep.of_key(&key);
            if matches!(self.of_next, Keep::Nothing) {
                self.inner.next_value::<IgnoredAny>()?;
                continue;
            }
            return seed.deserialize(key.into_deserializer()).map(Some);
        }
        Ok(None)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.inner.next_value_seed(Kept { inner: seed, keep: self.of_next })
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    use super::*;
    use crate::kind::Kind;
    use crate::node::Node;
    use crate::reduce::reduce;

    #[test]
    fn what_is_not_kept_is_not_even_looked_at() {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "a", "annotations": 7, "managedFields": "odd", "labels": {"a": "b"}},
            "spec": {"containers": [{"image": [], "ports": [{"containerPort": 80, "name": "http", "hostIP": {}}]}]},
            "status": {"podIPs": [{"ip": "10.0.0.1"}], "conditions": 5},
        });
        let read: Pod = from_json(&pod.to_string(), Kind::Pod.keep()).unwrap();
        // The same as by way of the tree.
        let tree: Node = crate::json::read(&pod.to_string()).unwrap().remove(0);
        let expected: Pod = serde_json::from_value(reduce(tree, Kind::Pod.keep()).to_value()).unwrap();
        assert_eq!(read, expected);
        assert_eq!(read.metadata.labels.unwrap()["a"], "b");
        assert_eq!(read.spec.unwrap().containers[0].ports.as_ref().unwrap()[0].container_port, 80);
    }

    #[test]
    fn what_is_kept_has_to_be_right() {
        let wrong = json!({"metadata": {"name": "a"}, "status": {"phase": 5}}).to_string();
        let error = from_json::<Pod>(&wrong, Kind::Pod.keep()).unwrap_err();
        assert!(error.to_string().starts_with("invalid type: integer `5`, expected a string"), "{error}");
    }
}
