//! Plans that begin with whatever the kernel holds: left by plans that were broken off, or by somebody's hand.
//!
//! Four claims: after every single write each packet has the verdict it had at the start or its new one, and all packets
//! of the node move at the same write; what no packet sees is put right without raising the generation; after damage of
//! any kind the kernel holds just the tables in the end, and no packet that comes after the generation was raised meets
//! any of it; from a kernel that holds the tables already there is nothing to do.

use std::net::IpAddr;
use std::sync::Arc;

use datapath::abi::{
    Address, Direction, Endpoint, Generation, Halves, Identity, PortAtom, PortKey, RuleKey, RuleRow,
    RuleSetId, Slot, Transport,
};
use datapath::lookup::{Decision, Maps, Origin, Query, judge};
use datapath::verdict::Action;
use ipnet::IpNet;
use policy_compiler::compiler::{Compiler, Scope};
use policy_compiler::image::Image;
use policy_compiler::image::difference::Map;
use policy_compiler::lower::lower;
use policy_compiler::object::PodKey;
use policy_compiler::oracle::{Packet, Protocol};
use policy_compiler::plan::adoption::{Adoption, plan_from};
use policy_compiler::plan::{Step, plan_between};
use policy_compiler::tables::{Tables, address};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::FileFailurePersistence;
use tests::changes::{apply, history};
use tests::packets::packets;
use tests::world::{World, world};

/// Generations in force at the start: one of each parity, and the last one, after which they begin anew.
const IN_FORCE: [Generation; 2] = [6, Generation::MAX];

/// How many packets are judged in one walk through a plan, about.
const JUDGED: usize = 10_000;

type Probes = [(PodKey, Query)];

/// The case count: `PROPTEST_CASES` for a long campaign, else enough for every run.
fn config(cases: u32) -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(cases);
    // Seeds of failures are kept beside this file, and tried first from then on.
    let seeds = FileFailurePersistence::WithSource("proptest-regressions");
    ProptestConfig { cases, failure_persistence: Some(Box::new(seeds)), ..ProptestConfig::default() }
}

/// A world and another one: any, or one that a few changes of the first lead to, so that they share rule sets.
fn pair() -> impl Strategy<Value = (World, World)> {
    let near = history(4).prop_map(|(start, changes)| {
        let mut end = start.clone();
        for change in &changes {
            apply(change, &mut end);
        }
        (start, end)
    });
    prop_oneof![(world(), world()), near]
}

/// A way from one world to another, by way of some to which the plan is broken off.
fn stopovers() -> impl Strategy<Value = (World, Vec<(World, Index)>, World)> {
    (pair(), pair(), vec(any::<Index>(), 1..4)).prop_map(|((start, near), (far, end), stops)| {
        let by_way_of = [near, far, start.clone()];
        (start, by_way_of.into_iter().zip(stops).collect(), end)
    })
}

