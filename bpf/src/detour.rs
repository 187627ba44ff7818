//! To the proxy, and back.

use aya_ebpf::bindings::{BPF_F_INGRESS, TC_ACT_SHOT};
use aya_ebpf::helpers::generated::{bpf_redirect, bpf_skb_store_bytes};
use aya_ebpf::programs::TcContext;
use datapath::detour::PROXY_MAC;
use datapath::hook::Return;

/// Sends a packet to the proxy behind a device.
#[inline(always)]
pub fn there(context: &TcContext, device: u32) -> i32 {
    let skb = context.skb.skb;
    // The proxy's network takes what is addressed to its end of the device; every IP address is its own.
    // SAFETY: the kernel hands a classifier a context that is valid for the whole run; the bytes are there.
    unsafe {
        if bpf_skb_store_bytes(skb, 0, PROXY_MAC.as_ptr().cast(), PROXY_MAC.len() as u32, 0) != 0 {
            return TC_ACT_SHOT;
        }
        bpf_redirect(device, 0) as i32
    }
}

/// Sends a packet of the proxy on.
#[inline(always)]
pub fn back(context: &TcContext, back: Return) -> i32 {
    let skb = context.skb.skb;
    let flags = if back.received { u64::from(BPF_F_INGRESS) } else { 0 };
    // SAFETY: as above; the mark may be written.
    unsafe {
        (*skb).mark = back.mark;
        if bpf_skb_store_bytes(skb, 0, back.macs.as_ptr().cast(), size_of_val(&back.macs) as u32, 0) != 0 {
            return TC_ACT_SHOT;
        }
        bpf_redirect(back.interface, flags) as i32
    }
}
