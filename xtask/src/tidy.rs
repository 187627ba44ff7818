//! `cargo xtask tidy`: the laws that neither compiler nor clippy knows.
//!
//! ```text
//! git, cargo metadata -> Repository -> every law -> breaches, each with its place and what would be right
//! ```

mod laws;
mod markdown;
mod repository;

use std::path::Path;

use anyhow::{Result, bail};

use self::repository::Repository;

/// A law gives its breaches: none if it is kept.
type Law = fn(&Repository) -> Vec<String>;

const LAWS: [(&str, Law); 9] = [
    ("files are short", laws::files_are_short),
    ("no path of one machine", laws::no_machine_paths),
    ("no registry is named", laws::no_registry_is_named),
    ("README lists every folder", laws::readme_lists_every_folder),
    ("links in documents resolve", markdown::links_resolve),
    ("arrows between crates point down", laws::arrows_point_down),
    ("pure crates forbid unsafe code", laws::pure_crates_forbid_unsafe_code),
    ("decisions are numbered without gaps", laws::decisions_are_numbered),
    ("CHANGELOG has an Unreleased section", laws::changelog_has_an_unreleased_section),
];

/// Checks every law, and fails if any is broken.
pub(crate) fn run(root: &Path) -> Result<()> {
    let repository = Repository::read(root)?;
    let mut broken = 0;
    for (name, law) in LAWS {
        let breaches = law(&repository);
        println!("tidy: {name}: {}", if breaches.is_empty() { "kept" } else { "BROKEN" });
        for breach in &breaches {
            println!("  {breach}");
        }
        broken += usize::from(!breaches.is_empty());
    }
    if broken > 0 {
        bail!("{broken} of {} laws are broken", LAWS.len());
    }
    Ok(())
}
