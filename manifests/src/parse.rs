//! The bytes of one file to its objects. Pure: which files there are is [`crate::load`]'s business.

use std::sync::Arc;

use policy_compiler::api::PolicyObject;
use policy_compiler::object::{Location, ObjectRef, Source};
use policy_compiler::problem::{Problem, Severity};

use crate::decode::{Mismatch, decode, decode_strictly};
use crate::document;
use crate::kind::{Kind, Recognition, recognise};
use crate::node::{self, Defect, Node, Short};
use crate::object::{Content, Object};
use crate::reduce::{lines, reduce};

/// The id of the error about a file that is not YAML or JSON, or not as strictly as Kubernetes wants it.
pub const INVALID_FILE: &str = "invalid-file";

/// The id of the note about documents that are no objects.
pub const NOT_AN_OBJECT: &str = "not-an-object";

/// How many bytes the paths of all fields of a file may take.
const PATHS: usize = 128 << 20;

/// What a file holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parsed {
    /// The objects, in the order of the file.
    pub objects: Vec<Object>,
    /// What is wrong with the file or with objects in it.
    pub problems: Vec<Problem>,
    /// Objects of kinds that are not read.
    pub skipped: Vec<Skipped>,
}

/// An object of a kind that is not read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Skipped {
    /// Its kind.
    pub kind: String,
    /// Its version of the API.
    pub api_version: String,
    /// What was probably meant, if its name is that of a kind that is read: `apiVersion: apps/v1, kind: Deployment`.
    pub expected: Option<String>,
    /// Its place.
    pub location: Location,
}

/// Reads the content of a file. The name is only for messages (and an ending in `.json` for what is wanted of it).
pub fn parse(file: &str, bytes: &[u8]) -> Parsed {
    let mut reader =
        Reader { file: file.into(), parsed: Parsed::default(), paths: PATHS, foreign: Vec::new() };
    for document in document::read(file, bytes) {
        match document {
            Ok(document) => reader.document(document),
            Err(defect) => reader.parsed.problems.push(file_problem(&reader.file, defect)),
        }
    }
    reader.finish()
}

/// An error about a file as a whole.
pub(crate) fn file_problem(file: &Arc<str>, defect: Defect) -> Problem {
    Problem {
        severity: Severity::Error,
        id: INVALID_FILE,
        object: ObjectRef::cluster("File", file),
        path: String::new(),
        message: defect.message,
        expected: defect.expected,
        location: Some(Location { file: Arc::clone(file), line: defect.line }),
    }
}

struct Reader {
    file: Arc<str>,
    parsed: Parsed,
    /// What is left of [`PATHS`].
    paths: usize,
    /// The lines of documents that are no objects.
    foreign: Vec<u32>,
}

/// What a list says about its items.
#[derive(Clone, Copy)]
enum Inherited<'a> {
    /// A document of its own.
    Nothing,
    /// A `List`, whose items say it themselves.
    Item,
    /// A list of one kind, whose items may leave it out.
    Typed { api_version: &'a str, kind: &'a str },
}

impl Reader {
    fn document(&mut self, node: Node) {
        if node.content != node::Content::Null {
            self.object(node, Inherited::Nothing);
        }
    }

    fn object(&mut self, node: Node, inherited: Inherited<'_>) {
        let (of_list, of_list_kind) = match inherited {
            Inherited::Typed { api_version, kind } => (Some(api_version), Some(kind)),
            Inherited::Nothing | Inherited::Item => (None, None),
        };
        let written = |key: &str| node.get(key).and_then(Node::text).map(str::to_owned);
        let api_version = written("apiVersion").or_else(|| of_list.map(str::to_owned)).unwrap_or_default();
        let is_map = matches!(node.content, node::Content::Map(_));
        let Some(kind) = written("kind").or_else(|| of_list_kind.map(str::to_owned)).filter(|_| is_map)
        else {
            return self.foreign(&node, inherited);
        };
        if let Some(item_kind) = kind.strip_suffix("List")
            && (item_kind.is_empty() || node.get("items").is_some())
        {
            return self.list(node, &api_version, item_kind);
        }
        match recognise(&api_version, &kind) {
            Recognition::Read(read_as) => self.read(node, &kind, read_as),
            Recognition::OtherPolicy { expected } => {
                let line = node.entry("apiVersion").map_or(node.line, |entry| entry.line);
                let message = format!("{kind} of {} is not read", named_version(&api_version));
                let expected = format!("apiVersion: {expected}");
                let problem =
                    Problem::invalid(&reference(&node, &kind, None), "apiVersion", message, expected);
                self.problem(problem, line);
            }
            Recognition::NoSuchKind { expected } => {
                let line = node.entry("kind").map_or(node.line, |entry| entry.line);
                let message = format!("{} has no kind {}", named_version(&api_version), Short(&kind));
                let object = reference(&node, &kind, None);
                self.problem(Problem::invalid(&object, "kind", message, expected), line);
            }
            // Tests of policies lie beside them; `polctl test` reads these.
            Recognition::Skipped if kind == "PolicyTest" && api_version.starts_with("polder.dev/") => {}
            Recognition::Skipped => self.skip(&node, kind, api_version, None),
            Recognition::Misplaced { expected, kind: spelled } => {
                let expected = format!("apiVersion: {expected}, kind: {spelled}");
                self.skip(&node, kind, api_version, Some(expected));
            }
        }
    }

