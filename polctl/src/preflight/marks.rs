//! Bits of the packet mark: ours, and what others do with them.

use std::collections::BTreeSet;

use datapath::mark::Mark;

use super::finding::{Finding, ok, warn};
use super::rules::{Rules, routing_masks};
use super::system::list;

const CHECK: &str = "mark bits";

/// Whether rules of others meet our bits.
pub(super) fn marks(rules: &Rules, shift: u8) -> Vec<Finding> {
    let masks = routing_masks();
    let mut findings = vec![of_rules(rules, masks.as_deref().unwrap_or_default(), shift)];
    let mut blind = rules.blind.clone();
    blind.extend(masks.err().map(|error| format!("ip rule: {error}")));
    if !blind.is_empty() {
        let advice = "run polctl preflight as root on the node itself, with iptables-legacy-save there";
        findings.push(warn("packet filters", format!("not looked at: {}", blind.join("; ")), advice));
    }
    findings
}

fn of_rules(rules: &Rules, routing: &[u32], shift: u8) -> Finding {
    let ours = ((1 << Mark::BITS) - 1) << u32::from(shift);
    let mut writers = BTreeSet::new();
    let mut readers = BTreeSet::new();
    let mut others = 0;
    for of in &rules.marks {
        if of.bits & ours == 0 {
            others |= of.bits;
        } else if of.writes {
            writers.insert(of.place.as_str());
        } else {
            readers.insert(of.place.as_str());
        }
    }
    for mask in routing {
        if mask & ours == 0 {
            others |= mask;
        } else {
            readers.insert("ip rule");
        }
    }
    let bits = format!("bits {shift} to {}", u32::from(shift) + Mark::BITS - 1);
    let names = |places: &BTreeSet<&str>| list(&places.iter().copied().collect::<Vec<_>>());
    let elsewhere = free(rules, routing).map_or_else(
        || "no 14 bits in a row are free: narrow the masks of those rules".to_owned(),
        |free| format!("let Polder use others: --mark-shift {free}, agent.markShift={free}"),
    );
    if !writers.is_empty() {
        return warn(CHECK, format!("{bits} are overwritten by {}", names(&writers)), elsewhere);
    }
    if !readers.is_empty() {
        return warn(CHECK, format!("{bits} are read by {}", names(&readers)), elsewhere);
    }
    let by_others =
        if others == 0 { "nobody uses any".to_owned() } else { format!("others use {others:#x}") };
    ok(CHECK, format!("{bits} are ours alone; {by_others}"))
}

/// Where 14 bits are free.
fn free(rules: &Rules, routing: &[u32]) -> Option<u32> {
    let used =
        rules.marks.iter().map(|of| of.bits).chain(routing.iter().copied()).fold(0, |all, bits| all | bits);
    let preferred = u32::from(Mark::DEFAULT_SHIFT);
    let shifts = std::iter::once(preferred).chain((0..=32 - Mark::BITS).rev());
    shifts.into_iter().find(|shift| used & (((1 << Mark::BITS) - 1) << shift) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preflight::finding::Level;
    use crate::preflight::rules::MarkUse;

    fn using(marks: &[(&str, u32, bool)]) -> Rules {
        let marks =
            marks.iter().map(|&(place, bits, writes)| MarkUse { place: place.to_owned(), bits, writes });
        Rules { marks: marks.collect(), ..Rules::default() }
    }

    #[test]
    fn kube_proxys_bits_are_no_clash() {
        let found =
            of_rules(&using(&[("nat KUBE-MARK-MASQ", 0x4000, true), ("nat X", 0x8000, true)]), &[], 16);
        assert_eq!(
            (found.level, found.found.as_str()),
            (Level::Ok, "bits 16 to 29 are ours alone; others use 0xc000")
        );
    }

    #[test]
    fn who_writes_our_bits_is_named_and_free_ones_are_offered() {
        let found = of_rules(&using(&[("mangle CALI", 0xffff_0000, true), ("nat K", 0x4000, true)]), &[], 16);
        assert_eq!(found.level, Level::Warn);
        assert_eq!(found.found, "bits 16 to 29 are overwritten by mangle CALI");
        assert_eq!(found.advice, "let Polder use others: --mark-shift 0, agent.markShift=0");
        let found = of_rules(&using(&[("mangle X", u32::MAX, true)]), &[], 16);
        assert!(found.advice.starts_with("no 14 bits in a row are free"), "{}", found.advice);
    }

    #[test]
    fn policy_routing_by_our_bits_is_a_clash() {
        let found = of_rules(&Rules::default(), &[0x20_0000], 16);
        assert_eq!((found.level, found.found.as_str()), (Level::Warn, "bits 16 to 29 are read by ip rule"));
        assert_eq!(found.advice, "let Polder use others: --mark-shift 7, agent.markShift=7");
    }
}
