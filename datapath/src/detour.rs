//! Where a connection leaves its way for the proxy, and where it comes back.
//!
//! A connection of which what is asked decides goes by the proxy at one hook: that of the pod's interface, or that of the
//! uplink, at which the verdict fell. What arrives there, from either side, goes to the proxy; what the proxy sends comes back
//! there, towards the other side, as if the proxy were a part of the wire. So everything else on its way (the bridge, routes,
//! translation of service addresses) meets the packets that it would meet without a proxy.

use crate::flow::Side;

/// The detour of a flow. The kernel's map of detours has the key of the map of flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Detour {
    /// The device that leads to the proxy.
    pub proxy: u32,
    /// The interface at whose hook packets leave and come back.
    pub interface: u32,
    /// Destination and source MAC address of frames that leave the inner end.
    outward: [u32; 3],
    /// Our number of the endpoint in whose name the proxy speaks.
    pub index: u16,
    flags: u16,
}

/// The MAC address of a proxy's end of its device: locally administered, unicast.
pub const PROXY_MAC: [u8; 6] = [0x02, 0x50, 0x4f, 0x4c, 0x44, 0x52];

impl Detour {
    /// The inner end is the high one.
    const INNER_HIGH: u16 = 1;
    /// The interface leads out of the node, and the inner end is on the node's side of it. Else it is a pod's, and the inner
    /// end is the pod.
    const OUTSIDE: u16 = 2;

    /// A detour by the proxy behind `proxy`, at `interface`.
    #[inline(always)]
    pub const fn new(proxy: u32, interface: u32, index: u16, inner: Side, outside: bool) -> Self {
        let inner = match inner {
            Side::Low => 0,
            Side::High => Self::INNER_HIGH,
        };
        let outside = if outside { Self::OUTSIDE } else { 0 };
        Self { proxy, interface, outward: [0; 3], index, flags: inner | outside }
    }

    /// This detour, with the addresses of a frame of `sender` (its first twelve bytes, as they lie).
    #[inline(always)]
    #[must_use]
    pub fn with_macs(mut self, frame: [u32; 3], sender: Side) -> Self {
        self.outward = if self.inner() as u8 == sender as u8 { frame } else { swapped(frame) };
        self
    }

    /// Which end is behind the interface: the pod, or, at an uplink, whoever is on the node's side.
    #[inline(always)]
    pub const fn inner(&self) -> Side {
        if self.flags & Self::INNER_HIGH == 0 { Side::Low } else { Side::High }
    }

    /// Whether the interface leads out of the node.
    #[inline(always)]
    pub const fn is_outside(&self) -> bool {
        self.flags & Self::OUTSIDE != 0
    }

    /// The first twelve bytes of a frame of `sender` when it comes back.
    #[inline(always)]
    pub fn macs(&self, sender: Side) -> [u32; 3] {
        if self.inner() as u8 == sender as u8 { self.outward } else { swapped(self.outward) }
    }

    /// Whether what `sender` sent comes back as if the interface had received it; else the interface sends it.
    #[inline(always)]
    pub const fn is_received(&self, sender: Side) -> bool {
        // A pod's interface receives what the pod sends; an uplink receives what comes from outside.
        (self.inner() as u8 == sender as u8) != self.is_outside()
    }
}

/// What is written down of a moment (in ticks) at which something went by the proxy: never 0, which says never, and never in the
/// future.
#[inline(always)]
pub const fn moment(now: u32) -> u32 {
    if now == 0 { u32::MAX } else { now }
}

/// Destination and source change places.
#[inline(always)]
fn swapped(frame: [u32; 3]) -> [u32; 3] {
    let [first, second, third] = frame.map(halves);
    [[second[1], third[0]], [third[1], first[0]], [first[1], second[0]]].map(whole)
}

/// A word's halves, as they lie.
#[inline(always)]
const fn halves(word: u32) -> [u16; 2] {
    let bytes = word.to_ne_bytes();
    [u16::from_ne_bytes([bytes[0], bytes[1]]), u16::from_ne_bytes([bytes[2], bytes[3]])]
}

/// The word of two halves, as they lie.
#[inline(always)]
const fn whole(halves: [u16; 2]) -> u32 {
    let [near, far] = [halves[0].to_ne_bytes(), halves[1].to_ne_bytes()];
    u32::from_ne_bytes([near[0], near[1], far[0], far[1]])
}

const _: () = assert!(size_of::<Detour>() == 24 && align_of::<Detour>() == 4);

#[cfg(test)]
mod tests {
    use super::*;

    fn words(bytes: [u8; 12]) -> [u32; 3] {
        [0, 4, 8].map(|at| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]))
    }

    #[test]
    fn frames_come_back_with_the_addresses_of_their_direction() {
        let there = words([1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2]);
        let back = words([2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1]);
        for (inner, sender) in [(Side::Low, Side::Low), (Side::Low, Side::High), (Side::High, Side::High)] {
            let detour = Detour::new(1, 2, 3, inner, false).with_macs(there, sender);
            assert_eq!(detour.macs(sender), there);
            assert_eq!(detour.macs(sender.other()), back);
        }
    }

    #[test]
    fn a_moment_is_neither_never_nor_to_come() {
        for now in [0, 1, 2, u32::MAX - 1, u32::MAX] {
            assert_ne!(moment(now), 0);
            assert!(now.wrapping_sub(moment(now)) <= 1, "{now}");
        }
    }

    #[test]
    fn a_pods_interface_receives_what_the_pod_sends_and_an_uplink_what_others_send() {
        for inner in [Side::Low, Side::High] {
            let of_pod = Detour::new(1, 2, 3, inner, false);
            let outside = Detour::new(1, 2, 3, inner, true);
            assert_eq!((of_pod.inner(), outside.inner()), (inner, inner));
            assert!(of_pod.is_received(inner) && !of_pod.is_received(inner.other()));
            assert!(!outside.is_received(inner) && outside.is_received(inner.other()));
        }
    }
}
