//! `cargo xtask kernel-matrix`: what other kernels than this machine's say to the BPF object.
//!
//! ```text
//! images: a distribution's kernel, from the cache ─┐
//! modules: those that the check needs, in order ───┼─> initramfs ─> emulator ─> report on a serial port ─> answer
//! checker: kernel-check, static ───────────────────┘
//! ```
//!
//! The same program asks this machine's kernel, as an ordinary process. See `docs/decisions/0006-other-kernels.md`.

mod bounded;
mod checker;
mod emulator;
mod images;
mod initramfs;
mod modules;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use self::bounded::Scratch;
use crate::{bpf, process};

pub(crate) use self::emulator::PROGRAM as EMULATOR;

/// This machine's, and the long-term kernels of the two distributions that most nodes run or derive from.
const KERNELS: [&str; 3] = ["host", "6.1", "6.12"];
/// A whole check takes about ten seconds; one that has not ended by then hangs.
const PATIENCE: Duration = Duration::from_mins(1);
/// Kernels at a time: an emulator keeps one processor busy.
const AT_ONCE: usize = 2;
/// What `kernel-check` exits with if the kernel does not let it ask.
const FORBIDDEN: i32 = 3;

/// What came of asking kernels.
pub(crate) enum Said {
    /// They take the object, and it does there what it must.
    Yes,
    /// Not all of them were asked, for this reason.
    NotAsked(String),
}

/// Which kernels to ask about which object.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// `host`, or a version such as `6.1`
    #[arg(default_values = KERNELS)]
    kernels: Vec<Kernel>,
    /// The object, if not the one that `cargo xtask bpf` builds
    #[arg(long, value_name = "PATH")]
    object: Option<PathBuf>,
    /// Rows for the object's maps, and frames with the expected return values (see `kernel-check --help`)
    #[arg(long, value_name = "PATH")]
    vectors: Option<PathBuf>,
    /// Fail if a kernel cannot be asked
    #[arg(long)]
    strict: bool,
}

/// A kernel to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Kernel {
    /// This machine's.
    Host,
    /// The newest of this series that the distribution has, under emulation.
    Series(String),
}

impl FromStr for Kernel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        match text.split_once('.') {
            None if text == "host" => Ok(Self::Host),
            Some((major, minor)) if is_number(major) && is_number(minor) => Ok(Self::Series(text.to_owned())),
            _ => Err(format!("`{text}` is neither `host` nor a version such as `6.1`")),
        }
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Host => "host",
            Self::Series(series) => series,
        })
    }
}

/// What every kernel is asked.
struct Question<'a> {
    /// The static binary of `kernel-check`.
    checker: PathBuf,
    object: &'a Path,
    /// The proxy's object, if it is beside that one.
    accept: Option<PathBuf>,
    vectors: Option<&'a Path>,
}

/// What came of asking a kernel.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// Everything that the object must do there it does.
    Good,
    /// It was not asked, for this reason.
    NotAsked(String),
    /// It does not take the object, or could not tell.
    Bad(String),
}

/// What `kernel-check` printed, and what that means.
struct Reply {
    report: String,
    answer: Answer,
}

impl Reply {
    fn from_exit(code: i32, report: String) -> Self {
        let last = report.trim_end().lines().next_back().unwrap_or("it printed nothing").to_owned();
        let answer = match code {
            0 => Answer::Good,
            1 => Answer::Bad(last),
            FORBIDDEN => Answer::NotAsked(last),
            code => Answer::Bad(format!("kernel-check ended with code {code}: {last}")),
        };
        Self { report, answer }
    }
}

/// A line of the table.
struct Row {
    kernel: Kernel,
    answer: Answer,
    took: Duration,
}

/// Asks the kernels that the options name.
pub(crate) fn run(root: &Path, options: &Options) -> Result<()> {
    let object = options.object.clone().map_or_else(|| bpf::build(root), Ok)?;
    match ask(root, &options.kernels, &object, options.vectors.as_deref())? {
        Said::NotAsked(reason) if options.strict => bail!("not every kernel was asked: {reason}"),
        Said::Yes | Said::NotAsked(_) => Ok(()),
    }
}

/// Asks every kernel of the matrix about an object.
pub(crate) fn check(root: &Path, object: &Path) -> Result<Said> {
    let kernels: Result<Vec<Kernel>, String> = KERNELS.iter().map(|name| name.parse()).collect();
    ask(root, &kernels.map_err(anyhow::Error::msg)?, object, None)
}

/// Asks this machine's kernel about an object.
pub(crate) fn check_host(root: &Path, object: &Path) -> Result<Said> {
    ask(root, &[Kernel::Host], object, None)
}

fn ask(root: &Path, kernels: &[Kernel], object: &Path, vectors: Option<&Path>) -> Result<Said> {
    for file in [Some(object), vectors].into_iter().flatten() {
        fs::metadata(file).with_context(|| format!("{} is not there", file.display()))?;
    }
    let accept = Some(object.with_file_name(bpf::PROXY_OBJECT)).filter(|file| file.exists());
    let question = Question { checker: checker::build(root)?, object, accept, vectors };
    let scratch = Scratch::create(&root.join("target"), "kernel-matrix")?;
    let (waiting, rows) = (Mutex::new(kernels.iter().cloned().enumerate()), Mutex::new(Vec::new()));
    let work = || {
        loop {
            let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((place, kernel)) = next else {
                return;
            };
            let row = ask_one(kernel, &question, &scratch);
            rows.lock().unwrap_or_else(PoisonError::into_inner).push((place, row));
        }
    };
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(work);
        }
    });
    let mut rows = rows.into_inner().unwrap_or_else(PoisonError::into_inner);
    rows.sort_unstable_by_key(|(place, _)| *place);
    let rows: Vec<Row> = rows.into_iter().map(|(_, row)| row).collect();
    show(&rows);
    verdict(&rows)
}

