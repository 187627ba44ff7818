//! Any octets as a body in chunks: no panic; what is forwarded is read again as itself, however it was cut.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use proxy::http1::framing::{Body, Framing, Trailers};
use proxy::limits::Limits;

/// What is forwarded, how much was taken, and whether the body is whole; `None` if it is faulty.
fn pass(octets: &[u8], segment: usize, room: usize) -> Option<(Vec<u8>, usize, bool)> {
    let limits = Limits::default();
    let mut body = Body::new(Framing::Chunked, Trailers::Forward);
    let mut passed = Vec::new();
    let mut at = 0;
    let mut end = 0;
    while !body.is_done() && (at < end || end < octets.len()) {
        if at == end {
            end = octets.len().min(end + segment);
        }
        let mut output = BytesMut::new();
        at += body.advance(&octets[at..end], &mut output, room, &limits).ok()?;
        passed.extend_from_slice(&output);
    }
    Some((passed, at, body.is_done()))
}

fuzz_target!(|input: (u8, u8, &[u8])| {
    let (segment, room, octets) = input;
    let whole = pass(octets, usize::MAX >> 1, usize::MAX);
    assert_eq!(whole, pass(octets, usize::from(segment).max(1), usize::from(room).max(1)));
    let Some((passed, _, true)) = whole else { return };
    let length = passed.len();
    assert_eq!(pass(&passed, usize::MAX >> 1, usize::MAX), Some((passed, length, true)));
});
