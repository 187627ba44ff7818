//! `cargo xtask cluster`: a Kubernetes cluster on this machine.

mod install;

use std::env;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use kubelab::cluster::{self, Cluster, PodNetwork, ProxyMode, Role, Shape};
use kubelab::programs::{self, KUBECTL, Program};

use crate::{process, setup};

/// What to do with the cluster.
#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Build and install what a cluster is made of, if it is missing
    Build {
        /// Only what an API server without nodes needs
        #[arg(long)]
        api_server: bool,
        /// Also flannel
        #[arg(long, conflicts_with = "api_server")]
        flannel: bool,
    },
    /// Bring a cluster up, or what of it is missing
    Up(Up),
    /// Take it down: processes, namespaces, control groups, files
    Down,
    /// Print the path of the administrator's kubeconfig
    Kubeconfig,
    /// Run a program with KUBECONFIG set and kubectl, kubectl-polder and helm in PATH; ends with its exit code
    Run {
        /// The program and its arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Run a program inside a node; ends with its exit code
    Exec {
        /// n1, n2 and so on
        node: String,
        /// The program and its arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Keep a part of the cluster (started by `up`)
    #[command(hide = true)]
    Keep {
        /// A node; else the control plane
        node: Option<String>,
    },
}

/// What cluster to bring up.
#[derive(clap::Args)]
struct Up {
    #[command(flatten)]
    wanted: Wanted,
    /// Leave Polder out
    #[arg(long)]
    without_polder: bool,
}

/// Nodes and how they are connected.
#[derive(Clone, Copy, PartialEq, Eq, clap::Args)]
pub(crate) struct Wanted {
    /// How many nodes, at most 9
    #[arg(long, default_value_t = Self::default().nodes)]
    nodes: u8,
    /// How pods are connected
    #[arg(long, value_enum, default_value_t = Self::default().cni)]
    cni: Cni,
    /// How service addresses work
    #[arg(long, value_enum, default_value_t = Self::default().proxy)]
    proxy: Proxy,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Cni {
    /// A bridge on each node, routes between nodes
    Bridge,
    /// A route to each pod, routes between nodes
    Ptp,
    /// flannel in VXLAN
    Flannel,
    /// flannel with routes
    FlannelHostGw,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Proxy {
    Iptables,
    Nftables,
}

impl Default for Wanted {
    fn default() -> Self {
        Self { nodes: 2, cni: Cni::Bridge, proxy: Proxy::Iptables }
    }
}

impl Wanted {
    fn shape(self) -> Shape {
        let network = match self.cni {
            Cni::Bridge => PodNetwork::Bridge,
            Cni::Ptp => PodNetwork::Ptp,
            Cni::Flannel => PodNetwork::FlannelVxlan,
            Cni::FlannelHostGw => PodNetwork::FlannelHostGw,
        };
        let proxy = match self.proxy {
            Proxy::Iptables => ProxyMode::Iptables,
            Proxy::Nftables => ProxyMode::Nftables,
        };
        Shape { nodes: self.nodes, network, proxy }
    }
}

/// Packages of Debian, and a program of each that says whether it is there.
const PACKAGES: [(&str, &str); 7] = [
    ("etcd-server", "etcd"),
    ("containerd", "containerd"),
    ("runc", "runc"),
    ("conntrack", "conntrack"),
    ("busybox-static", "busybox"),
    ("bash-static", "bash-static"),
    ("curl", "curl"),
];

/// Does it, and gives the code to end with: a program's own if one was run.
pub(crate) fn run(root: &Path, options: &Options) -> Result<ExitCode> {
    match &options.verb {
        Verb::Build { api_server: true, .. } => build(&PACKAGES[..1], &programs::FOR_API_SERVER)?,
        Verb::Build { flannel, .. } => build_cluster(*flannel)?,
        Verb::Up(wanted) => up(root, wanted)?,
        Verb::Down => down()?,
        Verb::Kubeconfig => println!("{}", Cluster::find()?.kubeconfig().display()),
        Verb::Run { command } => return run_with(&Cluster::find()?, command),
        Verb::Exec { node, command } => return exec(&Cluster::find()?, node, command),
        Verb::Keep { node } => {
            cluster::keep(&node.clone().map_or(Role::ControlPlane, Role::Node))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A cluster with Polder.
pub(crate) fn up_with_polder(root: &Path, wanted: Wanted) -> Result<()> {
    up(root, &Up { wanted, without_polder: false })
}

/// Takes everything away.
pub(crate) fn down() -> Result<()> {
    Cluster::down()
}

fn up(root: &Path, Up { wanted, without_polder }: &Up) -> Result<()> {
    ensure!(process::is_root(), "a cluster needs root: it is made of namespaces");
    build_cluster(matches!(wanted.cni, Cni::Flannel | Cni::FlannelHostGw))?;
    let started = std::time::Instant::now();
    let cluster = Cluster::up(wanted.shape(), &keeper)?;
    println!("cluster: {} nodes are ready after {:.0} s", wanted.nodes, started.elapsed().as_secs_f64());
    if !without_polder {
        install::run(root, &cluster)?;
        println!("polder: ready on every node after {:.0} s", started.elapsed().as_secs_f64());
    }
    println!("  export KUBECONFIG={}", cluster.kubeconfig().display());
    println!("  cargo xtask cluster run -- kubectl get pods --all-namespaces");
    println!("  cargo xtask cluster exec n1 -- ip address");
    if !without_polder {
        println!("  cargo xtask cluster run -- kubectl polder status --all-nodes");
    }
    println!("  cargo xtask cluster down");
    Ok(())
}

/// This program, as a process that stays.
fn keeper(role: &Role) -> Result<Command> {
    let mut command = Command::new(env::current_exe().context("this program has no path")?);
    command.args(["cluster", "keep"]);
    if let Role::Node(name) = role {
        command.arg(name);
    }
    Ok(command)
}

fn run_with(cluster: &Cluster, words: &[String]) -> Result<ExitCode> {
    let folders = [KUBECTL, programs::HELM].map(Program::place);
    let mut path = vec![cluster.programs()];
    path.extend(folders.into_iter().flatten().filter_map(|file| Some(file.parent()?.to_owned())));
    path.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    let path = env::join_paths(path).context("a folder of PATH has a colon in its name")?;
    // Looked up here, as the command's own PATH is not what the system looks in.
    let program = env::split_paths(&path).map(|folder| folder.join(&words[0])).find(|file| file.is_file());
    let mut command = Command::new(program.unwrap_or_else(|| Path::new(&words[0]).to_owned()));
    command.args(&words[1..]).env("KUBECONFIG", cluster.kubeconfig()).env("PATH", path);
    ended(&mut command)
}

fn exec(cluster: &Cluster, node: &str, words: &[String]) -> Result<ExitCode> {
    ended(cluster.exec(node, &words[0])?.args(&words[1..]))
}

/// Runs a program with this one's input and output; a signal counts as shells count it.
fn ended(command: &mut Command) -> Result<ExitCode> {
    use std::os::unix::process::ExitStatusExt;
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.status().with_context(|| format!("`{name}` cannot be started"))?;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}

fn build_cluster(flannel: bool) -> Result<()> {
    let mut wanted: Vec<Program> = programs::FOR_API_SERVER.to_vec();
    wanted.extend(programs::FOR_CLUSTER);
    wanted.extend(programs::CNI_PLUGINS);
    if flannel {
        wanted.extend(programs::FOR_FLANNEL);
    }
    build(&PACKAGES, &wanted)
}

fn build(packages: &[(&str, &str)], programs: &[Program]) -> Result<()> {
    let missing: Vec<&str> = packages
        .iter()
        .filter(|(_, program)| process::find(program).is_none() && !programs::is_installed(program))
        .map(|(package, _)| *package)
        .collect();
    if !missing.is_empty() {
        setup::apt_install(&missing)?;
    }
    kubelab::build(programs)
}
