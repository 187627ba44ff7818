//! `cargo xtask cases`: connectivity cases whose answers this project did not write.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::process;

/// Where the cases are.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The folder with `run_connlist.py` and one folder for each corpus
    folder: PathBuf,
}

const RUNNER: &str = "run_connlist.py";

/// Runs every corpus against polctl as it would be shipped, and fails if a case does.
pub(crate) fn run(root: &Path, options: &Options) -> Result<()> {
    let folder = options.folder.canonicalize();
    let folder = folder.with_context(|| format!("there is no folder {}", options.folder.display()))?;
    let runner = folder.join(RUNNER);
    ensure!(runner.is_file(), "{} has no {RUNNER}", folder.display());
    let corpora = corpora(&folder)?;
    ensure!(!corpora.is_empty(), "no folder in {} has cases", folder.display());
    process::find("python3").context("python3 is not here, and the runner needs it")?;
    process::run(process::cargo(root).args(["build", "--quiet", "--release", "--package", "polctl"]))?;
    // The runner splits the command like a shell.
    let polctl =
        format!("'{}' connectivity -f {{dir}} -o jsonl", root.join("target/release/polctl").display());
    let mut command = Command::new("python3");
    command.current_dir(&folder).arg(runner).args(["--cmd", &polctl]);
    for corpus in corpora {
        command.arg("--corpus").arg(corpus);
    }
    process::run(&mut command)
}

/// The subfolders that have cases: folders with an `expected.json`.
fn corpora(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found: Vec<PathBuf> = folders(folder)?;
    found.retain(|corpus| {
        folders(corpus).is_ok_and(|cases| cases.iter().any(|case| case.join("expected.json").is_file()))
    });
    found.sort();
    Ok(found)
}

fn folders(of: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(of).with_context(|| format!("cannot list {}", of.display()))?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()?;
    Ok(paths.into_iter().filter(|path| path.is_dir()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_a_corpus_if_a_folder_in_it_has_an_expected_answer() {
        let folder = std::env::temp_dir().join(format!("polder-cases-{}", std::process::id()));
        for path in ["corpus/case/manifests", "tools/lib"] {
            fs::create_dir_all(folder.join(path)).unwrap();
        }
        fs::write(folder.join("corpus/case/expected.json"), "{}").unwrap();
        let found = corpora(&folder);
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(found.unwrap(), [folder.join("corpus")]);
    }
}
