//! What the agent tells the programs once: numbers of this machine and choices of its user.

/// The one value of the settings map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Settings {
    /// Clock ticks (jiffies) a second.
    pub second: u32,
    /// How many flows one endpoint may track.
    pub flow_share: u32,
    /// UDP ports at which nodes accept tunnelled traffic, in the order of the machine; 0 is none.
    pub tunnel_ports: [u16; 4],
    /// Where our bits of the packet mark begin.
    pub mark_shift: u8,
    /// 1 if the addresses of all nodes are known, so that tunnelled traffic of others can be refused.
    pub nodes_known: u8,
    /// 1 if there are service addresses.
    pub services: u8,
    pad: u8,
    /// How many events each CPU may report a second.
    pub events: u32,
    /// How many rejections each CPU may send a second.
    pub rejects: u32,
    /// The devices that lead to proxies, which read requests: the first takes new connections, the others go on with what
    /// they have. 0 is none.
    pub proxies: [u32; PROXIES],
}

/// How many proxies there may be at a time: one, and those that are about to end.
pub const PROXIES: usize = 4;

impl Settings {
    /// A machine with this many clock ticks a second, and the defaults.
    pub const fn new(second: u32) -> Self {
        Self {
            second,
            flow_share: 16_384,
            tunnel_ports: [8472, 4789, 6081, 0],
            mark_shift: crate::mark::Mark::DEFAULT_SHIFT,
            nodes_known: 0,
            services: 0,
            pad: 0,
            events: 1000,
            rejects: 100,
            proxies: [0; PROXIES],
        }
    }

    /// Whether a device leads to a proxy.
    #[inline(always)]
    pub const fn is_proxy(&self, device: u32) -> bool {
        device != 0
            && (device == self.proxies[0]
                || device == self.proxies[1]
                || device == self.proxies[2]
                || device == self.proxies[3])
    }

    /// Whether a UDP port is one of a tunnel.
    #[inline(always)]
    pub const fn is_tunnel(&self, port: u16) -> bool {
        port != 0
            && (port == self.tunnel_ports[0]
                || port == self.tunnel_ports[1]
                || port == self.tunnel_ports[2]
                || port == self.tunnel_ports[3])
    }
}
