//! An agent on a node.

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use agent_api::client::Client;
use agent_api::flow::FlowLine;
use agent_api::reply::Reply;
use agent_api::request::{Flows, Request};
use agent_api::status::{EndpointState, Status};
use agent_api::verification::Verification;
use agent_api::world::Document;
use anyhow::{Context, Result, bail, ensure};
use netlab::{Host, Node};

use super::scratch::Scratch;

/// How long the agent may take for anything.
const PATIENCE: Duration = Duration::from_mins(1);
/// Where it serves metrics, in its node's own namespace.
const METRICS: &str = "127.0.0.1:9469";
/// How often it is asked.
const ASK_EVERY: Duration = Duration::from_millis(5);

/// An agent on a node, its directory of manifests, and its own bpffs. Ended without mercy when dropped.
#[derive(Debug)]
pub struct Polder {
    node: Node,
    arguments: Vec<String>,
    /// What `setpriv` is told of the bounding set.
    bounding: Option<String>,
    agent: Option<Child>,
    // Last: the agent is ended before what it uses goes.
    scratch: Scratch,
}

impl Polder {
    /// Starts an agent with these manifests, and waits until they are in force.
    pub fn start(node: &Node, manifests: &[(&str, String)]) -> Result<Self> {
        Self::start_with(node, manifests, &[])
    }

    /// Like [`Self::start`], with more arguments for the agent.
    pub fn start_with(node: &Node, manifests: &[(&str, String)], arguments: &[&str]) -> Result<Self> {
        let polder = Self::prepare(node, manifests, arguments)?;
        polder.started()
    }

    /// Writes the manifests, and starts nothing: see [`Self::restart`].
    pub fn prepare(node: &Node, manifests: &[(&str, String)], arguments: &[&str]) -> Result<Self> {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let polder =
            Self { node: node.clone(), arguments, bounding: None, agent: None, scratch: Scratch::new()? };
        for (name, text) in manifests {
            polder.write(name, text)?;
        }
        Ok(polder)
    }

    fn started(mut self) -> Result<Self> {
        self.restart()?;
        self.settle()?;
        Ok(self)
    }

