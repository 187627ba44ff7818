//! The demo on a node: a bridge as a CNI would make it, four pods with real servers, the agent, and `examples/node`.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use agent_api::client::Client;
use anyhow::{Context, Result, bail, ensure};
use netlab::{
    Cni, Family, Greeting, Host, KeptStreams, Lab, Matrix, Node, Outcome, Pod, Probe, Server, reachability,
};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{SigHandler, Signal, signal};

use super::{Programs, requests};
use crate::bpf;

/// Where the client's request and the database's answer go.
const HTTP: u16 = 8080;
const POSTGRES: u16 = 5432;
const PODS: [(&str, u8); 4] = [("client", 10), ("api", 11), ("db", 12), ("attacker", 13)];

/// How long the agent may take until every endpoint is enforced, and a change until it is in force.
const PATIENCE: Duration = Duration::from_secs(15);

/// Ctrl-C was pressed, or the process was told to end: it does after the step that it is at, and leaves nothing behind.
static STOPPED: AtomicBool = AtomicBool::new(false);

/// Plays the demo.
pub(crate) fn run(root: &Path, programs: Programs, keep: bool) -> Result<()> {
    let tools = Tools::of(programs, root)?;
    // Until here there is nothing to clean up.
    for told in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler only writes to an atomic, which a signal handler may do.
        unsafe { signal(told, SigHandler::Handler(stopped)) }.context("listening for Ctrl-C")?;
    }
    let begun = Instant::now();
    let lab = Lab::new("demo")?;
    let node = lab.node(Cni::Bridge { br_netfilter: false }, 1)?;
    let pods = PODS
        .iter()
        .map(|(name, last)| node.pod_at(name, [10, 244, 1, *last].into()))
        .collect::<Result<Vec<Pod>>>()?;
    let servers = servers(&pods)?;
    say(
        "1. A node with a bridge, as a CNI makes it, and four pods with real servers. Nothing enforces anything:",
    )?;
    let before = matrix(&pods)?;
    println!("{before}");
    ensure!(before.all_connected(), "without policy every pod reaches every other one");

    let mut agent = Agent::start(root, &tools, &node)?;
    say("2. The agent enforces examples/node: client -> api -> db, and nothing else")?;
    let after = matrix(&pods)?;
    println!("{after}");
    check(&after)?;

    say("3. While the client talks to the api, a policy takes that away")?;
    let cut = cut_while_open(&pods, &mut agent)?;
    println!("   the connection carried {} exchanges and then nothing: {}", cut.0, cut.1);

    say("4. Which rule it was, from the packets that were dropped")?;
    tools.polctl(&agent, &["flows", "--verdict", "denied", "--pod", "shop/client"], &[0])?;
    say("5. What the rules say of it, and the kernel's own maps")?;
    tools.polctl(&agent, &["explain", "client", "api", "-n", "shop", "--port", "http"], &[1])?;
    say("6. Of one port, only some requests: examples/node-requests, read by the proxy")?;
    let proxy = requests_judged(root, &tools, &mut agent, &node, &pods)?;
    say("7. All of it")?;
    tools.polctl(&agent, &["status"], &[0])?;
    tools.polctl(&agent, &["verify"], &[0])?;
    println!("\ndemo: everything was as it should be ({:.1} s)", begun.elapsed().as_secs_f64());
    if keep {
        hints(&tools, &agent, &node, &pods);
        while !STOPPED.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(100));
        }
    }
    drop((servers, proxy, agent));
    Ok(())
}

extern "C" fn stopped(_: i32) {
    STOPPED.store(true, Ordering::Relaxed);
}

fn say(text: &str) -> Result<()> {
    ensure!(!STOPPED.load(Ordering::Relaxed), "told to end");
    println!("\n-- {text}");
    Ok(())
}

/// On every pod both ports, so that what does not connect was denied.
fn servers(pods: &[Pod]) -> Result<Vec<Server>> {
    let both = pods.iter().flat_map(|pod| [(pod, HTTP), (pod, POSTGRES)]);
    both.map(|(pod, port)| Server::tcp(pod, port, Greeting::None)).collect()
}

fn matrix(pods: &[Pod]) -> Result<Matrix> {
    let hosts: Vec<&dyn Host> = pods.iter().map(|pod| pod as &dyn Host).collect();
    let probes = [
        Probe::Tcp(Family::V4, HTTP),
        Probe::Tcp(Family::V6, HTTP),
        Probe::Tcp(Family::V4, POSTGRES),
        Probe::Ping(Family::V6),
    ];
    reachability(&hosts, &probes)
}

