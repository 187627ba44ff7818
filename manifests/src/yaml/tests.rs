//! Trees and defects of YAML, with lines.

use std::fmt::Write;

use serde_json::json;

use super::*;

fn one(text: &str) -> Node {
    let mut documents = read(text);
    assert_eq!(documents.len(), 1, "{documents:?}");
    documents.remove(0).unwrap()
}

fn defects(text: &str) -> Vec<(u32, String)> {
    read(text).into_iter().filter_map(Result::err).map(|defect| (defect.line, defect.message)).collect()
}

#[test]
fn keys_and_items_know_their_lines() {
    let document = one("a:\n  b: 1\n  c:\n  - x\n  -\n    d: y\n# comment\ne:\n");
    let line = |node: &Node, key: &str| node.entry(key).unwrap().line;
    let a = document.get("a").unwrap();
    let Content::Seq(items) = &a.get("c").unwrap().content else { panic!() };
    let found = [
        line(&document, "a"),
        line(a, "b"),
        line(a, "c"),
        items[0].line,
        items[1].line,
        line(&document, "e"),
    ];
    assert_eq!(found, [1, 2, 3, 4, 6, 8]);
    assert_eq!(document.to_value(), json!({"a": {"b": 1, "c": ["x", {"d": true}]}, "e": null}));
}

#[test]
fn documents_of_a_stream_stand_on_their_own() {
    let text = "---\n---\na: 1\n...\n--- # nothing\n---\nb: &x 2\n---\nc: *x\n";
    assert_eq!(read(text).iter().filter(|document| document.is_ok()).count(), 4);
    assert_eq!(defects(text), [(9, "an alias to a value that is not complete here".to_owned())]);
}

#[test]
fn a_defect_of_one_document_leaves_the_others_be() {
    let text = "a: 1\na: 2\n---\nb: 1\n---\n? [x]\n: 1\n---\n~: 1\n---\nx: .nan\n---\ny: !!int z\n";
    let expected: Vec<_> = [
        (2, "the key `a` comes twice in one map"),
        (6, "found a list as a key"),
        (9, "found nothing (null) as a key"),
        (11, "found `.nan`"),
        (13, "found `z`"),
    ]
    .map(|(line, message)| (line, message.to_owned()))
    .into();
    assert_eq!(defects(text), expected);
    assert_eq!(read(text).len(), 6);
}

#[test]
fn keys_are_text_as_in_json() {
    let document = one("y: 1\n80: 2\n1.50: 3\n\"no\": 4\n");
    assert_eq!(document.to_value(), json!({"true": 1, "80": 2, "1.5": 3, "no": 4}));
}

#[test]
fn anchors_and_merges_are_expanded() {
    let text = "base: &b\n  x: 1\n  y: 2\none:\n  <<: *b\n  x: 3\ntwo:\n  <<: [{z: 4, x: 5}, *b]\nthree: *b\nfour: {\"<<\": 1}\n";
    let document = one(text);
    let expected = json!({
        "base": {"x": 1, "true": 2},
        "one": {"x": 3, "true": 2},
        "two": {"z": 4, "x": 5, "true": 2},
        "three": {"x": 1, "true": 2},
        "four": {"<<": 1},
    });
    assert_eq!(document.to_value(), expected);
    let merged = document.get("one").unwrap().entry("true").unwrap();
    assert_eq!(merged.line, 3, "what is merged keeps the line where it was written");
}

#[test]
fn a_merge_that_tools_disagree_about_is_refused() {
    assert_eq!(
        defects("b: &b {x: 1}\nc:\n  x: 2\n  <<: *b\n"),
        [(4, "`<<` brings the key `x`, which is set before it".to_owned())]
    );
    assert_eq!(defects("<<: 1\n"), [(1, "`<<` names something else than maps".to_owned())]);
    assert_eq!(defects("<<: {a: 1}\n<<: {b: 1}\n"), [(2, "the key `<<` comes twice in one map".to_owned())]);
}

#[test]
fn bombs_are_defused() {
    let mut laughs = "a0: &a0 [lol, lol]\n".to_owned();
    for level in 1..60 {
        let before = level - 1;
        let _ = writeln!(laughs, "a{level}: &a{level} [*a{before}, *a{before}]");
    }
    let found = defects(&laughs);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].1, "aliases copy too much");

    let mut chain = "a0: &a0 [x]\n".to_owned();
    for level in 1..200 {
        let _ = writeln!(chain, "a{level}: &a{level} [*a{}]", level - 1);
    }
    assert_eq!(defects(&chain), [(128, "lists and maps nest too deep".to_owned())]);

    assert_eq!(defects("a: &a [*a]\n"), [(1, "an alias to a value that is not complete here".to_owned())]);
    assert_eq!(defects(&"[".repeat(100_000)), [(1, "not YAML: recursion limit exceeded".to_owned())]);
    assert_eq!(defects(&"[".repeat(200)), [(1, "lists and maps nest too deep".to_owned())]);
    let nested = (0..500).map(|level| " ".repeat(level) + "a:\n").collect::<String>();
    assert_eq!(defects(&nested), [(129, "lists and maps nest too deep".to_owned())]);
    let text = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 20), "*a,".repeat(100));
    assert_eq!(defects(&text), [(2, "aliases copy too much".to_owned())]);
}

#[test]
fn quoted_block_and_folded_scalars_are_strings() {
    let document = one("a: \"1\"\nb: 'yes'\nc: |\n  1\nd: >-\n  true\n");
    assert_eq!(document.to_value(), json!({"a": "1", "b": "yes", "c": "1\n", "d": "true"}));
}