/// Asks a kernel, and prints what it said in one piece: another may be at work.
fn ask_one(kernel: Kernel, question: &Question<'_>, scratch: &Scratch) -> Row {
    let start = Instant::now();
    let folder = scratch.path().join(kernel.to_string());
    let reply = fs::create_dir_all(&folder).map_err(Into::into).and_then(|()| match &kernel {
        Kernel::Host => host(question, &folder),
        Kernel::Series(series) => emulated(series, question, &folder),
    });
    let reply = reply
        .unwrap_or_else(|error| Reply { report: String::new(), answer: Answer::Bad(format!("{error:#}")) });
    println!("{}", format!("-- kernel {kernel}\n{}", reply.report).trim_end());
    Row { kernel, answer: reply.answer, took: start.elapsed() }
}

fn host(question: &Question<'_>, folder: &Path) -> Result<Reply> {
    if !process::is_root() {
        let answer = Answer::NotAsked("loading programs into the kernel needs root".to_owned());
        return Ok(Reply { report: String::new(), answer });
    }
    let mut command = Command::new(&question.checker);
    command.arg(question.object);
    if let Some(accept) = &question.accept {
        command.arg("--accept").arg(accept);
    }
    if let Some(vectors) = question.vectors {
        command.arg("--vectors").arg(vectors);
    }
    let printed = folder.join("report");
    let status = bounded::run(&mut command, &printed, PATIENCE)?;
    let report = bounded::text(&printed)?;
    Ok(match status {
        None => {
            Reply { report, answer: Answer::Bad(format!("no answer within {} seconds", PATIENCE.as_secs())) }
        }
        Some(status) => Reply::from_exit(status.code().unwrap_or(-1), report),
    })
}

fn emulated(series: &str, question: &Question<'_>, folder: &Path) -> Result<Reply> {
    let ready = emulator::find().and_then(|program| Ok((program, images::get(series)?)));
    match ready {
        Ok((program, image)) => {
            println!("kernel {series}: {} under emulation", image.release);
            emulator::ask(&program, &image, question, folder)
        }
        // Neither the emulator nor a kernel is the object's fault.
        Err(error) => Ok(Reply { report: String::new(), answer: Answer::NotAsked(format!("{error:#}")) }),
    }
}

fn show(rows: &[Row]) {
    for Row { kernel, answer, took } in rows {
        let (word, reason) = match answer {
            Answer::Good => ("good", ""),
            Answer::NotAsked(reason) => ("not asked", reason.as_str()),
            Answer::Bad(reason) => ("BAD", reason.as_str()),
        };
        println!(
            "{}",
            format!("kernel {kernel:<6} {word:<10}{:>6.1} s  {reason}", took.as_secs_f64()).trim_end()
        );
    }
}

/// One word for all: bad if one is, and else not asked if one was not.
fn verdict(rows: &[Row]) -> Result<Said> {
    let told = |choose: fn(&Answer) -> Option<&String>| {
        let reasons = rows
            .iter()
            .filter_map(|row| choose(&row.answer).map(|reason| format!("kernel {}: {reason}", row.kernel)));
        reasons.collect::<Vec<_>>().join("; ")
    };
    let bad = told(|answer| if let Answer::Bad(reason) = answer { Some(reason) } else { None });
    if !bad.is_empty() {
        bail!("{bad}");
    }
    let not_asked = told(|answer| if let Answer::NotAsked(reason) = answer { Some(reason) } else { None });
    Ok(if not_asked.is_empty() { Said::Yes } else { Said::NotAsked(not_asked) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows<const N: usize>(answers: [Answer; N]) -> Vec<Row> {
        let row = |answer| Row { kernel: Kernel::Host, answer, took: Duration::ZERO };
        answers.into_iter().map(row).collect()
    }

    #[test]
    fn a_kernel_is_the_host_or_a_series() {
        assert_eq!("host".parse(), Ok(Kernel::Host));
        assert_eq!("6.12".parse(), Ok(Kernel::Series("6.12".to_owned())));
        for wrong in ["", "6", "6.", "6.1.2", "6.x", "../1"] {
            assert!(wrong.parse::<Kernel>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn one_bad_answer_outweighs_all_others_and_one_missing_the_good_ones() {
        let missing = || Answer::NotAsked("no emulator".to_owned());
        assert!(matches!(verdict(&rows([Answer::Good, Answer::Good])), Ok(Said::Yes)));
        assert!(matches!(verdict(&rows([Answer::Good, missing()])), Ok(Said::NotAsked(_))));
        let bad = verdict(&rows([missing(), Answer::Bad("no".to_owned()), Answer::Good]));
        assert_eq!(bad.err().map(|error| error.to_string()).as_deref(), Some("kernel host: no"));
    }

    #[test]
    fn only_the_exit_code_zero_is_a_good_answer() {
        let answer = |code| Reply::from_exit(code, "a line\nthe last\n".to_owned()).answer;
        assert_eq!(answer(0), Answer::Good);
        assert_eq!(answer(1), Answer::Bad("the last".to_owned()));
        assert_eq!(answer(FORBIDDEN), Answer::NotAsked("the last".to_owned()));
        assert_eq!(answer(2), Answer::Bad("kernel-check ended with code 2: the last".to_owned()));
    }
}
