//! Programs from Go modules: built once, static, without symbols; in the cache whole or not at all.
//!
//! Every build is `go build` in a scratch module that requires the program's module, so nothing is cloned and Go's own
//! checksums hold. Kubernetes' modules refer to one another by folders of its repository (`./staging/src/...`), which no
//! module proxy has; each is published as a module of its own, `v1.X.Y` of Kubernetes as `v0.X.Y`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};

use crate::flannel;
use crate::programs::{Program, Suite, installed};
use crate::run;

/// One program takes five minutes on two free processors, and the machine may be busy.
const BUILD_LIMIT: Duration = Duration::from_mins(40);
/// Two at a time would take as long and twice the memory: one waits for the other.
const LOCK_LIMIT: Duration = Duration::from_hours(1);
/// How often the lock is asked for.
const LOCK_PAUSE: Duration = Duration::from_millis(500);

/// Builds those of these programs that are not there.
pub fn build(programs: &[Program]) -> Result<()> {
    for program in programs {
        if !program.is_there() {
            build_one(*program)?;
        }
    }
    Ok(())
}

fn build_one(program: Program) -> Result<()> {
    let folder = program.suite.folder()?;
    let bin = folder.join("bin");
    fs::create_dir_all(&bin).with_context(|| format!("{} cannot be made", bin.display()))?;
    let _lock = lock(&folder.join("lock"), program)?;
    let place = program.place()?;
    if place.is_file() {
        return Ok(());
    }
    println!("building {program} from its Go module, once");
    let started = Instant::now();
    // Removed first: an interrupted build may have left it. Nobody else uses it, as the lock is held.
    let module = folder.join("building");
    remove(&module)?;
    fs::create_dir(&module).with_context(|| format!("{} cannot be made", module.display()))?;
    write_module(program.suite, &module)?;
    let built = module.join(program.name());
    let mut go = go(&module, program.suite)?;
    go.args(["build", "-mod=mod", "-trimpath", "-buildvcs=false", "-ldflags", &linker_flags(program.suite)]);
    go.arg("-o").arg(&built).arg(program.import_path());
    run::quiet(&mut go, &module.join("log"), BUILD_LIMIT)?;
    fs::rename(&built, &place).with_context(|| format!("{} cannot be put in its place", place.display()))?;
    remove(&module)?;
    println!("built {program} in {:.0} s", started.elapsed().as_secs_f64());
    Ok(())
}

/// Holds the suite's lock, which other processes that want to build wait for.
fn lock(path: &Path, program: Program) -> Result<Flock<File>> {
    let mut file = File::create(path).with_context(|| format!("{} cannot be made", path.display()))?;
    let started = Instant::now();
    while started.elapsed() < LOCK_LIMIT {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((returned, nix::errno::Errno::EWOULDBLOCK)) => file = returned,
            Err((_, errno)) => {
                return Err(errno).with_context(|| format!("{} cannot be locked", path.display()));
            }
        }
        if started.elapsed() < LOCK_PAUSE {
            println!("{program}: waiting for another process that builds");
        }
        thread::sleep(LOCK_PAUSE);
    }
    bail!("{}: another process has held it for {} minutes", path.display(), LOCK_LIMIT.as_secs() / 60)
}

fn go(module: &Path, suite: Suite) -> Result<Command> {
    // flannel does not compile without a C compiler; everything else is static.
    let cgo = if suite == Suite::Flannel { "1" } else { "0" };
    let program = installed("go").context("Kubernetes is built with Go, 1.25 or newer")?;
    // The build is for later; whoever waits at the machine comes first.
    let mut command = Command::new("nice");
    command.args(["-n", "5"]).arg(program).current_dir(module);
    command.env("CGO_ENABLED", cgo).env("GOWORK", "off").env_remove("GOFLAGS");
    Ok(command)
}

