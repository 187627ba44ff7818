//! The interfaces of pods: their rows, our own numbers of them, and which pod is behind which.
//!
//! Rows lie in an array, so that a packet finds one without hashing; writing to an array is not atomic for those who read
//! it meanwhile. So a row becomes visible and invisible by its number, which is one aligned word: a new row is written
//! whole with number 0 and then once more with its number.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

use datapath::abi::{Endpoint, Generation, Halves};
use datapath::interface::Interface;
use datapath::mark::Mark;

use super::error::{Capacity, Error, MapError};
use super::flows;
use super::grace::Grace;
use super::maps::Maps;

/// The near end of a pod's veth, and what the pod may say that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodInterface {
    /// Index of the near end.
    pub interface: u32,
    /// Link address of the pod's end.
    pub mac: [u8; 6],
    /// The pod's address, if it has one of the family.
    pub ipv4: Option<Ipv4Addr>,
    /// The pod's address, if it has one of the family.
    pub ipv6: Option<Ipv6Addr>,
    /// Its link-local address, if it has one.
    pub link_local: Option<Ipv6Addr>,
}

/// The rows, as this agent wrote or found them.
#[derive(Debug)]
pub(super) struct Interfaces {
    rows: BTreeMap<u32, Interface>,
    indexes: Indexes,
    /// Those that let nothing pass from their beginning: no flow names them.
    unused: BTreeSet<u32>,
}

/// Our numbers of interfaces: given in turn, so that one that became free is not given anew at once.
#[derive(Debug, Default)]
struct Indexes {
    taken: BTreeSet<u16>,
    /// Of another set of maps, whose flows were carried over: kept for the interface that had it.
    reserved: BTreeMap<u32, u16>,
    last: u16,
}

impl Indexes {
    fn take(&mut self, interface: u32) -> Result<u16, Capacity> {
        if let Some(index) = self.reserved.remove(&interface)
            && self.taken.insert(index)
        {
            return Ok(index);
        }
        let reserved: BTreeSet<u16> = self.reserved.values().copied().collect();
        let is_free = |index: &u16| !self.taken.contains(index) && !reserved.contains(index);
        let mut in_turn =
            (self.last.saturating_add(1)..=Mark::MAX_INDEX).chain(1..=self.last.min(Mark::MAX_INDEX));
        let index = in_turn.find(is_free).ok_or(Capacity {
            map: "numbers",
            needed: self.taken.len() + reserved.len() + 1,
            size: usize::from(Mark::MAX_INDEX),
        })?;
        self.taken.insert(index);
        self.last = index;
        Ok(index)
    }
}

impl Interfaces {
    /// The interfaces that the kernel has rows of. Gives also the numbers of those whose removal was broken off.
    pub(super) fn read(maps: &Maps) -> Result<(Self, Vec<u16>), MapError> {
        let rows: BTreeMap<u32, Interface> =
            maps.all_interfaces()?.into_iter().map(|row| (row.number, row)).collect();
        let taken: BTreeSet<u16> = rows.values().map(|row| row.index).collect();
        let mut left = Vec::new();
        maps.numbers.each(|index, number| {
            if let Ok(index) = u16::try_from(index)
                && number != 0
                && !taken.contains(&index)
            {
                left.push(index);
            }
        })?;
        let last = taken.iter().chain(&left).copied().max().unwrap_or(0);
        let indexes = Indexes { taken, last, ..Indexes::default() };
        Ok((Self { rows, indexes, unused: BTreeSet::new() }, left))
    }

    /// Keeps the numbers that interfaces have in another set of maps.
    pub(super) fn reserve(&mut self, numbers: &[(u32, u32)]) {
        let named = numbers.iter().filter(|(_, interface)| *interface != 0);
        self.indexes.reserved =
            named.filter_map(|(index, interface)| Some((*interface, u16::try_from(*index).ok()?))).collect();
    }

