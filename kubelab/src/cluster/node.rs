//! One node: the namespaces, then containerd, kubelet, kube-proxy and, if wanted, flannel.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, sethostname};

use super::{PodNetwork, STATE, Shape, UP_LIMIT, configuration, images, network, node_folder, node_mounts};
use crate::kubeconfig::answers;
use crate::programs::{CNI_PLUGINS, FLANNEL_PLUGIN, FLANNELD, KUBE_PROXY, KUBELET, Program, installed};
use crate::run::{Daemon, output, wait_until};

/// How often processes of a node that goes are looked for.
const ROUNDS: u32 = 50;
const PAUSE: Duration = Duration::from_millis(100);

/// Settings of a node's network namespace.
const SETTINGS: [(&str, &str); 5] = [
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv4/conf/all/rp_filter", "0"),
    ("net/ipv4/conf/default/rp_filter", "0"),
    ("net/ipv6/conf/all/forwarding", "1"),
    ("net/bridge/bridge-nf-call-iptables", "1"),
];

/// Becomes a node, and keeps its programs until one of them ends.
pub(super) fn keep(name: &str, address: Ipv4Addr, shape: Shape) -> Result<()> {
    let folder = node_folder(name);
    let logs = folder.join("log");
    fs::create_dir_all(&logs).with_context(|| format!("{} cannot be made", logs.display()))?;
    let flannel = matches!(shape.network, PodNetwork::FlannelVxlan | PodNetwork::FlannelHostGw);
    let wanted = CNI_PLUGINS.iter().chain(flannel.then_some(&FLANNEL_PLUGIN));
    let plugins: Vec<PathBuf> = wanted.map(|plugin| plugin.find()).collect::<Result<_>>()?;
    // Found before the mounts, which hide nothing of it, but errors are better early.
    let programs: Vec<PathBuf> =
        [KUBELET, KUBE_PROXY].iter().map(|program: &Program| program.find()).collect::<Result<_>>()?;
    enter(name)?;
    node_mounts::mount_all(&folder, &plugins)?;
    node_mounts::make_control_groups(name)?;
    for (setting, value) in SETTINGS {
        let path = Path::new("/proc/sys").join(setting);
        if path.exists() {
            fs::write(&path, value).with_context(|| format!("{} cannot be set", path.display()))?;
        }
    }
    configuration::write_node(&folder, name, address, shape.network, shape.proxy)?;
    let mut daemons = vec![containerd(&folder, &logs)?];
    for image in images::files(&Path::new(STATE).join("images"))? {
        let mut import = Command::new("ctr");
        import.args(["--namespace", "k8s.io", "images", "import"]).arg(&image);
        output(&mut import, "").with_context(|| format!("{} cannot be imported", image.display()))?;
    }
    daemons.push(Daemon::start("kubelet", kubelet(&programs[0], &folder, name, address), &logs)?);
    let mut proxy = Command::new(&programs[1]);
    proxy.arg("--config").arg(folder.join("kube-proxy.yaml"));
    daemons.push(Daemon::start("kube-proxy", proxy, &logs)?);
    if flannel {
        daemons.push(flanneld(name, &folder, &logs)?);
    }
    loop {
        daemons.iter().try_for_each(Daemon::check)?;
        thread::sleep(PAUSE);
    }
}

/// The calling process moves into the node's network namespace and gets mounts and a host name of its own.
fn enter(name: &str) -> Result<()> {
    let path = Path::new("/run/netns").join(network::namespace(name));
    let space = File::open(&path).with_context(|| format!("{} cannot be opened", path.display()))?;
    setns(space, CloneFlags::CLONE_NEWNET)
        .with_context(|| format!("{} cannot be entered", path.display()))?;
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS)
        .context("namespaces cannot be made: is this root?")?;
    sethostname(name).context("the host name cannot be set")
}

