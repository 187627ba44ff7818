//! Container images as files, without a registry: `ctr images import`, `docker load` and `podman load` all take them.
//!
//! An OCI image layout and Docker's manifest in one tar, over the same blobs. The same input gives the same bytes: times
//! are zero, owners are root, names are sorted.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// What is at a path of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A copy of a file on this machine.
    Copy {
        /// That file.
        from: PathBuf,
        /// Its permissions in the image.
        mode: u32,
    },
    /// A file with this text, which all may read.
    Text(String),
    /// A symbolic link.
    Link(String),
    /// A folder with these permissions.
    Folder(u32),
}

/// An image of one layer.
#[derive(Debug, Clone, Default)]
pub struct Image {
    /// Names with tags, such as `polder/agent:0.1.0`.
    pub names: Vec<String>,
    /// What it holds, by path without a leading `/`. Folders need no entry of their own.
    pub entries: BTreeMap<String, Entry>,
    /// What is run.
    pub entrypoint: Vec<String>,
    /// Its arguments, if nobody says otherwise.
    pub command: Vec<String>,
    /// Variables, `NAME=value`.
    pub environment: Vec<String>,
    /// The user it runs as, if not root.
    pub user: Option<String>,
    /// Labels, as in `org.opencontainers.image.title`.
    pub labels: BTreeMap<String, String>,
}

/// One file of the tar, named by what is in it.
struct Blob {
    digest: String,
    bytes: Vec<u8>,
}

impl Blob {
    fn new(bytes: Vec<u8>) -> Self {
        Self { digest: hex(&bytes), bytes }
    }

    fn path(&self) -> String {
        format!("blobs/sha256/{}", self.digest)
    }

    fn descriptor(&self, kind: &str) -> Value {
        json!({
            "mediaType": format!("application/vnd.oci.image.{kind}"),
            "digest": format!("sha256:{}", self.digest),
            "size": self.bytes.len(),
        })
    }
}

impl Image {
    /// Adds a program, executable by all.
    pub fn program(&mut self, path: &str, from: &Path) {
        self.entries.insert(path.to_owned(), Entry::Copy { from: from.to_owned(), mode: 0o755 });
    }

    /// Writes the image, whole or not at all.
    pub fn write(&self, path: &Path) -> Result<()> {
        let layer = self.layer()?;
        let unpacked = hex(&layer);
        let layer = Blob::new(compressed(&layer)?);
        let config = Blob::new(self.config(&unpacked).to_string().into_bytes());
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config.descriptor("config.v1+json"),
            "layers": [layer.descriptor("layer.v1.tar+gzip")],
        });
        let manifest = Blob::new(manifest.to_string().into_bytes());
        let named = |name: &String| {
            let mut descriptor = manifest.descriptor("manifest.v1+json");
            // The first is containerd's, which wants the whole name; the second is the specification's.
            descriptor["annotations"] = json!({"io.containerd.image.name": qualified(name), "org.opencontainers.image.ref.name": tag(name)});
            descriptor
        };
        let manifests: Vec<Value> = self.names.iter().map(named).collect();
        let index = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": manifests,
        });
        let docker = json!([{"Config": config.path(), "RepoTags": self.names, "Layers": [layer.path()]}]);

        let unfinished = path.with_extension("unfinished");
        let file =
            File::create(&unfinished).with_context(|| format!("{} cannot be made", unfinished.display()))?;
        let mut tar = tar::Builder::new(BufWriter::new(file));
        for (name, bytes) in [
            ("oci-layout", json!({"imageLayoutVersion": "1.0.0"}).to_string().into_bytes()),
            ("index.json", index.to_string().into_bytes()),
            ("manifest.json", docker.to_string().into_bytes()),
        ] {
            append(&mut tar, name, 0o644, &bytes)?;
        }
        for blob in [&config, &layer, &manifest] {
            append(&mut tar, &blob.path(), 0o644, &blob.bytes)?;
        }
        tar.into_inner().and_then(|mut file| file.flush()).context("an image cannot be finished")?;
        fs::rename(&unfinished, path).with_context(|| format!("{} cannot be made", path.display()))
    }

    fn config(&self, unpacked: &str) -> Value {
        let path = "PATH=/bin:/usr/bin:/sbin:/".to_owned();
        let environment: Vec<&String> = [&path].into_iter().chain(&self.environment).collect();
        let mut config = json!({
            "Env": environment,
            "WorkingDir": "/",
            "Entrypoint": self.entrypoint,
            "Labels": self.labels,
        });
        if !self.command.is_empty() {
            config["Cmd"] = json!(self.command);
        }
        if let Some(user) = &self.user {
            config["User"] = json!(user);
        }
        json!({
            "architecture": architecture(),
            "os": "linux",
            "created": "1970-01-01T00:00:00Z",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{unpacked}")]},
            "history": [{"created_by": "polder", "created": "1970-01-01T00:00:00Z"}],
        })
    }

    fn layer(&self) -> Result<Vec<u8>> {
        let mut entries: BTreeMap<&str, &Entry> = BTreeMap::new();
        let folder = Entry::Folder(0o755);
        for (path, entry) in &self.entries {
            for (end, _) in path.match_indices('/') {
                entries.entry(&path[..end]).or_insert(&folder);
            }
            entries.insert(path, entry);
        }
        let mut tar = tar::Builder::new(Vec::new());
        for (path, entry) in entries {
            append_entry(&mut tar, path, entry).with_context(|| format!("{path} in an image"))?;
        }
        tar.into_inner().context("a layer cannot be finished")
    }
}

