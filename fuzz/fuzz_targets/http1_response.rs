//! Any octets as a response's head: no panic; what is passed on is read again as the same answer.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use proxy::http1::response::{Answer, Question};
use proxy::http1::scan::{Kind, Scanner};
use proxy::limits::Limits;

fuzz_target!(|input: (bool, bool, bool, &[u8])| {
    let (head, persistent, upgrade, octets) = input;
    let limits = Limits::default();
    let question = Question { head, old: false, persistent, upgrade: upgrade.then_some("websocket") };
    let Ok(Some(range)) = Scanner::default().scan(octets, Kind::Response, &limits) else { return };
    let mut passed = BytesMut::new();
    let Ok(answer) = Answer::parse(&octets[range], question, &limits, &mut passed) else { return };
    let large = Limits { head: 1 << 20, ..limits };
    let range = Scanner::default().scan(&passed, Kind::Response, &large);
    assert_eq!(range, Ok(Some(0..passed.len())), "{}", passed.escape_ascii());
    let mut again = BytesMut::new();
    if let Ok(second) = Answer::parse(&passed, question, &large, &mut again) {
        assert_eq!((second, again), (answer, passed));
    }
});
