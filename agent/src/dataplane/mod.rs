//! The kernel's side of the node: the only part that speaks to BPF.
//!
//! ```text
//! object --load--> programs <--link--> hooks of interfaces          pins below a bpffs keep all of it without an agent
//!                     |
//! Step --writer--> maps --live--> Image, look-ups, counters, events
//! ```
//!
//! # Life
//!
//! [`Dataplane::open`] finds or makes the maps and loads the programs; packets do not notice. The agent then says which
//! pods are behind which interfaces ([`Dataplane::bind`]), performs a plan from what the kernel holds
//! ([`Dataplane::image`], [`Dataplane::perform`]), and puts the new programs on all hooks that an agent before it had
//! ([`Dataplane::take_over`]), one by one and without a gap. Interfaces that are new get theirs by
//! [`Dataplane::attach`].
//!
//! Maps of the same layout are taken as they are. For another layout (another ABI, other sizes) new ones are made beside the
//! old, whose programs go on until [`Dataplane::take_over`]; flows, and which of them go by a proxy, are carried over if the ABI
//! is the same. Of another ABI nothing is read but which interface has which number (map `numbers`, the same in all of them).
//!
//! Attaching and verifying concern the network namespace of the calling thread, so all calls must come from the same one.
//!
//! # Short of the ideal
//!
//! Which pod is behind an interface is not in the kernel: a new agent learns it anew. A deleted flow may have been used
//! between the last look at it and its removal; it is then judged again.

mod capacity;
mod clock;
mod clsact;
mod counters;
mod error;
mod events;
mod flows;
mod grace;
mod hook_table;
mod hooks;
mod interfaces;
mod live;
mod log;
mod map;
mod maps;
mod neighbours;
mod object;
mod pins;
mod privileges;
mod programs;
mod services;
mod shares;
mod sys;
mod writer;

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;

use datapath::abi::{ABI_VERSION, Endpoint, Generation};
use datapath::event::{Count, CounterKey};
use datapath::hook::{ServiceKey, ServiceRow};
use datapath::interface::Interface;
use datapath::settings::Settings;
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
use policy_compiler::image::Image;
use policy_compiler::object::PodKey;
use policy_compiler::plan::Step;
use policy_compiler::tables::Tables;

pub use self::counters::Tallies;
pub use self::error::{Capacity, Error, MapError};
pub use self::events::Events;
pub use self::flows::Walk;
pub use self::hooks::{Finding, Flaw, HookStatus, Hooks, Means, Place, Role, Xdp};
pub use self::interfaces::PodInterface;
pub use self::live::LiveMaps;
pub use self::log::Log;
pub use self::maps::Sizes;
pub use self::neighbours::Neighbour;
pub use self::pins::DEFAULT_ROOT;
pub use self::programs::Hook;
pub use self::writer::Bound;

use self::hook_table::Table;
use self::maps::Maps;
use self::neighbours::Neighbours;
use self::object::Object;
use self::pins::{Root, State};
use self::programs::Programs;
use self::writer::Writer;

/// How the dataplane is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// The directory of pins, on a bpffs. Its parent must exist.
    pub bpffs: PathBuf,
    /// The BPF object; `None` for the one that was built in.
    pub object: Option<PathBuf>,
    /// For how many entries maps have room.
    pub sizes: Sizes,
    /// How classifiers are attached.
    pub hooks: Hooks,
    /// How the XDP program is attached.
    pub xdp: Xdp,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            bpffs: DEFAULT_ROOT.into(),
            object: None,
            sizes: Sizes::default(),
            hooks: Hooks::default(),
            xdp: Xdp::default(),
        }
    }
}

/// Programs and maps of one node.
#[derive(Debug)]
pub struct Dataplane {
    root: Root,
    state: State,
    programs: Programs,
    hooks: Table,
    writer: Writer,
    neighbours: Neighbours,
    rate: u32,
}

