//! A node in memory: its pods, its policy, its flow table; and packets through its hooks.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use datapath::abi::{
    Address, Anchors, Direction, Endpoint, Generation, Halves, Identity, PortAtom, PortKey, RuleKey, RuleRow,
    RuleSetId, Slot, Transport,
};
use datapath::detour::{self, Detour};
use datapath::event::{Report, Subject};
use datapath::family::{Family, Ipv4, Ipv6};
use datapath::fault::{Cause, Fault};
use datapath::flow::{Flow, FlowKey, Fragment, FragmentKey};
use datapath::hook::{
    self, Act, Arrival, Bench, Kernel, Outcome, Return, Service, ServiceKey, ServiceRow, Work,
};
use datapath::interface::Interface;
use datapath::lookup::Maps;
use datapath::mark::Mark;
use datapath::packet::{Frame, LINEAR};
use datapath::settings::Settings;
use datapath::verdict::{Action, Tier};

use crate::frames::{Datagram, mac};

/// Clock ticks a second.
pub(crate) const SECOND: u32 = 100;
/// Pods are numbered from 1: this is the interface of the first one less one.
const INTERFACES: u32 = 100;

/// What one family of addresses needs.
struct Tracked<A> {
    flows: RefCell<HashMap<FlowKey<A>, Flow>>,
    fragments: RefCell<HashMap<FragmentKey<A>, Fragment>>,
    detours: RefCell<HashMap<FlowKey<A>, Detour>>,
}

impl<A> Default for Tracked<A> {
    fn default() -> Self {
        Self { flows: RefCell::default(), fragments: RefCell::default(), detours: RefCell::default() }
    }
}

/// A node.
pub(crate) struct World {
    pub(crate) generation: Generation,
    pub(crate) settings: Settings,
    pub(crate) now: Cell<u32>,
    /// How many flows each pod may track.
    pub(crate) interfaces: BTreeMap<u32, Interface>,
    pub(crate) nodes: BTreeSet<IpAddr>,
    services: BTreeMap<ServiceKey, ServiceRow>,
    identities: BTreeMap<Address, Identity>,
    rules: BTreeMap<RuleKey, RuleRow>,
    four: Tracked<Ipv4>,
    six: Tracked<Ipv6>,
    pub(crate) reports: RefCell<Vec<(Report, Subject)>>,
    /// How often the rule map was asked.
    pub(crate) rules_asked: Cell<usize>,
    /// How often a flow was looked up.
    pub(crate) flows_asked: Cell<usize>,
    /// How often a whole flow was written.
    pub(crate) flows_written: Cell<usize>,
    /// When an interface last had something go by the proxy.
    detoured: RefCell<BTreeMap<u16, u32>>,
    places: RefCell<Places>,
}

/// Where packets are looked at in full. Kept from packet to packet, as in the kernel.
struct Places {
    four: Work<Ipv4>,
    six: Work<Ipv6>,
}

impl Bench for &mut Places {
    fn four(&mut self) -> Option<&mut Work<Ipv4>> {
        Some(&mut self.four)
    }
    fn six(&mut self) -> Option<&mut Work<Ipv6>> {
        Some(&mut self.six)
    }
}

/// The address of a pod: `10.0.0.N` and `fd00::N`.
pub(crate) fn four(pod: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, pod])
}

/// See [`four`].
pub(crate) fn six(pod: u8) -> IpAddr {
    IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(pod)])
}

/// The link-local address of a pod.
pub(crate) fn link_local(pod: u8) -> IpAddr {
    IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, u16::from(pod)])
}

/// Someone outside of the node, of either family.
pub(crate) const OUTSIDE: [IpAddr; 2] = [
    IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 9)),
    IpAddr::V6(std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9)),
];

pub(crate) fn key(address: IpAddr) -> Address {
    match address {
        IpAddr::V4(address) => Address::V4(address.octets()),
        IpAddr::V6(address) => Address::V6(address.octets()),
    }
}

/// The two rule sets of a pod: there is one for each direction.
fn rule_set(pod: u8, direction: Direction) -> RuleSetId {
    RuleSetId::new(u64::from(pod) * 2 + direction as u64 + 1)
}

pub(crate) fn interface_of(pod: u8) -> u32 {
    INTERFACES + u32::from(pod)
}

