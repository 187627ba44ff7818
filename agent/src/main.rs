//! The node agent's command line.

use std::io::{ErrorKind, IsTerminal as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use agent::api::history::History;
use agent::api::socket::Socket;
use agent::api::{self, Limits};
use agent::control::{Control, Parts, Saver};
use agent::dataplane::Dataplane;
use agent::endpoint::monitor::{Monitor, Settings};
use agent::endpoint::role::{self, Classifier};
use agent::kubernetes::snapshot::Store;
use agent::kubernetes::status::Report;
use agent::lists::Lists;
use agent::metrics::{self, Health, Metrics, Told};
use agent::options::Options;
use agent::proxy::follow::Proxies;
use agent::source::Update;
use agent::{kubernetes, memory, standalone};
use anyhow::{Context, Result};
use clap::Parser;
use policy_compiler::compiler::Scope;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, broadcast, mpsc, watch};
use tokio::task::JoinHandle;
use tracing_subscriber::EnvFilter;

/// Readings, requests and flows that may wait for the control task.
const WAITING: usize = 64;
/// How long a first reading may take before interfaces are closed for want of it.
const FIRST_READING: Duration = Duration::from_secs(2);
/// The same for the lists of an API server, on a node where nothing is enforced yet.
const FIRST_LISTS: Duration = Duration::from_secs(15);
/// How long the API server is waited for before what was saved is enforced.
const DISK_AFTER: Duration = Duration::from_secs(5);
/// Flows that may wait to be remembered.
const FLOWS: usize = 4096;
/// Batches of requests that may wait for the control task.
const REQUESTS: usize = 4;

