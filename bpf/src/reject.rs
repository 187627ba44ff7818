//! The sender of a rejected packet is told: the packet becomes the answer to itself.

use aya_ebpf::bindings::{__sk_buff, BPF_F_INGRESS, TC_ACT_SHOT};
use aya_ebpf::helpers::generated::{bpf_redirect, bpf_skb_change_tail, bpf_skb_store_bytes};
use datapath::event::Tally;
use datapath::mark::Mark;
use datapath::packet::Readable;
use datapath::reject::{Answering, LONGEST, answer};

use crate::frame::Skb;
use crate::maps::{self, Stored};
use crate::report::{tally, within};

/// Where the answer goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Towards {
    /// The pod whose interface this is: it sent the packet.
    Pod,
    /// The node, as if the pod had sent it: the packet was for the pod.
    Node,
    /// The pod that sent it, as if it came in from outside: what translated the packet on its way translates the answer back.
    Back,
    /// The proxy behind this interface: it sent the packet.
    Proxy,
}

/// Turns a packet into the answer to it and sends that, or drops the packet where that is not possible.
#[inline(never)]
pub fn reject<A: Readable + Answering + Stored>(skb: *mut __sk_buff, frame: &Skb, towards: Towards) -> i32 {
    if !within(1, maps::settings().rejects) {
        tally(Tally::RejectionsLimited);
        return TC_ACT_SHOT;
    }
    // SAFETY: the kernel hands a classifier a context that is valid for the whole run.
    let interface = unsafe { (*skb).ifindex };
    let mark = match towards {
        Towards::Back => Mark::Outside,
        Towards::Proxy => Mark::None,
        Towards::Pod | Towards::Node => {
            let Some(own) = maps::interface(interface) else { return TC_ACT_SHOT };
            Mark::Judged(own.index)
        }
    };
    let Some(work) = A::work() else { return TC_ACT_SHOT };
    if A::any(frame, &mut work.headers).is_err() {
        return TC_ACT_SHOT;
    }
    let Some(length) = answer(frame, &work.headers, &mut work.answer) else { return TC_ACT_SHOT };
    // The length of what is stored must be a constant to the verifier, so all of it is stored, then the tail is cut.
    // SAFETY: as above; the bytes are there.
    let failed = unsafe {
        bpf_skb_change_tail(skb, LONGEST as u32, 0) != 0
            || bpf_skb_store_bytes(skb, 0, work.answer.as_ptr().cast(), LONGEST as u32, 0) != 0
            || bpf_skb_change_tail(skb, length as u32, 0) != 0
    };
    if failed {
        return TC_ACT_SHOT;
    }
    tally(Tally::Rejections);
    // SAFETY: as above; the mark may be written.
    unsafe {
        (*skb).mark = mark.put((*skb).mark, maps::settings().mark_shift);
        let flags = match towards {
            Towards::Pod | Towards::Proxy => 0,
            Towards::Node | Towards::Back => u64::from(BPF_F_INGRESS),
        };
        bpf_redirect(interface, flags) as i32
    }
}
