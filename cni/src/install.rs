//! The files of the node: the program beside other plugins, the configuration beside the node's own.

use std::fmt;
use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::Folders;
use crate::chain::{self, FILE, Link, PLUGIN};

/// Where the plugin goes.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) folders: Folders,
    pub(crate) link: Link,
}

/// What became of something; to be printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Did {
    /// It was as it is to be.
    Nothing(PathBuf),
    /// It was written; from this file, if it was made from one.
    Wrote(PathBuf, Option<String>),
    /// It is not there any more.
    Removed(PathBuf),
    /// It was not there.
    NotThere(PathBuf),
    /// The node has no CNI configuration, so there is nothing to be behind.
    NoSource(PathBuf),
}

impl fmt::Display for Did {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing(path) => write!(f, "{}: as it should be", path.display()),
            Self::Wrote(path, None) => write!(f, "{}: written", path.display()),
            Self::Wrote(path, Some(source)) => write!(f, "{}: written from {source}", path.display()),
            Self::Removed(path) => write!(f, "{}: removed", path.display()),
            Self::NotThere(path) => write!(f, "{}: not there", path.display()),
            Self::NoSource(folder) => {
                write!(
                    f,
                    "{}: no CNI configuration yet; expected one by the node's own CNI",
                    folder.display()
                )
            }
        }
    }
}

impl Place {
    /// Puts this program where runtimes find plugins.
    pub(crate) fn install_program(&self) -> Result<Did> {
        let own = Path::new("/proc/self/exe");
        let program = fs::read(own).context("reading this program")?;
        let path = self.folders.bin_dir.join(PLUGIN);
        let folder = &self.folders.bin_dir;
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        if fs::read(&path).is_ok_and(|found| found == program) && mode(&path) == Some(0o755) {
            return Ok(Did::Nothing(path));
        }
        // Nobody's but root's to write, and nothing setuid: whoever runs it has what they had.
        write(folder, &path, &program, 0o755)?;
        Ok(Did::Wrote(path, None))
    }

    /// Puts this program back if somebody emptied the folder: a configuration that names it would let no pod start.
    pub(crate) fn keep_program(&self) -> Result<()> {
        if self.folders.bin_dir.join(PLUGIN).exists() { Ok(()) } else { self.install_program().map(drop) }
    }

    /// Puts the plugin behind the node's CNI, as that is configured now; takes it out if that is gone.
    pub(crate) fn install_configuration(&self) -> Result<Did> {
        let folder = &self.folders.conf_dir;
        let path = folder.join(FILE);
        let names = names(folder)?;
        let Some(source) = chain::source(names.iter().map(String::as_str))? else {
            // A copy of what is no more would bring back a network that somebody took away.
            remove(&path)?;
            return Ok(Did::NoSource(folder.clone()));
        };
        let from = folder.join(source);
        let text = fs::read_to_string(&from).with_context(|| format!("reading {}", from.display()))?;
        let chained = chain::chained(&text, &self.link).with_context(|| from.display().to_string())?;
        if fs::read_to_string(&path).is_ok_and(|found| found == chained) {
            return Ok(Did::Nothing(path));
        }
        // It holds no more secrets than its source does.
        write(folder, &path, chained.as_bytes(), mode(&from).unwrap_or(0o600) & 0o644)?;
        Ok(Did::Wrote(path, Some(source.to_owned())))
    }
}

/// Takes the plugin out: the configuration first, so that nobody calls a program that is gone.
pub(crate) fn uninstall(folders: &Folders, keep_program: bool) -> Result<Vec<Did>> {
    let configuration = folders.conf_dir.join(FILE);
    let mut did = vec![removed(configuration)?];
    if !keep_program {
        did.push(removed(folders.bin_dir.join(PLUGIN))?);
    }
    Ok(did)
}

fn removed(path: PathBuf) -> Result<Did> {
    Ok(if remove(&path)? { Did::Removed(path) } else { Did::NotThere(path) })
}

/// Whether it was there.
fn remove(path: &Path) -> Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("removing {}", path.display())),
    }
}

fn names(folder: &Path) -> Result<Vec<String>> {
    let reading = || format!("reading {}", folder.display());
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(reading),
    };
    entries.map(|entry| Ok(entry.with_context(reading)?.file_name().to_string_lossy().into_owned())).collect()
}

fn mode(path: &Path) -> Option<u32> {
    Some(fs::metadata(path).ok()?.permissions().mode() & 0o7777)
}