    /// Puts a file into the directory, or another text into one. Use [`Self::settle`] to wait for its effect.
    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        let folder = self.scratch.manifests();
        // Hidden files are not read; the rename shows the file whole.
        let (half, whole) = (folder.join(format!(".{name}")), folder.join(name));
        fs::write(&half, text)
            .and_then(|()| fs::rename(&half, &whole))
            .with_context(|| format!("{}: cannot write it", whole.display()))
    }

    /// Removes a file from the directory.
    pub fn remove(&self, name: &str) -> Result<()> {
        let path = self.scratch.manifests().join(name);
        fs::remove_file(&path).with_context(|| format!("{}: cannot remove it", path.display()))
    }

    /// Waits until what is in the directory is in force, and every pod's interface is enforced or known to be nobody's.
    pub fn settle(&self) -> Result<Status> {
        let wanted = self.written()?;
        self.within("what was written to be in force", |client| {
            let found = client.world()?.into_iter().map(|document| (document.name, document.text));
            ensure!(found.collect::<BTreeMap<_, _>>() == wanted, "other manifests are in force");
            let status = client.status()?;
            let held: Vec<_> =
                status.endpoints.iter().filter(|one| one.state == EndpointState::Held).collect();
            ensure!(held.is_empty(), "held: {held:?}");
            ensure!(status.ready, "not ready: {:?}", status.reasons);
            Ok(status)
        })
    }

    /// Writes a file and waits until it is in force.
    pub fn apply(&self, name: &str, text: &str) -> Result<Status> {
        self.write(name, text)?;
        self.settle()
    }

    /// Waits until these pods (`namespace/name`) are enforced.
    pub fn enforces(&self, pods: &[&str]) -> Result<Status> {
        self.within("pods to be enforced", |client| {
            let status = client.status()?;
            for pod in pods {
                let state = status.endpoints.iter().find(|one| one.pod.as_deref() == Some(*pod));
                let state = state.map(|one| (one.state, one.why.clone()));
                ensure!(matches!(state, Some((EndpointState::Enforced, _))), "{pod}: {state:?}");
            }
            Ok(status)
        })
    }

    /// Waits until a generation beyond this one is in force, and says which.
    pub fn wait_generation(&self, beyond: u64) -> Result<u64> {
        self.within("another generation", |client| {
            let generation = client.status()?.generation;
            ensure!(generation > beyond, "generation {generation}");
            Ok(generation)
        })
    }

    /// Asks until the answer is as it should be. `question` fails while it is not.
    pub fn within<T>(&self, what: &str, mut question: impl FnMut(&mut Client) -> Result<T>) -> Result<T> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.client().and_then(|mut client| question(&mut client));
            match answer {
                Ok(answer) => return Ok(answer),
                Err(error) if Instant::now() >= deadline => {
                    bail!("{}: waited {PATIENCE:?} for {what}: {error:#}\n{}", self.node.name(), self.log());
                }
                Err(_) => thread::sleep(ASK_EVERY),
            }
        }
    }

    /// The agent's status.
    pub fn status(&self) -> Result<Status> {
        Ok(self.client()?.status()?)
    }

    /// The manifests in force.
    pub fn world(&self) -> Result<Vec<Document>> {
        Ok(self.client()?.world()?)
    }

    /// What the agent counted, by name: `ingress rule_denies`.
    pub fn counters(&self) -> Result<BTreeMap<String, u64>> {
        Ok(self.status()?.counters.into_iter().map(|counter| (counter.name, counter.count)).collect())
    }

    /// How many entries a map holds.
    pub fn entries(&self, map: &str) -> Result<u64> {
        let status = self.status()?;
        let found = status.maps.iter().find(|one| one.name == map);
        found.map(|one| one.used).with_context(|| format!("the agent has no map {map}"))
    }

    /// All flows that the agent remembers.
    pub fn flows(&self) -> Result<Vec<FlowLine>> {
        let mut client = self.client()?;
        let mut flows = Vec::new();
        for reply in client.request(&Request::Flows(Flows::default()))? {
            match reply? {
                Reply::Flow(flow) => flows.push(flow),
                Reply::Lost { .. } => {}
                other => bail!("asked for flows, and got {other:?}"),
            }
        }
        Ok(flows)
    }

    /// Has the agent compare all at once and put it right, and gives its status then.
    pub fn resync(&self) -> Result<Status> {
        let mut client = self.client()?;
        match client.request(&Request::Resync)?.next().context("no answer")?? {
            Reply::Status(status) => Ok(*status),
            other => bail!("asked for a comparison, and got {other:?}"),
        }
    }

    /// Intent compared with the kernel.
    pub fn verify(&self) -> Result<Verification> {
        Ok(self.client()?.verify()?)
    }

    /// Ends the agent as the kernel does when memory runs out.
    pub fn kill9(&mut self) -> Result<()> {
        if let Some(mut agent) = self.agent.take() {
            agent.kill().context("cannot end the agent")?;
            agent.wait().context("cannot wait for the agent's end")?;
        }
        Ok(())
    }

    /// From the next start on the agent has a bounding set of capabilities, as `setpriv` takes it.
    pub fn limit(&mut self, bounding: Option<String>) {
        self.bounding = bounding;
    }

    /// From the next start on the agent has these arguments, too.
    pub fn argue(&mut self, arguments: &[&str]) {
        self.arguments.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    }

    /// The agent's process.
    pub fn process(&self) -> Option<u32> {
        self.agent.as_ref().map(Child::id)
    }

    /// Starts the agent, after its end if it still runs; it need not be ready on return.
    pub fn restart(&mut self) -> Result<()> {
        self.kill9()?;
        let log =
            File::options().create(true).append(true).open(self.scratch.log()).context("the agent's log")?;
        let mut command = self.command(&self.scratch.socket(), self.bounding.as_deref())?;
        command.args(["--metrics", METRICS]).args(&self.arguments).stderr(log);
        let agent = self.spawn(&mut command)?;
        fs::write(self.scratch.process(), agent.id().to_string()).context("noting the agent's process")?;
        self.agent = Some(agent);
        Ok(())
    }

    /// Starts another agent at the same pins, with another socket, and waits until it has ended by itself. Gives the code
    /// with which it ended, and what it said.
    pub fn rival(&self, change: impl FnOnce(&mut Command)) -> Result<(Option<i32>, String)> {
        self.rival_with(None, change)
    }

    /// The same, with a bounding set for `setpriv`.
    pub fn rival_with(
        &self,
        bounding: Option<&str>,
        change: impl FnOnce(&mut Command),
    ) -> Result<(Option<i32>, String)> {
        let (socket, said) =
            (self.scratch.socket().with_extension("rival"), self.scratch.log().with_extension("rival"));
        let mut command = self.command(&socket, bounding)?;
        let log = File::create(&said).context("the log of another agent")?;
        command.args(["--metrics", "127.0.0.1:0"]).args(&self.arguments).stderr(log);
        change(&mut command);
        let mut agent = self.spawn(&mut command)?;
        let deadline = Instant::now() + PATIENCE;
        let ended = loop {
            match agent.try_wait().context("another agent")? {
                Some(status) => break status.code(),
                None if Instant::now() < deadline => thread::sleep(ASK_EVERY),
                None => {
                    agent.kill().context("cannot end another agent")?;
                    agent.wait().context("cannot wait for another agent's end")?;
                    let said = fs::read_to_string(&said).unwrap_or_default();
                    bail!("{}: another agent goes on after {PATIENCE:?}: {said}", self.node.name());
                }
            }
        };
        Ok((ended, fs::read_to_string(&said).context("the log of another agent")?))
    }

    /// The agent's command line, but for where it serves metrics.
    fn command(&self, socket: &Path, bounding: Option<&str>) -> Result<Command> {
        let mut command = match bounding {
            None => Command::new(agent()?),
            Some(set) => {
                let mut command = Command::new("setpriv");
                command.args(["--bounding-set", set, "--inh-caps=-all", "--"]).arg(agent()?);
                command
            }
        };
        command.args(["--node", self.node.name()]);
        for (flag, path) in [
            ("--standalone", self.scratch.manifests()),
            ("--bpffs", self.bpffs()),
            ("--socket", socket.to_owned()),
            ("--lists", self.lists()),
            ("--proxy", self.proxy()),
            ("--bpf-object", object()?),
        ] {
            command.arg(flag).arg(path);
        }
        command.env("NO_COLOR", "1").stdin(Stdio::null()).stdout(Stdio::null());
        Ok(command)
    }

    /// A process is made in the network namespace of the thread that makes it.
    fn spawn(&self, command: &mut Command) -> Result<Child> {
        self.node.run(|| command.spawn().with_context(|| format!("{command:?}")))
    }

    /// What the agent answers to an HTTP request for this path: the whole answer, from the status line on.
    pub fn http(&self, path: &str) -> Result<String> {
        let mut stream = self.node.run(|| Ok(TcpStream::connect(METRICS)?))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// The last lines of the agent's log.
    pub fn log(&self) -> String {
        last_lines(&self.scratch.log())
    }

    /// The bpffs with the agent's pins.
    pub fn bpffs(&self) -> PathBuf {
        self.scratch.bpffs().join("polder")
    }

    /// Where it puts lists of rules about requests.
    pub fn lists(&self) -> PathBuf {
        self.scratch.lists()
    }

    /// Where a proxy beside it tells of requests.
    pub fn proxy(&self) -> PathBuf {
        self.scratch.socket().with_file_name("proxy.sock")
    }

    /// Where it is asked.
    pub fn socket(&self) -> PathBuf {
        self.scratch.socket()
    }

    /// The node it is on.
    pub fn node(&self) -> &Node {
        &self.node
    }

    fn client(&self) -> Result<Client> {
        Ok(Client::connect(&self.scratch.socket())?)
    }

    fn written(&self) -> Result<BTreeMap<String, String>> {
        let folder = self.scratch.manifests();
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(&folder).with_context(|| format!("{}: cannot list it", folder.display()))? {
            let path = entry?.path();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            files.insert(name, fs::read_to_string(&path)?);
        }
        Ok(files)
    }
}

