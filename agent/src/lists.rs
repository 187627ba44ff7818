//! The lists of the rule sets in force, as files: what whoever reads requests judges them by.
//!
//! ```text
//! steps --publish--> files that are new --(steps are performed)--sweep--> files that no row names any more are removed
//! ```
//!
//! `DIR/<rule set, 12 hex digits>-<list, 8 hex digits>` holds the bytes that [`datapath::l7::List`] reads. Both ids come from
//! content, so a file never changes: it is there before any row names it, and until none does, of either generation.
//!
//! A change looks at the rule sets that its steps touch. Everything is looked at when it is not sure what is there: at the start,
//! and after anything failed. Files are not synced: one that a crash cut short is found at the next start, as all are read then.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{self, DirBuilder, File, Metadata, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use datapath::abi::{ListId, RuleSetId};
use policy_compiler::plan::Step;
use policy_compiler::tables::Tables;

/// Where they are if nothing else is said.
pub const DIRECTORY: &str = "/run/polder/lists";

/// Who reads requests may be another user; nobody but the agent's own writes.
const FILE_MODE: u32 = 0o644;
const DIRECTORY_MODE: u32 = 0o755;

/// The files.
#[derive(Debug)]
pub struct Lists {
    directory: PathBuf,
    /// Files that are as they are to be, with what tells whether they were changed since.
    known: BTreeMap<Name, Seal>,
    /// The directory holds just what the tables have.
    settled: bool,
}

/// The lists that steps need are there; those that rows still name as well. To be given to [`Lists::sweep`] when the steps
/// were performed, and else to be dropped.
#[derive(Debug)]
#[must_use]
pub struct Published {
    rule_sets: BTreeSet<RuleSetId>,
    /// All that is in the directory is to be looked at, not only what is of these rule sets.
    whole: bool,
}

/// A list's name: its rule set's and its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    rule_set: RuleSetId,
    list: ListId,
}

/// What the file system says of a file, which nobody can change without changing that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seal {
    inode: u64,
    length: u64,
    changed: (i64, i64),
}

impl Lists {
    /// Those in a directory. Nothing is read or made before it is needed.
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), known: BTreeMap::new(), settled: false }
    }

    /// Whether the directory holds just what the tables have, as far as is known.
    pub fn are_settled(&self) -> bool {
        self.settled
    }

    /// Writes the lists that the rule sets of these steps have in the tables, before the steps are performed.
    ///
    /// # Errors
    ///
    /// One cannot be written: then the steps must not be performed, for their rows would name it.
    pub fn publish(&mut self, steps: &[Step], tables: &Tables) -> Result<Published> {
        let whole = !std::mem::replace(&mut self.settled, false);
        let rule_sets = if whole { tables.rules.keys().copied().collect() } else { touched(steps) };
        for rule_set in &rule_sets {
            let Some(rows) = tables.rules.get(rule_set) else { continue };
            for (list, content) in rows.lists.iter() {
                let name = Name { rule_set: *rule_set, list };
                if !self.known.contains_key(&name) {
                    self.put(name, &content.to_bytes())?;
                }
            }
        }
        Ok(Published { rule_sets, whole })
    }

    /// Removes the lists that the tables do not have, after no row names them any more.
    ///
    /// # Errors
    ///
    /// A file cannot be removed. It does no harm, and is tried again.
    pub fn sweep(&mut self, published: Published, tables: &Tables) -> Result<()> {
        let is_gone = |name: &Name| {
            let rows = tables.rules.get(&name.rule_set);
            rows.is_none_or(|rows| rows.lists.get(name.list).is_none())
        };
        if published.whole {
            self.remove_where(is_gone)?;
        } else {
            for rule_set in published.rule_sets {
                let all = Name { rule_set, list: 0 }..=Name { rule_set, list: ListId::MAX };
                let gone: Vec<Name> = self.known.range(all).map(|(name, _)| *name).filter(is_gone).collect();
                for name in gone {
                    remove(&self.path(name))?;
                    self.known.remove(&name);
                }
            }
        }
        self.settled = true;
        Ok(())
    }

    /// Writes anew what somebody changed or removed, and gives how many those were. Reads only what seems to be changed.
    ///
    /// # Errors
    ///
    /// One cannot be written; then everything is looked at by the next [`Self::publish`].
    pub fn repair(&mut self, tables: &Tables) -> Result<usize> {
        let is_changed = |(name, seal): &(&Name, &Seal)| {
            let found = fs::symlink_metadata(self.path(**name)).ok();
            found.map(|found| Seal::of(&found)).as_ref() != Some(*seal)
        };
        let changed: Vec<Name> = self.known.iter().filter(is_changed).map(|(name, _)| *name).collect();
        let mut repaired = 0;
        for name in changed {
            self.known.remove(&name);
            self.settled = false;
            // What the tables lack is on its way out.
            let list = tables.rules.get(&name.rule_set).and_then(|rows| rows.lists.get(name.list));
            if let Some(list) = list {
                repaired += usize::from(self.put(name, &list.to_bytes())?);
            }
        }
        Ok(repaired)
    }

    /// Removes all of them, and leaves the directory, which may be a mount.
    pub fn remove_all(mut self) -> Result<()> {
        self.remove_where(|_| true)
    }

    /// Sees to it that a file is there as it is to be; whether it had to be written.
    fn put(&mut self, name: Name, bytes: &[u8]) -> Result<bool> {
        let path = self.path(name);
        // One that cannot be read is written anew, and if that fails too it is said why.
        if let Some(seal) = found(&path, bytes).ok().flatten() {
            self.known.insert(name, seal);
            return Ok(false);
        }
        make(&self.directory)?;
        let half = self.directory.join(format!(".{name}.new"));
        let written = write(&half, &path, bytes).with_context(|| format!("writing {}", path.display()));
        match written {
            Ok(seal) => {
                self.known.insert(name, seal);
                Ok(true)
            }
            Err(error) => {
                // It may fill the disk. What stays is swept with the rest.
                let _stays = fs::remove_file(&half);
                Err(error)
            }
        }
    }

    /// Removes files that are lists of these names or halves of any; others are none of ours.
    fn remove_where(&mut self, is_gone: impl Fn(&Name) -> bool) -> Result<()> {
        // First: what is not known is read before it is taken to be there.
        self.known.retain(|name, _| !is_gone(name));
        let context = || format!("reading {}", self.directory.display());
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries.with_context(context)?,
        };
        for entry in entries {
            let entry = entry.with_context(context)?;
            let text = entry.file_name();
            let text = text.to_str().unwrap_or_default();
            let half = text.strip_prefix('.').and_then(|text| text.strip_suffix(".new"));
            let goes = match Name::parse(text) {
                Some(name) => is_gone(&name),
                None => half.and_then(Name::parse).is_some(),
            };
            if goes {
                remove(&entry.path())?;
            }
        }
        Ok(())
    }

    fn path(&self, name: Name) -> PathBuf {
        self.directory.join(name.to_string())
    }
}