proptest! {
    #![proptest_config(config(150))]

    #[test]
    fn a_plan_from_where_others_broke_off_leads_from_one_verdict_to_the_other(
        (start, stops, end) in stopovers(),
        in_force in prop::sample::select(&IN_FORCE[..]),
    ) {
        let mut probes = probes(&[&start, &end]);
        probes.extend(stops.iter().flat_map(|(world, _)| self::probes(&[world])));
        let mut image = Image::of(&compile(&start), in_force);
        // The generation that packets began under that are still under way, if the last plan did not wait for them.
        let mut earlier = None;
        for (world, stop) in &stops {
            let new = compile(world);
            let Adoption { mut steps, .. } = plan_from(&image, &new);
            steps.truncate(stop.index(steps.len() + 1));
            let before = image.clone();
            walk(&mut image, &steps, &new, &thinned(&probes, steps.len()), earlier)?;
            let commit = steps.iter().position(|step| matches!(step, Step::Commit(_)));
            let quiesced = steps.iter().rposition(|step| *step == Step::Quiesce);
            if commit.is_some() || quiesced.is_some() {
                // `None`, which is before all, if there was none.
                earlier = (commit > quiesced).then(|| before.generation());
            }
        }
        let new = compile(&end);
        let Adoption { steps, .. } = plan_from(&image, &new);
        walk(&mut image, &steps, &new, &thinned(&probes, steps.len()), earlier)?;
        prop_assert!(image == Image::of(&new, image.generation()), "the kernel holds just the new tables in the end");
    }

    #[test]
    fn what_a_broken_plan_left_in_force_is_tidied_up_without_raising_the_generation(
        (old, new) in pair(),
        stop in any::<Index>(),
        in_force in prop::sample::select(&IN_FORCE[..]),
    ) {
        let probes = probes(&[&old, &new]);
        let [old, new] = [&old, &new].map(compile);
        let steps = plan_between(&old, &new, in_force).unwrap();
        let (done, left) = steps.split_at(stop.index(steps.len() + 1));
        let broken = performed(Image::of(&old, in_force), done);
        for (wanted, in_force) in [(&old, raises(left)), (&new, raises(done))] {
            let mut image = broken.clone();
            let Adoption { steps, found } = plan_from(&image, wanted);
            prop_assert!(!(in_force && raises(&steps)), "{}: {:?}", found, steps);
            walk(&mut image, &steps, wanted, &thinned(&probes, steps.len()), None)?;
            prop_assert!(image == Image::of(wanted, image.generation()));
        }
    }

    #[test]
    fn after_any_damage_the_kernel_comes_to_hold_just_the_tables(
        (old, new) in pair(),
        stop in any::<Index>(),
        in_force in prop::sample::select(&IN_FORCE[..]),
        damage in vec(damage(), 1..12),
    ) {
        let probes = probes(&[&old, &new]);
        let [old, new] = [&old, &new].map(compile);
        let steps = plan_between(&old, &new, in_force).unwrap();
        let done = &steps[..stop.index(steps.len() + 1)];
        let mut parts = Parts::of(&performed(Image::of(&old, in_force), done));
        let rows = parts.rules.clone();
        for damage in &damage {
            parts.suffer(damage);
        }
        let sound = parts.rules == rows;
        let mut image = parts.image();
        let differences = image.differences(&new);
        let Adoption { steps, found } = plan_from(&image, &new);
        prop_assert_eq!(found.is_empty(), differences.is_empty());
        prop_assert_eq!(steps.is_empty(), differences.is_empty());
        // Flows may have been judged by what is mended before all else, so they have to be judged again.
        let mended = steps.iter().take_while(|step| **step != Step::Quiesce).count();
        prop_assert!(mended == 0 || raises(&steps), "{:?}", steps);
        if sound {
            walk(&mut image, &steps, &new, &thinned(&probes, steps.len()), None)?;
        } else {
            walk_mending(&mut image, &steps, &new, &thinned(&probes, steps.len()))?;
        }
        prop_assert!(image == Image::of(&new, image.generation()), "{:?}", image.differences(&new));
        prop_assert_eq!(image.differences(&new), []);
    }

    #[test]
    fn from_a_kernel_that_holds_the_tables_there_is_nothing_to_do(
        world in world(),
        in_force in any::<Generation>(),
    ) {
        let tables = compile(&world);
        let image = Image::of(&tables, in_force);
        let Adoption { steps, found } = plan_from(&image, &tables);
        prop_assert_eq!((steps, found.is_empty()), (vec![], true));
        prop_assert_eq!(image.differences(&tables), []);
        prop_assert!(Parts::of(&image).image() == image, "an image can be taken apart and put together");
    }
}

/// Performs a plan for rules that are sound. At `earlier`, if at all, packets are under way that began when this was the
/// generation in force.
fn walk(
    image: &mut Image,
    steps: &[Step],
    new: &Tables,
    probes: &Probes,
    earlier: Option<Generation>,
) -> Result<(), TestCaseError> {
    let start = image.generation();
    let before = judged(image, probes);
    let after = judged(new, probes);
    let mut earlier = earlier.map(|generation| (generation, judged(&Late { image, generation }, probes)));
    let (mut committed, mut late) = (false, true);
    for (index, step) in steps.iter().enumerate() {
        image.perform(step);
        if *step == Step::Quiesce {
            earlier = None;
            late &= !committed;
        }
        committed |= matches!(step, Step::Commit(_));
        if let Some((generation, before)) = &earlier {
            let now = judged(&Late { image, generation: *generation }, probes);
            prop_assert_eq!(&now, before, "began before the last plan, at step {} {:?}", index, step);
        }
        if late {
            let now = judged(&Late { image, generation: start }, probes);
            prop_assert_eq!(&now, &before, "began before the commit, at step {} {:?}", index, step);
        }
        let now = judged(image, probes);
        // Stronger than each packet for itself: the whole node moves at once.
        prop_assert_eq!(&now, if committed { &after } else { &before }, "after step {} {:?}", index, step);
    }
    Ok(())
}

