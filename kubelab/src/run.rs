//! Programs that run: bounded ones with their output in a file, and daemons that end with the value that stands for them.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::programs::is_installed;

/// How often a program is asked whether it has ended.
const PAUSE: Duration = Duration::from_millis(20);
/// How long a daemon may take to end by itself.
const GRACE: Duration = Duration::from_secs(5);
/// How much of a log is part of an error.
const TOLD_LINES: usize = 12;

/// Runs a program to its end with its output in a file, which is told if it fails or does not end in time.
pub(crate) fn quiet(command: &mut Command, log: &Path, limit: Duration) -> Result<()> {
    let name = shown(command);
    let mut child = start(command, log)?;
    let started = Instant::now();
    loop {
        match child.try_wait().with_context(|| format!("`{name}` cannot be waited for"))? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => bail!("`{name}`: {status}\n{}", tail(log)),
            None if started.elapsed() > limit => {
                kill(&mut child);
                bail!("`{name}` did not end in {} s\n{}", limit.as_secs(), tail(log));
            }
            None => thread::sleep(PAUSE),
        }
    }
}

/// Runs a program that is quick, and gives what it printed; the error holds what it complained of.
pub(crate) fn output(command: &mut Command, input: &str) -> Result<String> {
    let name = shown(command);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("`{name}` cannot be started"))?;
    let written = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().with_context(|| format!("`{name}` cannot be waited for"))?;
    if !output.status.success() {
        bail!("`{name}`: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    written.with_context(|| format!("`{name}` did not read its input"))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Asks until the answer is yes, and gives how long that took; `what` completes the error "... was not there in time".
pub(crate) fn wait_until(
    what: &str,
    limit: Duration,
    mut is: impl FnMut() -> Result<bool>,
) -> Result<Duration> {
    let started = Instant::now();
    loop {
        if is()? {
            return Ok(started.elapsed());
        }
        if started.elapsed() > limit {
            bail!("{what} in {} s", limit.as_secs());
        }
        thread::sleep(PAUSE * 5);
    }
}

/// A program that runs until this value is dropped, or until the process that started it ends in whatever way.
#[derive(Debug)]
pub(crate) struct Daemon {
    name: String,
    log: PathBuf,
    ended: Arc<Mutex<Option<ExitStatus>>>,
    orders: Option<Sender<()>>,
    keeper: Option<JoinHandle<()>>,
}

impl Daemon {
    /// Starts a program, with its output appended to `FOLDER/NAME.log`.
    pub(crate) fn start(name: &str, mut command: Command, folder: &Path) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let (orders, ordered) = channel();
        let (started, start_seen) = channel();
        let ended = Arc::new(Mutex::new(None));
        let (report, file) = (Arc::clone(&ended), log.clone());
        // The kernel ends the program when the *thread* that started it does, so it has a thread of its own.
        let keeper = thread::Builder::new().name(format!("keep-{name}")).spawn(move || {
            match start(&mut command, &file) {
                Ok(child) => {
                    // The receiver waits for this, so it is there.
                    let _ = started.send(Ok(()));
                    keep(child, &ordered, &report);
                }
                Err(error) => drop(started.send(Err(error))),
            }
        });
        let keeper = keeper.context("a thread cannot be started")?;
        start_seen.recv().context("the thread that starts a program ended")??;
        Ok(Self { name: name.to_owned(), log, ended, orders: Some(orders), keeper: Some(keeper) })
    }

    /// Fails with the end of the log if the program has ended.
    pub(crate) fn check(&self) -> Result<()> {
        match *self.ended.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(status) => bail!("{} ended with {status}:\n{}", self.name, tail(&self.log)),
            None => Ok(()),
        }
    }

    /// The last lines of its log, for errors.
    pub(crate) fn last_words(&self) -> String {
        format!("the end of {}:\n{}", self.log.display(), tail(&self.log))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Some(keeper) = self.keeper.take()
            && keeper.join().is_err()
        {
            eprintln!("kubelab: the thread that kept {} panicked", self.name);
        }
    }
}

/// Waits for the program's end, or for the order to end it.
fn keep(mut child: Child, ordered: &Receiver<()>, report: &Mutex<Option<ExitStatus>>) {
    loop {
        match child.try_wait() {
            Ok(None) => {}
            Ok(Some(status)) => {
                *report.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
                return;
            }
            Err(error) => return eprintln!("kubelab: a program cannot be waited for: {error}"),
        }
        match ordered.recv_timeout(PAUSE) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return end(&mut child),
        }
    }
}