/// What examples/node allows, said once more in other words.
fn check(matrix: &Matrix) -> Result<()> {
    let wrong = matrix.differences(|from, to, probe| {
        let http = matches!(probe, Probe::Tcp(_, HTTP));
        let postgres = matches!(probe, Probe::Tcp(_, POSTGRES));
        let allowed =
            from == to || from == "client" && to == "api" && http || from == "api" && to == "db" && postgres;
        if allowed { Outcome::Connected } else { Outcome::TimedOut }
    });
    if wrong.is_empty() {
        return Ok(());
    }
    bail!("not what examples/node says:\n{}", wrong.join("\n"))
}

/// Removes the policy of the api's clients while a connection is open. How many exchanges it carried, and what became of it.
fn cut_while_open(pods: &[Pod], agent: &mut Agent) -> Result<(u64, String)> {
    let [client, api, ..] = pods else { bail!("there are four pods") };
    let kept = KeptStreams::start(
        client,
        api,
        Family::V4,
        HTTP,
        1,
        Duration::from_millis(1),
        Duration::from_millis(500),
    )?;
    thread::sleep(Duration::from_millis(300));
    let policies = agent.manifests.join("policies.yaml");
    let text = fs::read_to_string(&policies)?;
    let without = text.replace("matchLabels: {app: client}", "matchLabels: {app: nobody}");
    ensure!(without != text, "examples/node no longer names the client");
    let generation = agent.status()?.generation;
    let changed = Instant::now();
    fs::write(&policies, without)?;
    agent.wait(|status| status.generation > generation)?;
    let in_force = changed.elapsed();
    println!("   in force {} ms after the file was written", in_force.as_millis());
    thread::sleep(Duration::from_secs(1));
    let report = kept.stop()?;
    let end = report.interruptions.first().context("the connection went on, though no rule allows it")?;
    Ok((report.exchanges, end.to_string()))
}

/// An allowed request and one that is not, and which rules said so. The proxy goes on.
fn requests_judged(
    root: &Path,
    tools: &Tools,
    agent: &mut Agent,
    node: &Node,
    pods: &[Pod],
) -> Result<requests::Proxy> {
    let [client, api, ..] = pods else { bail!("there are four pods") };
    let proxy = requests::Proxy::start(&tools.proxy, &tools.object, node, &agent.folder)?;
    agent.wait(|status| !status.proxies.is_empty())?;
    let generation = agent.status()?.generation;
    fs::copy(root.join("examples/node-requests/orders.yaml"), agent.manifests.join("orders.yaml"))?;
    agent.wait(|status| status.generation > generation)?;
    let served = requests::serve(api)?;
    let (status, body) = requests::ask(client, api, "GET", "/orders/7")?;
    ensure!(status.ends_with("200 OK") && body.contains(&client.ipv4().to_string()), "{status}: {body}");
    let (status, _) = requests::ask(client, api, "DELETE", "/orders/7")?;
    ensure!(status.starts_with("HTTP/1.1 403"), "{status}");
    let asked = served.join()?;
    ensure!(asked == ["GET /orders/7 HTTP/1.1"], "the server was asked {asked:?}");
    println!("   The server was asked {:?}, by the client's own address.", asked.join(", "));
    let port = requests::PORT.to_string();
    let explain = ["explain", "client", "api", "-n", "shop", "--port", &port, "--http"];
    for (request, code) in [("GET /orders/7", 0), ("DELETE /orders/7", 1)] {
        println!();
        tools.polctl(agent, &[&explain[..], &[request]].concat(), &[code])?;
    }
    Ok(proxy)
}

fn hints(tools: &Tools, agent: &Agent, node: &Node, pods: &[Pod]) {
    let polctl = tools.polctl.display();
    let socket = agent.socket.display();
    println!("\nThe node stays until Ctrl-C. In another terminal:");
    println!("  {polctl} flows --follow --socket {socket}");
    println!("  {polctl} status -o wide --socket {socket}");
    println!("  $EDITOR {}", agent.manifests.join("policies.yaml").display());
    for pod in pods {
        println!("  ip netns exec {} bash        # {} {}", pod.namespace().name(), pod.name(), pod.ipv4());
    }
    println!("  ip netns exec {} bash        # the node", node.namespace().name());
}

/// The programs that the demo runs.
struct Tools {
    agent: PathBuf,
    polctl: PathBuf,
    proxy: PathBuf,
    object: PathBuf,
}