    /// All rows.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Interface> {
        self.rows.values()
    }

    /// A row.
    pub(super) fn get(&self, number: u32) -> Option<&Interface> {
        self.rows.get(&number)
    }

    /// Sets what an interface may say that it is, and its endpoint: a new row, or one that becomes another pod's.
    pub(super) fn place(
        &mut self,
        maps: &Maps,
        grace: &Grace,
        port: &PodInterface,
        endpoint: Halves<Endpoint>,
    ) -> Result<(), Error> {
        let before = self.rows.get(&port.interface).copied();
        let index = match &before {
            Some(row) => row.index,
            None => self.indexes.take(port.interface)?,
        };
        let row = Interface {
            endpoint,
            number: port.interface,
            index,
            tracked_since: 0,
            was_untracked: 0,
            ..identity(port)
        };
        let unused = before.is_none() || self.unused.remove(&port.interface);
        if let Some(before) = &before {
            hide(maps, before)?;
            // Whoever read the row before is done with it.
            grace.wait()?;
            self.rows.remove(&port.interface);
            forget_addresses(maps, before)?;
            if !unused {
                flows::pass_on(maps, before.index)?;
            }
        }
        self.show(maps, row)?;
        if unused && endpoint == Halves::settled(Endpoint::HOLD) {
            self.unused.insert(port.interface);
        }
        Ok(())
    }

    /// Another address or link address of the same pod: in place, as nobody is let through by half of one.
    pub(super) fn readdress(&mut self, maps: &Maps, port: &PodInterface) -> Result<(), MapError> {
        let Some(row) = self.rows.get(&port.interface).copied() else { return Ok(()) };
        let wanted = identity(port);
        if same_identity(&row, port) {
            return Ok(());
        }
        let row = Interface {
            ipv4: wanted.ipv4,
            ipv6: wanted.ipv6,
            mac: wanted.mac,
            link_local: wanted.link_local,
            ..row
        };
        if let Some(before) = self.rows.get(&port.interface) {
            forget_other_addresses(maps, before, &row)?;
        }
        write(maps, &row)?;
        remember_addresses(maps, &row)?;
        self.rows.insert(row.number, row);
        Ok(())
    }

    fn show(&mut self, maps: &Maps, row: Interface) -> Result<(), MapError> {
        maps.numbers.set(&u32::from(row.index), &row.number)?;
        if slot_is_ours(maps, &row)? {
            maps.slots.set(&Interface::slot(row.number), &Interface { number: 0, ..row })?;
        }
        write(maps, &row)?;
        remember_addresses(maps, &row)?;
        self.rows.insert(row.number, row);
        Ok(())
    }

    /// Sets the halves of an endpoint; `tracked_now` if its flows are tracked from now on, at this tick.
    ///
    /// Of the halves only the one not in force may change, so whoever reads the row meanwhile reads what it was.
    pub(super) fn set_endpoint(
        &mut self,
        maps: &Maps,
        number: u32,
        endpoint: Halves<Endpoint>,
        tracked_now: Option<u32>,
    ) -> Result<(), MapError> {
        let Some(row) = self.rows.get_mut(&number) else { return Ok(()) };
        self.unused.remove(&number);
        if let Some(now) = tracked_now {
            row.tracked_since = now;
            // Two writes: nobody may see that it says something before it does.
            write(maps, row)?;
            row.was_untracked = 1;
        }
        row.endpoint = endpoint;
        write(maps, row)
    }

    /// Takes interfaces out of sight; their numbers and flows are still to be removed ([`Self::finish`]).
    pub(super) fn hide(&mut self, maps: &Maps, number: u32) -> Result<Option<Interface>, MapError> {
        let Some(row) = self.rows.get(&number).copied() else { return Ok(None) };
        hide(maps, &row)?;
        forget_addresses(maps, &row)?;
        Ok(Some(row))
    }

    /// Frees the number of an interface that was taken out of sight and has no flows any more.
    pub(super) fn finish(&mut self, maps: &Maps, number: u32, index: u16) -> Result<(), MapError> {
        maps.shares.clear(index);
        maps.numbers.set(&u32::from(index), &0)?;
        self.rows.remove(&number);
        self.unused.remove(&number);
        self.indexes.taken.remove(&index);
        Ok(())
    }

    /// Writes anew what the kernel does not hold as it was written; endpoints are left to the plan. Gives how many rows
    /// were repaired.
    pub(super) fn repair(&self, maps: &Maps) -> Result<usize, MapError> {
        let mut repaired = 0;
        for row in self.rows.values() {
            let found = maps.interface(row.number)?;
            let as_written = found.is_some_and(|found| Interface { endpoint: row.endpoint, ..found } == *row);
            let numbered = maps.numbers.get(&u32::from(row.index))? == Some(row.number);
            if !as_written || !numbered || !addresses_remembered(maps, row)? {
                let endpoint = found.map_or(row.endpoint, |found| found.endpoint);
                maps.numbers.set(&u32::from(row.index), &row.number)?;
                write(maps, &Interface { endpoint, ..*row })?;
                remember_addresses(maps, row)?;
                repaired += 1;
            }
        }
        Ok(repaired)
    }
}