/// What happened to a packet at a hook, and what was told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) act: Act,
    pub(crate) mark: Mark,
    pub(crate) cause: Option<Cause>,
}

impl Seen {
    pub(crate) fn passed(&self) -> bool {
        self.act == Act::Pass
    }

    /// Whether it was dropped for this.
    #[track_caller]
    pub(crate) fn is(&self, fault: Fault) {
        assert_eq!(self.cause.and_then(Cause::name), Some(fault.name()), "{self:?}");
        assert_eq!(self.act, Act::Drop);
    }
}

impl World {
    /// A node with so many pods, about which no policy speaks.
    pub(crate) fn new(pods: u8) -> Self {
        let mut world = Self {
            generation: 6,
            settings: Settings::new(SECOND),
            now: Cell::new(u32::MAX - 50 * SECOND),
            interfaces: BTreeMap::new(),
            nodes: BTreeSet::new(),
            services: BTreeMap::new(),
            identities: BTreeMap::new(),
            rules: BTreeMap::new(),
            four: Tracked::default(),
            six: Tracked::default(),
            reports: RefCell::default(),
            rules_asked: Cell::default(),
            flows_asked: Cell::default(),
            flows_written: Cell::default(),
            detoured: RefCell::default(),
            places: RefCell::new(Places { four: Work::new(Ipv4(0)), six: Work::new(Ipv6([0; 4])) }),
        };
        for pod in 1..=pods {
            world.add(pod, interface_of(pod));
        }
        world
    }

    /// Adds a pod at an interface.
    pub(crate) fn add(&mut self, pod: u8, number: u32) {
        let octets = |address: IpAddr| match address {
            IpAddr::V6(address) => address.octets(),
            IpAddr::V4(_) => [0; 16],
        };
        let interface = Interface {
            number,
            ipv4: [10, 0, 0, pod],
            ipv6: octets(six(pod)),
            link_local: octets(link_local(pod)),
            mac: mac(four(pod)),
            index: u16::from(pod),
            ..Interface::default()
        };
        self.interfaces.insert(number, interface);
    }

    /// Changes a pod's endpoint, in both generations.
    pub(crate) fn endpoint(&mut self, pod: u8, change: impl Fn(Endpoint) -> Endpoint) {
        for interface in self.interfaces.values_mut().filter(|own| own.index == u16::from(pod)) {
            interface.endpoint = Halves::settled(change(interface.endpoint.at(0)));
        }
    }

    /// Isolates a pod in a direction: what no rule allows is denied.
    pub(crate) fn isolate(&mut self, pod: u8, direction: Direction) {
        let set = rule_set(pod, direction);
        self.endpoint(pod, |now| match direction {
            Direction::Ingress => Endpoint::new(set, now.rule_set(Direction::Egress)),
            Direction::Egress => Endpoint::new(now.rule_set(Direction::Ingress), set),
        });
        self.offer(RuleKey::new(set, Identity::NONE, PortKey::All), Tier::Namespace, 1000, Action::Deny);
    }

    /// Isolates a pod in both directions.
    pub(crate) fn close(&mut self, pod: u8) {
        self.isolate(pod, Direction::Ingress);
        self.isolate(pod, Direction::Egress);
    }

    /// Adds a rule: a peer (or any) and a port (or all).
    pub(crate) fn rule(
        &mut self,
        (pod, direction): (u8, Direction),
        peer: Option<IpAddr>,
        port: Option<(Transport, u16)>,
        action: Action,
    ) {
        let set = rule_set(pod, direction);
        let ports = port.map_or(PortKey::All, |(transport, port)| PortKey::Port(transport, port));
        let identity = peer.map_or(Identity::NONE, |peer| {
            let next = Identity::new(self.identities.len() as u64 + 1);
            *self.identities.entry(key(peer)).or_insert(next)
        });
        if let (Some((transport, port)), true) = (port, peer.is_some()) {
            let any = RuleKey::new(set, Identity::NONE, PortKey::Port(transport, port));
            let row = self.rules.entry(any).or_insert(RuleRow::EMPTY);
            *row = row.with_class(port);
        }
        self.offer(RuleKey::new(set, identity, ports), Tier::Namespace, 10, action);
    }

    /// Allows what [`World::rule`] says.
    pub(crate) fn allow(
        &mut self,
        hook: (u8, Direction),
        peer: Option<IpAddr>,
        port: Option<(Transport, u16)>,
    ) {
        self.rule(hook, peer, port, Action::Allow);
    }

