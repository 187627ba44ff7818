//! Network namespaces with names, and threads inside them.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, anyhow};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use crate::names;

/// Where iproute2 and CNI runtimes keep their named namespaces, and so where discovery looks for them.
const FOLDER: &str = "/run/netns";

/// A network namespace with a name in `/run/netns`.
pub struct Namespace {
    name: String,
    file: File,
    named: AtomicBool,
}

/// A thread inside a namespace that was left to run.
#[derive(Debug)]
pub struct Task<T>(JoinHandle<Result<T>>);

impl<T> Task<T> {
    /// Waits for the thread's end and gives its result; a panic in it continues here.
    pub fn join(self) -> Result<T> {
        self.0.join().unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// True if the thread has ended.
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

impl Namespace {
    /// Makes a namespace with loopback up, and these settings (path below `/proc/sys`, value).
    pub(crate) fn create(name: &str, settings: &[(&str, &str)]) -> Result<Arc<Self>> {
        let path = Path::new(FOLDER).join(name);
        File::options()
            .write(true)
            .create_new(true)
            .open(&path)
            .with_context(|| format!("{}: cannot make the file that names a namespace", path.display()))?;
        let made = thread::scope(|scope| {
            scope.spawn(|| become_new(&path, settings)).join().unwrap_or_else(|panic| resume_unwind(panic))
        });
        let opened = made
            .and_then(|()| File::open(&path).with_context(|| format!("{}: cannot open it", path.display())));
        match opened {
            Ok(file) => Ok(Arc::new(Self { name: name.to_owned(), file, named: AtomicBool::new(true) })),
            Err(error) => {
                unname(&path).context(error.to_string())?;
                Err(error)
            }
        }
    }

    /// Its name in `/run/netns`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its file, which programs take for a network namespace.
    pub fn path(&self) -> PathBuf {
        Path::new(FOLDER).join(&self.name)
    }

    /// Runs a function in a thread inside the namespace, and waits for it.
    ///
    /// A socket belongs to the namespace in which it was made, so it can be made here and used anywhere. A panic of the
    /// function continues in the caller.
    pub fn run<T: Send>(&self, function: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        thread::scope(|scope| {
            let task = scope.spawn(|| {
                self.enter()?;
                function()
            });
            task.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    /// Starts a function in a thread inside the namespace, and leaves it running.
    pub fn spawn<T, F>(&self, function: F) -> Result<Task<T>>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T> + Send + 'static,
    {
        let file =
            self.file.try_clone().with_context(|| format!("{}: cannot copy its descriptor", self.name))?;
        let name = self.name.clone();
        let entered = move || {
            enter(&file, &name)?;
            drop(file);
            function()
        };
        let builder = thread::Builder::new().name("netlab".to_owned());
        Ok(Task(builder.spawn(entered).context("cannot start a thread")?))
    }

    /// Writes settings: path below `/proc/sys`, value.
    pub fn set(&self, settings: &[(&str, &str)]) -> Result<()> {
        self.run(|| write_settings(settings)).with_context(|| format!("namespace {}", self.name))
    }

    /// Takes the name away. The namespace goes when the last socket, thread and descriptor in it has gone.
    pub(crate) fn remove(&self) -> Result<()> {
        if self.named.swap(false, Ordering::AcqRel) { unname(&self.path()) } else { Ok(()) }
    }

    fn enter(&self) -> Result<()> {
        enter(&self.file, &self.name)
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Namespace({})", self.name)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            eprintln!("netlab: {error:#}");
        }
    }
}

/// Makes `/run/netns` what `ip netns add` makes it: a shared mount, so that a name that is taken away here goes from
/// the mount namespaces of other processes too, and with it the last reference.
pub(crate) fn prepare_folder() -> Result<()> {
    fs::create_dir_all(FOLDER).with_context(|| format!("{FOLDER}: cannot make it"))?;
    let folder = File::open(FOLDER).with_context(|| format!("{FOLDER}: cannot open it"))?;
    // iproute2 holds the same lock while it does the same.
    let _lock = Flock::lock(folder, FlockArg::LockExclusive)
        .map_err(|(_, errno)| anyhow!("{FOLDER}: cannot lock it: {errno}"))?;
    let share =
        || mount(None::<&str>, FOLDER, None::<&str>, MsFlags::MS_SHARED | MsFlags::MS_REC, None::<&str>);
    match share() {
        // It is not a mount point yet.
        Err(Errno::EINVAL) => {
            mount(Some(FOLDER), FOLDER, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
                .with_context(|| format!("{FOLDER}: cannot be mounted on itself"))?;
            share()
        }
        other => other,
    }
    .with_context(|| format!("{FOLDER}: cannot be made a shared mount"))
}

/// Removes the namespaces of laboratories whose process is gone, and gives their names.
pub(crate) fn remove_leftovers() -> Result<Vec<String>> {
    let mut removed = Vec::new();
    let entries = fs::read_dir(FOLDER).with_context(|| format!("{FOLDER}: cannot list it"))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("{FOLDER}: cannot list it"))?;
        if let Ok(name) = entry.file_name().into_string()
            && names::is_leftover(&name)
        {
            unname(&entry.path())?;
            removed.push(name);
        }
    }
    Ok(removed)
}

fn enter(file: &File, name: &str) -> Result<()> {
    setns(file, CloneFlags::CLONE_NEWNET).with_context(|| format!("cannot enter the namespace {name}"))
}

/// Gives the calling thread a new namespace, and that its name. The thread is to end afterwards.
fn become_new(path: &Path, settings: &[(&str, &str)]) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET).context("cannot make a network namespace: is this root?")?;
    mount(Some("/proc/thread-self/ns/net"), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .with_context(|| format!("{}: cannot mount the namespace on it", path.display()))?;
    write_settings(settings)
}

fn write_settings(settings: &[(&str, &str)]) -> Result<()> {
    for (setting, value) in settings {
        // The kernel shows each thread the settings of its own network namespace.
        let path = format!("/proc/sys/{setting}");
        let written = OpenOptions::new().write(true).open(&path).and_then(|mut file| {
            use std::io::Write;
            file.write_all(value.as_bytes())
        });
        written.with_context(|| format!("{path}: cannot set it to {value}"))?;
    }
    Ok(())
}

fn unname(path: &Path) -> Result<()> {
    match umount2(path, MntFlags::MNT_DETACH) {
        // Nothing mounted there: its maker died before, or another process is cleaning up too.
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
        Err(errno) => return Err(errno).with_context(|| format!("{}: cannot unmount it", path.display())),
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{}: cannot remove it", path.display()))
        }
        _ => Ok(()),
    }
}
