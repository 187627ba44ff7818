//! A directory of its own for each agent: manifests, socket, log, and a bpffs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const FOLDER: &str = "/tmp";
const PREFIX: &str = "polder-node-";

/// See the module.
#[derive(Debug)]
pub(super) struct Scratch(PathBuf);

impl Scratch {
    /// Makes one; removes those of processes that are gone.
    pub(super) fn new() -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        sweep();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = Path::new(FOLDER).join(format!("{PREFIX}{}-{number}", process::id()));
        let scratch = Self(path);
        for folder in [scratch.manifests(), scratch.bpffs()] {
            fs::create_dir_all(&folder).with_context(|| format!("{}: cannot make it", folder.display()))?;
        }
        mount(Some("bpf"), &scratch.bpffs(), Some("bpf"), MsFlags::empty(), None::<&str>)
            .with_context(|| format!("{}: cannot mount a bpffs", scratch.bpffs().display()))?;
        Ok(scratch)
    }

    pub(super) fn manifests(&self) -> PathBuf {
        self.0.join("manifests")
    }

    pub(super) fn bpffs(&self) -> PathBuf {
        self.0.join("bpf")
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.0.join("agent.sock")
    }

    pub(super) fn lists(&self) -> PathBuf {
        self.0.join("lists")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.0.join("log")
    }

    /// Where the agent's process id is noted, for who has to end it if this process cannot.
    pub(super) fn process(&self) -> PathBuf {
        self.0.join("pid")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

/// What a killed test left behind. Others may be sweeping too: whatever is gone already is fine.
fn sweep() {
    let Ok(entries) = fs::read_dir(FOLDER) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-')).map(|(pid, _)| pid);
        let Some(owner) =
            owner.filter(|owner| !owner.is_empty() && owner.bytes().all(|b| b.is_ascii_digit()))
        else {
            continue;
        };
        if !Path::new("/proc").join(owner).exists() {
            end_agent(&path);
            remove(&path);
        }
    }
}

/// Ends the agent of a directory, if the noted process is still one of it.
fn end_agent(path: &Path) {
    let Ok(noted) = fs::read_to_string(path.join("pid")) else { return };
    let Ok(pid) = noted.trim().parse::<i32>() else { return };
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let owned = path.to_str().is_some_and(|path| String::from_utf8_lossy(&line).contains(path));
    if owned && let Err(error) = kill(Pid::from_raw(pid), Signal::SIGKILL) {
        eprintln!("agent {pid}, left behind: {error}");
    }
}

fn remove(path: &Path) {
    match umount2(&path.join("bpf"), MntFlags::MNT_DETACH) {
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
        Err(error) => eprintln!("{}: cannot unmount its bpffs: {error}", path.display()),
    }
    if let Err(error) = fs::remove_dir_all(path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        eprintln!("{}: cannot remove it: {error}", path.display());
    }
}
