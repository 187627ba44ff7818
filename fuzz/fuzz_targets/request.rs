//! Any bytes as a list of rules about requests, and any bytes as a request: an answer comes, or that the list is corrupt.

#![no_main]

use datapath::http::{ClientHello, Head, Request, Version};
use datapath::l7::List;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // The first byte says how long the words of the request are; what is behind them is the list.
    let Some((&length, rest)) = bytes.split_first() else { return };
    let Some((path, rest)) = rest.split_at_checked(length.into()) else { return };
    let Some((name, list)) = rest.split_at_checked(usize::from(length) / 2) else { return };
    let Ok(list) = List::new(list) else { return };
    let headers = [(name, path), (&b"x-a"[..], path)];
    let head = Head { protocol: Version::Http2, method: b"GET", host: name, path, headers: &headers };
    for request in [Request::Http(head), Request::Tls(ClientHello { server_name: name }), Request::Opaque] {
        let _ = (list.slots(&request), list.speaks_of(&request));
    }
});