fn containerd(folder: &Path, logs: &Path) -> Result<Daemon> {
    let mut command = Command::new(installed("containerd")?);
    command.arg("--config").arg(folder.join("containerd.toml"));
    let daemon = Daemon::start("containerd", command, logs)?;
    wait_until("containerd did not answer", UP_LIMIT, || {
        daemon.check()?;
        Ok(output(Command::new("ctr").arg("version"), "").is_ok())
    })?;
    Ok(daemon)
}

fn kubelet(program: &Path, folder: &Path, name: &str, address: Ipv4Addr) -> Command {
    let mut command = Command::new(program);
    command.arg(format!("--config={}", folder.join("kubelet.yaml").display()));
    command.arg(format!("--kubeconfig={STATE}/pki/{name}.kubeconfig"));
    command.arg(format!("--hostname-override={name}")).arg(format!("--node-ip={address}"));
    command.arg("--root-dir=/var/lib/kubelet");
    command
}

fn flanneld(name: &str, folder: &Path, logs: &Path) -> Result<Daemon> {
    let admin = Path::new(STATE).join("kubeconfig");
    let path = format!("/api/v1/nodes/{name}");
    wait_until("the kubelet did not register", UP_LIMIT, || Ok(answers(&admin, &path)))?;
    let mut command = Command::new(FLANNELD.find()?);
    command
        .args(["--kube-subnet-mgr", "--ip-masq", "--iface=eth0", "--healthz-port=0"])
        .env("NODE_NAME", name);
    command.arg(format!("--kubeconfig-file={STATE}/pki/flannel.kubeconfig"));
    command.arg(format!("--net-config-path={}", folder.join("flannel.json").display()));
    Daemon::start("flanneld", command, logs)
}

/// Ends every process of a node whose keeper is gone, and removes its control groups.
pub(super) fn remove(name: &str) -> Result<()> {
    for _ in 0..ROUNDS {
        let (groups, processes) = (node_mounts::control_groups(name)?, processes(name)?);
        for pid in &processes {
            match kill(Pid::from_raw(*pid), Signal::SIGKILL) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(errno) => {
                    return Err(errno)
                        .with_context(|| format!("node {name}: process {pid} cannot be killed"));
                }
            }
        }
        let mut left = false;
        for group in &groups {
            left |= !remove_tree(group);
        }
        if processes.is_empty() && !left {
            return Ok(());
        }
        thread::sleep(PAUSE);
    }
    anyhow::bail!("node {name}: processes {:?} or its control groups are still there", processes(name)?)
}

/// Processes in the node's control groups (containers) and in its network namespace (what starts them).
fn processes(name: &str) -> Result<Vec<i32>> {
    let mut found = Vec::new();
    for group in node_mounts::control_groups(name)? {
        collect(&group, &mut found);
    }
    let space = network::namespace(name);
    if Path::new("/run/netns").join(&space).exists() {
        let pids = output(Command::new("ip").args(["netns", "pids", &space]), "")?;
        found.extend(pids.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// The processes below a pod's control group.
pub(super) fn pod_processes(node: &str, uid: &str) -> Result<Vec<u32>> {
    let folder = format!("pod{uid}");
    let mut found = Vec::new();
    for group in node_mounts::control_groups(node)? {
        // kubepods/podUID, or kubepods/CLASS/podUID.
        let pods = group.join("kubepods");
        for place in
            [pods.join(&folder), pods.join("burstable").join(&folder), pods.join("besteffort").join(&folder)]
        {
            collect(&place, &mut found);
        }
    }
    found.sort_unstable();
    found.dedup();
    Ok(found.into_iter().filter_map(|pid| u32::try_from(pid).ok()).collect())
}

/// The processes of a control group and those below it. What disappears meanwhile is what is wanted.
fn collect(group: &Path, found: &mut Vec<i32>) {
    let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    found.extend(text.lines().filter_map(|pid| pid.parse::<i32>().ok()));
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            collect(&entry.path(), found);
        }
    }
}

/// Removes a control group and those below it; false if a process was still in one.
fn remove_tree(group: &Path) -> bool {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_tree(&entry.path());
        }
    }
    fs::remove_dir(group).is_ok() || !group.exists()
}
