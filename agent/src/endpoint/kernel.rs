//! The questions that discovery has for the kernel.

use std::collections::BTreeSet;

use nix::errno::Errno;

use super::socket::{Asker, Unanswered};
use super::table::Far;
use super::wire::{self, Address, FAMILIES, Link};

/// Times that a list is asked for when it changes while it is read.
const TRIES: usize = 4;

/// A list, and whether nothing can be missing from it.
pub(super) struct List<T> {
    pub(super) items: Vec<T>,
    pub(super) complete: bool,
}

/// All links of this namespace.
pub(super) fn links(asker: &mut Asker) -> Result<List<Link>, Unanswered> {
    list(asker, &[wire::get_link(0, None)], "list all links", |message| {
        if message.kind == libc::RTM_NEWLINK { wire::link(message.body) } else { None }
    })
}

/// All addresses of this namespace.
pub(super) fn addresses(asker: &mut Asker) -> Result<List<Address>, Unanswered> {
    let requests = FAMILIES.map(|family| wire::get_addresses(family, None));
    list(asker, &requests, "list all addresses", |message| {
        if message.kind == libc::RTM_NEWADDR { wire::address(message.body) } else { None }
    })
}

/// The interfaces of this namespace that have a default route.
pub(super) fn default_routes(asker: &mut Asker) -> Result<List<u32>, Unanswered> {
    let found = list(asker, &FAMILIES.map(wire::get_routes), "list unicast routes", |message| {
        (message.kind == libc::RTM_NEWROUTE)
            .then(|| wire::default_route(message.body))
            .filter(|found| !found.is_empty())
    })?;
    let items: BTreeSet<u32> = found.items.into_iter().flatten().collect();
    Ok(List { items: items.into_iter().collect(), complete: found.complete })
}

/// One link of this namespace; none if it is gone.
pub(super) fn link(asker: &mut Asker, index: u32) -> Result<Option<Link>, Unanswered> {
    one_link(asker, index, None)
}

/// What is at the far end of the veth `index`; none if that cannot be told now.
///
/// The number of a namespace is given to another as soon as the first is dying, which is before its veths are announced
/// gone. So the peer is asked last whether its own other end is ours: then the number meant the same namespace all the
/// while.
pub(super) fn far(asker: &mut Asker, index: u32, end: (i32, u32)) -> Result<Option<Far>, Unanswered> {
    let (netns, peer) = end;
    let mut far = Far::default();
    for family in FAMILIES {
        let asked = || format!("list addresses of link {peer} in namespace {netns}, the peer of {index}");
        let answer = asker.ask(wire::get_addresses(family, Some(end)), asked, |message| {
            let found = if message.kind == libc::RTM_NEWADDR { wire::address(message.body) } else { None };
            if let Some(address) = found.filter(|address| address.index == peer) {
                far.insert(address);
            }
        });
        if unless_gone(answer)?.is_none() {
            return Ok(None);
        }
    }
    let Some(link) = one_link(asker, peer, Some(netns))? else { return Ok(None) };
    if link.lower.unwrap_or(link.index) != index {
        return Ok(None);
    }
    far.mac = link.mac;
    Ok(Some(far))
}

fn one_link(asker: &mut Asker, index: u32, netns: Option<i32>) -> Result<Option<Link>, Unanswered> {
    let mut found = None;
    let asked = || match netns {
        Some(netns) => format!("get link {index} in namespace {netns}"),
        None => format!("get link {index}"),
    };
    let answer = asker.ask(wire::get_link(index, netns), asked, |message| {
        if message.kind == libc::RTM_NEWLINK {
            found = wire::link(message.body);
        }
    });
    Ok(unless_gone(answer)?.and(found))
}

/// `EINVAL` is the answer about a namespace whose number is free.
fn unless_gone(answer: Result<bool, Unanswered>) -> Result<Option<bool>, Unanswered> {
    match answer {
        Err(Unanswered::Refused { errno: Errno::ENODEV | Errno::EINVAL, .. }) => Ok(None),
        other => other.map(Some),
    }
}

fn list<T>(
    asker: &mut Asker,
    requests: &[Vec<u8>],
    what: &str,
    mut read: impl FnMut(wire::Message<'_>) -> Option<T>,
) -> Result<List<T>, Unanswered> {
    let mut list = List { items: Vec::new(), complete: true };
    for request in requests {
        let mut found = Vec::new();
        let mut complete = false;
        for _ in 0..TRIES {
            // What a disturbed try found is not kept: it may be gone by now.
            found.clear();
            complete =
                asker.ask(request.clone(), || what.to_owned(), |message| found.extend(read(message)))?;
            if complete {
                break;
            }
        }
        list.items.append(&mut found);
        list.complete &= complete;
    }
    Ok(list)
}
