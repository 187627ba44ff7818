//! A decision of the tables in the shape in which the library carries it, and as a client is told of it.

use std::sync::Arc;

use datapath::abi::RuleSetId;
use datapath::lookup::{self, Decision};
use datapath::verdict::Reason;
use proxy::policy::{RuleId, Verdict};

/// Why a request was allowed or not: a reason, and the rule behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ruling {
    /// Why.
    pub(crate) reason: Reason,
    /// The rule, if one decided.
    pub(crate) rule: Option<lookup::RuleId>,
}

// From the low end: rank (32 bits), rule set (64), whether there is a rule (8), reason (8).
const RULE_SET: u32 = 32;
const HAS_RULE: u32 = 96;
const REASON: u32 = 104;

impl Ruling {
    /// As the library names rules.
    pub(crate) fn pack(self) -> RuleId {
        let rule = self.rule.map_or(0, |rule| {
            1 << HAS_RULE | u128::from(rule.rule_set.get()) << RULE_SET | u128::from(rule.rank)
        });
        RuleId(u128::from(self.reason as u8) << REASON | rule)
    }

    /// What [`Self::pack`] made; `None` for anything else.
    pub(crate) fn unpack(id: RuleId) -> Option<Self> {
        let part = |at: u32, bits: u32| id.0 >> at & ((1 << bits) - 1);
        let (rank, rule_set) = (part(0, RULE_SET), part(RULE_SET, HAS_RULE - RULE_SET));
        let has_rule = part(HAS_RULE, REASON - HAS_RULE);
        let reason = part(REASON, u128::BITS - REASON);
        let reason = Reason::ALL.into_iter().find(|known| u128::from(*known as u8) == reason)?;
        let rule_set = RuleSetId::new(u64::try_from(rule_set).ok()?);
        let rule = lookup::RuleId { rule_set, rank: u32::try_from(rank).ok()? };
        Some(Self { reason, rule: (has_rule != 0).then_some(rule) })
    }

    /// As a client is told: names of policies are not in the kernel, and whoever runs the cluster finds them by these numbers.
    fn text(self) -> Arc<str> {
        match self.rule {
            Some(rule) => {
                format!("denied by policy (rule set {:012x}, rank {})", rule.rule_set.get(), rule.rank).into()
            }
            None => format!("denied by policy ({})", self.reason.name()).into(),
        }
    }
}

/// As the library wants it.
pub(crate) fn verdict(decision: Decision) -> Verdict {
    let ruling = Ruling { reason: decision.reason, rule: decision.rule };
    if decision.verdict.is_allow() {
        Verdict::Allow { rule: ruling.pack() }
    } else {
        Verdict::Deny { rule: ruling.pack(), text: ruling.text() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ruling_survives_the_library() {
        let rule_set = RuleSetId::new(0x1a2b_3c4d_5e6f);
        for rule in [None, Some(lookup::RuleId { rule_set, rank: 0x0fff_fffe })] {
            for reason in Reason::ALL {
                let ruling = Ruling { reason, rule };
                assert_eq!(Ruling::unpack(ruling.pack()), Some(ruling));
            }
        }
        assert_eq!(Ruling::unpack(RuleId(u128::MAX)), None);
    }

    #[test]
    fn a_client_is_told_where_to_look() {
        let rule = Some(lookup::RuleId { rule_set: RuleSetId::new(0x1a2b), rank: 3 });
        let text = |reason, rule| Ruling { reason, rule }.text();
        assert_eq!(&*text(Reason::RuleDenies, rule), "denied by policy (rule set 000000001a2b, rank 3)");
        assert_eq!(&*text(Reason::CorruptTable, None), "denied by policy (corrupt_table)");
    }
}
