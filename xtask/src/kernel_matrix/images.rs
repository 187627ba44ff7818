//! Kernels of a distribution: fetched by its package manager, unpacked in a cache, never installed.
//!
//! Debian's cloud images: small, configured like what nodes run, and made for emulated hardware.

use std::env;
use std::env::consts::ARCH;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::bounded::Scratch;
use crate::process;

/// What the names of packages end with. (`arm64` has such images too, but another machine to emulate.)
const FLAVOUR: &str = "-cloud-amd64";
const PREFIX: &str = "linux-image-";

/// An unpacked kernel.
#[derive(Debug)]
pub(super) struct Image {
    /// What it calls itself in `uname -r`.
    pub(super) release: String,
    /// The file that a boot loader starts.
    pub(super) kernel: PathBuf,
    /// The folder with its modules.
    pub(super) modules: PathBuf,
}

/// The newest kernel of a series: from the cache, or fetched into it.
pub(super) fn get(series: &str) -> Result<Image> {
    ensure!(ARCH == "x86_64", "kernels are emulated on x86_64 only, and this is {ARCH}");
    let cache = cache()?;
    let kept = newest(series, kept(&cache)?);
    let offered = newest(series, offered(series)?);
    match (offered, kept) {
        (None, None) => {
            bail!("apt offers no {PREFIX}{series}.*{FLAVOUR}, and none is in {}", cache.display())
        }
        (None, Some(kept)) => open(&cache, &kept),
        (Some(offered), Some(kept)) if offered == kept => open(&cache, &kept),
        (Some(offered), kept) => match (fetch(&cache, &offered), kept) {
            (Ok(()), _) => open(&cache, &offered),
            (Err(error), Some(kept)) => {
                println!("kernel {series}: {kept} is used, as {offered} cannot be had: {error:#}");
                open(&cache, &kept)
            }
            (Err(error), None) => Err(error),
        },
    }
}

fn cache() -> Result<PathBuf> {
    let folder = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|folder| folder.is_absolute())
        .or_else(|| env::home_dir().map(|home| home.join(".cache")))
        .context("neither XDG_CACHE_HOME nor a home folder says where kernels may be kept")?;
    Ok(folder.join("polder/kernels"))
}

/// The releases in the cache.
fn kept(cache: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(cache) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("{} cannot be read", cache.display()))?,
    };
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

/// The releases of a series that the package manager knows.
fn offered(series: &str) -> Result<Vec<String>> {
    if process::find("apt-cache").is_none() {
        return Ok(Vec::new());
    }
    let known = search(series)?;
    // A machine that was just made knows no package at all.
    if known.is_empty() && process::is_root() {
        process::capture(Command::new("apt-get").args(["-q", "update"]))?;
        return search(series);
    }
    Ok(known)
}

fn search(series: &str) -> Result<Vec<String>> {
    let pattern = format!("^{PREFIX}{}[.].*{FLAVOUR}$", series.replace('.', "[.]"));
    let found = process::capture(Command::new("apt-cache").args(["search", "--names-only", &pattern]))?;
    let packages = found.lines().filter_map(|line| line.split_whitespace().next());
    Ok(packages.filter_map(|package| package.strip_prefix(PREFIX)).map(str::to_owned).collect())
}

/// The newest release of a series.
fn newest(series: &str, releases: Vec<String>) -> Option<String> {
    let prefix = format!("{series}.");
    releases
        .into_iter()
        .filter(|release| release.starts_with(&prefix) && release.ends_with(FLAVOUR))
        .max_by_key(|release| numbers(release))
}

/// The numbers in a release, which order releases of a series.
fn numbers(release: &str) -> Vec<u64> {
    release
        .split(|character: char| !character.is_ascii_digit())
        .filter_map(|part| part.parse().ok())
        .collect()
}

/// Downloads and unpacks a release; it appears in the cache whole or not at all.
fn fetch(cache: &Path, release: &str) -> Result<()> {
    fs::create_dir_all(cache).with_context(|| format!("{} cannot be made", cache.display()))?;
    // Inside the cache, as a folder can be renamed within one file system only. One for each release: two may be fetched.
    let scratch = Scratch::create(cache, &format!("fetching-{release}"))?;
    println!("fetching {PREFIX}{release}");
    let mut download = Command::new("apt-get");
    if process::is_root() {
        // The user that apt downloads as cannot write to this folder.
        download.args(["-o", "APT::Sandbox::User=root"]);
    }
    process::capture(
        download.args(["-q", "download", &format!("{PREFIX}{release}")]).current_dir(scratch.path()),
    )?;
    let package = single(scratch.path(), |name| has_extension(name, "deb"))?;
    let unpacked = scratch.path().join("unpacked");
    process::capture(Command::new("dpkg-deb").arg("--extract").arg(package).arg(&unpacked))?;
    let place = cache.join(release);
    match fs::rename(&unpacked, &place) {
        // Another process was faster; what it fetched is the same.
        Err(_) if place.is_dir() => Ok(()),
        result => result.with_context(|| format!("{} cannot be made", place.display())),
    }
}

fn open(cache: &Path, release: &str) -> Result<Image> {
    let folder = cache.join(release);
    let kernel = single(&folder.join("boot"), |name| name.starts_with("vmlinuz-"))?;
    let modules = single(&folder.join("lib/modules"), |_| true)
        .or_else(|_| single(&folder.join("usr/lib/modules"), |_| true))?;
    Ok(Image { release: release.to_owned(), kernel, modules })
}

/// The one entry of a folder with such a name.
fn single(folder: &Path, choose: fn(&str) -> bool) -> Result<PathBuf> {
    let entries = fs::read_dir(folder).with_context(|| format!("{} cannot be read", folder.display()))?;
    let names: Result<Vec<_>, _> = entries.map(|entry| entry.map(|entry| entry.file_name())).collect();
    let mut names = names?;
    names.retain(|name| name.to_str().is_some_and(choose));
    match names.as_slice() {
        [name] => Ok(folder.join(name)),
        names => bail!("{} has {} entries of the kind that it has one of", folder.display(), names.len()),
    }
}

fn has_extension(name: &str, extension: &str) -> bool {
    Path::new(name).extension().is_some_and(|found| found == extension)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_release_is_by_number_and_of_the_series_and_flavour() {
        let offered = [
            "6.1.0-9-cloud-amd64",
            "6.1.0-56-cloud-amd64",
            "6.1.0-57-amd64",
            "6.1.0-58-cloud-amd64-unsigned",
            "6.12.1+deb12-cloud-amd64",
            "6.12-cloud-amd64",
            "fetching-6.1.0-99-cloud-amd64-1234",
        ];
        let newest = |series| newest(series, offered.map(str::to_owned).to_vec());
        assert_eq!(newest("6.1").as_deref(), Some("6.1.0-56-cloud-amd64"));
        assert_eq!(newest("6.12").as_deref(), Some("6.12.1+deb12-cloud-amd64"));
        assert_eq!(newest("6.6"), None);
    }
}
