//! A proof that `datapath` is code the kernel runs; not yet the datapath.
//!
//! ```text
//! frame -> packet -> Query -> datapath::lookup::judge(maps::KernelMaps, ..) -> Decision -> TC action
//! ```
//!
//! Two classifiers, one for each direction, fill in what [`datapath::lookup::judge`] leaves open: where the tables are
//! ([`maps`]) and what the packet says ([`packet`]). They load, pass the verifier and give the compiler's verdicts in
//! `BPF_PROG_TEST_RUN` (`cargo xtask test`). What a dataplane needs beyond that is missing, and said to be missing:
//! - no flows: a reply is judged like a first packet, so two isolated pods cannot hold a conversation;
//! - nothing but TCP, UDP and SCTP straight behind an Ethernet and an IP header: ARP, ND, ICMP, VLAN tags, fragments
//!   and IPv6 extension headers cannot be judged here, and what cannot be judged is dropped;
//! - no source address check, no mark: a packet of the node's own processes is judged like any other;
//! - a rejected packet is dropped without telling its sender.
#![no_std]
#![no_main]

mod maps;
mod packet;

use aya_ebpf::bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC};
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use datapath::abi::Direction;
use datapath::lookup::{Query, judge};
use datapath::verdict::Verdict;

use crate::maps::{Family, Ipv4, Ipv6, KernelMaps};
use crate::packet::Carries;

/// Judges packets towards the pod: TC egress of the host side of its veth.
#[classifier]
pub fn polder_to_pod(context: TcContext) -> i32 {
    action(verdict(&context, Direction::Ingress))
}

/// Judges packets from the pod: TC ingress of the host side of its veth.
#[classifier]
pub fn polder_from_pod(context: TcContext) -> i32 {
    action(verdict(&context, Direction::Egress))
}

#[inline(always)]
fn verdict(context: &TcContext, direction: Direction) -> Verdict {
    match packet::carries(context) {
        Carries::Ipv4 => judged::<Ipv4>(context, packet::ipv4(context, direction)),
        Carries::Ipv6 => judged::<Ipv6>(context, packet::ipv6(context, direction)),
        Carries::Unreadable => Verdict::Deny,
    }
}

#[inline(always)]
fn judged<F: Family>(context: &TcContext, query: Option<Query>) -> Verdict {
    let Some(query) = query else {
        return Verdict::Deny;
    };
    // SAFETY: the kernel hands a classifier a context that is valid for the whole run, and the verifier turns this read
    // into the one of the device's index.
    let interface = unsafe { (*context.skb.skb).ifindex };
    judge(&KernelMaps::<F>::new(), &interface, &query).verdict
}

/// The one place where a verdict becomes what the kernel does.
#[inline(always)]
fn action(verdict: Verdict) -> i32 {
    match verdict {
        // `TC_ACT_UNSPEC` has the number of `TCX_NEXT`: other programs on the hook, such as the CNI's, have their say.
        Verdict::Allow => TC_ACT_UNSPEC,
        Verdict::Deny | Verdict::Reject => TC_ACT_SHOT,
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
