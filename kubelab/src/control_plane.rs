//! etcd, the API server and, if wanted, the controllers: where they listen, with what arguments, and when they are ready.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::kubeconfig::{self, answers};
use crate::pki::{Authority, Subject};
use crate::programs::{KUBE_APISERVER, KUBE_CONTROLLER_MANAGER, KUBE_SCHEDULER, installed};
use crate::run::{Daemon, wait_until};

/// A cold start takes 5 s, on a busy machine 20 s.
const READY_LIMIT: Duration = Duration::from_secs(90);

/// The addresses of services.
pub(crate) const SERVICE_NETWORK: &str = "10.96.0.0/16";
/// The first of them is the API server's.
const SERVER_SERVICE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 96, 0, 1));
/// Pods' addresses; each node gets a /24 of them.
pub(crate) const POD_NETWORK: &str = "10.244.0.0/16";
/// An address that the server says it has, where nobody asks (RFC 5737): a loopback address is refused.
const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// Where a control plane keeps its files and listens, and what belongs to it.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) folder: PathBuf,
    pub(crate) places: Places,
    /// Where nodes and clients reach the server.
    pub(crate) server: SocketAddr,
    /// With controller-manager and scheduler, as nodes need them.
    pub(crate) controllers: bool,
}

/// Addresses that no other control plane on this machine has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Places {
    address: Ipv4Addr,
    first_port: u16,
}

impl Places {
    /// All of 127.0.0.0/8 is loopback: an address from the process's number, then ports by a counter, so that nobody has
    /// to look for free ports, which another process may take first.
    pub(crate) fn new() -> Self {
        static PLANES: AtomicU16 = AtomicU16::new(0);
        let [_, high, middle, low] = std::process::id().to_be_bytes();
        let address = Ipv4Addr::new(127, 64 | (high & 0x3f), middle, low);
        Self { address, first_port: 20_000 + 10 * (PLANES.fetch_add(1, Ordering::Relaxed) % 1000) }
    }

    fn etcd(self) -> SocketAddr {
        SocketAddr::from((self.address, self.first_port))
    }

    fn etcd_peers(self) -> SocketAddr {
        SocketAddr::from((self.address, self.first_port + 1))
    }

    pub(crate) fn server(self) -> SocketAddr {
        SocketAddr::from((self.address, self.first_port + 2))
    }

    fn controller_manager(self) -> SocketAddr {
        SocketAddr::from((self.address, self.first_port + 3))
    }

    fn scheduler(self) -> SocketAddr {
        SocketAddr::from((self.address, self.first_port + 4))
    }
}

/// A running control plane; its programs end with this value, its files stay.
#[derive(Debug)]
pub(crate) struct ControlPlane {
    settings: Settings,
    pub(crate) authority: Authority,
    // In the order in which they have to end.
    controllers: Vec<Daemon>,
    server: Option<Daemon>,
    etcd: Daemon,
}

impl ControlPlane {
    /// Starts everything and waits until it is ready.
    pub(crate) fn start(settings: Settings) -> Result<Self> {
        let authority = Authority::open(&settings.folder.join("pki"))?;
        issue(&authority, &settings)?;
        fs::create_dir_all(logs(&settings.folder)).context("the folder of logs cannot be made")?;
        let etcd = Daemon::start("etcd", etcd(&settings)?, &logs(&settings.folder))?;
        let mut plane = Self { settings, authority, controllers: Vec::new(), server: None, etcd };
        plane.write_kubeconfig("admin", &plane.kubeconfig())?;
        plane.start_server()?;
        if plane.settings.controllers {
            plane.start_controllers()?;
        }
        Ok(plane)
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.settings.folder
    }

