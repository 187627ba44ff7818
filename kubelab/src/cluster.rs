//! A cluster of nodes on this machine: real kubelets and containers, each node in namespaces of its own.
//!
//! ```text
//!  root namespace                       node n1                          node n2
//!  control plane (10.89.0.1:6443)       containerd, kubelet, kube-proxy  ...
//!        └── bridge plk0 ───────────────── eth0 10.89.0.11                  eth0 10.89.0.12
//! ```
//!
//! A node is a network, a mount and a host name namespace: its own `/run`, `/sys/fs/bpf`, `/etc/cni`, `/var/lib/kubelet`,
//! and a control group below which its pods are. The machine's kernel, process table and file system are shared.
//!
//! There is one at a time on a machine, with its state in [`STATE`]. It outlives the process that brings it up: the
//! control plane and each node are kept by a process of this program's own, which is started again with a [`Role`].

mod configuration;
mod images;
mod keeper;
mod network;
mod node;
mod node_mounts;

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use self::keeper::Keeper;
use crate::control_plane::{ControlPlane, Places, Settings};
use crate::kubeconfig;
use crate::pki::{Authority, Subject};
use crate::programs::KUBECTL;
use crate::run::{output, wait_until};

/// Where a cluster's files are.
pub const STATE: &str = "/var/lib/polder-cluster";
/// Its lock: one process at a time changes it.
const LOCK: &str = "/run/polder-cluster.lock";
/// While this file is there, the API server is not running.
const HOLD: &str = "hold-api-server";
/// The network between nodes.
const FABRIC: [u8; 3] = [10, 89, 0];
/// How long a cluster may take to come up: 40 s on an idle machine.
const UP_LIMIT: Duration = Duration::from_mins(4);
/// How often a keeper looks after what it keeps.
const PAUSE: Duration = Duration::from_millis(200);

/// How pods are connected on a node, and nodes with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PodNetwork {
    /// A bridge on each node, routes between nodes.
    Bridge,
    /// A route to each pod, routes between nodes.
    Ptp,
    /// flannel, in VXLAN.
    FlannelVxlan,
    /// flannel, with routes.
    FlannelHostGw,
}

/// What kube-proxy writes its rules with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProxyMode {
    /// iptables.
    Iptables,
    /// nftables.
    Nftables,
}

/// What cluster is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// How many nodes.
    pub nodes: u8,
    /// How pods are connected.
    pub network: PodNetwork,
    /// How services work.
    pub proxy: ProxyMode,
}

/// What a process that keeps a part of the cluster is started for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// The control plane.
    ControlPlane,
    /// A node of this name.
    Node(String),
}

/// The cluster of this machine.
#[derive(Debug)]
pub struct Cluster {
    shape: Shape,
}

impl Cluster {
    /// Brings the cluster up, or what of it is missing, and waits until its nodes are ready. `keeper` gives the command
    /// that calls [`keep`] with a role.
    pub fn up(shape: Shape, keeper: &dyn Fn(&Role) -> Result<Command>) -> Result<Self> {
        ensure!((1..=9).contains(&shape.nodes), "{} nodes are wanted; 1 to 9 are possible", shape.nodes);
        let _lock = lock()?;
        let state = Path::new(STATE);
        fs::create_dir_all(state).with_context(|| format!("{STATE} cannot be made: is this root?"))?;
        if let Ok(there) = Self::find() {
            let same = Shape { nodes: shape.nodes, ..there.shape };
            ensure!(
                same == shape && there.shape.nodes <= shape.nodes,
                "there is a cluster of another shape ({:?}): take it down first",
                there.shape
            );
        }
        let text = serde_json::to_string_pretty(&shape).context("a shape has no text")?;
        fs::write(shape_file(), text)
            .with_context(|| format!("{} cannot be written", shape_file().display()))?;
        let cluster = Self { shape };
        images::write(&state.join("images"))?;
        network::bridge(gateway())?;
        let control_plane = Keeper::start(state, "control-plane", || keeper(&Role::ControlPlane))?;
        println!("control plane: starting");
        let ready = || {
            control_plane.check()?;
            Ok(state.join("control-plane.ready").exists())
        };
        wait_until("the control plane was not ready", UP_LIMIT, ready)
            .map_err(|error| error.context(control_plane.last_words()))?;
        cluster.kubectl_apply(configuration::CLUSTER_OBJECTS)?;
        cluster.up_nodes(keeper)?;
        Ok(cluster)
    }

