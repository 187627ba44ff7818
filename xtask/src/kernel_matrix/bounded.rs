//! Programs that end and files that go: neither outlives the check, however it ends.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::process;

/// How often a program is asked whether it has ended.
const PAUSE: Duration = Duration::from_millis(50);

/// A folder of its own, removed with this value.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    /// Makes the folder inside another one; no other process gives it the same name.
    pub(super) fn create(inside: &Path, name: &str) -> Result<Self> {
        let path = inside.join(format!("{name}-{}", std::process::id()));
        // One that an earlier process of this number left, because it was killed, is in nobody's use.
        let left = if path.exists() { fs::remove_dir_all(&path) } else { Ok(()) };
        left.and_then(|()| fs::create_dir_all(inside))
            .and_then(|()| fs::create_dir(&path))
            .with_context(|| format!("the folder {} cannot be made", path.display()))?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("warning: {} is left behind: {error}", self.0.display());
        }
    }
}

/// A running program, killed with this value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail if it has ended, and then nothing is left to do.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a program with its output in a file; none if it did not end in time and was killed.
pub(super) fn run(command: &mut Command, output: &Path, limit: Duration) -> Result<Option<ExitStatus>> {
    let name = command.get_program().to_string_lossy().into_owned();
    let file = File::create(output).with_context(|| format!("{} cannot be made", output.display()))?;
    let errors = file.try_clone()?;
    let start = Instant::now();
    let child = command.stdin(Stdio::null()).stdout(file).stderr(errors).spawn();
    let mut running = Running(child.with_context(|| format!("`{name}` cannot be started"))?);
    while start.elapsed() < limit {
        if let Some(status) = running.0.try_wait()? {
            return Ok(Some(status));
        }
        thread::sleep(PAUSE);
    }
    Ok(None)
}

/// The same program, killed by the kernel when this one ends without its own doing.
pub(super) fn tied(program: &Path) -> Command {
    match process::find("setpriv") {
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", "KILL", "--"]).arg(program);
            command
        }
        None => Command::new(program),
    }
}

/// What a program printed, without the carriage returns of terminals.
pub(super) fn text(file: &Path) -> Result<String> {
    let bytes = fs::read(file).with_context(|| format!("{} cannot be read", file.display()))?;
    Ok(String::from_utf8_lossy(&bytes).replace('\r', ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_does_not_end_is_killed_at_its_limit() {
        let scratch = Scratch::create(&std::env::temp_dir(), "polder-killed").unwrap();
        let output = scratch.path().join("output");
        let ended = run(
            Command::new("sh").args(["-c", "echo begun; exec sleep 60"]),
            &output,
            Duration::from_millis(500),
        );
        assert!(ended.unwrap().is_none());
        assert_eq!(text(&output).unwrap(), "begun\n");
    }

    #[test]
    fn a_program_that_ends_gives_its_code_and_what_it_said_on_either_stream() {
        let scratch = Scratch::create(&std::env::temp_dir(), "polder-ended").unwrap();
        let output = scratch.path().join("output");
        let ended = run(
            Command::new("sh").args(["-c", "printf 'a\\r\\n'; echo b >&2; exit 3"]),
            &output,
            Duration::from_secs(10),
        );
        assert_eq!(ended.unwrap().and_then(|status| status.code()), Some(3));
        assert_eq!(text(&output).unwrap(), "a\nb\n");
    }
}