    /// Adds a rule about what is asked, for any peer on all ports, before or behind those of [`World::rule`].
    pub(crate) fn ask(&mut self, (pod, direction): (u8, Direction), before: bool) {
        let key = RuleKey::new(rule_set(pod, direction), Identity::NONE, PortKey::All);
        if let (Some(row), Some(slot)) = (self.rules.get_mut(&key), Slot::asking(if before { 5 } else { 15 }))
        {
            *row = row.with_list(1, [Slot::EMPTY, slot, Slot::EMPTY]);
        }
    }

    /// Empties a rule set behind everybody's back.
    pub(crate) fn lose_rules(&mut self, (pod, direction): (u8, Direction)) {
        let set = rule_set(pod, direction);
        self.rules.retain(|key, _| key.rule_set() != set);
    }

    /// Takes back all rules of a direction but the one that denies.
    pub(crate) fn forbid(&mut self, (pod, direction): (u8, Direction)) {
        let set = rule_set(pod, direction);
        self.rules.retain(|key, _| key.rule_set() != set);
        self.isolate(pod, direction);
    }

    fn offer(&mut self, key: RuleKey, tier: Tier, rank: u32, action: Action) {
        if let Some(slot) = Slot::new(rank, action) {
            let row = self.rules.entry(key).or_insert(RuleRow::EMPTY);
            row.offer(tier, slot);
            if (key.identity(), key.ports()) == (Identity::NONE, PortKey::All) {
                *row = row.anchoring(Anchors { ports: true, peers: true });
            }
        }
    }

    /// Adds a service address.
    pub(crate) fn serve(&mut self, address: IpAddr, port: u16, protocol: u8, backend: Option<(IpAddr, u16)>) {
        self.settings.services = 1;
        let bytes = |address: IpAddr| match address {
            IpAddr::V4(four) => {
                let mut bytes = [0; 16];
                bytes[..4].copy_from_slice(&four.octets());
                bytes
            }
            IpAddr::V6(six) => six.octets(),
        };
        let family = if address.is_ipv4() { 4 } else { 6 };
        let (backend, to) = backend.map_or(([0; 16], 0), |(address, port)| (bytes(address), port));
        self.services.insert(
            ServiceKey { address: bytes(address), port, protocol, family },
            ServiceRow { backend, port: to, pad: 0 },
        );
    }

    /// Lets time go by.
    pub(crate) fn wait(&self, seconds: u32) {
        self.now.set(self.now.get().wrapping_add(seconds * SECOND));
    }

    /// A change of policy is committed.
    pub(crate) fn commit(&mut self) {
        self.generation = self.generation.wrapping_add(1);
    }

    /// How many flows there are.
    pub(crate) fn flows(&self) -> usize {
        self.four.flows.borrow().len() + self.six.flows.borrow().len()
    }

    /// How many first fragments are remembered.
    pub(crate) fn fragments(&self) -> usize {
        self.four.fragments.borrow().len() + self.six.fragments.borrow().len()
    }

    /// Sends a frame past the hook behind a pod.
    pub(crate) fn out_of(&self, pod: u8, frame: &[u8]) -> Seen {
        self.at(hook_from_pod, arrival(interface_of(pod), frame), frame)
    }

    /// Sends a frame past the hook in front of a pod.
    pub(crate) fn to_pod(&self, pod: u8, frame: &[u8], mark: Mark) -> Seen {
        let arrival = arrival(interface_of(pod), frame);
        self.at(hook_to_pod, Arrival { mark: mark.put(0, self.settings.mark_shift), ..arrival }, frame)
    }

    /// Sends a packet from one pod to another; what the last hook that it met did.
    pub(crate) fn send(&self, from: u8, to: u8, packet: &Datagram) -> Seen {
        let frame = packet.bytes();
        let seen = self.out_of(from, &frame);
        if seen.passed() { self.to_pod(to, &frame, seen.mark) } else { seen }
    }

    /// Whether a packet from one pod reaches another.
    pub(crate) fn reaches(&self, from: u8, to: u8, packet: &Datagram) -> bool {
        self.send(from, to, packet).passed()
    }

