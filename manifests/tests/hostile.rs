//! Whatever a file holds, reading it ends, without a panic and with every problem located.

use std::fmt::Write;
use std::fs;
use std::io::empty;
use std::path::PathBuf;

use manifests::gather::Loaded;
use manifests::load::load;
use manifests::parse::parse;
use proptest::prelude::*;

const SEEDS: &[&str] = &[
    include_str!("seeds/policies.yaml"),
    include_str!("seeds/cluster.yaml"),
    include_str!("seeds/list.json"),
    include_str!("seeds/odd.yaml"),
];

/// What a mutation does at a place in the text.
#[derive(Clone, Debug)]
enum Mutation {
    Flip(usize, u8),
    Truncate(usize),
    RepeatLine(usize),
    DropLine(usize),
    Insert(usize, String),
    Nest(usize, usize),
}

/// Text that YAML is touchy about.
const TOUCHY: &[&str] = &[
    "&a ",
    "*a",
    "<<: *a\n",
    "? ",
    ": ",
    "- ",
    "|\n",
    ">-\n",
    "[",
    "]",
    "{",
    "}",
    "\t",
    "---\n",
    "...\n",
    "%YAML 1.1\n",
    "!!int ",
    "!!binary ",
    "!x ",
    "\"",
    "'",
    "#",
    "\0",
    "\u{feff}",
    "\u{85}",
    "\r",
    "~",
    "\"\\ud800\"",
    "y: ",
    "0x",
    "1e999",
    ".inf",
    "🦀",
];

fn mutation() -> impl Strategy<Value = Mutation> {
    let place = any::<usize>();
    prop_oneof![
        (place, any::<u8>()).prop_map(|(at, byte)| Mutation::Flip(at, byte)),
        place.prop_map(Mutation::Truncate),
        place.prop_map(Mutation::RepeatLine),
        place.prop_map(Mutation::DropLine),
        (place, prop::sample::select(TOUCHY)).prop_map(|(at, text)| Mutation::Insert(at, text.to_owned())),
        (place, 1..300_usize).prop_map(|(at, depth)| Mutation::Nest(at, depth)),
    ]
}

fn mutate(bytes: &mut Vec<u8>, mutation: &Mutation) {
    let place = |at: usize| at % (bytes.len() + 1);
    let lines =
        |bytes: &[u8]| bytes.split_inclusive(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect::<Vec<_>>();
    match mutation {
        Mutation::Flip(at, byte) => {
            let at = place(*at);
            if let Some(slot) = bytes.get_mut(at) {
                *slot ^= byte;
            }
        }
        Mutation::Truncate(at) => bytes.truncate(place(*at)),
        Mutation::RepeatLine(at) | Mutation::DropLine(at) => {
            let mut lines = lines(bytes);
            if lines.is_empty() {
                return;
            }
            let at = at % lines.len();
            if matches!(mutation, Mutation::DropLine(_)) {
                lines.remove(at);
            } else {
                lines.insert(at, lines[at].clone());
            }
            *bytes = lines.concat();
        }
        Mutation::Insert(at, text) => {
            let at = place(*at);
            bytes.splice(at..at, text.bytes());
        }
        Mutation::Nest(at, depth) => {
            let at = place(*at);
            bytes.splice(at..at, "[".repeat(*depth).bytes());
        }
    }
}

/// Reads it all the way, and checks what holds for every input.
fn check(bytes: &[u8]) {
    let parsed = parse("f.yaml", bytes);
    let lines = 1 + bytes.iter().filter(|&&byte| byte == b'\n' || byte == b'\r').count();
    for problem in &parsed.problems {
        let location = problem.location.as_ref().unwrap_or_else(|| panic!("without a place: {problem}"));
        assert!(
            location.line >= 1 && usize::try_from(location.line).is_ok_and(|line| line <= lines + 1),
            "{problem}"
        );
        assert!(!problem.message.is_empty() && !problem.expected.is_empty(), "{problem}");
    }
    let loaded = Loaded::gather([parsed]);
    let world = loaded.world();
    assert_eq!(world.cluster, Loaded { problems: Vec::new(), ..loaded }.world().cluster);
}

#[test]
fn the_seeds_are_read() {
    for seed in SEEDS {
        let parsed = parse("f.yaml", seed.as_bytes());
        assert_eq!(parsed.problems, []);
        assert!(!parsed.objects.is_empty());
        check(seed.as_bytes());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_manifests_are_read_or_refused_at_a_place(
        seed in prop::sample::select(SEEDS),
        mutations in prop::collection::vec(mutation(), 1..6),
    ) {
        let mut bytes = seed.as_bytes().to_vec();
        for mutation in &mutations {
            mutate(&mut bytes, mutation);
        }
        check(&bytes);
    }

    #[test]
    fn soups_of_syntax_are_read_or_refused_at_a_place(parts in prop::collection::vec(prop::sample::select(TOUCHY), 0..40)) {
        check(parts.concat().as_bytes());
    }
}

proptest! {
    // A bomb is worth a second of copying before it is refused.
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn alias_bombs_are_read_or_refused_at_a_place(levels in 1..40_usize, width in 1..12_usize, merge in any::<bool>()) {
        let mut text = "a0: &a0 {x: 1}\n".to_owned();
        for level in 1..levels {
            let alias = format!("*a{}, ", level - 1).repeat(width);
            let _ = if merge {
                writeln!(text, "a{level}: &a{level} {{<<: [{alias}], k{level}: 1}}")
            } else {
                writeln!(text, "a{level}: &a{level} [{alias}]")
            };
        }
        check(text.as_bytes());
    }
}

#[test]
fn directories_are_read_in_order_and_loops_end() {
    let root = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("walk");
    let _ = fs::remove_dir_all(&root);
    fs::create_dir_all(root.join("b/.hidden")).unwrap();
    let namespace = |name: &str| format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}}}}}");
    for (file, name) in [
        ("c.yaml", "three"),
        ("a.json", "one"),
        ("b/x.yml", "two"),
        ("b/.hidden/y.yaml", "no"),
        ("d.txt", "linked"),
        (".e.yaml", "no"),
    ] {
        fs::write(root.join(file), namespace(name)).unwrap();
    }
    std::os::unix::fs::symlink(&root, root.join("b/loop")).unwrap();
    std::os::unix::fs::symlink("d.txt", root.join("link.yaml")).unwrap();
    std::os::unix::fs::symlink("nothing", root.join("lost.yaml")).unwrap();

    let loaded =
        load(&[root.clone(), root.join("c.yaml"), PathBuf::from("-")], &mut namespace("four").as_bytes());
    let names: Vec<_> = loaded.objects.iter().map(|object| &*object.object.name).collect();
    assert_eq!(names, ["one", "two", "three", "linked", "four"]);
    assert_eq!(&*loaded.objects[4].source.file, "-");
    let problems: Vec<_> = loaded.problems.iter().map(ToString::to_string).collect();
    let lost = root.join("lost.yaml").display().to_string();
    let expected = format!(
        "{lost}:1: File {lost}: cannot be read: No such file or directory (os error 2); expected a readable file or directory"
    );
    assert_eq!(problems, [expected]);

    fs::create_dir(root.join("no-manifests")).unwrap();
    fs::write(root.join("no-manifests/notes.txt"), "").unwrap();
    for nothing in ["absent", "no-manifests"] {
        let loaded = load(&[root.join(nothing)], &mut empty());
        assert_eq!(
            (loaded.objects.len(), loaded.problems.len(), loaded.has_errors()),
            (0, 1, true),
            "{nothing}"
        );
    }
}