/// Performs a plan for rules that are damaged: only from the commit on is it said what packets get.
fn walk_mending(
    image: &mut Image,
    steps: &[Step],
    new: &Tables,
    probes: &Probes,
) -> Result<(), TestCaseError> {
    let after = judged(new, probes);
    let mut committed = !raises(steps);
    for (index, step) in steps.iter().enumerate() {
        image.perform(step);
        committed |= matches!(step, Step::Commit(_));
        if committed {
            prop_assert_eq!(&judged(image, probes), &after, "after step {} {:?}", index, step);
        }
    }
    Ok(())
}

fn raises(steps: &[Step]) -> bool {
    steps.iter().any(|step| matches!(step, Step::Commit(_)))
}

fn performed(mut image: Image, steps: &[Step]) -> Image {
    for step in steps {
        image.perform(step);
    }
    image
}

fn judged(maps: &impl Maps<EndpointKey = PodKey>, probes: &Probes) -> Vec<Decision> {
    probes.iter().map(|(pod, query)| judge(maps, pod, query)).collect()
}

fn compile(world: &World) -> Tables {
    let policies =
        world.policies.iter().filter_map(|object| Some(Arc::new(lower(object, None).ok()?.policy)));
    Compiler::compile(Scope::All, &world.cluster, policies).tables().clone()
}

fn probes(worlds: &[&World]) -> Vec<(PodKey, Query)> {
    let packets = worlds.iter().flat_map(|world| packets(world));
    packets.map(|packet| (packet.pod.clone(), query(&packet))).collect()
}

fn query(packet: &Packet) -> Query {
    let origin = if packet.from_own_node { Origin::OwnNode } else { Origin::Elsewhere };
    let port = match packet.protocol {
        Protocol::Transport(transport, port) => Some((transport, port)),
        Protocol::Other(_) => None,
    };
    Query { direction: packet.direction, peer: address(packet.peer), port, origin }
}

fn thinned(probes: &Probes, steps: usize) -> Vec<(PodKey, Query)> {
    probes.iter().step_by(1 + probes.len() * steps / JUDGED).cloned().collect()
}

/// What happens to a map. Places and values are drawn from what is there, so that damage hits what packets meet.
#[derive(Clone, Debug)]
enum Damage {
    /// An entry goes.
    Remove(Map, Index),
    /// An entry that is there gets other bits, in one half or both.
    Alter(Map, Index, [u64; 2]),
    /// An entry comes whose key and value are made of parts of others, or of nothing known.
    Insert(Map, Index, Index, u64),
}

fn damage() -> impl Strategy<Value = Damage> {
    // Half of it in the rule map, which has the most to lose.
    let map = prop_oneof![
        Just(Map::Endpoints),
        Just(Map::Addresses),
        Just(Map::Prefixes),
        Just(Map::Ports),
        Just(Map::Rules),
        Just(Map::Rules),
        Just(Map::Rules),
    ];
    let bits = prop_oneof![Just(0), (0_u32..64).prop_map(|bit| 1 << bit), any::<u64>()];
    prop_oneof![
        (map.clone(), any::<Index>()).prop_map(|(map, at)| Damage::Remove(map, at)),
        (map.clone(), any::<Index>(), [bits.clone(), bits])
            .prop_map(|(map, at, bits)| Damage::Alter(map, at, bits)),
        (map, any::<Index>(), any::<Index>(), any::<u64>())
            .prop_map(|(map, a, b, number)| Damage::Insert(map, a, b, number)),
    ]
}

/// An image, taken apart.
struct Parts {
    generation: Generation,
    endpoints: Vec<(PodKey, Halves<Endpoint>)>,
    addresses: Vec<(IpAddr, Halves<Identity>)>,
    prefixes: Vec<(IpNet, Halves<Identity>)>,
    ports: Vec<((Transport, u16), Halves<PortAtom>)>,
    rules: Vec<(RuleKey, RuleRow)>,
}

