//! The one listener of the proxy's network namespace: whatever address and port a connection is for, it gets it.
//!
//! Established connections have sockets of their own, and packets of them never come here.
#![no_std]
#![no_main]

use aya_ebpf::bindings::sk_action::{SK_DROP, SK_PASS};
use aya_ebpf::macros::{map, sk_lookup};
use aya_ebpf::maps::SockMap;
use aya_ebpf::programs::SkLookupContext;

/// IP protocol number (IANA).
const TCP: u32 = 6;

/// The listener.
#[map(name = "listener")]
static LISTENER: SockMap = SockMap::with_max_entries(1, 0);

/// Which socket a connection goes to. What is no TCP has no business in that namespace, and without a listener nothing has.
#[sk_lookup]
pub fn polder_accept(context: SkLookupContext) -> u32 {
    // SAFETY: the kernel hands the program a context that is valid for the whole run, and the verifier checks this read.
    let protocol = unsafe { (*context.lookup).protocol };
    if protocol == TCP && LISTENER.redirect_sk_lookup(&context, 0, 0).is_ok() { SK_PASS } else { SK_DROP }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // No panic is left after optimisation: the verifier refuses an endless loop, so a program that had one would not load.
    loop {}
}

// None of the helpers used here is reserved for GPL programs.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 11] = *b"Apache-2.0\0";