    /// The administrator's kubeconfig.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.folder().join("kubeconfig")
    }

    pub(crate) fn server_address(&self) -> SocketAddr {
        self.settings.server
    }

    /// Ends the API server alone. Its clients' connections break, its state stays.
    pub(crate) fn stop_server(&mut self) {
        self.server = None;
    }

    /// Starts the API server if it is not running, and waits until it is ready.
    pub(crate) fn start_server(&mut self) -> Result<()> {
        if self.server.is_some() {
            return Ok(());
        }
        let (folder, settings) = (logs(self.folder()), &self.settings);
        let daemon = Daemon::start("kube-apiserver", server(&self.authority, settings)?, &folder)?;
        let kubeconfig = self.kubeconfig();
        let etcd = &self.etcd;
        let ready = wait_until("the API server was not ready", READY_LIMIT, || {
            etcd.check()?;
            daemon.check()?;
            Ok(is_ready(&kubeconfig))
        });
        ready.map_err(|error| error.context(daemon.last_words()))?;
        self.server = Some(daemon);
        Ok(())
    }

    /// Fails if one of the programs has ended.
    pub(crate) fn check(&self) -> Result<()> {
        self.controllers.iter().chain(&self.server).chain([&self.etcd]).try_for_each(Daemon::check)
    }

    fn write_kubeconfig(&self, certificate: &str, path: &Path) -> Result<()> {
        kubeconfig::write(&self.authority, self.settings.server, certificate, path)
    }

    fn start_controllers(&mut self) -> Result<()> {
        let folder = logs(self.folder());
        for name in ["controller-manager", "scheduler"] {
            self.write_kubeconfig(name, &self.authority.file(&format!("{name}.kubeconfig")))?;
        }
        let manager = controller_manager(&self.authority, self.settings.places)?;
        self.controllers.push(Daemon::start("kube-controller-manager", manager, &folder)?);
        let scheduler = scheduler(&self.authority, self.settings.places)?;
        self.controllers.push(Daemon::start("kube-scheduler", scheduler, &folder)?);
        let kubeconfig = self.kubeconfig();
        let path = "/api/v1/namespaces/default/serviceaccounts/default";
        wait_until("the controllers made no service account", READY_LIMIT, || {
            self.check()?;
            Ok(answers(&kubeconfig, path))
        })?;
        Ok(())
    }
}

fn is_ready(kubeconfig: &Path) -> bool {
    // The namespace is made by the server itself, a moment after it calls itself ready.
    answers(kubeconfig, "/readyz") && answers(kubeconfig, "/api/v1/namespaces/default")
}

fn logs(folder: &Path) -> PathBuf {
    folder.join("log")
}

/// The certificates of the control plane itself.
fn issue(authority: &Authority, settings: &Settings) -> Result<()> {
    let names = [
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ];
    let addresses = [settings.server.ip(), SERVER_SERVICE, IpAddr::V4(Ipv4Addr::LOCALHOST)];
    authority.issue("server", Subject::user("kube-apiserver"), &names, &addresses)?;
    for (name, subject) in [
        ("admin", Subject::master("admin")),
        ("server-to-kubelet", Subject::master("kube-apiserver-kubelet-client")),
        ("front-proxy", Subject::user("front-proxy-client")),
        ("controller-manager", Subject::user("system:kube-controller-manager")),
        ("scheduler", Subject::user("system:kube-scheduler")),
    ] {
        authority.issue(name, subject, &[], &[])?;
    }
    Ok(())
}

fn etcd(settings: &Settings) -> Result<Command> {
    let (clients, peers) = (settings.places.etcd(), settings.places.etcd_peers());
    let mut command = Command::new(installed("etcd")?);
    command.args(["--name", "kubelab", "--log-level", "warn", "--logger", "zap"]);
    // What is lost if the machine loses power is thrown away with the folder anyway.
    command.arg("--unsafe-no-fsync").arg("--data-dir").arg(settings.folder.join("etcd"));
    for (flag, address) in [
        ("--listen-client-urls", clients),
        ("--advertise-client-urls", clients),
        ("--listen-peer-urls", peers),
        ("--initial-advertise-peer-urls", peers),
    ] {
        command.arg(flag).arg(format!("http://{address}"));
    }
    command.arg("--initial-cluster").arg(format!("kubelab=http://{peers}"));
    Ok(command)
}