/// Whether a row says of its interface what the port says.
pub(super) fn same_identity(row: &Interface, port: &PodInterface) -> bool {
    let wanted = identity(port);
    (row.mac, row.ipv4, row.ipv6, row.link_local) == (wanted.mac, wanted.ipv4, wanted.ipv6, wanted.link_local)
}

/// Whether a row is of the same pod's end, whatever has become of its link-local address meanwhile.
pub(super) fn same_end(row: &Interface, port: &PodInterface) -> bool {
    let wanted = identity(port);
    (row.mac, row.ipv4, row.ipv6) == (wanted.mac, wanted.ipv4, wanted.ipv6)
}

/// Whether no direction of an endpoint has rules, so that its flows are not tracked.
pub(super) fn is_untracked(halves: Halves<Endpoint>, generation: Generation) -> bool {
    halves.at(generation) == Endpoint::default()
}

fn identity(port: &PodInterface) -> Interface {
    Interface {
        ipv4: port.ipv4.map_or([0; 4], |address| address.octets()),
        ipv6: port.ipv6.map_or([0; 16], |address| address.octets()),
        mac: port.mac,
        link_local: port.link_local.map_or([0; 16], |address| address.octets()),
        ..Interface::default()
    }
}

/// Whether the row's slot is free or its own.
fn slot_is_ours(maps: &Maps, row: &Interface) -> Result<bool, MapError> {
    let there = maps.slots.get(&Interface::slot(row.number))?;
    Ok(there.is_none_or(|there| there.number == 0 || there.number == row.number))
}

fn write(maps: &Maps, row: &Interface) -> Result<(), MapError> {
    // One that is in the table beside the slots stays there: two rows of one interface would drift apart.
    if maps.interfaces.get(&row.number)?.is_none() && slot_is_ours(maps, row)? {
        maps.slots.set(&Interface::slot(row.number), row)
    } else {
        maps.interfaces.set(&row.number, row)
    }
}

fn hide(maps: &Maps, row: &Interface) -> Result<(), MapError> {
    let slot = Interface::slot(row.number);
    if let Some(there) = maps.slots.get(&slot)?
        && there.number == row.number
    {
        maps.slots.set(&slot, &Interface { number: 0, ..there })?;
    }
    maps.interfaces.remove(&row.number).map(|_| ())
}

fn remember_addresses(maps: &Maps, row: &Interface) -> Result<(), MapError> {
    if row.ipv4 != [0; 4] {
        maps.locals4.set(&row.ipv4, &row.number)?;
    }
    // Not the link-local one: several pods may have the same, and none is reached by it from outside.
    if row.ipv6 != [0; 16] {
        maps.locals6.set(&row.ipv6, &row.number)?;
    }
    Ok(())
}

fn addresses_remembered(maps: &Maps, row: &Interface) -> Result<bool, MapError> {
    let four = row.ipv4 == [0; 4] || maps.locals4.get(&row.ipv4)?.is_some();
    Ok(four && (row.ipv6 == [0; 16] || maps.locals6.get(&row.ipv6)?.is_some()))
}

/// Only what is still this interface's: another may have come by the same address.
fn forget_addresses(maps: &Maps, row: &Interface) -> Result<(), MapError> {
    forget_other_addresses(maps, row, &Interface::default())
}

fn forget_other_addresses(maps: &Maps, row: &Interface, but: &Interface) -> Result<(), MapError> {
    if row.ipv4 != but.ipv4 && maps.locals4.get(&row.ipv4)? == Some(row.number) {
        maps.locals4.remove(&row.ipv4)?;
    }
    if row.ipv6 != but.ipv6 && maps.locals6.get(&row.ipv6)? == Some(row.number) {
        maps.locals6.remove(&row.ipv6)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_given_in_turn_and_reserved_ones_to_those_who_had_them() {
        let mut indexes = Indexes { reserved: BTreeMap::from([(70, 2)]), ..Indexes::default() };
        assert_eq!([indexes.take(10), indexes.take(11), indexes.take(70)], [Ok(1), Ok(3), Ok(2)]);
        indexes.taken.remove(&1);
        assert_eq!(indexes.take(12), Ok(4));
        indexes.last = Mark::MAX_INDEX;
        assert_eq!(indexes.take(13), Ok(1), "begins anew at the end");
        indexes.taken = (1..=Mark::MAX_INDEX).collect();
        assert!(indexes.take(14).is_err());
    }
}
