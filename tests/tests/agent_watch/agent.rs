//! An agent on a node of a laboratory that follows an API server by a relay.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use agent_api::client::Client;
use agent_api::status::Status;
use anyhow::{Context, Result, bail};
use netlab::{Host, Node};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tests::node::{agent, object};

use super::cluster::Cluster;
use super::relay::Relay;

/// How long the agent may take for anything.
const PATIENCE: Duration = Duration::from_mins(1);

/// See the module.
pub(crate) struct Agent {
    node: Node,
    folder: PathBuf,
    /// Who it is to the server.
    pub kubeconfig: PathBuf,
    process: Option<Child>,
    pub relay: Relay,
}

impl Agent {
    /// Prepares one; nothing runs yet.
    pub(crate) fn prepare(node: &Node, cluster: &Cluster) -> Result<Self> {
        // Nodes of tests that run side by side have the same name.
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let folder = PathBuf::from(format!("/tmp/polder-watch-{}-{number}", std::process::id()));
        let bpffs = folder.join("bpf");
        fs::create_dir_all(&bpffs)?;
        mount(Some("bpf"), &bpffs, Some("bpf"), MsFlags::empty(), None::<&str>)
            .context("mounting a bpffs")?;
        let address = cluster.address();
        let listener = node.run(|| Ok(std::net::TcpListener::bind(address)?))?;
        let relay = Relay::start(listener, address)?;
        Ok(Self { node: node.clone(), folder, kubeconfig: cluster.server.kubeconfig(), process: None, relay })
    }

    /// Starts it, after its end if it still runs.
    pub(crate) fn start(&mut self) -> Result<()> {
        self.kill9()?;
        let log = File::options().create(true).append(true).open(self.folder.join("log"))?;
        let mut command = Command::new(agent()?);
        command
            .args(["--node", self.node.name(), "--metrics", "127.0.0.1:9469"])
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .arg("--state")
            .arg(self.state())
            .arg("--bpffs")
            .arg(self.folder.join("bpf/polder"))
            .arg("--socket")
            .arg(self.folder.join("agent.sock"))
            .arg("--lists")
            .arg(self.lists())
            .arg("--bpf-object")
            .arg(object()?)
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        self.process = Some(self.node.run(|| Ok(command.spawn()?))?);
        Ok(())
    }

    /// Ends it as the kernel does when memory runs out.
    pub(crate) fn kill9(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill()?;
            process.wait()?;
        }
        Ok(())
    }

    /// The folder of all its files.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where it keeps what it knows.
    pub(crate) fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// Where it puts lists of rules about requests.
    pub(crate) fn lists(&self) -> PathBuf {
        self.folder.join("lists")
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.as_ref().map_or(0, Child::id)
    }

    pub(crate) fn client(&self) -> Result<Client> {
        Ok(Client::connect(&self.folder.join("agent.sock"))?)
    }

    pub(crate) fn status(&self) -> Result<Status> {
        Ok(self.client()?.status()?)
    }

    /// Waits until it says of itself what is asked for, and how long that took.
    pub(crate) fn until(&self, what: &str, is: impl Fn(&Status) -> bool) -> Result<Status> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = self.status();
            match found {
                Ok(status) if is(&status) => return Ok(status),
                other if Instant::now() >= deadline => {
                    bail!("waited {PATIENCE:?} until {what}: {other:?}\n{}", self.log());
                }
                _ => thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    /// The last lines of its log.
    pub(crate) fn log(&self) -> String {
        let text = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("---- agent on {}:\n{}\n----", self.node.name(), self.log());
        }
        let ended = self.kill9();
        let unmounted = umount2(&self.folder.join("bpf"), MntFlags::MNT_DETACH);
        let removed = fs::remove_dir_all(&self.folder);
        if ended.is_err() || unmounted.is_err() || removed.is_err() {
            eprintln!("{}: {ended:?} {unmounted:?} {removed:?}", self.folder.display());
        }
    }
}