fn server(authority: &Authority, settings: &Settings) -> Result<Command> {
    let file = |name: &str| authority.file(name).display().to_string();
    let alone = settings.server.ip().is_loopback();
    let advertised = if alone { NOBODY } else { settings.server.ip() };
    let mut command = Command::new(KUBE_APISERVER.find()?);
    command.arg(format!("--etcd-servers=http://{}", settings.places.etcd()));
    command.arg(format!("--bind-address={}", settings.server.ip()));
    command.arg(format!("--secure-port={}", settings.server.port()));
    command.arg(format!("--advertise-address={advertised}"));
    command.arg(format!("--service-cluster-ip-range={SERVICE_NETWORK}"));
    for (flag, name) in [
        ("client-ca-file", "ca.crt"),
        ("tls-cert-file", "server.crt"),
        ("tls-private-key-file", "server.key"),
        ("kubelet-client-certificate", "server-to-kubelet.crt"),
        ("kubelet-client-key", "server-to-kubelet.key"),
        ("service-account-key-file", "accounts.pub"),
        ("service-account-signing-key-file", "accounts.key"),
        ("requestheader-client-ca-file", "ca.crt"),
        ("proxy-client-cert-file", "front-proxy.crt"),
        ("proxy-client-key-file", "front-proxy.key"),
    ] {
        command.arg(format!("--{flag}={}", file(name)));
    }
    command.args([
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        "--kubelet-preferred-address-types=InternalIP",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--profiling=false",
    ]);
    if alone {
        command.arg("--endpoint-reconciler-type=none");
    }
    if !settings.controllers {
        // Nobody would make the account that it asks of every pod.
        command.arg("--disable-admission-plugins=ServiceAccount");
    }
    Ok(command)
}

/// The flags with which a controller reaches the server, and where it listens itself.
fn controller(mut command: Command, authority: &Authority, name: &str, listen: SocketAddr) -> Command {
    let kubeconfig = authority.file(&format!("{name}.kubeconfig"));
    for flag in ["kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"] {
        command.arg(format!("--{flag}={}", kubeconfig.display()));
    }
    command.arg(format!("--bind-address={}", listen.ip())).arg(format!("--secure-port={}", listen.port()));
    command.arg("--leader-elect=false");
    command
}

fn controller_manager(authority: &Authority, places: Places) -> Result<Command> {
    let file = |name: &str| authority.file(name).display().to_string();
    let program = Command::new(KUBE_CONTROLLER_MANAGER.find()?);
    let mut command = controller(program, authority, "controller-manager", places.controller_manager());
    command.arg(format!("--service-account-private-key-file={}", file("accounts.key")));
    command.arg(format!("--root-ca-file={}", file("ca.crt")));
    command.arg(format!("--cluster-signing-cert-file={}", file("ca.crt")));
    command.arg(format!("--cluster-signing-key-file={}", file("ca.key")));
    command.arg(format!("--cluster-cidr={POD_NETWORK}"));
    command.arg(format!("--service-cluster-ip-range={SERVICE_NETWORK}"));
    command.args(["--allocate-node-cidrs=true", "--use-service-account-credentials=true"]);
    Ok(command)
}

fn scheduler(authority: &Authority, places: Places) -> Result<Command> {
    let program = Command::new(KUBE_SCHEDULER.find()?);
    Ok(controller(program, authority, "scheduler", places.scheduler()))
}

/// Fails early, with what to do, if something is not there.
pub(crate) fn check_programs(controllers: bool) -> Result<()> {
    installed("etcd")?;
    KUBE_APISERVER.find()?;
    if controllers {
        KUBE_CONTROLLER_MANAGER.find()?;
        KUBE_SCHEDULER.find()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_control_planes_share_no_address() {
        let (one, other) = (Places::new(), Places::new());
        let all = |places: Places| {
            [
                places.etcd(),
                places.etcd_peers(),
                places.server(),
                places.controller_manager(),
                places.scheduler(),
            ]
        };
        assert!(all(one).iter().all(|address| !all(other).contains(address) && address.ip().is_loopback()));
    }
}
