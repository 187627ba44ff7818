//! Performs the steps of a plan, in their order.
//!
//! Steps of one kind that follow one another are written in batches; a plan is such that within a run of one kind the
//! order does not matter to any packet.

use std::collections::BTreeMap;
use std::net::IpAddr;

use datapath::abi::{Endpoint, Generation, Halves, PortAtom, Transport};
use ipnet::IpNet;
use policy_compiler::object::PodKey;
use policy_compiler::plan::Step;

use super::capacity::Used;
use super::clock;
use super::error::{Error, MapError};
use super::flows::{self, Walk};
use super::grace::Grace;
use super::interfaces::{Interfaces, PodInterface, is_untracked, same_end};
use super::live::{prefix4, prefix6};
use super::maps::Maps;
use super::programs::Program;

/// What became of an interface that is said to be a pod's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// It was this pod's already.
    Known,
    /// It has a new row: with the rule sets that steps gave the pod, or on hold if none did.
    Placed,
    /// It keeps the row and the rule sets that an agent before this one gave it, until the next plan from what the kernel
    /// holds ([`policy_compiler::plan::adoption::plan_from`]).
    Adopted,
}

/// Writes to the kernel.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) maps: Maps,
    pub(super) interfaces: Interfaces,
    grace: Grace,
    generation: Generation,
    used: Used,
    /// Pods that steps spoke of, with what they said last; of a bound pod the kernel's row counts.
    endpoints: BTreeMap<PodKey, Halves<Endpoint>>,
    bound: BTreeMap<PodKey, u32>,
}

impl Writer {
    /// Takes over what the maps hold, and finishes removals that were broken off.
    pub(super) fn new(maps: Maps) -> Result<Self, Error> {
        let (interfaces, left) = Interfaces::read(&maps)?;
        let generation = maps.generation()?;
        let (endpoints, bound) = (BTreeMap::new(), BTreeMap::new());
        let used = Used::of(&maps)?;
        let mut writer = Self { maps, interfaces, grace: Grace::new()?, generation, used, endpoints, bound };
        if !left.is_empty() {
            writer.grace.wait()?;
            flows::of_indexes(&writer.maps, &left)?;
            for index in left {
                let number = writer.maps.numbers.get(&u32::from(index))?.unwrap_or(0);
                writer.interfaces.finish(&writer.maps, number, index)?;
            }
        }
        Ok(writer)
    }

    /// The generation in force.
    pub(super) fn generation(&self) -> Generation {
        self.generation
    }

    /// Begins with a generation at which no flow can have been judged.
    pub(super) fn begin_at(&mut self, generation: Generation) -> Result<(), MapError> {
        self.maps.generation.set(&0, &generation)?;
        self.generation = generation;
        Ok(())
    }

    /// The pods that have rule sets, and which. Those that the kernel holds are read there.
    pub(super) fn endpoints(&self) -> Result<BTreeMap<PodKey, Halves<Endpoint>>, MapError> {
        let mut endpoints = BTreeMap::new();
        for (pod, said) in &self.endpoints {
            let there = match self.bound.get(pod) {
                Some(number) => self.maps.endpoint(*number)?,
                None => Some(*said),
            };
            endpoints.extend(there.map(|halves| (pod.clone(), halves)));
        }
        Ok(endpoints)
    }

    /// The interface of a pod.
    pub(super) fn interface_of(&self, pod: &PodKey) -> Option<u32> {
        self.bound.get(pod).copied()
    }

    /// The pod of an interface.
    pub(super) fn pod_at(&self, number: u32) -> Option<&PodKey> {
        self.bound.iter().find(|(_, bound)| **bound == number).map(|(pod, _)| pod)
    }

