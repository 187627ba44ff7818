//! Folders that go: each is removed with its value, and those of processes that were killed by whoever comes next.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

const PREFIX: &str = "polder-kubelab";

/// A folder of its own, removed with this value.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// Makes `TMP/polder-kubelab.PID.START.NUMBER.NAME`, and removes those of processes that are gone.
    ///
    /// START is the time at which the process began, in ticks since boot: a process id is given again, together with that
    /// time it is not.
    pub(crate) fn create(name: &str) -> Result<Self> {
        static FOLDERS: AtomicU32 = AtomicU32::new(0);
        let inside = std::env::temp_dir();
        remove_leftovers(&inside)?;
        let pid = std::process::id();
        let start =
            start_of(pid).with_context(|| format!("/proc/{pid}/stat: no start time of this process"))?;
        let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
        let path = inside.join(format!("{PREFIX}.{pid}.{start}.{number}.{name}"));
        fs::create_dir(&path).with_context(|| format!("the folder {} cannot be made", path.display()))?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("kubelab: {} is left behind: {error}", self.0.display());
        }
    }
}

fn remove_leftovers(inside: &Path) -> Result<()> {
    for entry in fs::read_dir(inside).with_context(|| format!("{} cannot be read", inside.display()))? {
        let entry = entry.with_context(|| format!("{} cannot be read", inside.display()))?;
        if entry.file_name().to_str().is_some_and(is_leftover) {
            // Another process may be at the same, so that it is gone already.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    Ok(())
}

/// True for the name of a folder whose process is gone.
fn is_leftover(name: &str) -> bool {
    let mut parts = name.split('.');
    if parts.next() != Some(PREFIX) {
        return false;
    }
    let pid = parts.next().and_then(|part| part.parse::<u32>().ok());
    let start = parts.next().and_then(|part| part.parse::<u64>().ok());
    matches!((pid, start), (Some(pid), Some(start)) if start_of(pid) != Some(start))
}

/// When a process began (field 22 of `proc_pid_stat(5)`), if it is there and not merely waited for.
pub(crate) fn start_of(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is a file name in parentheses, which may hold blanks and parentheses itself.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_goes_with_its_value_and_is_no_leftover_before() {
        let folder = Scratch::create("test").unwrap();
        let path = folder.path().to_owned();
        assert!(path.is_dir() && !is_leftover(path.file_name().unwrap().to_str().unwrap()));
        drop(folder);
        assert!(!path.exists());
    }

    #[test]
    fn only_folders_of_dead_processes_are_leftovers() {
        assert!(
            is_leftover(&format!("{PREFIX}.{}.1.0.x", std::process::id())),
            "another process of that number"
        );
        assert!(is_leftover(&format!("{PREFIX}.4294967295.17.0.x")));
        for foreign in ["polder-kubelab", "polder-kubelab.x.1.0.a", "other.4294967295.1.0.a"] {
            assert!(!is_leftover(foreign), "{foreign}");
        }
    }
}