impl Parts {
    fn of(image: &Image) -> Self {
        let mut parts = Self {
            generation: image.generation(),
            endpoints: image.endpoints().map(|(key, halves)| (key.clone(), halves)).collect(),
            addresses: image.addresses().collect(),
            prefixes: image.prefixes().collect(),
            ports: image.ports().collect(),
            rules: image.rules().collect(),
        };
        // The same damage hits the same entries when a case is replayed.
        parts.addresses.sort_by_key(|(address, _)| *address);
        parts.prefixes.sort_by_key(|(prefix, _)| *prefix);
        parts.rules.sort_by_key(|(key, _)| *key);
        parts
    }

    fn image(self) -> Image {
        let Self { generation, endpoints, addresses, prefixes, ports, rules } = self;
        Image::from_parts(generation, endpoints, addresses, prefixes, ports, rules)
    }

    fn suffer(&mut self, damage: &Damage) {
        match *damage {
            Damage::Remove(Map::Endpoints, at) => remove(&mut self.endpoints, at),
            Damage::Remove(Map::Addresses, at) => remove(&mut self.addresses, at),
            Damage::Remove(Map::Prefixes, at) => remove(&mut self.prefixes, at),
            // Entries of an array cannot go.
            Damage::Remove(Map::Ports, at) => alter(&mut self.ports, at, [0; 2], |_, _| 0),
            Damage::Remove(Map::Rules, at) => remove(&mut self.rules, at),
            Damage::Alter(Map::Endpoints, at, bits) => alter(&mut self.endpoints, at, bits, flipped_endpoint),
            Damage::Alter(Map::Addresses, at, bits) => alter(&mut self.addresses, at, bits, flipped_identity),
            Damage::Alter(Map::Prefixes, at, bits) => alter(&mut self.prefixes, at, bits, flipped_identity),
            Damage::Alter(Map::Ports, at, bits) => {
                alter(&mut self.ports, at, bits, |atom, bits| atom ^ low(bits));
            }
            Damage::Alter(Map::Rules, at, [bits, _]) => {
                if let Some((_, row)) = pick(&mut self.rules, at) {
                    *row = other_row(*row, bits);
                }
            }
            Damage::Insert(map, a, b, number) => self.insert(map, a, b, number),
        }
    }

    fn insert(&mut self, map: Map, a: Index, b: Index, number: u64) {
        let identity = self.some_identity(b, number);
        let halves = Halves::settled(identity).with(low(number).into(), self.some_identity(a, number >> 1));
        match map {
            Map::Endpoints => {
                let rule_set = self.some_rule_set(a, number);
                let key = PodKey::new("ns1", ["p1", "p2", "stranger"][a.index(3)]);
                let closed = Halves::settled(Endpoint::HOLD);
                put(
                    &mut self.endpoints,
                    key,
                    closed.with(low(number).into(), Endpoint::new(rule_set, RuleSetId::NONE)),
                );
            }
            Map::Addresses => {
                let some =
                    self.prefixes.get(b.index(self.prefixes.len() + 1)).map(|(prefix, _)| prefix.network());
                put(
                    &mut self.addresses,
                    some.unwrap_or(IpAddr::from([10, 0, 0, low(number).to_be_bytes()[1]])),
                    halves,
                );
            }
            Map::Prefixes => {
                let some = self.addresses.get(a.index(self.addresses.len() + 1)).map(|(address, _)| *address);
                let inside = some.unwrap_or(IpAddr::from([10, 0, 0, 1]));
                let host = IpNet::from(inside);
                let length = low(number) % (u16::from(host.prefix_len()) + 1);
                let outer = IpNet::new(inside, length.to_be_bytes()[1]).unwrap_or(host);
                put(&mut self.prefixes, outer.trunc(), halves);
            }
            Map::Ports => alter(&mut self.ports, a, [number, number >> 16], |_, bits| low(bits)),
            Map::Rules => {
                let ports = match Transport::ALL.get(usize::from(low(number) % 4)).copied() {
                    None => PortKey::All,
                    Some(transport) => {
                        let atoms = self.ports.iter().filter(|((on, port), atom)| {
                            *on == transport && (atom.at(0) == *port || atom.at(1) == *port)
                        });
                        let atoms: Vec<u16> = atoms.map(|((_, port), _)| *port).collect();
                        PortKey::Port(transport, atoms[b.index(atoms.len())])
                    }
                };
                let key = RuleKey::new(self.some_rule_set(a, number), identity, ports);
                put(&mut self.rules, key, other_row(RuleRow::EMPTY, number | 1));
            }
        }
    }