    fn skip(&mut self, node: &Node, kind: String, api_version: String, expected: Option<String>) {
        let location = Location { file: Arc::clone(&self.file), line: node.line };
        self.parsed.skipped.push(Skipped { kind, api_version, expected, location });
    }

    fn foreign(&mut self, node: &Node, inherited: Inherited<'_>) {
        if matches!(inherited, Inherited::Nothing) {
            // With a version of the API it is meant to be an object, and may be a policy whose kind got lost.
            if let Some(entry) = node.entry("apiVersion").filter(|_| !is_chart(node)) {
                let object = ObjectRef::cluster("File", &self.file);
                let message = "an object has an apiVersion and no kind";
                let expected = "the kind of the object, as text";
                return self.problem(Problem::invalid(&object, "kind", message, expected), entry.line);
            }
            return self.foreign.push(node.line);
        }
        // What stands among objects must be one: it may be a policy whose kind got lost.
        let object = ObjectRef::cluster("File", &self.file);
        let message = format!("an item of a list is no object: found {} without a kind", node.content);
        self.problem(Problem::invalid(&object, "", message, "an object with apiVersion and kind"), node.line);
    }

    fn list(&mut self, mut node: Node, api_version: &str, item_kind: &str) {
        let inherited = if item_kind.is_empty() {
            Inherited::Item
        } else {
            Inherited::Typed { api_version, kind: item_kind }
        };
        let node::Content::Map(entries) = &mut node.content else { return };
        let Some(index) = entries.iter().position(|entry| entry.key == "items") else { return };
        let items = entries.swap_remove(index);
        match items.value.content {
            node::Content::Null => {}
            node::Content::Seq(items) => {
                for item in items {
                    self.object(item, inherited);
                }
            }
            other => {
                let object = ObjectRef::cluster("File", &self.file);
                let message = format!("found {other}");
                self.problem(Problem::invalid(&object, "items", message, "a list of objects"), items.line);
            }
        }
    }

    /// Reads an object of a known kind.
    fn read(&mut self, node: Node, kind: &str, read_as: Kind) {
        let object = reference(&node, kind, Some(read_as));
        let line = node.line;
        let node = reduce(node, read_as.keep());
        let fields = lines(&node, &mut self.paths);
        let source = Arc::new(Source { file: Arc::clone(&self.file), line, fields });
        match typed(&node, read_as, &object) {
            Ok(content) => self.parsed.objects.push(Object { object, source, content }),
            Err(problems) => {
                let located = problems.into_iter().map(|problem| problem.located(Some(&source)));
                self.parsed.problems.extend(located);
            }
        }
    }

    fn problem(&mut self, mut problem: Problem, line: u32) {
        problem.location = Some(Location { file: Arc::clone(&self.file), line });
        self.parsed.problems.push(problem);
    }

    fn finish(mut self) -> Parsed {
        if let Some(&line) = self.foreign.first() {
            let message = match self.foreign.len() {
                1 => "a document is no Kubernetes object".to_owned(),
                count => format!("{count} documents are no Kubernetes objects, this is the first"),
            };
            let object = ObjectRef::cluster("File", &self.file);
            let expected = "a map with apiVersion and kind".to_owned();
            let severity = Severity::Note;
            let path = String::new();
            self.problem(
                Problem { severity, id: NOT_AN_OBJECT, object, path, message, expected, location: None },
                line,
            );
        }
        self.parsed
    }
}

/// Whether a document is the description of a Helm chart (`Chart.yaml`), which lies beside manifests, has an `apiVersion`
/// of Helm's and never a kind.
fn is_chart(node: &Node) -> bool {
    matches!(node.get("apiVersion").and_then(Node::text), Some("v1" | "v2"))
        && ["name", "version"].iter().all(|key| node.get(key).is_some())
        && ["kind", "metadata", "spec", "items"].iter().all(|key| node.get(key).is_none())
}

