//! One function for each law, and for each a test that it can be broken.

use std::collections::BTreeSet;

use super::repository::{Repository, has_extension, is_lock};

/// Longer files no longer read as their own documentation.
const LONGEST_FILE: usize = 600;

/// Where people and machines keep things, and the repository does not. (Split, as this file is read as well.)
const MACHINE_FOLDERS: [&str; 4] =
    [concat!("/", "home/"), concat!("/", "root/"), concat!("/", "Users/"), concat!("/", "work/")];

/// Settings that bind a tool to one registry or mirror.
const REGISTRY_SETTINGS: [&str; 7] = [
    concat!("index", "-url"),
    concat!("index", "_url"),
    concat!("replace", "-with"),
    concat!("[source", "."),
    concat!("[registries", "."),
    concat!("GO", "PROXY="),
    concat!("sparse", "+http"),
];

/// Parts of the host names of registries and mirrors.
const REGISTRY_LABELS: [&str; 9] =
    ["crates", "pypi", "pythonhosted", "npmjs", "goproxy", "mirror", "mirrors", "registry", "deb"];

/// The layer of each crate: arrows go from a higher to a lower one, never sideways. So `polctl` cannot use `agent`.
const LAYERS: [(&str, u8); 19] = [
    ("datapath", 0),
    ("agent-api", 1),
    ("pages", 1),
    ("proxy-api", 1),
    ("policy-compiler", 1),
    ("polder-bpf", 1),
    ("manifests", 2),
    ("polctl", 3),
    ("polder-cni", 3),
    ("agent", 3),
    ("proxy", 3),
    ("kernel-check", 3),
    ("kubelab", 3),
    ("netlab", 3),
    ("tests", 4),
    ("fuzz", 4),
    ("polder-fuzz", 4),
    ("image", 4),
    ("xtask", 4),
];

/// Crates whose whole work is values in, values out.
const PURE_CRATES: [&str; 3] = ["datapath", "policy-compiler", "manifests"];

pub(super) fn files_are_short(repository: &Repository) -> Vec<String> {
    let generated = |path: &str, text: &str| {
        is_lock(path)
            || path.split('/').any(|part| part == "generated")
            || text.lines().take(5).any(|line| line.contains(concat!("@", "generated")))
    };
    let long =
        repository.files.iter().filter(|(path, text)| !generated(path, text)).filter_map(|(path, text)| {
            let lines = text.lines().count();
            (lines > LONGEST_FILE)
                .then(|| format!("{path}: {lines} lines; split it, {LONGEST_FILE} is the limit"))
        });
    long.collect()
}

pub(super) fn no_machine_paths(repository: &Repository) -> Vec<String> {
    let is_path = |character: char| character.is_alphanumeric() || "._-/~}*".contains(character);
    let named =
        |line: &str, folder: &str| line.match_indices(folder).any(|(at, _)| !line[..at].ends_with(is_path));
    repository
        .written_lines()
        .filter(|(_, line)| MACHINE_FOLDERS.iter().any(|folder| named(line, folder)))
        .map(|(place, line)| {
            format!("{place}: a path of one machine in `{}`; write it from the root", line.trim())
        })
        .collect()
}

pub(super) fn no_registry_is_named(repository: &Repository) -> Vec<String> {
    repository
        .written_lines()
        .filter(|(_, line)| {
            // A call is code, not a setting.
            REGISTRY_SETTINGS.iter().any(|setting| line.contains(setting) && !line.contains('('))
                || hosts(line).any(|host| host.split('.').any(|label| REGISTRY_LABELS.contains(&label)))
        })
        .map(|(place, line)| {
            format!("{place}: a registry in `{}`; which one is used is the machine's business", line.trim())
        })
        .collect()
}

/// The host names of the URLs in a line.
fn hosts(line: &str) -> impl Iterator<Item = &str> {
    line.split("://").skip(1).filter_map(|rest| {
        rest.split(|character: char| !(character.is_alphanumeric() || ".-".contains(character))).next()
    })
}

