//! What a user says on the command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use crate::dataplane::{Hooks, Sizes, Xdp};

/// Enforces network policy on this node.
#[derive(Clone, Debug, Parser)]
#[command(name = "polder-agent", version, after_long_help = AFTER)]
pub struct Options {
    /// Read manifests from this directory instead of an API server, and follow its changes
    #[arg(long, value_name = "DIR", conflicts_with = "kubeconfig")]
    pub standalone: Option<PathBuf>,
    /// How to reach the API server; without it, as a pod is told
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// This node's name: only its pods get tables. With --standalone it may be left out: then all pods of the manifests
    /// may be here
    #[arg(long, env = "NODE_NAME", required_unless_present_any = ["standalone", "uninstall"])]
    pub node: Option<String>,
    /// Where what is known of the cluster is kept, for a start without the API server
    #[arg(long, value_name = "DIR", default_value = "/var/lib/polder")]
    pub state: PathBuf,
    /// Where programs and maps are pinned, on a bpffs
    #[arg(long, value_name = "DIR", default_value = crate::dataplane::DEFAULT_ROOT)]
    pub bpffs: PathBuf,
    /// The BPF object, if another than the built-in one is to be used
    #[arg(long, value_name = "FILE")]
    pub bpf_object: Option<PathBuf>,
    /// Where polctl reaches the agent
    #[arg(long, value_name = "PATH", default_value = agent_api::SOCKET)]
    pub socket: PathBuf,
    /// Where lists of rules about requests are put, for who reads requests
    #[arg(long, value_name = "DIR", default_value = crate::lists::DIRECTORY)]
    pub lists: PathBuf,
    /// Where a proxy beside the agent tells of requests
    #[arg(long, value_name = "PATH", default_value = proxy_api::SOCKET)]
    pub proxy: PathBuf,
    /// Where metrics, health and readiness are served
    #[arg(long, value_name = "ADDRESS", default_value_t = crate::metrics::ADDRESS)]
    pub metrics: SocketAddr,
    /// An interface that leads out of the node, by name or pattern (`*`, `?`); may be repeated
    #[arg(long, value_name = "NAME")]
    pub uplink: Vec<String>,
    /// How classifiers are attached
    #[arg(long, value_enum, default_value_t = HooksBy::Auto)]
    pub hooks: HooksBy,
    /// How uplinks are looked at before the kernel makes packets of frames
    #[arg(long, value_enum, default_value_t = XdpBy::Auto)]
    pub xdp: XdpBy,
    /// Flows that each of both families' tables has room for
    #[arg(long, value_name = "NUMBER", default_value_t = Sizes::default().flows)]
    pub flows: u32,
    /// Flows that one pod may have at a time
    #[arg(long, value_name = "NUMBER", default_value_t = 16_384)]
    pub flow_share: u32,
    /// Addresses that policies select for which there is room
    #[arg(long, value_name = "NUMBER", default_value_t = Sizes::default().addresses)]
    pub addresses: u32,
    /// Networks that policies name for which there is room
    #[arg(long, value_name = "NUMBER", default_value_t = Sizes::default().prefixes)]
    pub prefixes: u32,
    /// Rows of rules for which there is room
    #[arg(long, value_name = "NUMBER", default_value_t = Sizes::default().rules)]
    pub rules: u32,
    /// Where our 14 bits of the packet mark begin
    #[arg(long, value_name = "BIT", default_value_t = datapath::mark::Mark::DEFAULT_SHIFT,
          value_parser = clap::value_parser!(u8).range(0..=18))]
    pub mark_shift: u8,
    /// Octets of the netlink receive buffer
    #[arg(long, value_name = "NUMBER", default_value_t = 8 << 20)]
    pub netlink_buffer: usize,
    /// Take all programs off and remove all pins, then end: no policy is enforced any more
    #[arg(long)]
    pub uninstall: bool,
}

const AFTER: &str = "\
Programs, links and maps stay when the agent ends: what was enforced stays enforced, and an agent that starts again takes \
over. `--uninstall` is the way to end enforcement.

Needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON; with CAP_NET_BROADCAST it hears of pods' addresses at once instead of \
asking for them.";

/// How classifiers are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum HooksBy {
    /// tcx where the kernel has it, clsact elsewhere
    Auto,
    /// tcx
    Tcx,
    /// A clsact qdisc
    Clsact,
}

/// How uplinks are looked at early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum XdpBy {
    /// In the driver where it can, behind it elsewhere
    Auto,
    /// In the driver
    Native,
    /// Behind the driver
    Generic,
    /// Not at all
    Off,
}

impl Options {
    /// As the dataplane takes them.
    pub fn dataplane(&self) -> crate::dataplane::Options {
        crate::dataplane::Options {
            bpffs: self.bpffs.clone(),
            object: self.bpf_object.clone(),
            sizes: Sizes {
                flows: self.flows,
                addresses: self.addresses,
                prefixes: self.prefixes,
                rules: self.rules,
                ..Sizes::default()
            },
            hooks: match self.hooks {
                HooksBy::Auto => Hooks::Auto,
                HooksBy::Tcx => Hooks::Tcx,
                HooksBy::Clsact => Hooks::Clsact,
            },
            xdp: match self.xdp {
                XdpBy::Auto => Xdp::Auto,
                XdpBy::Native => Xdp::Native,
                XdpBy::Generic => Xdp::Generic,
                XdpBy::Off => Xdp::Off,
            },
        }
    }
}
