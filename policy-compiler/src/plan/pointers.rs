//! The steps of a plan that write pointers: staged, brought into force by one write, settled.

use std::net::IpAddr;

use datapath::abi::{Endpoint, Generation, Halves, Identity, PortAtom};
use ipnet::IpNet;

use super::Step;
use crate::image::difference::{Held, Pointer, PortRange};
use crate::object::PodKey;

/// Collects the writes of one plan.
#[derive(Debug)]
pub(super) struct Pointers {
    /// The generation that the plan leads to.
    next: Generation,
    /// Writes of pointers that stay.
    staged: Vec<Step>,
    /// Writes of pointers that go. They only matter if the generation is raised.
    going: Vec<Step>,
    /// What is written once no packet is left that began under the generation before.
    settled: Vec<Step>,
    /// Whether any packet may get another value.
    moves: bool,
}

impl Pointers {
    pub(super) fn new(in_force: Generation) -> Self {
        Self {
            next: in_force.wrapping_add(1),
            staged: Vec::new(),
            going: Vec::new(),
            settled: Vec::new(),
            moves: false,
        }
    }

    pub(super) fn endpoint(&mut self, pointer: &Pointer<PodKey, Endpoint>) {
        let key = &pointer.key;
        // An endpoint that is not in the map is closed, and so is one on hold.
        self.pointer(
            pointer,
            [Endpoint::HOLD; 2],
            |halves| Step::SetEndpoint(key.clone(), halves),
            || Step::RemoveEndpoint(key.clone()),
        );
    }

    pub(super) fn address(&mut self, pointer: &Pointer<IpAddr, Identity>) {
        let address = pointer.key;
        self.pointer(
            pointer,
            [Identity::NONE; 2],
            |halves| Step::SetAddress(address, halves),
            || Step::RemoveAddress(address),
        );
    }

    /// In the half in which a prefix is not meant to be there, it must say what its addresses get without it: before
    /// and after.
    pub(super) fn prefix(&mut self, pointer: &Pointer<IpNet, Identity>, inherited: [Identity; 2]) {
        let prefix = pointer.key;
        self.pointer(
            pointer,
            inherited,
            |halves| Step::SetPrefix(prefix, halves),
            || Step::RemovePrefix(prefix),
        );
    }

    pub(super) fn ports(&mut self, pointer: &Pointer<PortRange, PortAtom>) {
        let PortRange { transport, first, last } = pointer.key;
        let set = |atom| Step::Ports { transport, first, last, atom };
        self.pointer(pointer, [0; 2], set, || set(Halves::settled(0)));
    }

    /// A pointer that is there, or is to be there, or both. `absent` is what a pointer that is not there amounts to, before
    /// and after.
    fn pointer<K, T: Copy + PartialEq>(
        &mut self,
        pointer: &Pointer<K, T>,
        absent: [T; 2],
        set: impl Fn(Halves<T>) -> Step,
        remove: impl FnOnce() -> Step,
    ) {
        let old = pointer.found.map_or(absent[0], |held| held.in_force);
        let new = pointer.wanted.unwrap_or(absent[1]);
        self.moves |= old != new;
        if pointer.found != Some(Held { in_force: old, other: new }) {
            let staged = if pointer.wanted.is_some() { &mut self.staged } else { &mut self.going };
            staged.push(set(Halves::settled(old).with(self.next, new)));
        }
        match pointer.wanted {
            None => self.settled.push(remove()),
            Some(_) if old != new => self.settled.push(set(Halves::settled(new))),
            // Staged and settled are the same.
            Some(_) => {}
        }
    }

    /// The steps. Without need, the generation is not raised: then every write is of what no packet sees.
    pub(super) fn steps(self, raise: bool) -> Vec<Step> {
        let mut steps = self.staged;
        if self.moves || raise {
            steps.extend(self.going);
            steps.extend([Step::Commit(self.next), Step::Quiesce]);
        }
        steps.extend(self.settled);
        steps
    }
}
