//! Any octets as the beginning of a TLS connection: no panic; a name is found once, and more octets do not change it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proxy::limits::Limits;
use proxy::tls::hello;

fuzz_target!(|octets: &[u8]| {
    let limits = Limits::default();
    let mut answered = None;
    for end in 0..=octets.len() {
        let answer = hello(&octets[..end], &limits);
        match (&answered, answer) {
            (None, Ok(None)) => {}
            (None, answer) => answered = Some(answer),
            (Some(before), answer) => {
                if before.is_ok() {
                    assert_eq!(*before, answer);
                }
            }
        }
    }
    if let Some(Ok(Some(hello))) = answered
        && let Some(name) = hello.name
    {
        assert!(name.iter().all(|octet| octet.is_ascii_graphic() && !octet.is_ascii_uppercase()));
    }
});
