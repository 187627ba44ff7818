//! A kernel under emulation, with `kernel-check` as its only program.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::bounded;
use super::images::Image;
use super::initramfs::Archive;
use super::{Answer, PATIENCE, Question, Reply, modules};
use crate::process;

/// The emulator's name.
pub(crate) const PROGRAM: &str = "qemu-system-x86_64";

/// The line with the exit code, which a kernel has no other way to tell (`kernel-check/src/guest.rs`).
const EXIT: &str = "kernel-check: exit ";
/// Lines of the kernel's messages that are shown if it dies.
const LAST_MESSAGES: usize = 30;

/// - `panic=-1 oops=panic reboot=t`: whatever goes wrong ends the emulator at once, instead of at its time limit.
/// - `tsc=reliable no_timer_check`: an emulated clock is late whenever the machine is busy; the kernel is not to mind.
/// - `nokaslr cryptomgr.notests nowatchdog`: seconds that say nothing about the object.
const KERNEL_ARGUMENTS: &str = "console=ttyS0 quiet rdinit=/init panic=-1 oops=panic reboot=t tsc=reliable \
                                no_timer_check random.trust_cpu=on nokaslr cryptomgr.notests nowatchdog";

/// Where the emulator is.
pub(super) fn find() -> Result<PathBuf> {
    process::find(PROGRAM).with_context(|| format!("{PROGRAM} is not here: run `cargo xtask setup`"))
}

/// Boots a kernel, waits for its report, and says what that means.
pub(super) fn ask(program: &Path, image: &Image, question: &Question<'_>, folder: &Path) -> Result<Reply> {
    let place = |name: &str| folder.join(name);
    fs::write(place("initramfs"), initramfs(image, question)?)?;
    let mut command = bounded::tied(program);
    // `pc` and no other machine: on `microvm` kernels hang once a program prints.
    command.args(["-M", "pc", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1024"]);
    command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
    for port in ["messages", "report"] {
        // Not `-serial file:`, in which a comma of the path would have a meaning.
        command.arg("-chardev").arg(format!("file,id={port},path={}", escaped(&place(port))));
        command.arg("-serial").arg(format!("chardev:{port}"));
    }
    command.arg("-kernel").arg(&image.kernel).arg("-initrd").arg(place("initramfs"));
    command.arg("-append").arg(KERNEL_ARGUMENTS);
    let status = bounded::run(&mut command, &place("errors"), PATIENCE)?;
    let report = if place("report").exists() { bounded::text(&place("report"))? } else { String::new() };
    if let Some((report, code)) = exit_code(&report) {
        return Ok(Reply::from_exit(code, report));
    }
    let reason = match status {
        None => format!("no answer within {} seconds", PATIENCE.as_secs()),
        Some(status) => format!("the kernel died before the check ended (the emulator's end: {status})"),
    };
    Ok(Reply { report: format!("{report}\n{}", last_words(folder)?), answer: Answer::Bad(reason) })
}

/// In an option of the emulator a comma is written twice.
fn escaped(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

/// The report without its last line, and the exit code in that line.
fn exit_code(report: &str) -> Option<(String, i32)> {
    let (report, code) = report.rsplit_once(EXIT)?;
    Some((report.to_owned(), code.trim().parse().ok()?))
}

fn initramfs(image: &Image, question: &Question<'_>) -> Result<Vec<u8>> {
    let read = |file: &Path| fs::read(file).with_context(|| format!("{} cannot be read", file.display()));
    let mut archive = Archive::default();
    for folder in ["dev", "proc", "sys", "modules"] {
        archive.folder(folder)?;
    }
    // The first process has its input and output here until it mounts what else there is.
    archive.device("dev/console", (5, 1))?;
    archive.file("init", &read(&question.checker)?)?;
    archive.file("object", &read(question.object)?)?;
    if let Some(accept) = &question.accept {
        archive.file("accept", &read(accept)?)?;
    }
    if let Some(vectors) = question.vectors {
        archive.file("vectors", &read(vectors)?)?;
    }
    for (place, module) in modules::in_order(&image.modules, &modules::NEEDED)?.iter().enumerate() {
        archive.file(&format!("modules/{place:03}-{}.ko", module.name), &module.bytes)?;
    }
    archive.finish()
}

/// What kernel and emulator said before the end.
fn last_words(folder: &Path) -> Result<String> {
    let mut words = String::new();
    for name in ["messages", "errors"] {
        let file = folder.join(name);
        let text = if file.exists() { bounded::text(&file)? } else { String::new() };
        let lines: Vec<&str> = text.lines().collect();
        for line in &lines[lines.len().saturating_sub(LAST_MESSAGES)..] {
            words.push_str("  ");
            words.push_str(line);
            words.push('\n');
        }
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_without_its_exit_line_has_no_code() {
        assert_eq!(exit_code("ok\nkernel-check: exit 1\n"), Some(("ok\n".to_owned(), 1)));
        assert_eq!((exit_code("ok\n"), exit_code("kernel-check: exit ")), (None, None));
    }
}
