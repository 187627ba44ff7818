//! The BPF programs: one for each hook of a packet's way through the node.
//!
//! ```text
//! context -> frame, Arrival -> datapath::hook (over maps::KernelMaps) -> Outcome -> mark, action
//! ```
//!
//! What a packet says, which flow it belongs to, who is asked and what the verdict is: all of that is `datapath`. Here
//! are the entry points, the maps, and the one place where a verdict becomes what the kernel does.
#![no_std]
#![no_main]
// For one instruction, in `kernel`.
#![feature(asm_experimental_arch)]

mod detour;
mod frame;
mod kernel;
#[cfg(feature = "log")]
mod log;
mod maps;
mod reject;
mod report;

use aya_ebpf::bindings::{__sk_buff, TC_ACT_SHOT, TC_ACT_UNSPEC, xdp_action};
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use datapath::family::{Ipv4, Ipv6};
use datapath::hook::{self, Act, Arrival, Outcome};
use datapath::packet::{Frame, ether_type};

use crate::frame::{Raw, Skb};
use crate::maps::{KernelMaps, ThisCpu};
use crate::reject::Towards;

const FOUR: KernelMaps<Ipv4> = KernelMaps::new();
const SIX: KernelMaps<Ipv6> = KernelMaps::new();

/// Packets from a pod: TC ingress of the host side of its veth.
#[classifier]
pub fn polder_from_pod(context: TcContext) -> i32 {
    let (frame, arrival) = (Skb::new(&context), arrival(&context));
    let outcome = hook::from_pod(&FOUR, &SIX, &frame, &arrival, ThisCpu);
    finish(&context, &frame, &arrival, outcome, Some(Towards::Pod))
}

/// Packets to a pod: TC egress of the host side of its veth.
#[classifier]
pub fn polder_to_pod(context: TcContext) -> i32 {
    let (frame, arrival) = (Skb::new(&context), arrival(&context));
    let outcome = hook::to_pod(&FOUR, &SIX, &frame, &arrival, ThisCpu);
    finish(&context, &frame, &arrival, outcome, Some(Towards::Node))
}

/// Packets from outside: TC ingress of uplinks and tunnel devices.
#[classifier]
pub fn polder_from_outside(context: TcContext) -> i32 {
    let (frame, arrival) = (Skb::new(&context), arrival(&context));
    let outcome = hook::from_outside(&FOUR, &SIX, &frame, &arrival);
    finish(&context, &frame, &arrival, outcome, None)
}

/// Packets that leave the node: TC egress of uplinks and tunnel devices.
#[classifier]
pub fn polder_to_outside(context: TcContext) -> i32 {
    let (frame, arrival) = (Skb::new(&context), arrival(&context));
    let outcome = hook::to_outside(&FOUR, &SIX, &frame, &arrival, ThisCpu);
    finish(&context, &frame, &arrival, outcome, Some(Towards::Back))
}

/// Packets that a proxy sends: TC ingress of the device that leads to it.
#[classifier]
pub fn polder_from_proxy(context: TcContext) -> i32 {
    match onward(context.skb.skb) {
        // Otherwise it would send again and again, and the client could not use its port meanwhile.
        TC_ACT_SHOT => answer(&context, &Skb::new(&context), &arrival(&context), Towards::Proxy),
        act => act,
    }
}

/// Sends a packet of a proxy on, if it is of a connection that went there. A function of its own for the sake of the stack.
#[inline(never)]
fn onward(skb: *mut __sk_buff) -> i32 {
    let context = TcContext::new(skb);
    let (frame, arrival) = (Skb::new(&context), arrival(&context));
    match hook::from_proxy(&FOUR, &SIX, &frame, &arrival) {
        Some(back) => detour::back(&context, back),
        None => TC_ACT_SHOT,
    }
}

/// Frames from outside before they become packets: XDP of uplinks.
#[xdp]
pub fn polder_early(context: XdpContext) -> u32 {
    let frame = Raw::new(&context);
    let Some([_, _, _, kind]) = frame.words::<4>(0) else { return xdp_action::XDP_PASS };
    let kind = kind.to_ne_bytes();
    let arrival = Arrival {
        interface: context.ingress_ifindex() as u32,
        ether_type: u16::from_be_bytes([kind[0], kind[1]]),
        tagged: false,
        has_socket: false,
        mark: 0,
        length: frame.length(),
    };
    match hook::early(&FOUR, &SIX, &frame, &arrival, ThisCpu) {
        Act::Pass | Act::Reject | Act::Redirect => xdp_action::XDP_PASS,
        Act::Drop => xdp_action::XDP_DROP,
    }
}

/// The clock of the flow table, for user space: `BPF_PROG_TEST_RUN` gives back the frame, with the ticks in the first four
/// bytes. Never attached.
#[classifier]
pub fn polder_clock(context: TcContext) -> i32 {
    match context.store(0, &kernel::now(), 0) {
        Ok(()) => TC_ACT_UNSPEC,
        Err(_) => TC_ACT_SHOT,
    }
}

#[inline(always)]
fn arrival(context: &TcContext) -> Arrival {
    let skb = context.skb.skb;
    // SAFETY: the kernel hands a classifier a context that is valid for the whole run, and the verifier turns these reads
    // into those of the packet's fields. Of the socket only its presence is asked.
    unsafe {
        Arrival {
            interface: (*skb).ifindex,
            ether_type: u16::from_be((*skb).protocol as u16),
            tagged: (*skb).vlan_present != 0,
            has_socket: !(*skb).__bindgen_anon_2.sk.is_null(),
            mark: (*skb).mark,
            length: (*skb).len,
        }
    }
}

/// The one place where a verdict becomes what the kernel does.
#[inline(always)]
fn finish(
    context: &TcContext,
    frame: &Skb,
    arrival: &Arrival,
    outcome: Outcome,
    towards: Option<Towards>,
) -> i32 {
    #[cfg(feature = "log")]
    log::log(context, arrival, outcome);
    let skb = context.skb.skb;
    match (outcome.act(), towards) {
        (Act::Pass, _) => {
            if outcome.mark() != arrival.mark {
                // SAFETY: as in `arrival`; the mark may be written.
                unsafe { (*skb).mark = outcome.mark() };
            }
            // `TC_ACT_UNSPEC` has the number of `TCX_NEXT`: other programs on the hook, such as the CNI's, have their say.
            TC_ACT_UNSPEC
        }
        (Act::Redirect, _) => detour::there(context, outcome.device()),
        // Whoever is outside the node is not told.
        (Act::Drop, _) | (Act::Reject, None) => TC_ACT_SHOT,
        (Act::Reject, Some(towards)) => answer(context, frame, arrival, towards),
    }
}

/// A packet is dropped, and its sender told.
#[inline(always)]
fn answer(context: &TcContext, frame: &Skb, arrival: &Arrival, towards: Towards) -> i32 {
    match arrival.ether_type {
        ether_type::IPV4 => reject::reject::<Ipv4>(context.skb.skb, frame, towards),
        ether_type::IPV6 => reject::reject::<Ipv6>(context.skb.skb, frame, towards),
        _ => TC_ACT_SHOT,
    }
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
