//! The node agent's command line.

use std::process::ExitCode;
use std::sync::Arc;

use agent::api::history::History;
use agent::api::socket::Socket;
use agent::api::{self, Limits};
use agent::control::{Control, Parts};
use agent::dataplane::Dataplane;
use agent::endpoint::monitor::{Monitor, Settings};
use agent::endpoint::role::{self, Classifier};
use agent::metrics::{self, Health, Metrics};
use agent::options::Options;
use agent::standalone;
use anyhow::{Context, Result};
use clap::Parser;
use policy_compiler::compiler::Scope;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, broadcast, mpsc};
use tracing_subscriber::EnvFilter;

/// Readings, requests and flows that may wait for the control task.
const WAITING: usize = 64;
/// Flows that may wait to be remembered.
const FLOWS: usize = 4096;

fn main() -> ExitCode {
    let options = Options::parse();
    let filter = EnvFilter::try_from_env("POLDER_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
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
        return dataplane.uninstall().context("removing programs and pins");
    }
    // One thread: hooks and links are those of its network namespace, and one task owns the state.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(options))
}

async fn run(options: &Options) -> Result<()> {
    let socket = Socket::bind(&options.socket)?;
    let dataplane = Dataplane::open(&options.dataplane())?;
    let mut settings = dataplane.settings()?;
    settings.flow_share = options.flow_share;
    settings.mark_shift = options.mark_shift;
    dataplane.configure(&settings)?;
    let watch = Settings { receive_buffer: options.netlink_buffer, ..Settings::default() };
    let monitor = Monitor::spawn(watch).context("watching the node's interfaces")?;
    let classifier = Classifier::new(&role::Options { uplinks: options.uplink.clone() })?;
    let (metrics, health) = (Arc::new(Metrics::default()), Arc::new(Health::default()));
    let listener = metrics::bind(options.metrics).await?;
    tokio::spawn(metrics::serve(listener, Arc::clone(&metrics), Arc::clone(&health)));

    let (calls, called) = mpsc::channel(WAITING);
    let (flows, followed) = broadcast::channel(FLOWS);
    let history = History::new(FLOWS);
    tokio::spawn(Arc::clone(&history).keep(followed));
    tokio::spawn(api::serve(socket, calls, history, Limits::default()));
    let (updates, updated) = mpsc::channel(WAITING);
    let reread = Arc::new(Notify::new());
    let reading = tokio::spawn(standalone::run(
        standalone::Options::new(&options.standalone),
        Arc::clone(&reread),
        updates,
    ));
    let node = options.node.clone();
    let control = Control::new(Parts {
        scope: node.as_deref().map_or(Scope::All, |node| Scope::Node(node.into())),
        node: node.map_or_else(host_name, Ok)?,
        dataplane,
        monitor,
        classifier,
        updates: updated,
        reread,
        calls: called,
        flows,
        metrics,
        health,
    });
    tracing::info!(directory = %options.standalone.display(), "started");
    let ended = control.run(stopped()?).await;
    if reading.is_finished() {
        reading.await.context("reading manifests")??;
    }
    ended
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
