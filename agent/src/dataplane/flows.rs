//! Flows are removed here and nowhere else: when they are over, and when an interface of theirs is gone or another pod's.

use std::fmt::Debug;

use datapath::detour::Detour;
use datapath::family::Family;
use datapath::flow::{Flow, FlowKey, Side};

use super::error::MapError;
use super::map::Map;
use super::maps::Maps;
use super::shares::Shares;
use super::sys::plain::Plain;

/// How many flows there were, and how many were removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Walk {
    /// IPv4 flows seen.
    pub flows4: usize,
    /// IPv6 flows seen.
    pub flows6: usize,
    /// IPv4 flows removed.
    pub removed4: usize,
    /// IPv6 flows removed.
    pub removed6: usize,
}

/// Removes flows that are over, and what is known of their detours.
pub(super) fn expire(maps: &Maps, now: u32) -> Result<Walk, MapError> {
    let walk = remove(maps, |flow| was_over(flow, now))?;
    forget(&maps.detours4, &maps.flows4)?;
    forget(&maps.detours6, &maps.flows6)?;
    Ok(walk)
}

/// Whether it was over at a moment that has passed since: a walk takes longer than a tick. What was seen of a flow after that
/// moment is to come, as far as that knows; that is no age of almost 2^32 ticks.
fn was_over(flow: &Flow, then: u32) -> bool {
    let is_later = flow.seen.wrapping_sub(then).cast_signed() > 0;
    flow.is_over(then) && !is_later
}

/// Removes detours without a flow that goes there. (The programs write the flow first.)
fn forget<A: Family + Debug>(
    detours: &Map<FlowKey<A>, Detour>,
    flows: &Map<FlowKey<A>, Flow>,
) -> Result<(), MapError>
where
    FlowKey<A>: Plain,
{
    let mut keys = Vec::new();
    detours.each(|key, _| keys.push(key))?;
    for key in keys {
        if !flows.get(&key)?.is_some_and(|flow| flow.is_read()) {
            detours.remove(&key)?;
        }
    }
    Ok(())
}

/// Removes flows that name one of these numbers of ours.
pub(super) fn of_indexes(maps: &Maps, indexes: &[u16]) -> Result<Walk, MapError> {
    remove(maps, |flow| names(flow, indexes))
}

/// An interface becomes another pod's. What the pod before was asked, is nothing that the new one was asked, and goes. What
/// the pod before asked stays, with nothing judged: an answer to it that is still under way would else begin a flow, and
/// what the new pod sends would be taken for answers to that.
pub(super) fn pass_on(maps: &Maps, index: u16) -> Result<(), MapError> {
    let becomes = |flow: &Flow| {
        if flow.index(flow.began()) == index {
            Becomes::Unjudged
        } else if names(flow, &[index]) {
            Becomes::Nothing
        } else {
            Becomes::WhatItIs
        }
    };
    change(&maps.flows4, &maps.shares, &becomes)?;
    change(&maps.flows6, &maps.shares, &becomes)?;
    Ok(())
}

/// Whether a flow names one of these numbers of ours.
fn names(flow: &Flow, indexes: &[u16]) -> bool {
    let named = [flow.owner, flow.index(Side::Low), flow.index(Side::High)];
    named.iter().any(|index| *index != 0 && indexes.contains(index))
}

/// What becomes of a flow.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Becomes {
    WhatItIs,
    Unjudged,
    Nothing,
}

fn remove(maps: &Maps, is_to_go: impl Fn(&Flow) -> bool) -> Result<Walk, MapError> {
    let becomes = |flow: &Flow| if is_to_go(flow) { Becomes::Nothing } else { Becomes::WhatItIs };
    let (flows4, removed4) = change(&maps.flows4, &maps.shares, &becomes)?;
    let (flows6, removed6) = change(&maps.flows6, &maps.shares, &becomes)?;
    Ok(Walk { flows4, flows6, removed4, removed6 })
}

/// Walks once; gives how many flows there were, and how many were removed.
fn change<A: Family + Debug>(
    flows: &Map<FlowKey<A>, Flow>,
    shares: &Shares,
    becomes: &impl Fn(&Flow) -> Becomes,
) -> Result<(usize, usize), MapError>
where
    FlowKey<A>: Plain,
{
    let (mut seen, mut changing) = (0, Vec::new());
    flows.each(|key, flow| {
        seen += 1;
        if becomes(&flow) != Becomes::WhatItIs {
            changing.push(key);
        }
    })?;
    let mut removed = 0;
    for key in changing {
        // A packet may have come since: the entry is looked at again right before. One that comes between this look and
        // the removal finds no flow, and is judged as the first of one.
        let Some(flow) = flows.get(&key)? else { continue };
        match becomes(&flow) {
            Becomes::WhatItIs => {}
            Becomes::Unjudged => flows.set(&key, &flow.unjudged())?,
            Becomes::Nothing => {
                if flows.remove(&key)? {
                    shares.release(flow.owner);
                    removed += 1;
                }
            }
        }
    }
    Ok((seen, removed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_that_something_was_seen_of_during_the_walk_is_not_over() {
        for then in [0_u32, 1000, u32::MAX] {
            let seen = |ticks: i32| {
                let mut flow = Flow::begun_by(Side::Low);
                (flow.seen, flow.lifetime) = (then.wrapping_add_signed(ticks), 500);
                was_over(&flow, then)
            };
            assert_eq!(
                [-501, -500, -1, 0, 1, 2, 10_000].map(seen),
                [true, false, false, false, false, false, false]
            );
        }
    }
}
