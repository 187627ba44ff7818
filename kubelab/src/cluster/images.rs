//! What pods of the cluster run, made from programs of this machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::archive::{Entry, Image};
use crate::programs::{AGNHOST, installed};
use crate::run::output;

/// What holds a pod's namespaces.
pub(super) const PAUSE: &str = "polder.test/pause:1";
/// Servers, clients and a shell.
pub(super) const TOOLS: &str = "polder.test/tools:1";
/// Applets under names that tests call: others are found as `busybox NAME`.
const APPLETS: [&str; 11] = ["sh", "sleep", "cat", "ip", "ls", "ps", "kill", "env", "grep", "tail", "true"];

/// Writes the images' files that are missing.
pub(super) fn write(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    for (file, image) in [("pause.tar", pause as fn() -> Result<Image>), ("tools.tar", tools)] {
        let path = folder.join(file);
        if !path.exists() {
            image()?.write(&path)?;
        }
    }
    Ok(())
}

/// The files, for import into a node.
pub(super) fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("{} cannot be read", folder.display()))?;
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry.with_context(|| format!("{} cannot be read", folder.display()))?.path());
    }
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "tar"));
    paths.sort();
    Ok(paths)
}

fn pause() -> Result<Image> {
    let mut image = Image { names: vec![PAUSE.to_owned()], ..Image::default() };
    image.program("bin/busybox", &busybox()?);
    // Longer than any cluster lives.
    image.entrypoint = ["/bin/busybox", "sleep", "1000000000"].map(str::to_owned).to_vec();
    Ok(image)
}

fn tools() -> Result<Image> {
    let mut image = Image { names: vec![TOOLS.to_owned()], ..Image::default() };
    image.program("bin/busybox", &busybox()?);
    image.program("bin/bash", &installed("bash-static")?);
    image.program("agnhost", &AGNHOST.find()?);
    for applet in APPLETS {
        image.entries.insert(format!("bin/{applet}"), Entry::Link("busybox".to_owned()));
    }
    // The only one that looks names up: static programs of glibc cannot.
    let curl = installed("curl")?;
    for library in libraries(&curl)? {
        image.program(library.to_string_lossy().trim_start_matches('/'), &library);
    }
    image.program("bin/curl", &curl);
    image.entries.insert("etc/nsswitch.conf".to_owned(), Entry::Text("hosts: files dns\n".to_owned()));
    image.entries.insert("tmp".to_owned(), Entry::Folder(0o1777));
    image.entries.insert("etc/passwd".to_owned(), Entry::Text("root:x:0:0:root:/:/bin/sh\n".to_owned()));
    image.entrypoint = vec!["/agnhost".to_owned()];
    image.command = vec!["pause".to_owned()];
    Ok(image)
}

/// The shared libraries that a program loads, and what loads them.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let printed = output(Command::new("ldd").arg(program), "")?;
    Ok(printed.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect())
}

/// A static one: it is alone in its image.
fn busybox() -> Result<PathBuf> {
    let path = installed("busybox")?;
    let dynamic = output(Command::new("ldd").arg(&path), "").is_ok();
    anyhow::ensure!(!dynamic, "{} is not static: on Debian install busybox-static", path.display());
    Ok(path)
}
