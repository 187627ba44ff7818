use super::*;

#[test]
fn a_rule_key_gives_back_what_was_put_in() {
    for ports in [PortKey::All, PortKey::Port(Transport::Tcp, 0), PortKey::Port(Transport::Sctp, u16::MAX)] {
        let key = RuleKey::new(RuleSetId::new(u64::MAX), Identity::new(7), ports);
        assert_eq!(
            (key.rule_set(), key.identity(), key.ports()),
            (RuleSetId::new(u64::MAX), Identity::new(7), ports)
        );
    }
}

#[test]
fn a_slot_keeps_rank_and_action_and_an_empty_one_loses_to_all() {
    let worst = Slot::new(Slot::MAX_RANK, Action::Reject).unwrap();
    assert_eq!((worst.rank(), worst.action()), (Slot::MAX_RANK, Some(Action::Reject)));
    assert!(worst < Slot::EMPTY && !worst.is_empty());
    assert_eq!(Slot::new(Slot::MAX_RANK + 1, Action::Allow), None);
    assert_eq!(Slot::EMPTY.better(worst), worst);
}

#[test]
fn a_row_with_a_list_shows_packets_that_what_is_asked_decides_and_keeps_what_decides_otherwise() {
    let slot = |rank| Slot::new(rank, Action::Allow).unwrap();
    let asking = |rank| Slot::asking(rank).unwrap();
    let row = RuleRow::new([slot(1), slot(9), Slot::EMPTY]);
    assert_eq!((row.plain(), row.list()), (row.slots(), 0));
    let listed = row.with_list(7, [asking(3), asking(4), asking(12)]).with_class(80);
    assert_eq!(listed.slots(), &[slot(1), asking(4), asking(12)]);
    assert_eq!((listed.plain(), listed.list(), listed.class()), (row.slots(), 7, Some(80)));
    assert!(asking(4).asks() && asking(4).action().is_none() && asking(4).rank() == 4);
    assert!(!slot(4).asks() && !Slot::EMPTY.asks() && Slot::asking(Slot::MAX_RANK + 1).is_none());
}

#[test]
fn a_half_is_read_by_parity() {
    let halves = Halves::settled(1).with(7, 2);
    assert_eq!((halves.at(6), halves.at(7), halves.at(8)), (1, 2, 1));
}

#[test]
fn an_anchor_without_rules_is_still_one() {
    assert_eq!(RuleRow::EMPTY.anchors(), None);
    let anchors = Anchors { ports: true, peers: false };
    assert_eq!(RuleRow::EMPTY.anchoring(anchors).anchors(), Some(anchors));
    assert_ne!(RuleRow::EMPTY.anchoring(Anchors::default()), RuleRow::EMPTY);
}

#[test]
fn a_class_of_zero_is_not_no_class() {
    assert_eq!(RuleRow::EMPTY.class(), None);
    assert_eq!(RuleRow::EMPTY.with_class(0).class(), Some(0));
}

/// The layout as text. If this fails, bytes changed: raise [`ABI_VERSION`], then write down the new layout.
#[test]
fn the_layout_is_the_one_of_this_abi_version() {
    use core::mem::{align_of, offset_of, size_of};
    extern crate std;
    use std::format;

    let layout = format!(
        "abi {}; RuleKey {}/{} identity@{} rest@{}; RuleRow {}/{} slots@{} more@{} plain@{} list@{}; Endpoint {}/{}; \
         Identity {}/{}; Halves<Endpoint> {}; Halves<Identity> {}; Halves<PortAtom> {}; Prefix4 {} {}@{}; Prefix6 {} @{}",
        ABI_VERSION,
        size_of::<RuleKey>(),
        align_of::<RuleKey>(),
        offset_of!(RuleKey, identity),
        offset_of!(RuleKey, rest),
        size_of::<RuleRow>(),
        align_of::<RuleRow>(),
        offset_of!(RuleRow, slots),
        offset_of!(RuleRow, more),
        offset_of!(RuleRow, plain),
        offset_of!(RuleRow, list),
        size_of::<Endpoint>(),
        align_of::<Endpoint>(),
        size_of::<Identity>(),
        align_of::<Identity>(),
        size_of::<Halves<Endpoint>>(),
        size_of::<Halves<Identity>>(),
        size_of::<Halves<PortAtom>>(),
        size_of::<Prefix4>(),
        offset_of!(Prefix4, length),
        offset_of!(Prefix4, address),
        size_of::<Prefix6>(),
        offset_of!(Prefix6, address),
    );
    assert_eq!(
        layout,
        "abi 4; RuleKey 16/8 identity@0 rest@8; RuleRow 32/4 slots@0 more@12 plain@16 list@28; Endpoint 16/8; Identity 8/8; \
         Halves<Endpoint> 32; Halves<Identity> 16; Halves<PortAtom> 4; Prefix4 8 0@4; Prefix6 20 @4"
    );
    let key = RuleKey::new(RuleSetId::new(5), Identity::new(9), PortKey::Port(Transport::Udp, 53));
    let row = RuleRow::new([Slot::new(2, Action::Deny).unwrap(), Slot::EMPTY, Slot::EMPTY]).with_class(53);
    assert_eq!(
        (key.identity.0, key.rest, row.slots[0].0, row.more),
        (9, 5 << 18 | 1 << 16 | 0x35, 0x22, 0x1_0035)
    );
    let asked = RuleRow::new([Slot::new(2, Action::Deny).unwrap(), Slot::EMPTY, Slot::EMPTY])
        .with_list(9, [Slot::asking(1).unwrap(), Slot::EMPTY, Slot::EMPTY]);
    let anchors = [(false, false), (true, false), (false, true), (true, true)]
        .map(|(ports, peers)| RuleRow::EMPTY.anchoring(Anchors { ports, peers }).more);
    assert_eq!(anchors, [0x2_0000, 0x6_0000, 0xa_0000, 0xe_0000]);
    let sizes = [
        size_of::<crate::interface::Interface>(),
        size_of::<crate::settings::Settings>(),
        size_of::<crate::flow::FlowKey<crate::family::Ipv4>>(),
        size_of::<crate::flow::FlowKey<crate::family::Ipv6>>(),
        size_of::<crate::flow::Flow>(),
        size_of::<crate::flow::Fragment>(),
        size_of::<crate::event::Event>(),
        size_of::<crate::event::CounterKey>(),
        size_of::<crate::event::Count>(),
        size_of::<crate::hook::ServiceKey>(),
        size_of::<crate::hook::ServiceRow>(),
        size_of::<crate::detour::Detour>(),
    ];
    assert_eq!(sizes, [88, 44, 16, 40, 32, 16, 72, 24, 16, 20, 20, 24]);
    assert_eq!((asked.slots[0].0, asked.plain[0].0, asked.list), (0x15, 0x22, 9));
    let numbers = [Action::Allow, Action::Deny, Action::Pass, Action::Reject].map(|action| action as u8);
    assert_eq!((numbers, RuleSetId::HOLD.0), ([1, 2, 3, 4], (1 << 46) - 1));
    assert_eq!(crate::verdict::Reason::ALL.map(|reason| reason as u8), [0, 1, 2, 3, 4, 16, 17, 18, 19, 20]);
}