    /// One of those there are, none, or one that nobody knows.
    fn some_identity(&self, at: Index, number: u64) -> Identity {
        let known = self
            .addresses
            .iter()
            .map(|(_, halves)| halves)
            .chain(self.prefixes.iter().map(|(_, halves)| halves));
        let mut known: Vec<Identity> = known.flat_map(|halves| [halves.at(0), halves.at(1)]).collect();
        known.extend([Identity::NONE, Identity::new(number)]);
        known[at.index(known.len())]
    }

    fn some_rule_set(&self, at: Index, number: u64) -> RuleSetId {
        let known = self.endpoints.iter().flat_map(|(_, halves)| [halves.at(0), halves.at(1)]);
        let mut known: Vec<RuleSetId> =
            known.flat_map(|endpoint| Direction::ALL.map(|direction| endpoint.rule_set(direction))).collect();
        known.extend([RuleSetId::HOLD, RuleSetId::new(number)]);
        known[at.index(known.len())]
    }
}

fn pick<T>(entries: &mut [T], at: Index) -> Option<&mut T> {
    if entries.is_empty() { None } else { Some(at.get_mut(entries)) }
}

fn remove<T>(entries: &mut Vec<T>, at: Index) {
    if !entries.is_empty() {
        entries.remove(at.index(entries.len()));
    }
}

fn put<K: PartialEq, V>(entries: &mut Vec<(K, V)>, key: K, value: V) {
    entries.retain(|(known, _)| *known != key);
    entries.push((key, value));
}

fn alter<K, T: Copy>(entries: &mut [(K, Halves<T>)], at: Index, bits: [u64; 2], of: impl Fn(T, u64) -> T) {
    if let Some((_, halves)) = pick(entries, at) {
        *halves = halves.with(0, of(halves.at(0), bits[0])).with(1, of(halves.at(1), bits[1]));
    }
}

fn flipped_identity(identity: Identity, bits: u64) -> Identity {
    Identity::new(identity.get() ^ bits)
}

fn flipped_endpoint(endpoint: Endpoint, bits: u64) -> Endpoint {
    let [ingress, egress] = Direction::ALL.map(|direction| endpoint.rule_set(direction).get());
    Endpoint::new(RuleSetId::new(ingress ^ bits), RuleSetId::new(egress ^ (bits >> 16)))
}

/// A row that differs in a slot or in the class, if there are any bits.
fn other_row(row: RuleRow, bits: u64) -> RuleRow {
    if bits == 0 {
        return row;
    }
    let action = [Action::Allow, Action::Deny, Action::Pass, Action::Reject][usize::from(low(bits)) % 4];
    let slot = Slot::new(u32::from(low(bits >> 16)), action).unwrap_or(Slot::EMPTY);
    let mut slots = *row.slots();
    slots[usize::from(low(bits)) % slots.len()] = slot;
    let row = RuleRow::new(slots);
    if bits & 2 == 0 { row } else { row.with_class(low(bits >> 32)) }
}

fn low(bits: u64) -> u16 {
    let [.., high, low] = bits.to_be_bytes();
    u16::from_be_bytes([high, low])
}

/// The maps as a packet sees them that read the generation some time ago.
struct Late<'a> {
    image: &'a Image,
    generation: Generation,
}

impl Maps for Late<'_> {
    type EndpointKey = PodKey;

    fn generation(&self) -> Generation {
        self.generation
    }
    fn endpoint(&self, key: &PodKey) -> Option<Halves<Endpoint>> {
        self.image.endpoint(key)
    }
    fn address(&self, address: Address) -> Option<Halves<Identity>> {
        self.image.address(address)
    }
    fn prefix(&self, address: Address) -> Option<Halves<Identity>> {
        self.image.prefix(address)
    }
    fn port(&self, index: u32) -> Option<Halves<PortAtom>> {
        self.image.port(index)
    }
    fn rule(&self, key: &RuleKey) -> Option<RuleRow> {
        self.image.rule(key)
    }
}
