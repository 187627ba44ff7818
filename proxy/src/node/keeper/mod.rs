//! The process that sets everything up and outlives those that read requests.
//!
//! ```text
//! pins? ──> namespace, veth (down), routes ──> listener ──> accept (sk_lookup) ──> crew: a worker ──ready──> veth up
//! ```
//!
//! It holds the listener, so that connections wait in its queue while no worker lives, and the namespace. Everything ends with
//! it: nothing is left behind that would have to be cleaned up.

mod accept;
mod backoff;
mod crew;
mod namespace;
mod netlink;
mod privileges;
mod routes;
mod sysctl;
mod veth;
mod worker;

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::thread::CapabilitySet;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

use self::accept::Accept;
use self::crew::Crew;
use self::namespace::Namespace;
use self::veth::Outside;
use crate::handover::Rules;
use crate::kernel::pins::Set;
use crate::options::KeeperOptions;

/// How often it is looked what the agent has pinned: for so long requests may be judged by what an agent before it wrote.
const LOOK: Duration = Duration::from_millis(50);
/// Every so many looks it is said that it is waited.
const SAY: u32 = 200;

/// Runs until it is told to end.
pub(crate) fn run(options: &KeeperOptions) -> Result<()> {
    // One thread: the network namespace and capabilities are a thread's.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(keep(options))
}

async fn keep(options: &KeeperOptions) -> Result<()> {
    let mut signals = Signals::new().context("listening to signals")?;
    make_directory(&options.lists)?;
    let (mut set, rules) = tokio::select! {
        rules = first_rules(options) => rules,
        _ = signals.next() => return Ok(()),
    };
    privileges::raise_limits();
    let metrics = metrics_socket(&options.metrics)?;
    let Namespace { outside, listener } = Namespace::make()?;
    let _accept = Accept::attach(options.bpf_object.as_deref(), listener.as_fd())?;
    privileges::keep(privileges::FOR_THE_VETH)?;
    let mut crew = Crew::new(options, listener, metrics, rules)?;
    let mut outside = Some(outside);
    let mut is_finishing = false;
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            ready = crew.attend() => match (ready, outside.take()) {
                (Some(()), Some(outside)) => open(outside)?,
                (Some(()), None) => tracing::info!("another worker takes connections"),
                (None, _) => return Ok(()),
            },
            _ = look.tick() => follow(options, &mut set, &mut crew),
            said = signals.next() => match said {
                Said::Finish if !is_finishing => {
                    tracing::info!("ends when no connection is left");
                    is_finishing = true;
                    crew.finish();
                }
                Said::Finish | Said::Now => return Ok(()),
            },
        }
    }
}

/// Has the agent send connections, as a worker takes them. It is the last thing that is done to the network.
fn open(outside: Outside) -> Result<()> {
    tracing::info!(interface = outside.name, "connections are taken");
    outside.set_up()?;
    privileges::keep(CapabilitySet::empty())
}

/// What the agent has pinned, as soon as it has.
async fn first_rules(options: &KeeperOptions) -> (Set, Rules) {
    let mut look = interval(LOOK);
    for count in 0_u32.. {
        look.tick().await;
        let found = Set::in_use(&options.bpffs, &options.lists)
            .and_then(|set| set.map(|set| Ok((rules(&set, options)?, set))).transpose());
        match found {
            Ok(Some((rules, set))) => return (set, rules),
            Ok(None) if count.is_multiple_of(SAY) => {
                tracing::info!(bpffs = %options.bpffs.display(), "waits for polder-agent, which has pinned nothing yet");
            }
            Err(error) if count.is_multiple_of(SAY) => {
                tracing::warn!("waits for polder-agent: {error:#}");
            }
            Ok(None) | Err(_) => {}
        }
    }
    // Four thousand million looks take sixty years.
    std::future::pending().await
}

/// Has requests be judged by another set of maps if the agent has pinned one. One that is of another version, or gone, is no
/// reason to leave the one in use: what is carried over to such a set is nothing, so the kernel sends no connection any more.
fn follow(options: &KeeperOptions, current: &mut Set, crew: &mut Crew<'_>) {
    let found = match Set::in_use(&options.bpffs, &options.lists) {
        Ok(Some(set)) if set != *current => rules(&set, options).map(|rules| {
            tracing::info!("the agent has another set of maps");
            crew.follow(rules);
            *current = set;
        }),
        Ok(_) => Ok(()),
        Err(error) => Err(error),
    };
    if let Err(error) = found {
        tracing::debug!("what the agent has pinned is not used: {error:#}");
    }
}

/// Opens what is in a set.
fn rules(set: &Set, options: &KeeperOptions) -> Result<Rules> {
    let lists = File::open(&options.lists).with_context(|| format!("opening {}", options.lists.display()))?;
    Ok(Rules { tables: set.open()?, lists: lists.into(), generation: set.open_generation() })
}

fn make_directory(path: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
        .with_context(|| format!("making the directory {}", path.display()))
}

/// A new socket at the path; whoever had it before is no longer asked.
fn metrics_socket(path: &Path) -> Result<OwnedFd> {
    let failed = || format!("listening at {}", path.display());
    if let Some(parent) = path.parent() {
        make_directory(parent)?;
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).with_context(failed),
        _ => {}
    }
    let listener = UnixListener::bind(path).with_context(failed)?;
    fs::set_permissions(path, Permissions::from_mode(0o600)).with_context(failed)?;
    listener.set_nonblocking(true).with_context(failed)?;
    Ok(listener.into())
}

/// What a user may say while it runs.
enum Said {
    Finish,
    Now,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> Said {
        tokio::select! {
            _ = self.terminate.recv() => Said::Finish,
            _ = self.interrupt.recv() => Said::Now,
        }
    }
}