pub(super) fn readme_lists_every_folder(repository: &Repository) -> Vec<String> {
    let Some(readme) = repository.files.get("README.md") else {
        return vec!["README.md: missing; it holds the index of folders".to_owned()];
    };
    let listed = |folder: &str| {
        readme.lines().any(|line| {
            let entry = line.trim_start_matches(|character: char| !character.is_alphanumeric());
            let after = entry.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/'));
            after.is_some_and(|rest| !rest.starts_with(char::is_alphanumeric))
        })
    };
    let folders: BTreeSet<&str> =
        repository.files.keys().filter_map(|path| path.split_once('/')).map(|(folder, _)| folder).collect();
    folders
        .into_iter()
        .filter(|folder| !folder.starts_with('.') && !listed(folder))
        .map(|folder| format!("README.md: no line of its index begins with `{folder}/`"))
        .collect()
}

pub(super) fn arrows_point_down(repository: &Repository) -> Vec<String> {
    let layer = |name: &str| LAYERS.iter().find(|(known, _)| *known == name).map(|(_, layer)| *layer);
    let mut breaches = Vec::new();
    for (from, targets) in &repository.arrows {
        let Some(above) = layer(from) else {
            breaches.push(format!("{from}: a crate without a layer; give it one in {}", file!()));
            continue;
        };
        for to in targets {
            if layer(to).is_none_or(|below| below >= above) {
                breaches.push(format!("{from} depends on {to}, which is not below it"));
            }
        }
    }
    breaches
}

pub(super) fn pure_crates_forbid_unsafe_code(repository: &Repository) -> Vec<String> {
    PURE_CRATES
        .iter()
        .map(|name| format!("{name}/src/lib.rs"))
        .filter(|path| !repository.text(path).lines().any(|line| line.trim() == "#![forbid(unsafe_code)]"))
        .map(|path| format!("{path}: lacks `#![forbid(unsafe_code)]`"))
        .collect()
}

pub(super) fn decisions_are_numbered(repository: &Repository) -> Vec<String> {
    let names = repository.files.keys().filter_map(|path| path.strip_prefix("docs/decisions/"));
    let mut breaches = Vec::new();
    let mut expected = 1;
    for name in names.filter(|name| *name != "README.md") {
        let number = name
            .split_once('-')
            .filter(|(digits, _)| digits.len() == 4)
            .and_then(|(digits, _)| digits.parse::<u16>().ok());
        let Some(number) = number.filter(|_| has_extension(name, "md")) else {
            breaches.push(format!("docs/decisions/{name}: should be named NNNN-title.md"));
            continue;
        };
        if number != expected {
            breaches.push(format!("docs/decisions/{name}: should have the number {expected:04}"));
        }
        expected = number + 1;
    }
    breaches
}

