//! Names of objects and places in files: what provenance and problems point at.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// An object, as a user would name it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectRef {
    /// For example `NetworkPolicy`.
    pub kind: Arc<str>,
    /// `None` for objects of the whole cluster.
    pub namespace: Option<Arc<str>>,
    /// The name.
    pub name: Arc<str>,
}

impl ObjectRef {
    /// An object in a namespace.
    pub fn namespaced(kind: &str, namespace: &str, name: &str) -> Self {
        Self { kind: kind.into(), namespace: Some(namespace.into()), name: name.into() }
    }

    /// An object of the whole cluster.
    pub fn cluster(kind: &str, name: &str) -> Self {
        Self { kind: kind.into(), namespace: None, name: name.into() }
    }
}

impl fmt::Display for ObjectRef {
    /// `NetworkPolicy prod/api`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

/// A pod's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodKey {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name in it.
    pub name: Arc<str>,
}

impl PodKey {
    /// A pod's name.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for PodKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A line of a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    /// The path as the user gave it; `-` for standard input.
    pub file: Arc<str>,
    /// 1 is the first.
    pub line: u32,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// Where an object was written, and on which line each of its fields is. Objects of an API server have none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The path as the user gave it; `-` for standard input.
    pub file: Arc<str>,
    /// The line on which the object begins.
    pub line: u32,
    /// Field path (`spec.ingress[0].ports[1].port`) to line.
    pub fields: BTreeMap<String, u32>,
}

impl Source {
    /// The place of a field, or of the nearest enclosing field that is written.
    pub fn locate(&self, path: &str) -> Location {
        let mut path = path;
        let line = loop {
            if path.is_empty() {
                break self.line;
            }
            if let Some(&line) = self.fields.get(path) {
                break line;
            }
            // Strip the last step: `.name` or `[index]`.
            path = path.rfind(['.', '[']).map_or("", |cut| &path[..cut]);
        };
        Location { file: Arc::clone(&self.file), line }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_is_not_written_is_located_at_the_nearest_one_that_is() {
        let fields = BTreeMap::from([("spec".to_owned(), 4), ("spec.ingress[0]".to_owned(), 7)]);
        let source = Source { file: "a.yaml".into(), line: 1, fields };
        for (path, line) in
            [("spec.ingress[0].from[2].ipBlock", 7), ("spec.egress", 4), ("metadata.name", 1), ("", 1)]
        {
            assert_eq!(source.locate(path).to_string(), format!("a.yaml:{line}"));
        }
    }
}
