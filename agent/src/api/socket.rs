//! The socket's place in the file system: one agent at it, and root only.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream as Probe;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use nix::unistd::geteuid;
use tokio::net::{UnixListener, UnixStream};

/// A socket that is listened at. It is removed when this is dropped.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode: another agent's socket of the same name is not ours to remove.
    file: (u64, u64),
    /// Held as long as the socket.
    _lock: File,
}

impl Socket {
    /// Listens at a path. Makes its directory for its owner only, if it is not there.
    ///
    /// # Errors
    ///
    /// Somebody listens there already; others may write to the directory; there is something else of that name; and
    /// whatever the file system says.
    pub fn bind(path: &Path) -> anyhow::Result<Self> {
        let directory = path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
        prepare(directory)?;
        let lock = lock(path)?;
        remove_stale(path)?;
        let listener =
            UnixListener::bind(path).with_context(|| format!("listening at {}", path.display()))?;
        // Until here only who may enter the directory could connect, and the connection asks who it is.
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))
            .with_context(|| format!("making {} its owner's only", path.display()))?;
        let metadata =
            fs::symlink_metadata(path).with_context(|| format!("looking at {}", path.display()))?;
        let file = (metadata.dev(), metadata.ino());
        Ok(Self { listener, path: path.to_owned(), file, _lock: lock })
    }

    pub(super) async fn accept(&self) -> io::Result<UnixStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.file);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(%error, socket = %self.path.display(), "the socket stays behind");
        }
    }
}

fn prepare(directory: &Path) -> anyhow::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .with_context(|| format!("making the directory {} of the socket", directory.display()))?;
    let metadata = fs::metadata(directory).with_context(|| format!("looking at {}", directory.display()))?;
    let (owner, mode) = (metadata.uid(), metadata.mode() & 0o7777);
    if owner != 0 && owner != geteuid().as_raw() {
        bail!(
            "the directory {} of the socket belongs to user {owner}; expected root or the agent's own user",
            directory.display()
        );
    }
    if mode & 0o022 != 0 {
        bail!(
            "the directory {} of the socket has mode {mode:o}; expected one that only its owner can write to (0700)",
            directory.display()
        );
    }
    Ok(())
}

/// Two agents that start at the same time do not take the socket from each other.
fn lock(path: &Path) -> anyhow::Result<File> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let name = PathBuf::from(name);
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&name)
        .with_context(|| format!("opening {}", name.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => bail!("{}", taken(path)),
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("locking {}", name.display())),
    }
}

fn taken(path: &Path) -> String {
    format!("an agent listens at {} already; expected another --socket for a second one", path.display())
}

fn remove_stale(path: &Path) -> anyhow::Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("looking at {}", path.display())),
    };
    if !metadata.file_type().is_socket() {
        bail!("{} is no socket; expected a socket, or a name that is free", path.display());
    }
    match Probe::connect(path) {
        Ok(_) => bail!("{}", taken(path)),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).with_context(|| format!("removing the stale socket {}", path.display()))
        }
        Err(error) => Err(error).with_context(|| format!("asking who listens at {}", path.display())),
    }
}
