use std::collections::BTreeSet;
use std::path::Path;

use policy_compiler::object::{Location, ObjectRef};
use policy_compiler::problem::{Problem, Severity};

use super::{exit_code, report, sort};

fn problem(severity: Severity, id: &'static str, place: Option<(&str, u32)>, message: &str) -> Problem {
    Problem {
        severity,
        id,
        object: ObjectRef::namespaced("NetworkPolicy", "prod", "api"),
        path: "spec.podSelector".to_owned(),
        message: message.to_owned(),
        expected: "app=web".to_owned(),
        location: place.map(|(file, line)| Location { file: file.into(), line }),
    }
}

fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

#[test]
fn text_is_grouped_by_file_and_sorted_by_line_and_counted() {
    let mut problems = vec![
        problem(Severity::Warning, "w", None, "nowhere"),
        problem(Severity::Note, "n", Some(("b.yaml", 3)), "third"),
        problem(Severity::Error, "e", Some(("a.yaml", 12)), "second\u{1b}[2J"),
        problem(Severity::Error, "e", Some(("a.yaml", 9)), "first"),
        problem(Severity::Error, "e", Some(("a.yaml", 9)), "first"),
    ];
    sort(&mut problems);
    let expected = "\
a.yaml
    9  error    e  NetworkPolicy prod/api
       spec.podSelector: first
       expected app=web
   12  error    e  NetworkPolicy prod/api
       spec.podSelector: second\\u{1b}[2J
       expected app=web

b.yaml
    3  note     n  NetworkPolicy prod/api
       spec.podSelector: third
       expected app=web

(no file)
       warning  w  NetworkPolicy prod/api
       spec.podSelector: nowhere
       expected app=web

2 errors, 1 warning, 1 note in 7 policies
";
    assert_eq!(plain(&report::text(&problems, 7)), expected);
    assert_eq!(plain(&report::text(&[], 1)), "no errors, no warnings, no notes in 1 policy\n");
}

#[test]
fn json_has_every_field_and_null_for_an_unknown_place() {
    let problems = [
        problem(Severity::Note, "n", Some(("b.yaml", 3)), "third"),
        problem(Severity::Warning, "w", None, "nowhere"),
    ];
    let found: serde_json::Value = serde_json::from_str(&report::json(&problems).unwrap()).unwrap();
    let object = "NetworkPolicy prod/api";
    let expected = serde_json::json!([
        {"id": "n", "severity": "note", "object": object, "path": "spec.podSelector", "message": "third",
         "expected": "app=web", "file": "b.yaml", "line": 3},
        {"id": "w", "severity": "warning", "object": object, "path": "spec.podSelector", "message": "nowhere",
         "expected": "app=web", "file": null, "line": null},
    ]);
    assert_eq!(found, expected);
}

#[test]
fn what_would_end_a_workflow_command_is_escaped() {
    let problems = [
        problem(Severity::Note, "n", Some(("a,b:c%.yaml", 3)), "100%\r\n::error::x"),
        problem(Severity::Error, "e", None, "plain"),
    ];
    let expected = "\
::notice file=a%2Cb%3Ac%25.yaml,line=3,title=n::NetworkPolicy prod/api: spec.podSelector: 100%25%0D%0A::error::x; expected app=web
::error title=e::NetworkPolicy prod/api: spec.podSelector: plain; expected app=web
";
    assert_eq!(report::github(&problems), expected);
}

#[test]
fn the_exit_code_depends_on_the_threshold_and_on_what_could_not_be_read() {
    let note = problem(Severity::Note, "n", None, "");
    let warning = problem(Severity::Warning, "w", None, "");
    let error = problem(Severity::Error, "e", None, "");
    let unreadable = problem(Severity::Error, manifests::load::UNREADABLE_FILE, None, "");
    for (problems, expected) in [
        (vec![], [0, 0, 0]),
        (vec![note.clone()], [0, 0, 1]),
        (vec![note.clone(), warning], [0, 1, 1]),
        (vec![error], [1, 1, 1]),
        (vec![note, unreadable], [2, 2, 2]),
    ] {
        let found =
            [Severity::Error, Severity::Warning, Severity::Note].map(|level| exit_code(&problems, level));
        assert_eq!(found, expected, "{problems:?}");
    }
}

/// The texts of constants whose documentation begins with "The id of".
fn ids(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            ids(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let lines: Vec<&str> = text.lines().collect();
            for (line, next) in lines.iter().zip(lines.iter().skip(1)) {
                if line.trim_start().starts_with("/// The id of") && next.contains("&str = \"") {
                    found.extend(next.split('"').nth(1).map(str::to_owned));
                }
            }
        }
    }
}

#[test]
fn the_reference_lists_every_id_and_no_other() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut in_code = BTreeSet::new();
    for folder in ["policy-compiler/src", "manifests/src"] {
        ids(&root.join(folder), &mut in_code);
    }
    let text = std::fs::read_to_string(root.join("docs/reference/check.md")).unwrap();
    let headings = text.lines().filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`'));
    let in_document: BTreeSet<String> = headings.map(str::to_owned).collect();
    assert_eq!(in_document, in_code);
    assert!(in_code.len() > 15, "the ids are not found any more: {in_code:?}");
}

#[test]
fn the_examples_are_free_of_findings() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    for example in ["shop", "shop-next", "multi-tenant", "dual-stack", "http"] {
        let input = crate::input::Input::load(&crate::input::Args { filename: vec![root.join(example)] });
        assert_eq!(input.problems, [], "{example}");
        assert_eq!(policy_compiler::review::review(&input.compiler), [], "{example}");
    }
}
