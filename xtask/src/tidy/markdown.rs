//! The law of links: a relative link in a document leads to a file or folder of the repository.

use super::repository::{Repository, has_extension};

pub(super) fn links_resolve(repository: &Repository) -> Vec<String> {
    let mut breaches = Vec::new();
    for (path, text) in repository.files.iter().filter(|(path, _)| has_extension(path, "md")) {
        for (line, target) in links(text) {
            let target = target.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            if !resolve(path, target).is_some_and(|wanted| exists(repository, &wanted)) {
                breaches.push(format!("{path}:{line}: the link leads to `{target}`, which is not there"));
            }
        }
    }
    breaches
}

/// The targets of all links with their line numbers, outside of code.
fn links(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut fence: Option<&str> = None;
    for (index, line) in text.lines().enumerate() {
        let start = line.trim_start();
        let mark = ["```", "~~~"].into_iter().find(|mark| start.starts_with(mark));
        match (fence, mark) {
            (None, Some(mark)) => fence = Some(mark),
            (Some(open), Some(mark)) if open == mark => fence = None,
            (Some(_), _) => {}
            (None, None) => found.extend(targets(line).into_iter().map(|target| (index + 1, target))),
        }
    }
    found
}

/// The targets of `[text](target "title")` and of `[name]: target` in a line.
fn targets(line: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let in_code = |at: usize| line[..at].matches('`').count() % 2 == 1;
    for (at, _) in line.match_indices("](").filter(|(at, _)| !in_code(*at)) {
        let rest = &line[at + 2..];
        found.extend(rest.split([')', ' ']).next());
    }
    if line.starts_with('[')
        && let Some((_, target)) = line.split_once("]: ")
    {
        found.extend(target.split_whitespace().next());
    }
    found.into_iter().map(|target| target.trim_matches(['<', '>'])).collect()
}

/// The path from the root that a link in `document` means; `None` if it leaves the repository.
fn resolve(document: &str, target: &str) -> Option<String> {
    let folder = document.rsplit_once('/').map_or("", |(folder, _)| folder);
    let (start, target) = match target.strip_prefix('/') {
        Some(from_root) => ("", from_root),
        None => (folder, target),
    };
    let mut parts: Vec<&str> = start.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

fn exists(repository: &Repository, wanted: &str) -> bool {
    let folder = format!("{wanted}/");
    wanted.is_empty() || repository.files.keys().any(|path| path == wanted || path.starts_with(&folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_to_nothing_is_a_breach_and_others_are_not() {
        let text = "[a](../README.md#top) [b](decisions) [c](https://example.org/x) [d](#here) `[e](code)`\n\
                    ```\n[f](fenced)\n```\n\
                    [g](gone.md \"title\") and [h](../../out.md)\n\
                    [i]: /docs/a.md\n\
                    [j]: <lost.md>\n";
        let repository = Repository::with_files([
            ("docs/a.md", text),
            ("README.md", ""),
            ("docs/decisions/0001-x.md", ""),
        ]);
        assert_eq!(
            links_resolve(&repository),
            [
                "docs/a.md:5: the link leads to `gone.md`, which is not there",
                "docs/a.md:5: the link leads to `../../out.md`, which is not there",
                "docs/a.md:7: the link leads to `lost.md`, which is not there",
            ]
        );
    }
}