/// Asks a program to end, and kills its whole process group if it does not.
fn end(child: &mut Child) {
    signal(child, Signal::SIGTERM);
    let asked = Instant::now();
    while asked.elapsed() < GRACE {
        match child.try_wait() {
            Ok(None) => thread::sleep(PAUSE),
            _ => return,
        }
    }
    kill(child);
}

fn kill(child: &mut Child) {
    signal(child, Signal::SIGKILL);
    if let Err(error) = child.wait() {
        eprintln!("kubelab: a program cannot be waited for: {error}");
    }
}

fn signal(child: &Child, signal: Signal) {
    if let Ok(pid) = i32::try_from(child.id()) {
        // It may have ended by itself, and then nothing is left to do.
        let _ = killpg(Pid::from_raw(pid), signal);
    }
}

/// Starts a program in a process group of its own, ended by the kernel when the calling thread is gone.
fn start(command: &mut Command, log: &Path) -> Result<Child> {
    let name = shown(command);
    let file = File::options().create(true).append(true).open(log);
    let file = file.with_context(|| format!("{} cannot be written", log.display()))?;
    let errors = file.try_clone().context("a file cannot be shared")?;
    let mut tied = tied(command);
    tied.stdin(Stdio::null()).stdout(file).stderr(errors).process_group(0);
    tied.spawn().with_context(|| format!("`{name}` cannot be started"))
}

/// The same command through `setpriv` (util-linux), which asks the kernel for that signal.
fn tied(command: &Command) -> Command {
    if !is_installed("setpriv") {
        let mut plain = Command::new(command.get_program());
        plain.args(command.get_args());
        return copied(command, plain);
    }
    let mut tied = Command::new("setpriv");
    tied.args(["--pdeathsig", "KILL", "--"]).arg(command.get_program()).args(command.get_args());
    copied(command, tied)
}

fn copied(from: &Command, mut to: Command) -> Command {
    for (name, value) in from.get_envs() {
        match value {
            Some(value) => to.env(name, value),
            None => to.env_remove(name),
        };
    }
    if let Some(folder) = from.get_current_dir() {
        to.current_dir(folder);
    }
    to
}

/// A command's name and first arguments: a server has forty.
fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let mut words = vec![program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned()];
    words.extend(command.get_args().take(4).map(|word| word.to_string_lossy().into_owned()));
    words.join(" ")
}

/// The last lines of a log.
pub(crate) fn tail(log: &Path) -> String {
    match fs::read(log) {
        Err(error) => format!("({} cannot be read: {error})", log.display()),
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let lines: Vec<&str> = text.lines().collect();
            lines[lines.len().saturating_sub(TOLD_LINES)..].join("\n")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_failure_tells_what_the_program_said_last() {
        let folder = Scratch::create("failure").unwrap();
        let log = folder.path().join("log");
        let failed = quiet(&mut shell("echo oh; exit 3"), &log, Duration::from_secs(10));
        let error = failed.unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.ends_with("\noh"), "{error}");
    }

    #[test]
    fn a_program_that_does_not_end_is_killed_at_its_limit() {
        let folder = Scratch::create("limit").unwrap();
        let log = folder.path().join("log");
        let failed = quiet(&mut shell("echo begun; exec sleep 60"), &log, Duration::from_millis(300));
        let error = failed.unwrap_err().to_string();
        assert!(error.contains("did not end in 0 s\nbegun"), "{error}");
    }

    #[test]
    fn a_daemon_ends_with_its_value_even_if_another_thread_started_it() {
        let folder = Scratch::create("daemon").unwrap();
        let path = folder.path().to_owned();
        let script = format!("echo $$ > {}/pid; exec sleep 60", path.display());
        let daemon = thread::spawn(move || Daemon::start("sleeper", shell(&script), &path).unwrap());
        let daemon = daemon.join().unwrap();
        let pid = folder.path().join("pid");
        let there = || Ok(fs::read_to_string(&pid).is_ok_and(|text| text.ends_with('\n')));
        wait_until("it did not start", Duration::from_secs(10), there).unwrap();
        let process = format!("/proc/{}", fs::read_to_string(&pid).unwrap().trim());
        thread::sleep(Duration::from_millis(200));
        assert!(Path::new(&process).exists(), "it ended with the thread that started it");
        daemon.check().unwrap();
        drop(daemon);
        assert!(!Path::new(&process).exists());
    }
}