fn append_entry<W: Write>(tar: &mut tar::Builder<W>, path: &str, entry: &Entry) -> Result<()> {
    match entry {
        Entry::Copy { from, mode } => {
            let bytes = fs::read(from).with_context(|| format!("{} cannot be read", from.display()))?;
            append(tar, path, *mode, &bytes)
        }
        Entry::Text(text) => append(tar, path, 0o644, text.as_bytes()),
        Entry::Link(to) => {
            let mut header = header(tar::EntryType::Symlink, 0o777, 0);
            Ok(tar.append_link(&mut header, path, to)?)
        }
        Entry::Folder(mode) => {
            let mut header = header(tar::EntryType::Directory, *mode, 0);
            Ok(tar.append_data(&mut header, format!("{path}/"), std::io::empty())?)
        }
    }
}

fn append<W: Write>(tar: &mut tar::Builder<W>, path: &str, mode: u32, bytes: &[u8]) -> Result<()> {
    let mut header = header(tar::EntryType::Regular, mode, bytes.len() as u64);
    tar.append_data(&mut header, path, bytes).with_context(|| format!("{path} cannot be written to a tar"))
}

fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn compressed(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut writer = GzBuilder::new().mtime(0).write(Vec::new(), Compression::fast());
    writer.write_all(bytes).and_then(|()| writer.finish()).context("a layer cannot be compressed")
}

fn hex(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

/// The name as containerd and the kubelet look for it: a first part without a dot is no host, but part of the name.
fn qualified(name: &str) -> String {
    match name.split_once('/') {
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => name.to_owned(),
        Some(_) => format!("docker.io/{name}"),
        None => format!("docker.io/library/{name}"),
    }
}

fn tag(name: &str) -> &str {
    name.rsplit_once(':').map_or("latest", |(_, tag)| tag)
}

/// As Go names it, because image configurations do.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::scratch::Scratch;

    fn image() -> Image {
        let mut image = Image { names: vec!["polder/test:1".to_owned()], ..Image::default() };
        image.entries.insert("etc/z".to_owned(), Entry::Text("z\n".to_owned()));
        image.entries.insert("bin/sh".to_owned(), Entry::Link("busybox".to_owned()));
        image.entries.insert("tmp".to_owned(), Entry::Folder(0o1777));
        image.entrypoint = vec!["/bin/sh".to_owned()];
        image
    }

    #[test]
    fn the_same_image_is_the_same_bytes_and_every_blob_has_the_name_of_its_content() {
        let folder = Scratch::create("archive").unwrap();
        let (one, other) = (folder.path().join("one.tar"), folder.path().join("other.tar"));
        image().write(&one).unwrap();
        image().write(&other).unwrap();
        assert_eq!(fs::read(&one).unwrap(), fs::read(&other).unwrap());
        let mut blobs = 0;
        for entry in tar::Archive::new(File::open(&one).unwrap()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            if let Some(digest) = path.strip_prefix("blobs/sha256/") {
                assert_eq!(digest, hex(&bytes));
                blobs += 1;
            }
        }
        assert_eq!(blobs, 3);
    }

    #[test]
    fn a_layer_is_sorted_and_has_every_folder_before_what_is_in_it() {
        let layer = image().layer().unwrap();
        let mut archive = tar::Archive::new(&layer[..]);
        let paths: Vec<String> = archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(paths, ["bin/", "bin/sh", "etc/", "etc/z", "tmp/"]);
    }

    #[test]
    fn names_are_qualified_as_containerd_does() {
        assert_eq!(qualified("polder/agent:1"), "docker.io/polder/agent:1");
        assert_eq!(qualified("pause:1"), "docker.io/library/pause:1");
        assert_eq!(qualified("ghcr.io/polder/agent:1"), "ghcr.io/polder/agent:1");
        assert_eq!(tag("ghcr.io/polder/agent:1"), "1");
    }
}
