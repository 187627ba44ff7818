//! Processes that outlive the one that starts them, known by files: who they are, and what they said last.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::run::{tail, wait_until};
use crate::scratch::start_of;

/// How long a killed process may take to be gone.
const GONE_LIMIT: Duration = Duration::from_secs(10);

/// A process that keeps a part of the cluster.
#[derive(Debug)]
pub(super) struct Keeper {
    name: String,
    folder: PathBuf,
}

impl Keeper {
    /// Starts it, unless it is running.
    pub(super) fn start(
        folder: &Path,
        name: &str,
        command: impl FnOnce() -> Result<Command>,
    ) -> Result<Self> {
        let keeper = Self { name: name.to_owned(), folder: folder.to_owned() };
        if running(folder, name).is_some() {
            return Ok(keeper);
        }
        let mut command = command()?;
        let log = File::options().create(true).append(true).open(keeper.log());
        let log = log.with_context(|| format!("{} cannot be written", keeper.log().display()))?;
        let errors = log.try_clone().context("a file cannot be shared")?;
        command.stdin(Stdio::null()).stdout(log).stderr(errors).process_group(0);
        let child =
            command.spawn().with_context(|| format!("the process that keeps {name} cannot be started"))?;
        let pid = child.id();
        let start = start_of(pid).with_context(|| format!("the process that keeps {name} ended at once"))?;
        let file = file(folder, name);
        fs::write(&file, format!("{pid} {start}"))
            .with_context(|| format!("{} cannot be written", file.display()))?;
        Ok(keeper)
    }

    /// Fails with what it said last if it has ended.
    pub(super) fn check(&self) -> Result<()> {
        match running(&self.folder, &self.name) {
            Some(_) => Ok(()),
            None => bail!("the process that keeps {} has ended; {}", self.name, self.last_words()),
        }
    }

    pub(super) fn last_words(&self) -> String {
        format!("the end of {}:\n{}", self.log().display(), tail(&self.log()))
    }

    fn log(&self) -> PathBuf {
        self.folder.join(format!("{}.log", self.name))
    }

    /// The process that keeps this part.
    pub(super) fn pid(folder: &Path, name: &str) -> Result<u32> {
        running(folder, name).with_context(|| format!("nothing keeps {name}: the cluster is not up"))
    }

    /// Ends the process at once, and with it the programs that it started. Fine if there is none.
    pub(super) fn kill(folder: &Path, name: &str) -> Result<()> {
        let Some(pid) = running(folder, name) else { return Ok(()) };
        let number = Pid::from_raw(i32::try_from(pid).context("a process number is too large")?);
        match kill(number, Signal::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(errno) => {
                return Err(errno).with_context(|| format!("{name}: process {pid} cannot be killed"));
            }
        }
        wait_until(&format!("process {pid} was not gone"), GONE_LIMIT, || Ok(running(folder, name).is_none()))
            .map(drop)
    }
}

fn file(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.process"))
}

/// The process, if it is the one that was started: a number is given again, with another start.
fn running(folder: &Path, name: &str) -> Option<u32> {
    let text = fs::read_to_string(file(folder, name)).ok()?;
    let (pid, start) = text.split_once(' ')?;
    let (pid, start): (u32, u64) = (pid.parse().ok()?, start.parse().ok()?);
    (start_of(pid) == Some(start)).then_some(pid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn a_keeper_is_started_once_and_a_process_of_the_same_number_is_not_it() {
        let folder = Scratch::create("keeper").unwrap();
        let sleep = || {
            let mut command = Command::new("sleep");
            command.arg("60");
            Ok(command)
        };
        Keeper::start(folder.path(), "x", sleep).unwrap().check().unwrap();
        let pid = Keeper::pid(folder.path(), "x").unwrap();
        Keeper::start(folder.path(), "x", || bail!("started twice")).unwrap();
        Keeper::kill(folder.path(), "x").unwrap();
        assert!(Keeper::pid(folder.path(), "x").is_err());
        fs::write(file(folder.path(), "x"), format!("{} 1", std::process::id())).unwrap();
        assert!(running(folder.path(), "x").is_none());
        assert_ne!(pid, std::process::id());
    }
}