    fn up_nodes(&self, keeper: &dyn Fn(&Role) -> Result<Command>) -> Result<()> {
        let (state, authority) = (Path::new(STATE), Authority::open(&Path::new(STATE).join("pki"))?);
        for (name, user) in [("kube-proxy", "system:kube-proxy"), ("flannel", "flannel")] {
            credentials(&authority, name, Subject::user(user))?;
        }
        let mut keepers = Vec::new();
        for (name, address) in self.nodes() {
            let user = format!("system:node:{name}");
            credentials(&authority, &name, Subject { user: &user, group: Some("system:nodes") })?;
            network::node(&name, address, gateway())?;
            keepers.push(Keeper::start(state, &name, || keeper(&Role::Node(name.clone())))?);
            println!("node {name} ({address}): starting");
        }
        let check = || keepers.iter().try_for_each(Keeper::check);
        for (name, address) in self.nodes() {
            let mut pods = String::new();
            let given = || {
                check()?;
                pods = self
                    .kubectl(&["get", "node", &name, "-o", "jsonpath={.spec.podCIDR}"])
                    .unwrap_or_default();
                Ok(pods.contains('/'))
            };
            wait_until(&format!("node {name} did not register and get a network"), UP_LIMIT, given)?;
            configuration::write_pod_network(&node_folder(&name), self.shape.network, &pods)?;
            if matches!(self.shape.network, PodNetwork::Bridge | PodNetwork::Ptp) {
                let others = self.nodes().into_iter().map(|(name, _)| name).filter(|other| *other != name);
                network::route(&pods, address, others)?;
            }
        }
        for (name, _) in self.nodes() {
            let ready = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}";
            wait_until(&format!("node {name} was not ready"), UP_LIMIT, || {
                check()?;
                Ok(self.kubectl(&["get", "node", &name, "-o", ready]).is_ok_and(|status| status == "True"))
            })?;
            println!("node {name}: ready");
        }
        Ok(())
    }

    /// The cluster that is up.
    pub fn find() -> Result<Self> {
        let file = shape_file();
        let text = fs::read_to_string(&file)
            .with_context(|| format!("{}: no cluster is up (`cargo xtask cluster up`)", file.display()))?;
        let shape = serde_json::from_str(&text).with_context(|| format!("{}: no shape", file.display()))?;
        Ok(Self { shape })
    }

    /// Takes everything away: processes, namespaces, control groups, files. Fine if there is nothing.
    pub fn down() -> Result<()> {
        let _lock = lock()?;
        let state = Path::new(STATE);
        // As many as can have been asked for: what an interrupted `up` made is not in the shape.
        let names: Vec<String> = (1..=9).map(node_name).collect();
        for name in names.iter().map(String::as_str).chain(["control-plane"]) {
            Keeper::kill(state, name)?;
        }
        for name in &names {
            node::remove(name)?;
        }
        network::remove(&names)?;
        node_mounts::remove_host_folders();
        match fs::remove_dir_all(state) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("{STATE} cannot be removed"))
            }
            _ => Ok(()),
        }
    }

    /// What was asked for.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Names and addresses of its nodes.
    pub fn nodes(&self) -> Vec<(String, Ipv4Addr)> {
        (1..=self.shape.nodes).map(|number| (node_name(number), node_address(number))).collect()
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        Path::new(STATE).join("kubeconfig")
    }

    /// Programs that are made for this cluster, such as plugins of kubectl.
    pub fn programs(&self) -> PathBuf {
        Path::new(STATE).join("bin")
    }

    /// Adds one, or replaces it.
    pub fn add_program(&self, name: &str, file: &Path) -> Result<()> {
        let folder = self.programs();
        let place = folder.join(name);
        let half = folder.join(format!(".{name}"));
        // Another may be running from there.
        let made = fs::create_dir_all(&folder)
            .and_then(|()| fs::copy(file, &half))
            .and_then(|_| fs::rename(&half, &place));
        made.with_context(|| format!("{} cannot be copied to {}", file.display(), place.display()))
    }

    /// An administrator's client.
    pub async fn client(&self) -> Result<kube::Client> {
        Ok(kube::Client::try_from(kubeconfig::config(&self.kubeconfig()).await?)?)
    }

    /// A command inside a node's namespaces, as a shell on that node would run it.
    pub fn exec(&self, node: &str, program: &str) -> Result<Command> {
        let known = self.nodes().iter().any(|(name, _)| name == node);
        ensure!(known, "there is no node {node}: they are n1 to n{}", self.shape.nodes);
        let pid = Keeper::pid(Path::new(STATE), node)?;
        let mut command = Command::new("nsenter");
        command.args(["--target", &pid.to_string(), "--mount", "--net", "--uts", "--", program]);
        Ok(command)
    }

    /// A process in a pod's own network, by the pod's UID. None while the pod has none: what the runtime starts is in the
    /// pod's control group before it is in its namespaces.
    pub fn pod_process(&self, node: &str, uid: &str) -> Result<Option<u32>> {
        let network = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/net")).ok();
        let nodes = network(Keeper::pid(Path::new(STATE), node)?);
        let is_inside = |pid: &u32| network(*pid).is_some_and(|of| Some(of) != nodes);
        Ok(node::pod_processes(node, uid)?.into_iter().find(is_inside))
    }

    /// The process of a pod that runs a program of this name.
    pub fn pod_process_named(&self, node: &str, uid: &str, program: &str) -> Result<Option<u32>> {
        let runs = |pid: &u32| {
            // The kernel keeps 15 characters.
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            !name.is_empty() && program.starts_with(name.trim_end())
        };
        Ok(node::pod_processes(node, uid)?.into_iter().find(runs))
    }

    /// Makes an image known to every node.
    pub fn import_image(&self, archive: &Path) -> Result<()> {
        for (name, _) in self.nodes() {
            let mut command = self.exec(&name, "ctr")?;
            command.args(["--namespace", "k8s.io", "images", "import"]).arg(archive);
            output(&mut command, "")
                .with_context(|| format!("node {name}: {} is no image", archive.display()))?;
        }
        Ok(())
    }

    /// Ends the API server, and starts it again: what nodes see of an outage.
    pub fn hold_api_server(&self, hold: bool) -> Result<()> {
        let (file, ready) = (Path::new(STATE).join(HOLD), Path::new(STATE).join("control-plane.ready"));
        if hold {
            fs::write(&file, "").with_context(|| format!("{} cannot be made", file.display()))?;
        } else {
            fs::remove_file(&file).with_context(|| format!("{} cannot be removed", file.display()))?;
        }
        let what = if hold { "the API server did not end" } else { "the API server was not ready" };
        wait_until(what, UP_LIMIT, || Ok(ready.exists() != hold)).map(drop)
    }

    /// Runs kubectl and gives what it printed.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        output(self.kubectl_command()?.args(arguments), "")
    }

    /// Applies manifests.
    pub fn kubectl_apply(&self, manifests: &str) -> Result<String> {
        output(self.kubectl_command()?.args(["apply", "-f", "-"]), manifests)
    }

    fn kubectl_command(&self) -> Result<Command> {
        let mut command = Command::new(KUBECTL.find()?);
        command.arg("--kubeconfig").arg(self.kubeconfig()).arg("--request-timeout=30s").stdin(Stdio::null());
        Ok(command)
    }
}

