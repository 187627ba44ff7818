//! Files to one set of objects: each name once, and what was skipped counted.

use std::collections::{BTreeMap, HashMap};

use policy_compiler::object::{Location, ObjectRef};
use policy_compiler::problem::{Problem, Severity};

use crate::node::Short;
use crate::object::{Content, Object};
use crate::parse::{Parsed, Skipped};

/// The id of the note (the content is equal) or error (it is not) about two objects of one name.
pub const DUPLICATE_OBJECT: &str = "duplicate-object";

/// The id of the note about objects of a kind that is not read; a warning if its name is that of a kind that is.
pub const SKIPPED_KIND: &str = "skipped-kind";

/// What is counted together.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct SkippedKind {
    kind: String,
    group: String,
    expected: Option<String>,
}

/// All that was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Loaded {
    /// The objects, in the order of the files; no two have the same kind, namespace and name.
    pub objects: Vec<Object>,
    /// What is wrong with files and objects. An object with an error is not among the objects.
    pub problems: Vec<Problem>,
}

impl Loaded {
    /// Puts files together.
    pub fn gather(files: impl IntoIterator<Item = Parsed>) -> Self {
        let mut loaded = Self::default();
        let mut places: HashMap<ObjectRef, usize> = HashMap::new();
        let mut generated: HashMap<ObjectRef, usize> = HashMap::new();
        let mut skipped: BTreeMap<SkippedKind, (Location, usize)> = BTreeMap::new();
        for file in files {
            loaded.problems.extend(file.problems);
            for Skipped { kind, api_version, expected, location } in file.skipped {
                let kind = SkippedKind { kind, group: group(&api_version).to_owned(), expected };
                skipped.entry(kind).or_insert((location, 0)).1 += 1;
            }
            for mut object in file.objects {
                make_unique(&mut object, &places, &mut generated);
                if let Some(first) = places.get(&object.object).and_then(|&index| loaded.objects.get(index)) {
                    loaded.problems.push(duplicate(first, &object));
                } else {
                    places.insert(object.object.clone(), loaded.objects.len());
                    loaded.objects.push(object);
                }
            }
        }
        loaded.problems.extend(skipped.into_iter().map(|(kind, (place, count))| skip(kind, place, count)));
        loaded
    }

    /// Whether anything is wrong enough that an object or a file is left out.
    pub fn has_errors(&self) -> bool {
        self.problems.iter().any(|problem| problem.severity == Severity::Error)
    }
}

