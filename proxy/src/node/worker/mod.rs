//! The process that reads requests: what strangers send is looked at here and nowhere else, so it may do nothing.
//!
//! ```text
//! listener ──> door  does the kernel know this flow? ──> Proxy::serve ──asks──> warden ──> snapshot (maps, lists)
//!                └── upstream  from the client's own address, in the proxy's own network namespace
//! ```
//!
//! It runs as nobody, without capabilities, in a namespace whose only way out is a veth whose other end hands packets to the
//! programs of the agent. Maps, lists and sockets were opened by the keeper; maps for reading only.

mod access;
mod counts;
mod door;
mod ends;
#[cfg(test)]
mod fake;
mod leaving;
mod lists;
mod page;
mod privileges;
mod ruling;
mod seldom;
mod snapshot;
mod streams;
mod teller;
mod upstream;
mod warden;

use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream as StdUnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use proxy::connection::Proxy;
use proxy::limits::Limits;
use tokio::io::{AsyncWriteExt as _, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{MissedTickBehavior, interval};

use self::access::Access;
use self::counts::Counts;
use self::door::House;
use self::leaving::Leaving;
use self::lists::Library;
use self::page::Told;
use self::streams::Streams;
use self::teller::Teller;
use self::warden::{Book, Tribunal};
use crate::handover::{Handover, Order, READY, Rules};
use crate::kernel::tables::Tables;
use crate::options::WorkerOptions;

/// How often it is looked whether it is time to end.
const LOOK: Duration = Duration::from_millis(100);

/// Takes what the keeper hands over, gives up what is not needed, and serves until told otherwise.
pub(crate) fn run(options: &WorkerOptions) -> Result<()> {
    let channel = Handover::channel().context("looking for the keeper")?;
    let handover = Handover::receive(channel.as_fd())?;
    privileges::give_up(options.user, &handover.rules.tables)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(options, handover, channel))
}

async fn serve(options: &WorkerOptions, handover: Handover, channel: OwnedFd) -> Result<()> {
    let mut registry = Registry::with_prefix("polder");
    let counts = Counts::new(&mut registry);
    let access = options.access_log.then(|| Access::new(counts.lost_lines.clone()));
    let access = access.transpose().context("the access log")?;
    let streams = Arc::new(Streams::new(counts.lost_news.clone()));
    let teller = Arc::new(Teller { access, streams: Arc::clone(&streams) });
    let restarts = ConstGauge::new(options.restarts);
    registry.register("l7_worker_restarts", "How often a process that reads requests died", restarts);
    let house = Arc::new(House {
        proxy: Proxy::new(Limits::default(), Arc::<Teller>::clone(&teller), &mut registry),
        tribunal: Arc::new(Tribunal::new(book(handover.rules), counts.clone())),
        counts,
        open: AtomicUsize::new(0),
    });
    let metrics =
        UnixListener::from_std(StdUnixListener::from(handover.metrics)).context("the local socket")?;
    tokio::spawn(pages::serve(metrics, Arc::new(Told { registry, streams })));
    let listener = door::listener(handover.listener).context("the listener")?;
    let channel = StdUnixStream::from(channel);
    channel.set_nonblocking(true).context("the socket to the keeper")?;
    let mut keeper = UnixStream::from_std(channel).context("the socket to the keeper")?;
    keeper.write_u8(READY).await.context("telling the keeper")?;
    let mut leaving = Leaving::default();
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = door::accept(&listener, &house) => {}
            // What cannot be understood may have been what is to be judged by: then this process has to end, too.
            order = keeper.async_io(Interest::READABLE, || Order::receive(keeper.as_fd())) => {
                match order.context("orders of the keeper")? {
                    Order::Rules(rules) => house.tribunal.follow(book(*rules)),
                    Order::Finish => leaving.finish(),
                    Order::End => break,
                }
            }
            _ = look.tick() => {}
        }
        if leaving.is_over(Instant::now(), house.open.load(Ordering::Relaxed)) {
            break;
        }
    }
    if let Some(access) = &teller.access {
        access.finish();
    }
    Ok(())
}

fn book(rules: Rules) -> Book<Tables> {
    Book { source: rules.tables, library: Library::new(rules.lists) }
}
