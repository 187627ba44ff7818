//! Any octets as a request's head: no panic; what is forwarded is read again as itself; and it holds nothing but lines of
//! `name: value` that end in CRLF.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proxy::http1::head::RequestHead;
use proxy::http1::scan::{Kind, Scanner};
use proxy::limits::Limits;

fuzz_target!(|octets: &[u8]| {
    let limits = Limits::default();
    let whole = Scanner::default().scan(octets, Kind::Request, &limits);
    // Where the head ends does not depend on how it came.
    let mut scanner = Scanner::default();
    let by_octet = (0..=octets.len())
        .map(|end| scanner.scan(&octets[..end], Kind::Request, &limits))
        .find(|found| *found != Ok(None));
    assert_eq!(by_octet.unwrap_or(Ok(None)).ok().flatten(), whole.clone().ok().flatten());
    let Ok(Some(range)) = whole else { return };
    let Ok(head) = RequestHead::parse(&octets[range], &limits, RequestHead::default()) else { return };
    let text = head.text().to_vec();
    let again = Scanner::default().scan(&text, Kind::Request, &Limits { head: 1 << 20, ..limits.clone() });
    assert_eq!(again, Ok(Some(0..text.len())), "{}", text.escape_ascii());
    let again = RequestHead::parse(&text, &limits, RequestHead::default());
    // The host comes first and `connection` last, so only what has as many headers as there may be is longer.
    if let Ok(again) = again {
        assert_eq!(again.text(), text, "{}", text.escape_ascii());
        assert_eq!(again.framing, head.framing);
    }
    head.show(|shown| {
        assert!(shown.path.starts_with(b"/") || shown.path == b"*");
        let dots = |segment: &[u8]| segment == b"." || segment == b"..";
        assert!(!shown.path.split(|&octet| octet == b'/').any(dots));
        assert!(shown.headers.iter().filter(|(name, _)| *name == b"host").count() == 1);
    });
});