/// Whole or not at all: a runtime may read it at any moment.
fn write(folder: &Path, path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let writing = || format!("writing {}", path.display());
    // A name with a dot and without an ending that runtimes read.
    let mut file = tempfile::Builder::new()
        .prefix(".polder-")
        .suffix(".new")
        .permissions(Permissions::from_mode(0o600))
        .tempfile_in(folder)
        .with_context(writing)?;
    file.write_all(bytes).with_context(writing)?;
    file.as_file().set_permissions(Permissions::from_mode(mode)).with_context(writing)?;
    file.as_file().sync_all().with_context(writing)?;
    file.persist(path).with_context(writing)?;
    // So that the name outlives a power cut, too.
    File::open(folder).and_then(|folder| folder.sync_all()).with_context(writing)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const SOURCE: &str = r#"{"cniVersion":"1.0.0","name":"net","plugins":[{"type":"ptp"}]}"#;

    struct Node {
        root: tempfile::TempDir,
        place: Place,
    }

    fn node() -> Node {
        let root = tempfile::tempdir().unwrap();
        let folders = Folders { conf_dir: root.path().join("net.d"), bin_dir: root.path().join("bin") };
        fs::create_dir(&folders.conf_dir).unwrap();
        let link = Link { socket: "/run/polder/agent.sock".into(), timeout_seconds: 10 };
        Node { place: Place { folders, link }, root }
    }

    impl Node {
        fn conf(&self, name: &str) -> PathBuf {
            self.place.folders.conf_dir.join(name)
        }

        /// Every file below the root, with its mode and size.
        fn files(&self) -> BTreeMap<String, (u32, u64)> {
            let mut files = BTreeMap::new();
            for folder in [&self.place.folders.conf_dir, &self.place.folders.bin_dir] {
                for name in names(folder).unwrap() {
                    let path = folder.join(&name);
                    let size = fs::metadata(&path).unwrap().len();
                    files.insert(name, (mode(&path).unwrap(), size));
                }
            }
            assert!(self.root.path().exists());
            files
        }
    }

    #[test]
    fn what_is_installed_is_taken_out_again_and_the_nodes_own_is_never_touched() {
        let node = node();
        fs::write(node.conf("10-net.conflist"), SOURCE).unwrap();
        fs::set_permissions(node.conf("10-net.conflist"), Permissions::from_mode(0o600)).unwrap();
        let before = node.files();
        let program = node.place.folders.bin_dir.join(PLUGIN);
        assert_eq!(node.place.install_program().unwrap(), Did::Wrote(program.clone(), None));
        assert_eq!(node.place.install_program().unwrap(), Did::Nothing(program.clone()));
        let ours = node.conf(FILE);
        let source = Some("10-net.conflist".to_owned());
        assert_eq!(node.place.install_configuration().unwrap(), Did::Wrote(ours.clone(), source));
        assert_eq!(node.place.install_configuration().unwrap(), Did::Nothing(ours.clone()));
        let files = node.files();
        assert_eq!(files.len(), 3, "{files:?}");
        assert_eq!(files[PLUGIN].0, 0o755);
        assert_eq!(files[FILE].0, 0o600, "no more readable than what it was made from");
        assert_eq!(fs::read_to_string(node.conf("10-net.conflist")).unwrap(), SOURCE);
        let did = uninstall(&node.place.folders, false).unwrap();
        assert_eq!(did, [Did::Removed(ours.clone()), Did::Removed(program.clone())]);
        assert_eq!(node.files(), before);
        let did = uninstall(&node.place.folders, false).unwrap();
        assert_eq!(did, [Did::NotThere(ours), Did::NotThere(program)]);
    }

    #[test]
    fn what_others_change_is_followed() {
        let node = node();
        let did = node.place.install_configuration().unwrap();
        assert_eq!(did, Did::NoSource(node.place.folders.conf_dir.clone()));
        fs::write(node.conf("10-net.conflist"), SOURCE).unwrap();
        node.place.install_configuration().unwrap();
        fs::write(node.conf("10-net.conflist"), SOURCE.replace("ptp", "bridge")).unwrap();
        node.place.install_configuration().unwrap();
        assert!(fs::read_to_string(node.conf(FILE)).unwrap().contains(r#""type": "bridge""#));
        fs::remove_file(node.conf("10-net.conflist")).unwrap();
        let did = node.place.install_configuration().unwrap();
        assert_eq!(did, Did::NoSource(node.place.folders.conf_dir.clone()));
        assert_eq!(node.files(), BTreeMap::new(), "a network that is gone is not brought back");
    }

    #[test]
    fn a_program_that_somebody_removed_is_put_back() {
        let node = node();
        node.place.keep_program().unwrap();
        fs::remove_file(node.place.folders.bin_dir.join(PLUGIN)).unwrap();
        node.place.keep_program().unwrap();
        assert_eq!(node.files()[PLUGIN].0, 0o755);
    }

    #[test]
    fn a_configuration_that_cannot_be_read_leaves_what_was_there() {
        let node = node();
        fs::write(node.conf("10-net.conflist"), SOURCE).unwrap();
        node.place.install_configuration().unwrap();
        let before = fs::read(node.conf(FILE)).unwrap();
        fs::write(node.conf("10-net.conflist"), &SOURCE[..20]).unwrap();
        let error = format!("{:#}", node.place.install_configuration().unwrap_err());
        assert!(error.contains("10-net.conflist: it is no JSON"), "{error}");
        assert_eq!(fs::read(node.conf(FILE)).unwrap(), before);
    }
}