impl Tools {
    fn of(programs: Programs, root: &Path) -> Result<Self> {
        let object = bpf::build(root)?;
        let folder = programs.of(&["agent", "polctl", "proxy"], root)?;
        Ok(Self {
            agent: folder.join("polder-agent"),
            polctl: folder.join("polctl"),
            proxy: folder.join("polder-proxy"),
            object,
        })
    }

    fn polctl(&self, agent: &Agent, arguments: &[&str], codes: &[i32]) -> Result<()> {
        println!("$ polctl {}", arguments.join(" "));
        let status = Command::new(&self.polctl)
            .args(arguments)
            .arg("--socket")
            .arg(&agent.socket)
            .status()
            .with_context(|| format!("cannot start {}", self.polctl.display()))?;
        let code = status.code().unwrap_or(-1);
        ensure!(codes.contains(&code), "`polctl {}` ended with {code}, not {codes:?}", arguments.join(" "));
        Ok(())
    }
}

/// The agent's directory, with its own BPF file system.
struct Folder(PathBuf);

/// A running agent and its manifests.
struct Agent {
    child: Child,
    // After the agent, which uses it.
    _kept: Folder,
    folder: PathBuf,
    manifests: PathBuf,
    socket: PathBuf,
}

impl Agent {
    fn start(root: &Path, tools: &Tools, node: &Node) -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("polder-demo-{}", std::process::id()));
        let (manifests, bpffs) = (folder.join("manifests"), folder.join("bpffs"));
        let kept = Folder(folder.clone());
        fs::create_dir_all(&manifests)?;
        fs::create_dir_all(&bpffs)?;
        for file in fs::read_dir(root.join("examples/node"))? {
            let file = file?.path();
            if file.extension().is_some_and(|extension| extension == "yaml") {
                fs::copy(&file, manifests.join(file.file_name().context("a file has a name")?))?;
            }
        }
        mount(Some("bpf"), &bpffs, Some("bpf"), MsFlags::empty(), Some("mode=0700"))
            .context("mounting a BPF file system")?;
        let socket = folder.join("run/agent.sock");
        let namespace = fs::File::open(node.namespace().path()).context("opening the node's namespace")?;
        let mut command = Command::new(&tools.agent);
        command
            .arg("--standalone")
            .arg(&manifests)
            .args(["--node", "node-1", "--uplink", "eth0", "--metrics", "127.0.0.1:9469"])
            .arg("--bpffs")
            .arg(bpffs.join("polder"))
            .arg("--socket")
            .arg(&socket)
            .arg("--lists")
            .arg(folder.join("run/lists"))
            .arg("--proxy")
            .arg(folder.join("run/proxy.sock"))
            .arg("--bpf-object")
            .arg(&tools.object)
            .env("POLDER_LOG", std::env::var("POLDER_LOG").unwrap_or_else(|_| "warn".to_owned()))
            .stdin(Stdio::null());
        // SAFETY: between fork and exec only a system call is made.
        unsafe { command.pre_exec(move || Ok(setns(&namespace, CloneFlags::CLONE_NEWNET)?)) };
        let child = command.spawn().with_context(|| format!("cannot start {}", tools.agent.display()))?;
        let mut agent = Self { child, _kept: kept, folder, manifests, socket };
        agent.wait(|status| status.ready && status.endpoints.len() == PODS.len())?;
        Ok(agent)
    }

    fn status(&self) -> Result<agent_api::status::Status> {
        Ok(Client::connect(&self.socket)?.status()?)
    }

    /// Waits until the agent's status is as wanted.
    fn wait(&mut self, wanted: impl Fn(&agent_api::status::Status) -> bool) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("the agent ended with {status}");
            }
            let status = self.status();
            if status.as_ref().is_ok_and(&wanted) {
                return Ok(());
            }
            ensure!(!STOPPED.load(Ordering::Relaxed), "told to end");
            if Instant::now() >= deadline {
                bail!("the agent is not as wanted after {PATIENCE:?}: {status:?}");
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let killed = self.child.kill().and_then(|()| self.child.wait().map(drop));
        if let Err(error) = killed {
            eprintln!("demo: the agent is still running: {error}");
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        match umount2(&self.0.join("bpffs"), MntFlags::MNT_DETACH) {
            // It was not mounted yet.
            Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
            Err(error) => eprintln!("demo: the BPF file system is still mounted: {error}"),
        }
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("demo: {} stays behind: {error}", self.0.display());
        }
    }
}