    /// Sends a packet to a pod from outside.
    pub(crate) fn arrives(&self, pod: u8, packet: &Datagram) -> bool {
        self.to_pod(pod, &packet.bytes(), Mark::Outside).passed()
    }

    /// Sends a packet from a pod that goes to the outside.
    pub(crate) fn leaves(&self, pod: u8, packet: &Datagram) -> bool {
        self.out_of(pod, &packet.bytes()).passed()
    }

    /// Sends a frame past a hook, and checks what holds at all of them: a drop is told, with a reason, and leaves no
    /// flow and no fragment behind.
    pub(crate) fn at<O: Into<Came>>(&self, hook: Hook<O>, arrival: Arrival, frame: &[u8]) -> Seen {
        let before = (self.flows(), self.fragments(), self.reports.borrow().len());
        let Came { act, mark } = hook(self, &Bytes(frame), &arrival).into();
        let reports = self.reports.borrow();
        let told = &reports[before.2..];
        let drop = told.iter().map(|(report, _)| report.cause).find(|cause| cause.is_drop());
        let goes_on = matches!(act, Act::Pass | Act::Redirect);
        assert_eq!(drop.is_none(), goes_on, "{act:?} is told as {told:?}: {frame:02x?}");
        if !goes_on {
            assert_eq!(
                (self.flows(), self.fragments()),
                (before.0, before.1),
                "a dropped packet makes state"
            );
        }
        let mark = Mark::of(mark, self.settings.mark_shift);
        Seen { act, mark, cause: told.last().map(|(report, _)| report.cause) }
    }
}

/// What came of a packet at a hook, whatever form that hook says it in.
pub(crate) struct Came {
    act: Act,
    mark: u32,
}

impl From<Outcome> for Came {
    fn from(outcome: Outcome) -> Self {
        Self { act: outcome.act(), mark: outcome.mark() }
    }
}

impl From<Act> for Came {
    fn from(act: Act) -> Self {
        Self { act, mark: 0 }
    }
}

/// A hook with all that it takes.
pub(crate) type Hook<O> = fn(&World, &Bytes<'_>, &Arrival) -> O;

pub(crate) fn hook_from_pod(world: &World, frame: &Bytes<'_>, arrival: &Arrival) -> Outcome {
    hook::from_pod(world, world, frame, arrival, &mut *world.places.borrow_mut())
}

pub(crate) fn hook_to_pod(world: &World, frame: &Bytes<'_>, arrival: &Arrival) -> Outcome {
    hook::to_pod(world, world, frame, arrival, &mut *world.places.borrow_mut())
}

/// Where a frame that comes from the proxy behind this device goes on, if it does.
pub(crate) fn from_proxy(world: &World, device: u32, frame: &[u8]) -> Option<Return> {
    hook::from_proxy(world, world, &Bytes(frame), &arrival(device, frame))
}

pub(crate) fn hook_from_outside(world: &World, frame: &Bytes<'_>, arrival: &Arrival) -> Outcome {
    hook::from_outside(world, world, frame, arrival)
}

pub(crate) fn hook_to_outside(world: &World, frame: &Bytes<'_>, arrival: &Arrival) -> Outcome {
    hook::to_outside(world, world, frame, arrival, &mut *world.places.borrow_mut())
}

pub(crate) fn hook_early(world: &World, frame: &Bytes<'_>, arrival: &Arrival) -> Act {
    hook::early(world, world, frame, arrival, &mut *world.places.borrow_mut())
}

/// The arrival of a frame as it is.
pub(crate) fn arrival(interface: u32, frame: &[u8]) -> Arrival {
    let ether_type = frame.get(12..14).map_or(0, |bytes| u16::from_be_bytes([bytes[0], bytes[1]]));
    let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
    Arrival { interface, ether_type, tagged: false, has_socket: false, mark: 0, length }
}

/// A frame in memory.
pub(crate) struct Bytes<'a>(pub(crate) &'a [u8]);

impl Frame for Bytes<'_> {
    fn length(&self) -> u32 {
        u32::try_from(self.0.len()).unwrap_or(u32::MAX)
    }

    fn words<const N: usize>(&self, offset: usize) -> Option<[u32; N]> {
        assert!(offset + N * 4 <= LINEAR, "words are read from the linear part only");
        let bytes = self.0.get(offset..offset + N * 4)?;
        let word = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        Some(std::array::from_fn(|index| word(index * 4)))
    }

    fn copy<const N: usize>(&self, offset: usize, into: &mut [u8; N]) -> Option<()> {
        into.copy_from_slice(self.0.get(offset..offset + N)?);
        Some(())
    }
}