fn main() -> ExitCode {
    memory::keep_little();
    let options = Options::parse();
    let filter = EnvFilter::try_from_env("POLDER_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let colours =
        std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty());
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr).init();
    match start(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(options: &Options) -> Result<()> {
    if options.uninstall {
        let dataplane = Dataplane::open(&options.dataplane())?;
        dataplane.uninstall().context("removing programs and pins")?;
        return forget(options);
    }
    // One thread: hooks and links are those of its network namespace, and one task owns the state.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(options))
}

/// Removes what agents left beside their pins. The directories may be mounts, so they stay, empty.
fn forget(options: &Options) -> Result<()> {
    if options.state.is_dir() {
        Store::open(&options.state)?.remove()?;
    }
    Lists::new(&options.lists).remove_all()?;
    let mut lock = options.socket.clone().into_os_string();
    lock.push(".lock");
    // A proxy beside it tells of itself there, and is gone by now.
    for left in [options.socket.clone(), lock.into(), options.proxy.clone()] {
        match std::fs::remove_file(&left) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("removing {}", left.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

async fn run(options: &Options) -> Result<()> {
    let socket = Socket::bind(&options.socket)?;
    let mut dataplane = Dataplane::open(&options.dataplane())?;
    if let Some(log) = dataplane.log()? {
        tracing::warn!(
            "the programs write down every packet: for debugging only (POLDER_LOG=debug shows it)"
        );
        tokio::spawn(async move {
            if let Err(error) = log.run().await {
                tracing::error!(%error, "what the programs write down is not read any more");
            }
        });
    }
    let mut settings = dataplane.settings()?;
    settings.flow_share = options.flow_share;
    settings.mark_shift = options.mark_shift;
    dataplane.configure(&settings)?;
    let watch = Settings { receive_buffer: options.netlink_buffer, ..Settings::default() };
    let monitor = Monitor::spawn(watch).context("watching the node's interfaces")?;
    let classifier = Classifier::new(&role::Options { uplinks: options.uplink.clone() })?;
    let (metrics, health) = (Arc::new(Metrics::default()), Arc::new(Health::default()));
    let listener = metrics::bind(options.metrics).await?;
    let told =
        Told { metrics: Arc::clone(&metrics), health: Arc::clone(&health), proxy: options.proxy.clone() };
    tokio::spawn(pages::serve(listener, Arc::new(told)));

    let (calls, called) = mpsc::channel(WAITING);
    let (flows, followed) = broadcast::channel(FLOWS);
    let history = History::new(FLOWS);
    tokio::spawn(Arc::clone(&history).keep(followed));
    let (told, requests) = mpsc::channel(REQUESTS);
    let demand = Arc::clone(history.demand());
    tokio::spawn(Proxies::new(&options.proxy, Arc::clone(&history), told).run());
    tokio::spawn(api::serve(socket, calls, history, Limits::default()));
    let reread = Arc::new(Notify::new());
    let source = source(options, &reread, &metrics, &dataplane).await?;
    let node = options.node.clone();
    let control = Control::new(Parts {
        scope: node.as_deref().map_or(Scope::All, |node| Scope::Node(node.into())),
        node: node.map_or_else(host_name, Ok)?,
        dataplane,
        lists: Lists::new(&options.lists),
        monitor,
        classifier,
        updates: source.updates,
        first_world: source.first_world,
        saver: source.saver,
        reports: source.reports,
        reread,
        calls: called,
        requests,
        demand,
        flows,
        metrics,
        health,
    });
    let ended = control.run(stopped()?).await;
    if let Some(reading) = source.reading
        && reading.is_finished()
    {
        reading.await.context("reading manifests")??;
    }
    ended
}

/// Where knowledge of the cluster comes from.
struct Source {
    updates: mpsc::Receiver<Update>,
    first_world: Duration,
    saver: Option<Saver>,
    reports: Option<watch::Sender<Report>>,
    /// The task that reads the directory, if that is the source.
    reading: Option<JoinHandle<Result<()>>>,
}

async fn source(
    options: &Options,
    reread: &Arc<Notify>,
    metrics: &Arc<Metrics>,
    dataplane: &Dataplane,
) -> Result<Source> {
    if let Some(directory) = &options.standalone {
        let (updates, updated) = mpsc::channel(WAITING);
        let reading = standalone::run(standalone::Options::new(directory), Arc::clone(reread), updates);
        let reading = Some(tokio::spawn(reading));
        tracing::info!(directory = %directory.display(), "started");
        return Ok(Source {
            updates: updated,
            first_world: FIRST_READING,
            saver: None,
            reports: None,
            reading,
        });
    }
    let store = Store::open(&options.state)?;
    // One at a time: while the state's owner is busy, changes are put together.
    let (updates, updated) = mpsc::channel(1);
    let (reports, reported) = watch::channel(Report::default());
    let node = options.node.clone().context("--node: not said; expected this node's name (NODE_NAME)")?;
    let parts = kubernetes::Parts {
        options: kubernetes::Options {
            kubeconfig: options.kubeconfig.clone(),
            node: node.clone(),
            store: Some(store.clone()),
            patience: kubernetes::Patience::default(),
            disk_after: DISK_AFTER,
        },
        resync: Arc::clone(reread),
        updates,
        metrics: Arc::clone(metrics),
        reports: Some(reported),
    };
    let saver = Saver::new(store, &node).context("starting the thread that saves what is known")?;
    kubernetes::spawn(parts).await?;
    // Where something is enforced already, new pods are to be closed at once; where nothing is, pods that run are not to be
    // cut off for as long as the lists may take.
    let first_world = if dataplane.generation() > 0 { FIRST_READING } else { FIRST_LISTS };
    tracing::info!("started");
    Ok(Source { updates: updated, first_world, saver: Some(saver), reports: Some(reports), reading: None })
}

/// Told to stop. What is enforced stays enforced.
fn stopped() -> Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping; what is enforced stays enforced");
    })
}

fn host_name() -> Result<String> {
    let path = "/proc/sys/kernel/hostname";
    let name = std::fs::read_to_string(path).with_context(|| format!("reading {path}; say --node"))?;
    Ok(name.trim().to_owned())
}
