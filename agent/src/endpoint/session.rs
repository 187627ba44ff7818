//! One pair of sockets and what is known by them: reads events, asks what they leave open, shows the result.

use std::collections::BTreeSet;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use tokio::sync::watch;

use super::kernel;
use super::monitor::{Counters, Orders, Settings};
use super::polls::{Answer, Polls};
use super::snapshot::Snapshot;
use super::socket::{Asker, Listener, Received, Unanswered};
use super::table::{Need, Table};
use super::wire;

const GROUPS: [u32; 5] = [
    libc::RTNLGRP_LINK,
    libc::RTNLGRP_IPV4_IFADDR,
    libc::RTNLGRP_IPV6_IFADDR,
    libc::RTNLGRP_IPV4_ROUTE,
    libc::RTNLGRP_IPV6_ROUTE,
];
const GROUPS_ELSEWHERE: [u32; 3] = [libc::RTNLGRP_LINK, libc::RTNLGRP_IPV4_IFADDR, libc::RTNLGRP_IPV6_IFADDR];
/// Datagrams read before other work has its turn.
const TURN: usize = 256;
/// Peers asked before events have their turn: a new veth waits no longer than that.
const PEERS: usize = 32;
/// Least time between two readings of everything, and of all routes: whoever can make noise must not keep us busy.
const RESYNC_APART: Duration = Duration::from_millis(20);
const ROUTES_APART: Duration = Duration::from_millis(100);
/// The same for losses that another namespace's noise may have caused.
const ELSEWHERE_APART: Duration = Duration::from_secs(1);
/// Showing takes at most one part in this many of our time, so that a burst of changes costs no copy each.
const SHOW_SHARE: u32 = 5;
const LONGEST_SHOW_GAP: Duration = Duration::from_millis(20);

/// See the module.
pub(super) struct Session<'a> {
    settings: &'a Settings,
    orders: &'a Orders,
    counters: &'a Counters,
    sender: &'a watch::Sender<Arc<Snapshot>>,
    listener: Listener,
    elsewhere: Option<Listener>,
    asker: Asker,
    table: Table,
    polls: Polls,
    /// Own ends to be read again before their peer is asked for.
    recheck: BTreeSet<u32>,
    /// Of whose peers the kernel says nothing, and the log did.
    refused: BTreeSet<u32>,
    unshown: bool,
    show_not_before: Instant,
    resync_at: Instant,
    resync_not_before: Instant,
    routes_at: Option<Instant>,
    routes_not_before: Instant,
    elsewhere_not_before: Instant,
}

impl<'a> Session<'a> {
    /// Opens the sockets, reads everything, and shows it.
    pub(super) fn open(
        settings: &'a Settings,
        orders: &'a Orders,
        counters: &'a Counters,
        sender: &'a watch::Sender<Arc<Snapshot>>,
    ) -> Result<Self> {
        let now = Instant::now();
        // Listens before it reads, so that no change falls between the two.
        let listener = Listener::open(&GROUPS, settings.receive_buffer, false)?;
        let elsewhere = settings.listen_everywhere.then(|| open_elsewhere(settings)).flatten();
        counters.listens_everywhere.store(elsewhere.is_some(), Ordering::Relaxed);
        let mut session = Self {
            settings,
            orders,
            counters,
            sender,
            listener,
            elsewhere,
            asker: Asker::open()?,
            table: Table::default(),
            polls: Polls::new(settings.poll_for),
            recheck: BTreeSet::new(),
            refused: BTreeSet::new(),
            unshown: true,
            show_not_before: now,
            resync_at: now,
            resync_not_before: now,
            routes_at: None,
            routes_not_before: now,
            elsewhere_not_before: now,
        };
        session.resync()?;
        session.follow_needs();
        // Each once: who begins with what is there must not take pods for addressless.
        session.poll(usize::MAX)?;
        session.show();
        Ok(session)
    }

    /// Until it is told to stop (`Ok`) or a socket is of no use any more.
    pub(super) fn run(&mut self) -> Result<()> {
        loop {
            self.wait()?;
            self.orders.hear()?;
            if self.orders.stopped() {
                return Ok(());
            }
            if self.orders.take_resync() {
                self.resync_at = self.resync_not_before.min(self.resync_at);
            }
            self.hear()?;
            self.follow_needs();
            // Before anything is asked: a new veth is wanted at once, its addresses can follow.
            self.show_if_due();
            if self.resync_at <= Instant::now() {
                self.resync()?;
                self.follow_needs();
                self.show_if_due();
            }
            self.hear_elsewhere()?;
            if self.routes_at.is_some_and(|at| at <= Instant::now()) {
                self.read_routes()?;
            }
            self.poll(PEERS)?;
            self.follow_needs();
            self.show_if_due();
        }
    }