impl Dataplane {
    /// Opens what is pinned, or makes it, and loads the programs. Nothing that is attached changes; if the kernel refuses
    /// a program, it stays as it is.
    pub fn open(options: &Options) -> Result<Self, Error> {
        privileges::check()?;
        // Before Linux 5.11 maps count against this limit, whose default is far too low; later it does not matter.
        let _of_use_before = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
        let object = Object::open(options.object.as_deref(), &options.sizes)?;
        let root = Root::open(&options.bpffs)?;
        let state = State { abi: u64::from(ABI_VERSION), layout: object.layout(), object: object.digest() };
        let before = root.state()?.filter(|before| before.set() != state.set());
        let path = root.set(&state);
        root.make_set(&state)?;
        if let Some(before) = before.filter(|before| before.abi == state.abi) {
            carry_flows(&root, &before, &state, &object)?;
        }
        let programs = Programs::load(object, &path)?;
        let rate = clock::rate(&programs.clock)?;
        let mut writer = Writer::new(Maps::open(&path)?)?;
        if let Some(before) = before {
            let old = root.set(&before);
            // Until all hooks have these programs, packets meet one of each: their marks are to mean the same interface.
            writer.interfaces.reserve(&maps::numbers(&old)?);
            // Another ABI may have other rows: then nothing else of it is read, and nothing was carried over.
            if before.abi == state.abi && writer.generation() == 0 {
                writer.begin_at(maps::generation(&old)?.wrapping_add(2))?;
                // What was carried over may go by a proxy, and the agent looks for proxies after its first packet.
                let mut settings = Settings::new(rate);
                settings.proxies = maps::settings(&old)?.proxies;
                writer.maps.settings.set(&0, &settings)?;
            }
        }
        let hooks = Table::new(&root, options.hooks, options.xdp);
        let neighbours = Neighbours::new();
        let dataplane = Self { root, state, programs, hooks, writer, neighbours, rate };
        let settings = dataplane.settings()?;
        if settings.second != rate {
            let mut said = if settings == Settings::default() { Settings::new(rate) } else { settings };
            said.second = rate;
            dataplane.configure(&said)?;
        }
        Ok(dataplane)
    }

    /// Whether attached programs still use other maps than these, until [`Self::take_over`].
    pub fn is_beside_another(&self) -> Result<bool, Error> {
        Ok(self.root.state()?.is_some_and(|state| state.set() != self.state.set()))
    }

    /// Puts these programs on all hooks that an agent before this one had, and removes maps that nothing uses any more.
    /// Gives how many links were found. If it fails, each hook has either the old program or the new one; it can be called
    /// again.
    ///
    /// Filters of the clsact qdisc are not listed anywhere: [`Self::attach`] replaces them.
    pub fn take_over(&mut self) -> Result<usize, Error> {
        let links = self.hooks.adopt(&self.programs)?;
        self.root.set_state(&self.state)?;
        self.root.remove_other_sets(&self.state)?;
        self.programs.prepare();
        Ok(links)
    }

    /// The generation in force.
    pub fn generation(&self) -> Generation {
        self.writer.generation()
    }

    /// Clock ticks a second, as measured.
    pub fn rate(&self) -> u32 {
        self.rate
    }

    /// The time now, in the programs' ticks.
    pub fn now(&self) -> Result<u32, Error> {
        clock::now(&self.programs.clock)
    }

    /// What the programs are told.
    pub fn settings(&self) -> Result<Settings, Error> {
        Ok(self.writer.maps.settings.get(&0)?.unwrap_or_default())
    }

    /// Tells the programs. `second` must be [`Self::rate`].
    pub fn configure(&self, settings: &Settings) -> Result<(), Error> {
        Ok(self.writer.maps.settings.set(&0, settings)?)
    }

    /// Whether the maps have room for these tables at rest.
    pub fn fits(&self, tables: &Tables) -> Result<(), Capacity> {
        capacity::check_tables(&self.writer.maps, tables)
    }