fn unknown_field(object: &ObjectRef, path: String, kind: &str) -> Problem {
    let field = path.rsplit('.').next().unwrap_or(&path);
    let message = format!("unknown field `{}`", Short(field));
    Problem::invalid(object, path, message, format!("a field of {kind}; check its spelling and indentation"))
}

fn named_version(api_version: &str) -> String {
    if api_version.is_empty() { "no apiVersion".to_owned() } else { format!("{}", Short(api_version)) }
}

/// Kind, namespace and name as they can be made out before the object is decoded. Without a known kind, an object with
/// a namespace is taken to have one.
fn reference(node: &Node, kind: &str, read_as: Option<Kind>) -> ObjectRef {
    let metadata = node.get("metadata");
    let field = |key: &str| {
        let value = metadata.and_then(|metadata| metadata.get(key))?;
        match &value.content {
            node::Content::String(text) => Some(text.as_str()),
            node::Content::Bool(_, written) | node::Content::Number(_, written) => Some(&**written),
            _ => None,
        }
        .filter(|text| !text.is_empty())
    };
    let name = field("name").or_else(|| field("generateName")).unwrap_or("(no name)");
    let namespace = field("namespace");
    match read_as {
        Some(read_as) if read_as.is_namespaced() => {
            ObjectRef::namespaced(kind, namespace.unwrap_or("default"), name)
        }
        None if namespace.is_some() => ObjectRef::namespaced(kind, namespace.unwrap_or_default(), name),
        _ => ObjectRef::cluster(kind, name),
    }
}

/// What a reduced tree says, or everything that is wrong with it.
pub(crate) fn typed(node: &Node, read_as: Kind, object: &ObjectRef) -> Result<Content, Vec<Problem>> {
    let (mut content, unknown) = content(node, read_as).map_err(|mismatch| {
        vec![Problem::invalid(object, mismatch.path, mismatch.message, mismatch.expected)]
    })?;
    let mut problems: Vec<Problem> =
        unknown.into_iter().map(|path| unknown_field(object, path, &object.kind)).collect();
    settle(&mut content, read_as, object, &mut problems);
    if problems.is_empty() { Ok(content) } else { Err(problems) }
}

/// Decodes a tree; of a policy, also gives the paths of fields that it does not have.
fn content(node: &Node, read_as: Kind) -> Result<(Content, Vec<String>), Mismatch> {
    macro_rules! policy {
        ($kind:ident) => {
            decode_strictly(node)
                .map(|(policy, unknown)| (Content::Policy(Box::new(PolicyObject::$kind(policy))), unknown))
        };
    }
    macro_rules! other {
        ($kind:ident) => {
            decode(node).map(|object| (Content::$kind(Box::new(object)), Vec::new()))
        };
    }
    match read_as {
        Kind::NetworkPolicy => policy!(NetworkPolicy),
        Kind::ClusterNetworkPolicy => policy!(ClusterNetworkPolicy),
        Kind::AdminNetworkPolicy => policy!(AdminNetworkPolicy),
        Kind::BaselineAdminNetworkPolicy => policy!(BaselineAdminNetworkPolicy),
        Kind::PolderPolicy => policy!(PolderPolicy),
        Kind::ClusterPolderPolicy => policy!(ClusterPolderPolicy),
        Kind::Namespace => other!(Namespace),
        Kind::Node => other!(Node),
        Kind::Pod => other!(Pod),
        Kind::Service => other!(Service),
        Kind::EndpointSlice => other!(EndpointSlice),
        Kind::Workload => other!(Workload),
    }
}

/// Fills in name and namespace as the API server would, and checks what the decoded type cannot.
fn settle(content: &mut Content, read_as: Kind, object: &ObjectRef, problems: &mut Vec<Problem>) {
    let metadata = content.metadata_mut();
    metadata.namespace = object.namespace.as_deref().filter(|_| read_as.is_namespaced()).map(str::to_owned);
    let name = metadata.name.take().filter(|name| !name.is_empty());
    metadata.name = name.or_else(|| metadata.generate_name.clone().filter(|name| !name.is_empty()));
    if metadata.name.is_none() {
        problems.push(Problem::invalid(object, "metadata.name", "the name is missing", "a name"));
    }
    if let Content::Workload(workload) = content
        && workload.template().is_none()
    {
        problems.push(Problem::invalid(
            object,
            "spec",
            "the pod template is missing",
            "a value for `template`",
        ));
    }
}

#[cfg(test)]
mod tests;
