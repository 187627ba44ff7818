//! What one hook tells the next in the packet's mark. Pods cannot set it: it is cleared when a packet changes namespace.

/// Our field of the packet mark: a kind (2 bits) and the index of an endpoint (12 bits).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Nothing: the packet met no hook of ours. With a local socket it is the node's own.
    None,
    /// The proxy sends it in the name of an end, at the interface of the endpoint with this index.
    Proxied(u16),
    /// It came in from outside the node.
    Outside,
    /// It is judged for good, at the endpoint with this index: that endpoint's hook lets it pass.
    Judged(u16),
    /// It comes from the endpoint with this index, whose egress policy allowed it.
    From(u16),
    /// It comes from the endpoint with this index to a service address; its egress policy is still to be asked.
    Deferred(u16),
}

impl Mark {
    /// How many bits of the packet mark are ours.
    pub const BITS: u32 = 14;
    /// Endpoints are numbered from 1 to this.
    pub const MAX_INDEX: u16 = (1 << 12) - 1;
    /// Where our bits begin unless configured otherwise: clear of kube-proxy's 0x4000 and 0x8000.
    pub const DEFAULT_SHIFT: u8 = 16;

    /// Reads it from a packet's mark.
    #[inline(always)]
    pub const fn of(mark: u32, shift: u8) -> Self {
        let field = mark >> (shift & 31) & ((1 << Self::BITS) - 1);
        let index = (field & 0xfff) as u16;
        match field >> 12 {
            0 if index == 0 => Self::None,
            0 => Self::Proxied(index),
            1 if index == 0 => Self::Outside,
            1 => Self::Judged(index),
            2 => Self::From(index),
            _ => Self::Deferred(index),
        }
    }

    /// Writes it into a packet's mark; the bits of others stay.
    #[inline(always)]
    #[must_use]
    pub const fn put(self, mark: u32, shift: u8) -> u32 {
        let shift = shift & 31;
        let field = match self {
            Self::None => 0,
            Self::Proxied(index) => index as u32,
            Self::Outside => 1 << 12,
            Self::Judged(index) => 1 << 12 | index as u32,
            Self::From(index) => 2 << 12 | index as u32,
            Self::Deferred(index) => 3 << 12 | index as u32,
        };
        mark & !(((1 << Self::BITS) - 1) << shift) | field << shift
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_comes_back_and_leaves_the_bits_of_others_alone() {
        let marks = [
            Mark::None,
            Mark::Proxied(3),
            Mark::Outside,
            Mark::Judged(1),
            Mark::From(Mark::MAX_INDEX),
            Mark::Deferred(7),
        ];
        for mark in marks {
            for shift in [0, Mark::DEFAULT_SHIFT, 18] {
                let others = 0xdead_beef;
                let put = mark.put(others, shift);
                assert_eq!(Mark::of(put, shift), mark);
                assert_eq!(Mark::None.put(put, shift), Mark::None.put(others, shift));
            }
        }
        assert_eq!(Mark::From(1).put(0, Mark::DEFAULT_SHIFT) & 0xc000, 0);
    }
}