    /// Performs steps in their order. If the maps are too small for them at any moment, none is performed.
    ///
    /// After another failure either the policy that was in force is so still, or the new one is, whole; the next plan must
    /// be one from what the kernel holds ([`Self::image`]).
    pub fn perform(&mut self, steps: &[Step]) -> Result<(), Error> {
        self.writer.perform(steps, &self.programs.clock)
    }

    /// What the kernel holds, with the pods that this agent knows of.
    pub fn image(&self) -> Result<Image, Error> {
        Ok(live::image(&self.writer.maps, self.writer.endpoints()?)?)
    }

    /// The kernel's maps, as the look-up asks them.
    pub fn live(&self) -> LiveMaps<'_> {
        LiveMaps::new(&self.writer.maps)
    }

    /// Says which interface is a pod's, and what the pod may say that it is. Of two pods that claim one address the last
    /// one has it.
    ///
    /// If the interface was another pod's, or its addresses changed, its flows are removed and it is closed for a moment.
    pub fn bind(&mut self, pod: &PodKey, interface: &PodInterface) -> Result<Bound, Error> {
        self.writer.bind(pod, interface)
    }

    /// Whether an interface has rules in force, so that its pod is not held.
    pub fn is_open(&self, interface: u32) -> bool {
        let row = self.writer.interfaces.get(interface);
        row.is_some_and(|row| row.endpoint.at(self.generation()) != Endpoint::HOLD)
    }

    /// Asks for neighbours in the name of a pod that was held until now: what it asked itself was dropped, and its kernel
    /// asks again only after a second. Gives how many were asked for; none on kernels that cannot (before 5.18).
    pub fn ask_neighbours(&mut self, pod: &PodInterface, neighbours: &[Neighbour]) -> Result<usize, Error> {
        self.neighbours.ask(pod, neighbours)
    }

    /// Closes an interface of which no pod is known. False if it was closed already.
    ///
    /// An interface that an agent before this one knew is closed too: not to be called before pods are known.
    pub fn hold(&mut self, interface: u32) -> Result<bool, Error> {
        self.writer.hold(interface)
    }

    /// Removes interfaces that are gone: rows, numbers, addresses, flows and counters. Their links go with the devices;
    /// their pins by [`Self::detach`].
    pub fn remove(&mut self, interfaces: &[u32]) -> Result<Walk, Error> {
        let walk = self.writer.remove(interfaces)?;
        counters::forget(&self.writer.maps, interfaces)?;
        Ok(walk)
    }

    /// All interfaces that have rows, also those that an agent before this one wrote.
    pub fn interfaces(&self) -> impl Iterator<Item = &Interface> {
        self.writer.interfaces.iter()
    }

    /// The interface that was said to be a pod's.
    pub fn interface_of(&self, pod: &PodKey) -> Option<u32> {
        self.writer.interface_of(pod)
    }

    /// The pod that was said to be behind an interface.
    pub fn pod_at(&self, interface: u32) -> Option<&PodKey> {
        self.writer.pod_at(interface)
    }

    /// Writes rows of interfaces anew that are not as they were written, but for their rule sets, which are the plan's.
    /// Gives how many.
    pub fn repair_interfaces(&self) -> Result<usize, Error> {
        Ok(self.writer.interfaces.repair(&self.writer.maps)?)
    }

    /// Attaches the programs of a role to an interface, first on their hooks, and runs those of pods once to see that they
    /// drop what they know nothing of. What is there already stays.
    pub fn attach(&mut self, interface: u32, role: Role) -> Result<(), Error> {
        self.hooks.attach(interface, role, &self.programs)
    }

    /// Takes the programs off an interface, which may be gone already.
    pub fn detach(&mut self, interface: u32) -> Result<(), Error> {
        self.hooks.detach(interface)
    }

    /// Looks at every hook and puts right what is not as it should be: a program gone, another in front, another in its
    /// place, a pin gone. Hooks of devices that are gone are forgotten.
    pub fn verify(&mut self) -> Vec<Finding> {
        self.hooks.verify(&mut self.programs)
    }

    /// How many flaws of each kind [`Self::verify`] found so far.
    pub fn flaws(&self) -> &BTreeMap<Flaw, u64> {
        self.hooks.flaws()
    }

    /// Every hook, as it is now.
    pub fn hooks(&self) -> Vec<HookStatus> {
        self.hooks.status()
    }

    /// Removes flows that are over.
    pub fn expire_flows(&self) -> Result<Walk, Error> {
        Ok(flows::expire(&self.writer.maps, self.now()?)?)
    }

    /// How many flows an interface tracks.
    pub fn flows_of(&self, interface: u32) -> u64 {
        self.writer.interfaces.get(interface).map_or(0, |row| self.writer.maps.shares.get(row.index))
    }

    /// Sets the addresses of all nodes; others are removed.
    pub fn set_nodes(&self, nodes: &[IpAddr]) -> Result<(), Error> {
        services::set_nodes(&self.writer.maps, nodes)
    }

    /// Sets the service addresses; others are removed.
    pub fn set_services(&self, services: &BTreeMap<ServiceKey, ServiceRow>) -> Result<(), Error> {
        services::set_services(&self.writer.maps, services)
    }

    /// Removes service addresses and sets others; `count` is how many there are then. Costs what changes.
    pub fn change_services(
        &self,
        count: usize,
        removed: &[ServiceKey],
        set: &BTreeMap<ServiceKey, ServiceRow>,
    ) -> Result<(), Error> {
        services::change_services(&self.writer.maps, count, removed, set)
    }

    /// All counters, summed over the CPUs, sorted.
    pub fn counters(&self) -> Result<Vec<(CounterKey, Count)>, Error> {
        Ok(counters::counters(&self.writer.maps)?)
    }

    /// The counters of the programs themselves.
    pub fn tallies(&self) -> Result<Tallies, Error> {
        Ok(counters::tallies(&self.writer.maps)?)
    }

    /// The reader of events, once. Must be called inside a tokio runtime with I/O.
    pub fn events(&mut self) -> Result<Option<Events>, Error> {
        self.programs.events.take().map(Events::new).transpose()
    }

    /// The reader of what an object that was built for debugging writes down, once. Must be called inside a tokio runtime
    /// with I/O.
    pub fn log(&mut self) -> Result<Option<Log>, Error> {
        self.programs.log.take().map(Log::new).transpose()
    }

    /// Name, entries and room of each map that can become full. Walks them all.
    pub fn uses(&self) -> Result<Vec<(&'static str, usize, usize)>, Error> {
        Ok(self.writer.maps.uses()?)
    }

    /// Takes all programs off and removes all pins: no policy is enforced any more.
    pub fn uninstall(mut self) -> Result<(), Error> {
        self.hooks.adopt(&self.programs)?;
        let interfaces: Vec<u32> = self.hooks.status().iter().map(|hook| hook.place.interface).collect();
        for interface in interfaces {
            self.hooks.detach(interface)?;
        }
        self.root.remove_all()
    }
}

/// Gives the new set the flows of the old one, and which of them go by a proxy: the same maps by a second name.
fn carry_flows(root: &Root, before: &State, state: &State, object: &Object) -> Result<(), Error> {
    let cpus = maps::possible_cpus()?;
    for name in ["flows4", "flows6", "detours4", "detours6", "detoured", "shares"] {
        let (old, new) = (root.set(before).join(name), root.set(state).join(name));
        let failed = |operation, error| Error::Pin { path: old.clone(), operation, error };
        let Some(fd) = sys::pinned(&old).map_err(|error| failed("open the pinned map", error))? else {
            continue;
        };
        let map = sys::map::RawMap::new(fd, cpus).map_err(|error| failed("ask what it is", error))?;
        if !new.exists() && object.maps.get(name) == Some(&map.shape()) {
            fs::hard_link(&old, &new).map_err(|error| failed("give the pin a second name", error))?;
        }
    }
    Ok(())
}