    fn wait(&self) -> Result<()> {
        let mut until = self.resync_at;
        let show_at = self.unshown.then_some(self.show_not_before);
        for at in [self.polls.next(), self.routes_at, show_at].into_iter().flatten() {
            until = until.min(at);
        }
        let timeout = TimeSpec::from_duration(until.saturating_duration_since(Instant::now()));
        let mut waited = vec![
            PollFd::new(self.orders.waiting(), PollFlags::POLLIN),
            PollFd::new(self.listener.as_fd(), PollFlags::POLLIN),
        ];
        waited.extend(self.elsewhere.iter().map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)));
        match ppoll(&mut waited, Some(timeout), None) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno).context("discovery: wait for events"),
        }
    }

    /// Reads what changed in this namespace.
    fn hear(&mut self) -> Result<()> {
        for _ in 0..TURN {
            let whole = match self.listener.receive()? {
                Received::Datagram { length, .. } => self
                    .listener
                    .messages(length)
                    .all(|message| message.map(|message| take_event(&mut self.table, message)).is_ok()),
                Received::Empty => return Ok(()),
                Received::Lost => false,
            };
            if !whole {
                count(&self.counters.lost_messages);
                self.listener.discard()?;
                self.resync_at = self.resync_at.min(self.resync_not_before.max(Instant::now()));
            }
        }
        Ok(())
    }

    /// Reads whose far end changed.
    fn hear_elsewhere(&mut self) -> Result<()> {
        let Some(listener) = &mut self.elsewhere else { return Ok(()) };
        let now = Instant::now();
        for _ in 0..TURN {
            match listener.receive()? {
                Received::Datagram { length, netns: Some(netns) } => {
                    for message in listener.messages(length).flatten() {
                        let peer = match message.kind {
                            libc::RTM_NEWLINK | libc::RTM_DELLINK => {
                                wire::link(message.body).map(|link| link.index)
                            }
                            libc::RTM_NEWADDR | libc::RTM_DELADDR => {
                                wire::address(message.body).map(|address| address.index)
                            }
                            _ => None,
                        };
                        let Some(near) = peer.and_then(|peer| self.table.near_end(netns, peer)) else {
                            continue;
                        };
                        // It may have moved on to yet another namespace, which its near end is not told.
                        if message.kind == libc::RTM_DELLINK {
                            self.recheck.insert(near);
                        }
                        self.polls.once(near, now);
                    }
                }
                // Our own events, which the other socket has too.
                Received::Datagram { netns: None, .. } => {}
                Received::Empty => return Ok(()),
                Received::Lost => {
                    count(&self.counters.lost_messages);
                    listener.discard()?;
                    let at = self.elsewhere_not_before.max(now);
                    self.resync_at = self.resync_at.min(at);
                    self.elsewhere_not_before = at + ELSEWHERE_APART;
                }
            }
        }
        Ok(())
    }

    fn follow_needs(&mut self) {
        let now = Instant::now();
        for need in self.table.take_needs() {
            match need {
                Need::Link(index) => {
                    self.recheck.insert(index);
                    self.polls.start(index, now);
                }
                Need::Peer(index) => self.polls.start(index, now),
                Need::Routes => want_routes(&mut self.routes_at, self.routes_not_before, now),
            }
        }
    }

    /// Reads everything that this namespace has, and has all peers asked again.
    fn resync(&mut self) -> Result<()> {
        count(&self.counters.resyncs);
        let begun = Instant::now();
        let links = kernel::links(&mut self.asker)?;
        let addresses = kernel::addresses(&mut self.asker)?;
        let complete = links.complete && addresses.complete;
        self.table.replace_links(links.items, links.complete);
        self.table.replace_addresses(addresses.items, addresses.complete);
        self.read_routes()?;
        let known = |index: u32| self.table.link(index).is_some();
        self.polls.retain(known);
        self.recheck.retain(|index| known(*index));
        self.refused.retain(|index| known(*index));
        let now = Instant::now();
        for index in self.table.veths() {
            self.polls.once(index, now);
        }
        self.resync_not_before = now + RESYNC_APART.max(2 * (now - begun));
        self.resync_at = if complete { now + self.settings.resync_every } else { self.resync_not_before };
        Ok(())
    }

    fn read_routes(&mut self) -> Result<()> {
        self.routes_at = None;
        let begun = Instant::now();
        let routes = kernel::default_routes(&mut self.asker)?;
        let now = Instant::now();
        self.routes_not_before = now + ROUTES_APART.max(10 * (now - begun));
        self.table.replace_default_routes(routes.items.into_iter().collect());
        if !routes.complete {
            want_routes(&mut self.routes_at, self.routes_not_before, now);
        }
        Ok(())
    }

    /// Asks for the peers that are due.
    fn poll(&mut self, limit: usize) -> Result<()> {
        for index in self.polls.take(Instant::now(), limit) {
            count(&self.counters.polls);
            match self.ask_peer(index) {
                Ok(answer) => self.polls.answered(index, answer, Instant::now()),
                Err(error @ Unanswered::Refused { .. }) => {
                    // As for a namespace of a user over whom we have no power: nothing that a new socket would heal.
                    count(&self.counters.refusals);
                    if self.refused.insert(index) {
                        tracing::warn!("discovery: interface {index}: {error}");
                    }
                    self.polls.answered(index, Answer::Incomplete, Instant::now());
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn ask_peer(&mut self, index: u32) -> Result<Answer, Unanswered> {
        let unresolved = self.table.link(index).is_some_and(wire::Link::is_unresolved);
        if self.recheck.remove(&index) || unresolved {
            match kernel::link(&mut self.asker, index)? {
                Some(link) => self.table.insert_link(link),
                None => self.table.remove_link(index),
            }
        }
        let Some(link) = self.table.link(index) else {
            self.polls.forget(index);
            return Ok(Answer::Settled);
        };
        let Some(end) = link.far_end() else {
            return Ok(if link.is_unresolved() { Answer::Incomplete } else { Answer::Settled });
        };
        let Some(far) = kernel::far(&mut self.asker, index, end)? else {
            // Gone, or moved to where our end was not told.
            self.recheck.insert(index);
            self.polls.persist(index, Instant::now());
            return Ok(Answer::Incomplete);
        };
        let answer = match (far.addresses.is_empty(), &self.elsewhere) {
            (true, _) => Answer::Incomplete,
            (false, Some(_)) => Answer::Settled,
            (false, None) => Answer::Unsure,
        };
        self.table.set_far(index, end, far);
        Ok(answer)
    }

    fn show_if_due(&mut self) {
        self.unshown |= self.table.take_changed();
        if self.unshown && self.show_not_before <= Instant::now() {
            self.show();
        }
    }

    fn show(&mut self) {
        let begun = Instant::now();
        self.table.take_changed();
        self.unshown = false;
        let snapshot = self.table.snapshot();
        // What was only touched, or is as before the socket broke, is no news.
        let news = self.sender.send_if_modified(|shown| {
            let differs = **shown != snapshot;
            if differs {
                *shown = Arc::new(snapshot);
            }
            differs
        });
        if news {
            count(&self.counters.snapshots);
        }
        let now = Instant::now();
        self.show_not_before = now + ((now - begun) * (SHOW_SHARE - 1)).min(LONGEST_SHOW_GAP);
    }
}

fn take_event(table: &mut Table, message: wire::Message<'_>) {
    match message.kind {
        libc::RTM_NEWLINK => {
            if let Some(link) = wire::link(message.body) {
                table.insert_link(link);
            }
        }
        libc::RTM_DELLINK => {
            if let Some(link) = wire::link(message.body) {
                table.remove_link(link.index);
            }
        }
        libc::RTM_NEWADDR => {
            if let Some(address) = wire::address(message.body) {
                table.insert_address(address);
            }
        }
        libc::RTM_DELADDR => {
            if let Some(address) = wire::address(message.body) {
                table.remove_address(address);
            }
        }
        // What a default route replaces is not told, so all are read; others are no concern of ours.
        libc::RTM_NEWROUTE | libc::RTM_DELROUTE if wire::is_default_route(message.body) => {
            table.need_routes();
        }
        _ => {}
    }
}

/// Without the right to it, polling has to do.
fn open_elsewhere(settings: &Settings) -> Option<Listener> {
    match Listener::open(&GROUPS_ELSEWHERE, settings.receive_buffer, true) {
        Ok(listener) => Some(listener),
        Err(error) => {
            tracing::warn!("discovery: changes inside pods are polled for, not heard of: {error:#}");
            None
        }
    }
}

fn want_routes(at: &mut Option<Instant>, not_before: Instant, now: Instant) {
    at.get_or_insert(not_before.max(now));
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