impl Drop for Polder {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("---- agent on {}:\n{}\n----", self.node.name(), self.log());
        }
        if let Err(error) = self.kill9() {
            eprintln!("{}: {error:#}", self.node.name());
        }
    }
}

/// The last lines of a log; none if it cannot be read.
pub(super) fn last_lines(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

/// How much a counter grew.
pub fn counted_since(before: &BTreeMap<String, u64>, now: &BTreeMap<String, u64>, name: &str) -> u64 {
    let count = |counters: &BTreeMap<String, u64>| counters.get(name).copied().unwrap_or_default();
    count(now).saturating_sub(count(before))
}

/// The workspace's root.
fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The agent's binary: said by `POLDER_AGENT`, or beside this test's own.
pub fn agent() -> Result<PathBuf> {
    env::var_os("POLDER_AGENT").map_or_else(|| program("polder-agent", "agent"), |path| Ok(path.into()))
}

/// A program beside this test's own, where cargo puts it: it is built from its package if it is not there.
pub fn program(name: &str, package: &str) -> Result<PathBuf> {
    let own = env::current_exe().context("where this test's binary is")?;
    let folder = own.ancestors().nth(2).context("a test's binary is two folders deep")?;
    let path = folder.join(name);
    if !path.exists() {
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["build", "--package", package]).current_dir(root());
        if folder.ends_with("release") {
            cargo.arg("--release");
        }
        let status = cargo.status().with_context(|| format!("cargo build --package {package}"))?;
        ensure!(status.success() && path.exists(), "{}: cargo did not build it ({status})", path.display());
    }
    Ok(path)
}

/// The BPF object: said by `POLDER_BPF_OBJECT`, or where `cargo xtask bpf` puts it.
pub fn object() -> Result<PathBuf> {
    if let Some(path) = env::var_os("POLDER_BPF_OBJECT") {
        return Ok(path.into());
    }
    let path = root().join("target/bpf/bpfel-unknown-none/release/polder");
    ensure!(
        path.exists(),
        "{}: not there; expected the object that `cargo xtask bpf` builds",
        path.display()
    );
    Ok(path)
}