    /// Says which interface is a pod's.
    pub(super) fn bind(&mut self, pod: &PodKey, port: &PodInterface) -> Result<Bound, Error> {
        let row = self.interfaces.get(port.interface).copied();
        let stranger = self.pod_at(port.interface).is_some_and(|bound| bound != pod);
        match row {
            Some(row) if !stranger && same_end(&row, port) => {
                self.interfaces.readdress(&self.maps, port)?;
                if self.bound.insert(pod.clone(), port.interface) == Some(port.interface) {
                    return Ok(Bound::Known);
                }
                // Written by the agent before this one, of whose pods only the interfaces are known. Its flows were judged
                // by the rule sets that it has, so others come in force by a plan only.
                self.endpoints.insert(pod.clone(), row.endpoint);
                Ok(Bound::Adopted)
            }
            _ => {
                self.unbind_interface(port.interface);
                let endpoint = self.endpoints.get(pod).copied().unwrap_or(Halves::settled(Endpoint::HOLD));
                self.interfaces.place(&self.maps, &self.grace, port, endpoint)?;
                self.bound.insert(pod.clone(), port.interface);
                Ok(Bound::Placed)
            }
        }
    }

    /// Gives an interface of which no pod is known a row that lets nothing pass.
    pub(super) fn hold(&mut self, number: u32) -> Result<bool, Error> {
        let port = PodInterface { interface: number, mac: [0; 6], ipv4: None, ipv6: None, link_local: None };
        let held = Halves::settled(Endpoint::HOLD);
        if self.interfaces.get(number).is_some_and(|row| row.endpoint == held)
            && self.pod_at(number).is_none()
        {
            return Ok(false);
        }
        self.unbind_interface(number);
        self.interfaces.place(&self.maps, &self.grace, &port, held)?;
        Ok(true)
    }

    fn unbind_interface(&mut self, number: u32) {
        self.bound.retain(|_, bound| *bound != number);
    }

    /// Removes interfaces that are gone, with their flows.
    pub(super) fn remove(&mut self, numbers: &[u32]) -> Result<Walk, Error> {
        let mut going = Vec::new();
        for number in numbers {
            self.unbind_interface(*number);
            going.extend(self.interfaces.hide(&self.maps, *number)?);
        }
        if going.is_empty() {
            return Ok(Walk::default());
        }
        // From here on no program makes a flow that names them.
        self.grace.wait()?;
        let indexes: Vec<u16> = going.iter().map(|row| row.index).collect();
        let walk = flows::of_indexes(&self.maps, &indexes)?;
        for row in going {
            self.interfaces.finish(&self.maps, row.number, row.index)?;
        }
        Ok(walk)
    }

    /// Performs steps in their order. If one fails, what is in force is either what was or what was to be, whole; what to
    /// do next is a plan from what the kernel holds.
    pub(super) fn perform(&mut self, steps: &[Step], time: &Program) -> Result<(), Error> {
        self.used.take(&self.maps, steps)?;
        for run in steps.chunk_by(|a, b| std::mem::discriminant(a) == std::mem::discriminant(b)) {
            self.perform_run(run, time)?;
        }
        Ok(())
    }

    fn perform_run(&mut self, run: &[Step], time: &Program) -> Result<(), Error> {
        match run.first() {
            None => Ok(()),
            Some(Step::AddRule(..)) => Ok(self.add_rules(run)?),
            Some(Step::SetAddress(..)) => Ok(self.set_addresses(run)?),
            Some(Step::SetPrefix(..)) => Ok(self.set_prefixes(run)?),
            Some(Step::Ports { .. }) => Ok(self.set_ports(run)?),
            Some(_) => run.iter().try_for_each(|step| self.perform_one(step, time)),
        }
    }