impl Maps for World {
    type EndpointKey = u32;

    fn generation(&self) -> Generation {
        self.generation
    }
    fn endpoint(&self, number: &u32) -> Option<Halves<Endpoint>> {
        self.interfaces.get(number).map(|own| own.endpoint)
    }
    fn address(&self, address: Address) -> Option<Halves<Identity>> {
        self.identities.get(&address).copied().map(Halves::settled)
    }
    fn prefix(&self, _: Address) -> Option<Halves<Identity>> {
        None
    }
    fn port(&self, index: u32) -> Option<Halves<PortAtom>> {
        // Every port is an atom of its own.
        u16::try_from(index & 0xffff).ok().map(Halves::settled)
    }
    fn rule(&self, key: &RuleKey) -> Option<RuleRow> {
        self.rules_asked.set(self.rules_asked.get() + 1);
        self.rules.get(key).copied()
    }
}

macro_rules! kernel {
    ($family:ident, $field:ident, $from_row:expr) => {
        impl Kernel<$family> for World {
            fn settings(&self) -> &Settings {
                &self.settings
            }
            fn now(&self) -> u32 {
                self.now.get()
            }
            fn interface(&self, number: u32) -> Option<&Interface> {
                self.interfaces.get(&number)
            }
            fn number(&self, index: u16) -> u32 {
                self.interfaces.values().find(|own| own.index == index).map_or(0, |own| own.number)
            }
            fn local(&self, address: $family) -> u32 {
                let own = self.interfaces.values().find(|own| $family::own(own) == address);
                own.map_or(0, |own| own.number)
            }
            fn is_node(&self, address: $family) -> bool {
                self.nodes.iter().any(|node| key(*node) == address.address())
            }
            fn service(&self, key: &ServiceKey) -> Option<Service<$family>> {
                let row = self.services.get(key)?;
                let backend = $from_row(&row.backend);
                Some(Service { backend: (!backend.is_unspecified()).then_some((backend, row.port)) })
            }
            fn flow(&self, key: &FlowKey<$family>) -> Option<Flow> {
                self.flows_asked.set(self.flows_asked.get() + 1);
                self.$field.flows.borrow().get(key).copied()
            }
            fn note(&self, key: &FlowKey<$family>, flow: &Flow) {
                if let Some(there) = self.$field.flows.borrow_mut().get_mut(key) {
                    there.copy_note(flow);
                }
            }
            fn track(&self, key: &FlowKey<$family>, flow: &Flow) -> bool {
                self.flows_written.set(self.flows_written.get() + 1);
                let mut flows = self.$field.flows.borrow_mut();
                let used = flows.values().filter(|other| other.owner == flow.owner).count();
                if !flows.contains_key(key) && used >= self.settings.flow_share as usize {
                    return false;
                }
                let owner = flows.get(key).map_or(flow.owner, |there| there.owner);
                flows.insert(*key, flow.owned_by(owner));
                true
            }
            fn fragment(&self, key: &FragmentKey<$family>) -> Option<Fragment> {
                self.$field.fragments.borrow().get(key).copied()
            }
            fn remember(&self, key: &FragmentKey<$family>, fragment: &Fragment) {
                self.$field.fragments.borrow_mut().insert(*key, *fragment);
            }
            fn detour(&self, key: &FlowKey<$family>) -> Option<Detour> {
                self.$field.detours.borrow().get(key).copied()
            }
            fn set_detour(&self, key: &FlowKey<$family>, detour: &Detour) -> bool {
                self.$field.detours.borrow_mut().insert(*key, *detour);
                true
            }
            fn detoured(&self, index: u16) -> u32 {
                self.detoured.borrow().get(&index).copied().unwrap_or(0)
            }
            fn note_detour(&self, index: u16) {
                self.detoured.borrow_mut().insert(index, detour::moment(self.now.get()));
            }
            fn report(&self, report: &Report, subject: &Subject) {
                self.reports.borrow_mut().push((*report, *subject));
            }
        }
    };
}

kernel!(Ipv4, four, |bytes: &[u8; 16]| Ipv4(u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])));
kernel!(Ipv6, six, Ipv6::from_bytes);
