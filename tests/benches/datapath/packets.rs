//! Nanoseconds a packet: every case in short bursts, in turn, so that what else the machine does falls on all of them.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use netlab::{Cni, Family, Host as _};

use crate::cases::{self, Kind, Pods};
use crate::enforced::Enforced;
use crate::place::Place;
use crate::policy::Policy;
use crate::programs::Programs;
use crate::series::Series;

/// Peers that are told apart.
pub(crate) const IDENTITIES: [u32; 3] = [10, 1_000, 100_000];
/// Rules.
pub(crate) const RULES: [u32; 3] = [1, 100, 10_000];
/// How often a program runs in one burst: some ten microseconds, so that few bursts are interrupted.
const RUNS: u16 = 400;
/// Bursts of each case before the next policy is written.
const BURSTS: u16 = 40;

/// What was measured.
pub(crate) type Figures = BTreeMap<(Kind, Family, Policy), Series>;

/// All sizes of policy.
pub(crate) fn policies() -> impl Iterator<Item = Policy> {
    IDENTITIES.into_iter().flat_map(|identities| RULES.map(|rules| Policy { identities, rules }))
}

/// Measures each case under each policy, so many times over.
pub(crate) fn measure(place: &Place<'_>, rounds: usize) -> Result<Figures> {
    let node = place.lab.node(Cni::Bridge { br_netfilter: false }, 1)?;
    let pods = Pods { first: node.pod("first")?, second: node.pod("second")?, free: node.pod("free")? };
    // One thread for all: maps and programs are looked at in the namespace of the node.
    node.run(|| {
        let mut enforced = Enforced::open(
            &place.pins.join("packets"),
            place.object,
            &[&pods.first, &pods.second, &pods.free],
        )?;
        enforced.configure(|settings| {
            // What holds back floods would otherwise hold back the measurement.
            settings.flow_share = u32::MAX;
            settings.events = u32::MAX;
        })?;
        let mut programs = Programs::load(place.object, enforced.maps())?;
        let mut figures = Figures::new();
        for round in 1..=rounds {
            eprintln!("packets: round {round} of {rounds}");
            for policy in policies() {
                enforced.forget_flows()?;
                enforced.change(policy.tables(&[&pods.first, &pods.second], &[&pods.free]))?;
                visit(&mut programs, &pods, policy, &mut figures).with_context(|| {
                    format!("with {} identities and {} rules", policy.identities, policy.rules)
                })?;
            }
        }
        Ok(figures)
    })
}

fn visit(programs: &mut Programs, pods: &Pods, policy: Policy, figures: &mut Figures) -> Result<()> {
    let mut cases = cases::all(programs, pods, policy, Family::V4)?;
    cases.extend(cases::all(programs, pods, policy, Family::V6)?);
    for burst in 0..BURSTS {
        for case in &mut cases {
            let nanoseconds = case.run(programs, RUNS, burst)?;
            figures.entry((case.kind, case.family, policy)).or_default().push(nanoseconds);
            programs.drain();
        }
    }
    Ok(())
}