    fn perform_one(&mut self, step: &Step, time: &Program) -> Result<(), Error> {
        match step {
            Step::RemoveRule(key) => freed(&mut self.used.rules, self.maps.rules.remove(key)?),
            Step::SetEndpoint(pod, halves) => self.set_endpoint(pod, *halves, time)?,
            Step::RemoveEndpoint(pod) => {
                self.endpoints.remove(pod);
                if let Some(number) = self.bound.get(pod) {
                    self.interfaces.set_endpoint(
                        &self.maps,
                        *number,
                        Halves::settled(Endpoint::HOLD),
                        None,
                    )?;
                }
            }
            Step::RemoveAddress(IpAddr::V4(address)) => {
                freed(&mut self.used.addresses4, self.maps.addresses4.remove(&address.octets())?);
            }
            Step::RemoveAddress(IpAddr::V6(address)) => {
                freed(&mut self.used.addresses6, self.maps.addresses6.remove(&address.octets())?);
            }
            Step::RemovePrefix(IpNet::V4(prefix)) => {
                freed(&mut self.used.prefixes4, self.maps.prefixes4.remove(&prefix4(*prefix))?);
            }
            Step::RemovePrefix(IpNet::V6(prefix)) => {
                freed(&mut self.used.prefixes6, self.maps.prefixes6.remove(&prefix6(*prefix))?);
            }
            Step::Commit(generation) => {
                self.maps.generation.set(&0, generation)?;
                self.generation = *generation;
            }
            Step::Quiesce => self.grace.wait()?,
            Step::AddRule(..) | Step::SetAddress(..) | Step::SetPrefix(..) | Step::Ports { .. } => {
                self.perform_run(std::slice::from_ref(step), time)?;
            }
        }
        Ok(())
    }

    fn set_endpoint(&mut self, pod: &PodKey, halves: Halves<Endpoint>, time: &Program) -> Result<(), Error> {
        self.endpoints.insert(pod.clone(), halves);
        let Some(number) = self.bound.get(pod).copied() else { return Ok(()) };
        let (now, next) = (self.generation, self.generation.wrapping_add(1));
        // Answers to what came while nothing was tracked are still under way.
        let begins = is_untracked(halves, now) && !is_untracked(halves, next);
        let tracked_now = if begins { Some(clock::now(time)?) } else { None };
        Ok(self.interfaces.set_endpoint(&self.maps, number, halves, tracked_now)?)
    }

    fn add_rules(&self, run: &[Step]) -> Result<(), MapError> {
        let (mut keys, mut values) = (Vec::with_capacity(run.len()), Vec::with_capacity(run.len()));
        for step in run {
            if let Step::AddRule(key, row) = step {
                keys.push(*key);
                values.push(*row);
            }
        }
        self.maps.rules.set_many(&keys, &values)
    }

    fn set_addresses(&self, run: &[Step]) -> Result<(), MapError> {
        let (mut four, mut six) = ((Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
        for step in run {
            match step {
                Step::SetAddress(IpAddr::V4(address), halves) => {
                    four.0.push(address.octets());
                    four.1.push(*halves);
                }
                Step::SetAddress(IpAddr::V6(address), halves) => {
                    six.0.push(address.octets());
                    six.1.push(*halves);
                }
                _ => {}
            }
        }
        self.maps.addresses4.set_many(&four.0, &four.1)?;
        self.maps.addresses6.set_many(&six.0, &six.1)
    }

    fn set_prefixes(&self, run: &[Step]) -> Result<(), MapError> {
        let (mut four, mut six) = ((Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
        for step in run {
            match step {
                Step::SetPrefix(IpNet::V4(prefix), halves) => {
                    four.0.push(prefix4(*prefix));
                    four.1.push(*halves);
                }
                Step::SetPrefix(IpNet::V6(prefix), halves) => {
                    six.0.push(prefix6(*prefix));
                    six.1.push(*halves);
                }
                _ => {}
            }
        }
        self.maps.prefixes4.set_many(&four.0, &four.1)?;
        self.maps.prefixes6.set_many(&six.0, &six.1)
    }

    fn set_ports(&self, run: &[Step]) -> Result<(), MapError> {
        let (mut keys, mut values): (Vec<u32>, Vec<Halves<PortAtom>>) = (Vec::new(), Vec::new());
        for step in run {
            if let Step::Ports { transport, first, last, atom } = step {
                let range =
                    Transport::port_index(*transport, *first)..=Transport::port_index(*transport, *last);
                keys.extend(range.clone());
                values.extend(range.map(|_| *atom));
            }
        }
        self.maps.ports.set_many(&keys, &values)
    }
}

/// An entry less, if there was one.
fn freed(used: &mut usize, was_there: bool) {
    *used = used.saturating_sub(usize::from(was_there));
}
