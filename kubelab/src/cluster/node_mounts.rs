//! What a node sees of the machine: its own `/run`, `/sys`, BPF file system and Kubernetes folders; and its control group.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::STATE;

const GROUPS: &str = "/sys/fs/cgroup";
const NONE: Option<&str> = None;

/// Folders of Kubernetes on a node, and what is mounted on each: a folder of the node's own.
const FOLDERS: [(&str, &str); 3] =
    [("/etc/cni", "etc-cni"), ("/var/log/pods", "log-pods"), ("/var/log/containers", "log-containers")];
/// Where containerd looks for plugins, and where a `DaemonSet` that brings one puts it.
const PLUGINS: &str = "/opt/cni/bin";

/// Settings that the kubelet writes for the whole machine, and the values it wants: it gets files of its own.
const SETTINGS: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

/// Mounts everything. The calling process has a mount namespace of its own.
pub(super) fn mount_all(folder: &Path, plugins: &[PathBuf]) -> Result<()> {
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)
        .context("/ cannot be made private")?;
    // A new sysfs shows the network namespace that it is mounted in; the control groups under it are kept.
    let groups = folder.join("groups");
    make(&groups)?;
    bind(Path::new(GROUPS), &groups)?;
    mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), NONE).context("/sys cannot be mounted")?;
    bind(&groups, Path::new(GROUPS))?;
    umount2(&groups, MntFlags::MNT_DETACH)
        .with_context(|| format!("{} cannot be unmounted", groups.display()))?;
    mount(Some("bpf"), "/sys/fs/bpf", Some("bpf"), MsFlags::empty(), NONE)
        .context("/sys/fs/bpf cannot be mounted")?;
    own_state(folder)?;
    for (place, own) in FOLDERS {
        let own = folder.join(own);
        make(&own)?;
        make(Path::new(place))?;
        bind(&own, Path::new(place))?;
    }
    let own = folder.join("plugins");
    make(&own)?;
    for plugin in plugins {
        let name = plugin.file_name().with_context(|| format!("{}: no file", plugin.display()))?;
        fs::copy(plugin, own.join(name)).with_context(|| format!("{} cannot be copied", plugin.display()))?;
    }
    make(Path::new(PLUGINS))?;
    bind(&own, Path::new(PLUGINS))?;
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), Some("mode=755"))
        .context("/run cannot be mounted")?;
    for place in ["/run/containerd", "/run/flannel", "/run/netns", "/run/lock"] {
        make(Path::new(place))?;
    }
    settings(folder)?;
    // Pods with mounts that propagate, such as an agent that mounts a BPF file system, need this.
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_SHARED, NONE).context("/ cannot be made shared")
}

/// Gives the node a `/var/lib` of its own, as whatever a `DaemonSet` keeps there is one node's: all of the machine's is
/// hidden but the cluster's state.
fn own_state(folder: &Path) -> Result<()> {
    let own = folder.join("var-lib");
    for name in ["kubelet", "cni"] {
        make(&own.join(name))?;
    }
    let state = Path::new(STATE);
    let name = state.file_name().with_context(|| format!("{STATE}: no folder"))?;
    make(&own.join(name))?;
    bind(state, &own.join(name))?;
    bind(&own, Path::new("/var/lib"))
}

fn settings(folder: &Path) -> Result<()> {
    let own = folder.join("settings");
    make(&own)?;
    for (name, value) in SETTINGS {
        let place = Path::new("/proc/sys").join(name);
        if place.exists() {
            let file = own.join(name.replace('/', "."));
            fs::write(&file, format!("{value}\n"))
                .with_context(|| format!("{} cannot be written", file.display()))?;
            bind(&file, &place)?;
        }
    }
    Ok(())
}

/// The name of a node's control group in every hierarchy.
pub(super) fn control_group(node: &str) -> String {
    format!("plk-{node}")
}

/// Makes the node's control group in every hierarchy of the machine.
pub(super) fn make_control_groups(node: &str) -> Result<()> {
    let hierarchies = hierarchies()?;
    for hierarchy in &hierarchies {
        let group = hierarchy.join(control_group(node));
        if hierarchy.join("cgroup.controllers").exists() && hierarchies.len() == 1 {
            // Version 2 alone: what the kubelet is to limit has to be handed down.
            let control = hierarchy.join("cgroup.subtree_control");
            fs::write(&control, "+cpu +cpuset +memory +pids +io")
                .with_context(|| format!("{} cannot be written", control.display()))?;
        }
        make(&group)?;
        // A new group of version 1 has no processor and no memory until it is given some.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let from = hierarchy.join(file);
            if from.exists() && !hierarchy.join("cgroup.controllers").exists() {
                fs::copy(&from, group.join(file))
                    .with_context(|| format!("{file} of {} cannot be set", group.display()))?;
            }
        }
    }
    Ok(())
}

/// The node's control groups that are there.
pub(super) fn control_groups(node: &str) -> Result<Vec<PathBuf>> {
    let groups = hierarchies()?.into_iter().map(|hierarchy| hierarchy.join(control_group(node)));
    Ok(groups.filter(|group| group.is_dir()).collect())
}

/// Version 2 alone is one; version 1 has a folder for each.
fn hierarchies() -> Result<Vec<PathBuf>> {
    let root = Path::new(GROUPS);
    if root.join("cgroup.controllers").exists() {
        return Ok(vec![root.to_owned()]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(root).with_context(|| format!("{GROUPS} cannot be read"))? {
        let path = entry.with_context(|| format!("{GROUPS} cannot be read"))?.path();
        if path.join("cgroup.procs").exists() && !path.is_symlink() {
            found.push(path);
        }
    }
    Ok(found)
}

/// Removes the machine's folders that were made to mount on, if nothing is in them.
pub(super) fn remove_host_folders() {
    for place in FOLDERS.iter().map(|(place, _)| *place).chain([PLUGINS, "/opt/cni"]) {
        // Somebody else's are not empty.
        let _ = fs::remove_dir(place);
    }
}

fn bind(from: &Path, to: &Path) -> Result<()> {
    mount(Some(from), to, NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE)
        .with_context(|| format!("{} cannot be mounted on {}", from.display(), to.display()))
}

fn make(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))
}