fn group(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

/// The API server appends random letters to `generateName`; here a number does. `generated` has the next one for each
/// prefix.
fn make_unique(
    object: &mut Object,
    places: &HashMap<ObjectRef, usize>,
    generated: &mut HashMap<ObjectRef, usize>,
) {
    let metadata = object.content.metadata();
    let Some(prefix) = metadata.generate_name.clone().filter(|prefix| metadata.name.as_ref() == Some(prefix))
    else {
        return;
    };
    if !places.contains_key(&object.object) {
        return;
    }
    let number = generated.entry(object.object.clone()).or_default();
    while places.contains_key(&object.object) {
        let name = format!("{prefix}{number}");
        *number += 1;
        object.object.name = name.as_str().into();
        object.content.metadata_mut().name = Some(name);
    }
}

fn duplicate(first: &Object, second: &Object) -> Problem {
    let place = |object: &Object| Location { file: object.source.file.clone(), line: object.source.line };
    let equal = alike(&first.content, &second.content);
    let (severity, message, expected) = if equal {
        (Severity::Note, format!("it is also, alike, at {}", place(first)), "")
    } else {
        (
            Severity::Error,
            format!("it is also, with other content, at {}", place(first)),
            "one object of this name",
        )
    };
    Problem {
        severity,
        id: DUPLICATE_OBJECT,
        object: second.object.clone(),
        path: String::new(),
        message,
        expected: expected.to_owned(),
        location: Some(place(second)),
    }
}

/// What the API server writes into the metadata does not make a policy another one.
fn alike(first: &Content, second: &Content) -> bool {
    let bare = |content: &Content| {
        let mut content = content.clone();
        let metadata = content.metadata_mut();
        (metadata.uid, metadata.creation_timestamp) = (None, None);
        (metadata.resource_version, metadata.generation, metadata.self_link) = (None, None, None);
        metadata.annotations = None;
        content
    };
    bare(first) == bare(second)
}

fn skip(skipped: SkippedKind, location: Location, count: usize) -> Problem {
    let SkippedKind { kind, group, expected } = skipped;
    let group = if group.is_empty() { String::new() } else { format!(" ({})", Short(&group)) };
    let kind = Short(&kind);
    let mut message = match count {
        1 => format!("1 object of kind {kind}{group} is skipped"),
        count => format!("{count} objects of kind {kind}{group} are skipped, this is the first"),
    };
    // A pod that is left out of the picture changes the answers about it.
    let severity = if expected.is_some() { Severity::Warning } else { Severity::Note };
    if expected.is_some() {
        message.push_str("; its apiVersion is none that has this kind");
    }
    Problem {
        severity,
        id: SKIPPED_KIND,
        object: ObjectRef::cluster("File", &location.file),
        path: String::new(),
        message,
        expected: expected.unwrap_or_default(),
        location: Some(location),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::parse;

    fn gather(files: &[(&str, &str)]) -> (Vec<String>, Vec<String>) {
        let loaded = Loaded::gather(files.iter().map(|(file, text)| parse(file, text.as_bytes())));
        let objects = loaded.objects.iter().map(|object| object.object.to_string()).collect();
        let problems =
            loaded.problems.iter().map(|problem| format!("{}: {problem}", problem.severity.name())).collect();
        (objects, problems)
    }

    #[test]
    fn of_two_objects_of_one_name_the_first_stays_and_the_second_is_named() {
        let pod = "{apiVersion: v1, kind: Pod, metadata: {name: p, labels: {a: b}}}";
        let same = "\n{apiVersion: v1, kind: Pod, metadata: {name: p, namespace: default, labels: {a: b}, annotations: {x: y}}}";
        let other = "{apiVersion: v1, kind: Pod, metadata: {name: p}}";
        let (objects, problems) = gather(&[("a", pod), ("b", same), ("c", other)]);
        assert_eq!(objects, ["Pod default/p"]);
        assert_eq!(
            problems,
            [
                "note: b:2: Pod default/p: it is also, alike, at a:1",
                "error: c:1: Pod default/p: it is also, with other content, at a:1; expected one object of this name",
            ]
        );
    }

    #[test]
    fn skipped_kinds_are_counted_over_all_files() {
        let ingress = "{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: i}}\n";
        let text = format!("---\n{ingress}---\n{ingress}");
        let config = "kind: ConfigMap\napiVersion: v1\n";
        let (objects, problems) = gather(&[("a", &text), ("b", config), ("c", ingress)]);
        assert_eq!(objects, Vec::<String>::new());
        assert_eq!(
            problems,
            [
                "note: b:1: File b: 1 object of kind ConfigMap is skipped",
                "note: a:2: File a: 3 objects of kind Ingress (networking.k8s.io) are skipped, this is the first",
            ]
        );
    }

    #[test]
    fn a_kind_that_is_read_under_a_version_that_has_it_not_is_skipped_with_a_warning() {
        let text = "{apiVersion: v1, kind: Deployment, metadata: {name: d}}\n";
        let (objects, problems) = gather(&[("a", text)]);
        assert_eq!(objects, Vec::<String>::new());
        assert_eq!(
            problems,
            [
                "warning: a:1: File a: 1 object of kind Deployment is skipped; its apiVersion is none that has this kind; \
              expected apiVersion: apps/v1, kind: Deployment"
            ]
        );
        let (_, problems) = gather(&[("a", "{apiVersion: serving.knative.dev/v1, kind: Service}")]);
        assert!(problems[0].starts_with("note: "), "{problems:?}");
    }

    #[test]
    fn objects_with_generated_names_are_told_apart() {
        let job = "{apiVersion: batch/v1, kind: Job, metadata: {generateName: j-}, spec: {template: {}}}";
        let (objects, problems) = gather(&[("a", job), ("b", job), ("c", job)]);
        assert_eq!(objects, ["Job default/j-", "Job default/j-0", "Job default/j-1"]);
        assert_eq!(problems, Vec::<String>::new());
    }
}