/// Writes `go.mod`, and `go.sum` where the module's own is wanted.
fn write_module(suite: Suite, module: &Path) -> Result<()> {
    let (name, version) = (suite.module(), suite.version());
    match suite {
        Suite::Cni | Suite::Helm | Suite::FlannelPlugin | Suite::H2spec => {
            let text =
                format!("module polder.test/{}\n\ngo 1.24\n\nrequire {name} {version}\n", suite.name());
            write(&module.join("go.mod"), &text)
        }
        Suite::Kubernetes | Suite::Flannel => {
            let source = download(module, suite)?;
            let own = read(&source.join("go.mod"))?;
            let mut text = if suite == Suite::Kubernetes { published(&own, version) } else { own };
            text = renamed(&text, suite.name());
            if suite == Suite::Flannel {
                text += &flannel::write_stand_ins(module)?;
            }
            write(&module.join("go.mod"), &format!("{text}\nrequire {name} {version}\n"))?;
            write(&module.join("go.sum"), &read(&source.join("go.sum"))?)
        }
    }
}

/// Has Go fetch a module, and gives its folder.
fn download(module: &Path, suite: Suite) -> Result<PathBuf> {
    let wanted = format!("{}@{}", suite.module(), suite.version());
    let mut command = go(module, suite)?;
    let output = command.args(["mod", "download", "-json", &wanted]).output();
    let output = output.with_context(|| format!("`go mod download {wanted}` cannot be started"))?;
    let printed: serde_json::Value = serde_json::from_slice(&output.stdout).with_context(|| {
        format!("`go mod download {wanted}`: {}", String::from_utf8_lossy(&output.stderr))
    })?;
    match (printed["Dir"].as_str(), printed["Error"].as_str()) {
        (Some(folder), None) => Ok(PathBuf::from(folder)),
        (_, error) => bail!("`go mod download {wanted}`: {}", error.unwrap_or("it names no folder")),
    }
}

/// Kubernetes' own `go.mod` with its staging folders replaced by the modules that they are published as.
fn published(text: &str, version: &str) -> String {
    let staging = format!("v0.{}", version.trim_start_matches("v1."));
    let line = |line: &str| match (line.split_once("=> ./staging/src/"), line.strip_suffix(" v0.0.0")) {
        (Some((left, module)), _) => format!("{left}=> {module} {staging}\n"),
        (None, Some(required)) if required.trim().starts_with("k8s.io/") => format!("{required} {staging}\n"),
        _ => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

/// The same with another name of the module itself, so that it can require what it was.
fn renamed(text: &str, name: &str) -> String {
    let line = |line: &str| match line.strip_prefix("module ") {
        Some(_) => format!("module polder.test/{name}\n"),
        None => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

/// No symbols; and the version, which a Kubernetes that was built by its own scripts has from there.
fn linker_flags(suite: Suite) -> String {
    let version = suite.version();
    let mut numbers = version.trim_start_matches('v').split('.');
    let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    let mut flags = vec!["-s -w".to_owned()];
    if suite == Suite::Kubernetes {
        for package in ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"] {
            let values = [
                ("gitVersion", version),
                ("gitMajor", major),
                ("gitMinor", minor),
                ("gitTreeState", "clean"),
                ("gitCommit", "go-module"),
                ("buildDate", "2026-01-01T00:00:00Z"),
            ];
            flags.extend(values.map(|(name, value)| format!("-X {package}.{name}={value}")));
        }
    }
    flags.join(" ")
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{} cannot be removed", folder.display()))
        }
        _ => Ok(()),
    }
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("{} cannot be written", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn staging_folders_become_published_modules() {
        let own = "module k8s.io/kubernetes\n\nrequire (\n\tk8s.io/api v0.0.0\n\tk8s.io/klog/v2 v2.130.1\n)\n\n\
                   replace (\n\tk8s.io/api => ./staging/src/k8s.io/api\n)\n";
        assert_eq!(
            renamed(&published(own, "v1.34.4"), "kubernetes"),
            "module polder.test/kubernetes\n\nrequire (\n\tk8s.io/api v0.34.4\n\tk8s.io/klog/v2 v2.130.1\n)\n\n\
             replace (\n\tk8s.io/api => k8s.io/api v0.34.4\n)\n"
        );
    }

    #[test]
    fn only_kubernetes_is_told_its_version_by_the_linker() {
        assert_eq!(linker_flags(Suite::Helm), "-s -w");
        let flags = linker_flags(Suite::Kubernetes);
        assert!(flags.contains("-X k8s.io/component-base/version.gitMinor=34"), "{flags}");
    }
}
