//! Objects as an API server sends them, one at a time.
//!
//! What is read of them, and how strictly, is the same as of a manifest. They have no place in a file; the server says
//! which version of the object it is.

use policy_compiler::object::ObjectRef;
use policy_compiler::problem::Problem;
use serde::Deserialize;

use crate::document;
use crate::kept::from_json;
use crate::kind::Kind;
use crate::node::Short;
use crate::object::Content;
use crate::parse::typed;
use crate::reduce::reduce;

/// An object, and which version of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Live {
    /// Kind, namespace and name.
    pub object: ObjectRef,
    /// Which version.
    pub version: Version,
    /// What it says.
    pub content: Content,
}

/// What the server says of any object: who it is, and how old this word about it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Version {
    /// Its namespace; empty for objects of the whole cluster.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Which object of that name.
    pub uid: String,
    /// Changes with everything about the object.
    pub resource_version: String,
    /// Changes with its `spec`.
    pub generation: i64,
}

#[derive(Deserialize)]
struct OnlyVersion {
    #[serde(default)]
    metadata: Version,
}

/// Reads who an object is, whatever else is in it.
///
/// # Errors
///
/// The text is no JSON, or its metadata are of other types than Kubernetes' are.
pub fn version(json: &str) -> Result<Version, serde_json::Error> {
    serde_json::from_str::<OnlyVersion>(json).map(|only| only.metadata)
}

/// The reference to an object of a kind.
pub fn reference(kind: Kind, version: &Version) -> ObjectRef {
    if kind.is_namespaced() {
        ObjectRef::namespaced(kind.name(), &version.namespace, &version.name)
    } else {
        ObjectRef::cluster(kind.name(), &version.name)
    }
}

/// Reads an object of a known kind.
///
/// # Errors
///
/// Why it cannot be understood. Of a policy that is everything strict reading complains about, unknown fields included.
pub fn read(kind: Kind, json: &str) -> Result<Live, Vec<Problem>> {
    let version = version(json).map_err(|error| vec![no_json(kind, &error)])?;
    let object = reference(kind, &version);
    let node = if kind.is_policy() {
        // As strictly as a file: a key that comes twice, for example, is refused.
        match document::read("object.json", json.as_bytes()).into_iter().next() {
            Some(Ok(node)) => reduce(node, kind.keep()),
            Some(Err(defect)) => {
                return Err(vec![Problem::invalid(&object, "", defect.message, defect.expected)]);
            }
            None => return Err(vec![Problem::invalid(&object, "", "it is empty", "an object")]),
        }
    } else {
        let kept = from_json(json, kind.keep());
        reduce(
            kept.map_err(|error| vec![Problem::invalid(&object, "", error.to_string(), "JSON")])?,
            kind.keep(),
        )
    };
    let content = typed(&node, kind, &object)?;
    Ok(Live { object, version, content })
}

fn no_json(kind: Kind, error: &serde_json::Error) -> Problem {
    let object = ObjectRef::cluster(kind.name(), "(no name)");
    let message = format!("it cannot be read: {}", Short(&error.to_string()));
    Problem::invalid(&object, "metadata", message, "an object with metadata")
}

#[cfg(test)]
mod tests {
    use policy_compiler::api::PolicyObject;
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_of_the_server_reads_as_its_manifest_does_and_says_its_version() {
        let policy = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"name": "p", "namespace": "prod", "uid": "u", "resourceVersion": "41", "generation": 3,
                "managedFields": [{"manager": "kubectl"}], "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"podSelector": {}},
        });
        let live = read(Kind::NetworkPolicy, &policy.to_string()).unwrap();
        assert_eq!(live.object.to_string(), "NetworkPolicy prod/p");
        assert_eq!((live.version.resource_version.as_str(), live.version.generation), ("41", 3));
        let parsed = crate::parse::parse("a.json", policy.to_string().as_bytes());
        assert_eq!(parsed.problems, []);
        assert_eq!(parsed.objects[0].content, live.content);
        assert!(
            matches!(live.content, Content::Policy(policy) if matches!(*policy, PolicyObject::NetworkPolicy(_)))
        );
    }

    #[test]
    fn a_policy_with_a_field_that_is_not_known_is_refused_and_a_pod_with_one_is_not() {
        let metadata = json!({"name": "p", "namespace": "prod"});
        let policy = json!({"metadata": metadata, "spec": {"podSelector": {}, "mood": "calm"}}).to_string();
        let problems = read(Kind::NetworkPolicy, &policy).unwrap_err();
        let said: Vec<_> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "NetworkPolicy prod/p: spec.mood: unknown field `mood`; expected a field of NetworkPolicy; check its \
              spelling and indentation"
            ]
        );
        let pod = json!({"metadata": metadata, "spec": {"containers": [], "mood": "calm"}}).to_string();
        assert_eq!(read(Kind::Pod, &pod).unwrap().object.to_string(), "Pod prod/p");
        let broken = json!({"metadata": metadata, "spec": 5}).to_string();
        let problems = read(Kind::Pod, &broken).unwrap_err();
        let said: Vec<_> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(said, ["Pod prod/p: spec: found a number (5); expected a map"]);
    }
}