impl Name {
    fn parse(text: &str) -> Option<Self> {
        let (rule_set, list) = text.split_once('-')?;
        let name = Self {
            rule_set: RuleSetId::new(u64::from_str_radix(rule_set, 16).ok()?),
            list: ListId::from_str_radix(list, 16).ok()?,
        };
        // Whatever else these may be read from.
        (name.to_string() == text).then_some(name)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:012x}-{:08x}", self.rule_set.get(), self.list)
    }
}

impl Seal {
    fn of(metadata: &Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            length: metadata.len(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// The rule sets of which steps add or remove rows.
fn touched(steps: &[Step]) -> BTreeSet<RuleSetId> {
    let keys = steps.iter().filter_map(|step| match step {
        Step::AddRule(key, _) | Step::RemoveRule(key) => Some(key.rule_set()),
        _ => None,
    });
    keys.collect()
}

/// A file, if it is as it would be written.
fn found(path: &Path, bytes: &[u8]) -> io::Result<Option<Seal>> {
    let metadata = fs::symlink_metadata(path)?;
    let is_right = metadata.is_file()
        && metadata.mode() & 0o7777 == FILE_MODE
        && metadata.len() == bytes.len() as u64
        && fs::read(path)? == bytes;
    // As it was before it was read: whoever changes it meanwhile is found out.
    Ok(is_right.then(|| Seal::of(&metadata)))
}

/// Whoever made it, and whatever the umask is: who reads requests finds files in it.
fn make(directory: &Path) -> Result<()> {
    let made = || {
        DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(directory)?;
        if fs::metadata(directory)?.mode() & 0o7777 != DIRECTORY_MODE {
            fs::set_permissions(directory, Permissions::from_mode(DIRECTORY_MODE))?;
        }
        Ok::<(), io::Error>(())
    };
    made().with_context(|| format!("making the directory {}", directory.display()))
}

/// Writes a file that others see whole or not at all.
fn write(half: &Path, path: &Path, bytes: &[u8]) -> io::Result<Seal> {
    if let Err(error) = fs::remove_file(half)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut file = File::options().write(true).create_new(true).mode(FILE_MODE).open(half)?;
    file.set_permissions(Permissions::from_mode(FILE_MODE))?;
    file.write_all(bytes)?;
    fs::rename(half, path)?;
    Ok(Seal::of(&file.metadata()?))
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
