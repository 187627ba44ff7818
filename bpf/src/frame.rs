//! Frames, as the hooks of the kernel hand them over.

use aya_ebpf::bindings::{__sk_buff, xdp_md};
use aya_ebpf::helpers::generated::{bpf_skb_load_bytes, bpf_skb_pull_data};
use aya_ebpf::programs::{TcContext, XdpContext};
use datapath::packet::{Frame, LINEAR};

/// The frame of a classifier. Its head is linear as far as [`LINEAR`], or as far as the frame goes.
pub struct Skb {
    skb: *mut __sk_buff,
}

impl Skb {
    /// Makes the head of a frame linear: senders can leave no more there than the Ethernet header.
    #[inline(always)]
    pub fn new(context: &TcContext) -> Self {
        let skb = context.skb.skb;
        // SAFETY: the kernel hands a classifier a context that is valid for the whole run; the verifier turns these reads
        // into those of the packet's fields.
        let (data, end, length) = unsafe { ((*skb).data, (*skb).data_end, (*skb).len) };
        let linear = end.wrapping_sub(data);
        if linear < LINEAR as u32 && linear < length {
            let wanted = if length < LINEAR as u32 { length } else { LINEAR as u32 };
            // If it fails, what is not linear is read by `bytes`, or not at all, and then the packet is dropped.
            // SAFETY: as above.
            let _not_linear = unsafe { bpf_skb_pull_data(skb, wanted) };
        }
        Self { skb }
    }
}

impl Frame for Skb {
    #[inline(always)]
    fn length(&self) -> u32 {
        // SAFETY: as in `new`.
        unsafe { (&raw const (*self.skb).len).read_volatile() }
    }

    #[inline(always)]
    fn words<const N: usize>(&self, offset: usize) -> Option<[u32; N]> {
        // Volatile, so that the compiler does not read the fields before a call and hand their values over: it would cut
        // them to the 32 bits that they are declared with, and the verifier lets nobody cut a pointer.
        // SAFETY: as in `new`.
        let (data, end) = unsafe {
            ((&raw const (*self.skb).data).read_volatile(), (&raw const (*self.skb).data_end).read_volatile())
        };
        words(data as usize, end as usize, offset)
    }

    #[inline(always)]
    fn copy<const N: usize>(&self, offset: usize, into: &mut [u8; N]) -> Option<()> {
        // SAFETY: the helper writes `N` bytes, which are there, or fails.
        let failed =
            unsafe { bpf_skb_load_bytes(self.skb.cast(), offset as u32, into.as_mut_ptr().cast(), N as u32) };
        if failed == 0 { Some(()) } else { None }
    }
}

/// The frame of an XDP program.
pub struct Raw {
    context: *mut xdp_md,
}

impl Raw {
    /// The frame.
    #[inline(always)]
    pub const fn new(context: &XdpContext) -> Self {
        Self { context: context.ctx }
    }

    /// First byte, and the one behind the last.
    #[inline(always)]
    fn bounds(&self) -> (usize, usize) {
        // SAFETY: the kernel hands a program a context that is valid for the whole run. (Volatile: see `Skb::words`.)
        let (data, end) = unsafe {
            (
                (&raw const (*self.context).data).read_volatile(),
                (&raw const (*self.context).data_end).read_volatile(),
            )
        };
        (data as usize, end as usize)
    }
}

impl Frame for Raw {
    #[inline(always)]
    fn length(&self) -> u32 {
        let (data, end) = self.bounds();
        (end - data) as u32
    }

    #[inline(always)]
    fn words<const N: usize>(&self, offset: usize) -> Option<[u32; N]> {
        let (data, end) = self.bounds();
        words(data, end, offset)
    }

    /// Not at any offset: what needs a closer look is looked at where there is a packet.
    #[inline(always)]
    fn copy<const N: usize>(&self, _: usize, _: &mut [u8; N]) -> Option<()> {
        None
    }
}

#[inline(always)]
fn words<const N: usize>(data: usize, end: usize, offset: usize) -> Option<[u32; N]> {
    if data + offset + N * 4 > end {
        return None;
    }
    // SAFETY: these bytes are part of the frame, as was just compared and as the verifier checks again. They may not be
    // aligned to words: BPF loads a word with one instruction, and the verifier refuses the program on machines that
    // cannot do so at any address.
    Some(unsafe { *((data + offset) as *const [u32; N]) })
}