pub(super) fn changelog_has_an_unreleased_section(repository: &Repository) -> Vec<String> {
    if repository.text("CHANGELOG.md").lines().any(|line| line.starts_with("## [Unreleased]")) {
        return Vec::new();
    }
    vec!["CHANGELOG.md: has no section `## [Unreleased]`".to_owned()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_file_is_a_breach_unless_it_is_generated() {
        let text = "line\n".repeat(LONGEST_FILE + 1);
        let generated = format!("// {}\n{text}", concat!("@", "generated"));
        let repository = Repository::with_files([
            ("a.rs", &text),
            ("Cargo.lock", &text),
            ("generated/b.rs", &text),
            ("c.rs", &generated),
        ]);
        assert_eq!(files_are_short(&repository), ["a.rs: 601 lines; split it, 600 is the limit"]);
    }

    #[test]
    fn a_home_folder_is_a_breach_and_a_relative_path_is_not() {
        let line = format!("ok\ncd {}me/polder", MACHINE_FOLDERS[0]);
        let relative = format!("cd src{}me", MACHINE_FOLDERS[0]);
        let repository = Repository::with_files([("a.md", &line), ("b.md", &relative)]);
        let breaches = no_machine_paths(&repository);
        assert_eq!(breaches.len(), 1);
        assert!(breaches[0].starts_with("a.md:2: "), "{breaches:?}");
    }

    #[test]
    fn a_registry_is_a_breach_by_setting_and_by_host() {
        let setting = format!("pip install --{} x", REGISTRY_SETTINGS[0]);
        let host = format!("see https{}index.{}.example/x", "://", REGISTRY_LABELS[0]);
        let repository = Repository::with_files([
            ("a.sh", setting.as_str()),
            ("b.md", host.as_str()),
            ("c.md", "the registry crates.io; https://kubernetes.io/docs"),
            ("d.lock", host.as_str()),
        ]);
        let places: Vec<String> =
            no_registry_is_named(&repository).iter().map(|breach| breach[..6].to_owned()).collect();
        assert_eq!(places, ["a.sh:1", "b.md:1"]);
    }

    #[test]
    fn a_folder_that_the_readme_does_not_list_is_a_breach() {
        let readme = "```\ndatapath/   the leaf\n```\n| `docs/` | texts |\nsee tests/x and polctl";
        let files =
            [("README.md", readme), ("datapath/a", ""), ("docs/a", ""), ("tests/a", ""), (".ci/run", "")];
        let breaches = readme_lists_every_folder(&Repository::with_files(files));
        assert_eq!(breaches, ["README.md: no line of its index begins with `tests/`"]);
    }

    #[test]
    fn an_arrow_up_or_sideways_and_an_unknown_crate_are_breaches() {
        let arrow = |from: &str, to: &[&str]| (from.to_owned(), to.iter().map(|&to| to.to_owned()).collect());
        let arrows = [
            arrow("datapath", &["policy-compiler"]),
            arrow("polctl", &["manifests", "agent"]),
            arrow("tests", &["polctl", "datapath"]),
            arrow("stranger", &[]),
        ];
        let breaches = arrows_point_down(&Repository { arrows: arrows.into(), ..Repository::default() });
        assert_eq!(breaches.len(), 3, "{breaches:?}");
        assert_eq!(breaches[0], "datapath depends on policy-compiler, which is not below it");
        assert_eq!(breaches[1], "polctl depends on agent, which is not below it");
        assert!(breaches[2].starts_with("stranger: a crate without a layer"));
    }

    #[test]
    fn a_pure_crate_that_does_not_forbid_unsafe_code_is_a_breach() {
        let forbids = "//! Doc.\n#![forbid(unsafe_code)]\n";
        let files = [
            ("datapath/src/lib.rs", forbids),
            ("policy-compiler/src/lib.rs", forbids),
            ("manifests/src/lib.rs", "//! #![forbid(unsafe_code)]"),
        ];
        let breaches = pure_crates_forbid_unsafe_code(&Repository::with_files(files));
        assert_eq!(breaches, ["manifests/src/lib.rs: lacks `#![forbid(unsafe_code)]`"]);
    }

    #[test]
    fn a_gap_between_decisions_and_a_name_without_number_are_breaches() {
        let files = [
            ("docs/decisions/0001-a.md", ""),
            ("docs/decisions/0003-b.md", ""),
            ("docs/decisions/0004-c.md", ""),
            ("docs/decisions/draft.md", ""),
        ];
        assert_eq!(
            decisions_are_numbered(&Repository::with_files(files)),
            [
                "docs/decisions/0003-b.md: should have the number 0002",
                "docs/decisions/draft.md: should be named NNNN-title.md",
            ]
        );
    }

    #[test]
    fn a_changelog_without_unreleased_is_a_breach() {
        assert_eq!(changelog_has_an_unreleased_section(&Repository::default()).len(), 1);
        let kept = Repository::with_files([("CHANGELOG.md", "# Changes\n\n## [Unreleased]\n")]);
        assert_eq!(changelog_has_an_unreleased_section(&kept), [""; 0]);
    }
}
