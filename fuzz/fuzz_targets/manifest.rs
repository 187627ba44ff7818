//! Any bytes as a manifest: no panic, and every problem of the file has a place in it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use manifests::gather::Loaded;
use manifests::parse::parse;

fuzz_target!(|bytes: &[u8]| {
    let parsed = parse("f.yaml", bytes);
    for problem in &parsed.problems {
        assert!(problem.location.as_ref().is_some_and(|location| location.line >= 1), "{problem}");
    }
    // What it makes of the file does not matter here, only that it comes to an end.
    let _world = Loaded::gather([parsed]).world();
});
