//! Every packet, for debugging: only in an object that is built for it.

use aya_ebpf::programs::TcContext;
use aya_log_ebpf::debug;
use datapath::hook::{Act, Arrival, Outcome};

/// Writes down what came and what becomes of it.
#[inline(always)]
pub fn log(context: &TcContext, arrival: &Arrival, outcome: Outcome) {
    let verdict = match outcome.act() {
        Act::Pass => "pass",
        Act::Drop => "drop",
        Act::Reject => "reject",
        Act::Redirect => "redirect",
    };
    debug!(
        context,
        "interface {} type {:x} length {} mark {:x}: {}, mark {:x}",
        arrival.interface,
        arrival.ether_type,
        arrival.length,
        arrival.mark,
        verdict,
        outcome.mark()
    );
}
