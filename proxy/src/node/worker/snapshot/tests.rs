use std::sync::atomic::Ordering;

use datapath::abi::{Anchors, PortKey, Slot};
use datapath::flow::{End, Flow, Side};
use datapath::http::{Head, Version};
use datapath::verdict::Action;

use super::*;
use crate::worker::fake::Fake;
use crate::worker::lists::tests::always;

const CLIENT: [u8; 4] = [10, 0, 0, 1];
const SERVER: [u8; 4] = [10, 0, 0, 2];
const OLD: RuleSetId = RuleSetId::new(1);
const NEW: RuleSetId = RuleSetId::new(2);
const LIST: ListId = 9;

pub(crate) fn ends() -> Ends {
    Ends { client: (CLIENT, 4000).into(), server: (SERVER, 80).into() }
}

fn get() -> Request<'static> {
    Request::Http(Head { protocol: Version::Http1, method: b"GET", host: b"a", path: b"/", headers: &[] })
}

fn anchor(slots: [Slot; 3]) -> RuleRow {
    RuleRow::new(slots).anchoring(Anchors { ports: false, peers: false })
}

fn key(rule_set: RuleSetId) -> RuleKey {
    RuleKey::new(rule_set, Identity::NONE, PortKey::All)
}

fn slot(rank: u32, action: Action) -> Slot {
    Slot::new(rank, action).unwrap()
}

/// A pod that is reached from elsewhere, where OLD allows what LIST allows.
pub(crate) fn one_pod() -> Fake {
    let fake = Fake::new().with_interface(8, SERVER);
    let endpoint = Halves::settled(Endpoint::new(OLD, RuleSetId::NONE));
    fake.set_endpoint(8, endpoint.with(1, Endpoint::new(NEW, RuleSetId::NONE)));
    let flow = Flow::begun_by(Side::Low).judged(Side::High, End { interface: 8, judged: 0 }, 1);
    fake.set_flow(Some((flow, Side::Low)));
    let plain = anchor([Slot::EMPTY, slot(5, Action::Deny), Slot::EMPTY]);
    let asking = [Slot::EMPTY, Slot::asking(3).unwrap(), Slot::EMPTY];
    fake.rules.lock().unwrap().insert(key(OLD), plain.with_list(LIST, asking));
    let denies = anchor([Slot::EMPTY, slot(0, Action::Deny), Slot::EMPTY]);
    fake.rules.lock().unwrap().insert(key(NEW), denies);
    fake
}

/// Where the list is to be.
pub(crate) const KEY: Key = (OLD, LIST);

/// The bytes of LIST: everything in HTTP is allowed.
pub(crate) fn list_bytes() -> Vec<u8> {
    let empty = Slot::EMPTY.word();
    always(l7::HTTP, [empty, slot(3, Action::Allow).word(), empty])
}

fn list() -> Option<Bytes> {
    Bytes::new(list_bytes()).ok()
}

#[test]
fn a_request_is_judged_without_another_look_at_the_maps() {
    let fake = one_pod();
    let snapshot = Snapshot::take(&fake, |_| list(), ends()).unwrap();
    let reads = fake.reads.load(Ordering::Relaxed);
    let decision = snapshot.judge(&get());
    let rule = Some(lookup::RuleId { rule_set: OLD, rank: 3 });
    assert_eq!(decision, Decision { verdict: Verdict::Allow, reason: Reason::RuleAllows, rule });
    assert_eq!(snapshot.judge(&Request::Opaque).reason, Reason::OtherProtocol);
    assert_eq!(fake.reads.load(Ordering::Relaxed), reads);
    let http = Protocols { http1: true, http2: true, tls: false };
    assert_eq!((snapshot.protocols(), snapshot.is_complete()), (http, true));
}

#[test]
fn a_reading_during_which_the_generation_changed_is_begun_anew() {
    let fake = one_pod();
    fake.changes.store(1, Ordering::Relaxed);
    let snapshot = Snapshot::take(&fake, |_| list(), ends()).unwrap();
    assert_eq!(snapshot.generation(), 1);
    assert_eq!(snapshot.judge(&get()).rule, Some(lookup::RuleId { rule_set: NEW, rank: 0 }));
    assert_eq!(snapshot.protocols(), EVERYTHING, "no rule about requests is left");
    fake.changes.store(1000, Ordering::Relaxed);
    assert!(matches!(Snapshot::take(&fake, |_| list(), ends()), Err(Closed::Unsettled)));
}

#[test]
fn a_list_that_is_missing_closes() {
    let snapshot = Snapshot::take(&one_pod(), |_| None, ends()).unwrap();
    assert!(!snapshot.is_complete());
    let decision = snapshot.judge(&get());
    assert_eq!((decision.verdict, decision.reason), (Verdict::Deny, Reason::CorruptTable));
}

#[test]
fn without_a_flow_or_an_end_nothing_is_judged() {
    let fake = one_pod();
    fake.set_flow(None);
    assert!(matches!(Snapshot::take(&fake, |_| list(), ends()), Err(Closed::NoFlow)));
    let fake = one_pod();
    fake.interfaces.lock().unwrap().clear();
    fake.set_flow(Some((Flow::begun_by(Side::Low), Side::Low)));
    assert!(matches!(Snapshot::take(&fake, |_| list(), ends()), Err(Closed::NoEnd)));
}

#[test]
fn an_end_without_a_row_closes() {
    let fake = one_pod();
    fake.interfaces.lock().unwrap().clear();
    let snapshot = Snapshot::take(&fake, |_| list(), ends()).unwrap();
    let decision = snapshot.judge(&get());
    assert_eq!((decision.verdict, decision.reason), (Verdict::Deny, Reason::UnknownEndpoint));
}

#[test]
fn both_pods_have_to_allow_and_the_one_that_does_not_is_told() {
    let fake = one_pod().with_interface(7, CLIENT);
    let flow = Flow::begun_by(Side::Low).judged(Side::Low, End { interface: 7, judged: 0 }, 1).judged(
        Side::High,
        End { interface: 8, judged: 0 },
        2,
    );
    fake.set_flow(Some((flow, Side::Low)));
    let allowed = Snapshot::take(&fake, |_| list(), ends()).unwrap().judge(&get());
    assert_eq!(allowed.rule, Some(lookup::RuleId { rule_set: OLD, rank: 3 }));
    fake.set_endpoint(7, Halves::settled(Endpoint::new(RuleSetId::NONE, NEW)));
    let denied = Snapshot::take(&fake, |_| list(), ends()).unwrap().judge(&get());
    assert_eq!(denied.rule, Some(lookup::RuleId { rule_set: NEW, rank: 0 }));
}