/// Keeps a part of the cluster until it is killed, or one of its programs ends. Called by the process that `up` starts,
/// before that has a second thread.
pub fn keep(role: &Role) -> Result<()> {
    match role {
        Role::ControlPlane => keep_control_plane(),
        Role::Node(name) => {
            let shape = Cluster::find()?.shape;
            let number = (1..=9).find(|number| node_name(*number) == *name);
            let number = number.with_context(|| format!("{name} is no name of a node"))?;
            node::keep(name, node_address(number), shape)
        }
    }
}

fn keep_control_plane() -> Result<()> {
    let state = Path::new(STATE);
    let (hold, ready) = (state.join(HOLD), state.join("control-plane.ready"));
    let server = SocketAddr::from((gateway(), 6443));
    let settings = Settings { folder: state.to_owned(), places: Places::new(), server, controllers: true };
    let mut plane = ControlPlane::start(settings)?;
    File::create(&ready).context("the file that says so cannot be made")?;
    loop {
        match (hold.exists(), ready.exists()) {
            (true, true) => {
                plane.stop_server();
                fs::remove_file(&ready).context("the file that says so cannot be removed")?;
            }
            (false, false) => {
                plane.start_server()?;
                File::create(&ready).context("the file that says so cannot be made")?;
            }
            _ => plane.check()?,
        }
        thread::sleep(PAUSE);
    }
}

fn lock() -> Result<Flock<File>> {
    let file = File::create(LOCK).with_context(|| format!("{LOCK} cannot be made: is this root?"))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(lock),
        Err((_, errno)) => bail!("another process is bringing a cluster up or down ({LOCK}: {errno})"),
    }
}

fn credentials(authority: &Authority, name: &str, subject: Subject<'_>) -> Result<()> {
    let path = authority.file(&format!("{name}.kubeconfig"));
    if path.exists() {
        return Ok(());
    }
    authority.issue(name, subject, &[], &[])?;
    kubeconfig::write(authority, SocketAddr::from((gateway(), 6443)), name, &path)
}

fn shape_file() -> PathBuf {
    Path::new(STATE).join("shape.json")
}

fn node_folder(name: &str) -> PathBuf {
    Path::new(STATE).join("nodes").join(name)
}

fn node_name(number: u8) -> String {
    format!("n{number}")
}

fn node_address(number: u8) -> Ipv4Addr {
    let [a, b, c] = FABRIC;
    Ipv4Addr::new(a, b, c, 10 + number)
}

/// The root namespace's address on the fabric: the API server's, and of whoever is outside of the cluster.
fn gateway() -> IpAddr {
    let [a, b, c] = FABRIC;
    IpAddr::V4(Ipv4Addr::new(a, b, c, 1))
}
