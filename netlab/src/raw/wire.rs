//! Sending Ethernet frames, three ways.

use anyhow::{Context, Result};

use super::ring::Ring;
use crate::host::Host;
use crate::packet_socket::PacketSocket;

/// How frames are handed to the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// As packet sockets do.
    Plain,
    /// Past the sender's own queueing discipline, and so past programs attached to its egress (`PACKET_QDISC_BYPASS`).
    QdiscBypass,
    /// From a ring of pages shared with the kernel: only the link header is in the packet's linear part.
    TxRing,
}

impl Method {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Plain, Self::QdiscBypass, Self::TxRing];
}

/// A sender of frames at an interface.
#[derive(Debug)]
pub struct Wire {
    // Before the socket: the mapping goes first.
    ring: Option<Ring>,
    socket: PacketSocket,
}

impl Wire {
    /// A sender at a pod's `eth0`.
    pub fn open(host: &dyn Host, method: Method) -> Result<Self> {
        Self::open_on(host, "eth0", method)
    }

    /// A sender at any interface.
    pub fn open_on(host: &dyn Host, interface: &str, method: Method) -> Result<Self> {
        let socket = PacketSocket::open(host.namespace(), interface, false)?;
        let ring = match method {
            Method::Plain => None,
            Method::QdiscBypass => {
                socket.set_packet_option(libc::PACKET_QDISC_BYPASS, &1_i32).context("PACKET_QDISC_BYPASS")?;
                None
            }
            Method::TxRing => Some(Ring::map(&socket)?),
        };
        Ok(Self { ring, socket })
    }

    /// Sends a frame.
    pub fn send(&mut self, frame: &[u8]) -> Result<()> {
        match &mut self.ring {
            Some(ring) => ring.send(&self.socket, frame),
            None => self.socket.send(frame),
        }
    }
}
