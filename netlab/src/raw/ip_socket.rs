//! Raw IP sockets: packets with a header of one's own, routed by the sender's kernel.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

use crate::address::Family;
use crate::host::Host;

/// A raw socket that sends whole IP packets.
///
/// The kernel writes some of the header itself: with IPv4 always length and checksum, and source and identification
/// where they are 0 (raw(7)). Where that matters, send a frame with [`super::Wire`].
#[derive(Debug)]
pub struct IpSocket {
    socket: Socket,
    family: Family,
}

impl IpSocket {
    /// A socket in the namespace of a host.
    pub fn open(host: &dyn Host, family: Family) -> Result<Self> {
        let socket = host.namespace().run(|| {
            let domain = if family == Family::V4 { Domain::IPV4 } else { Domain::IPV6 };
            // A socket of IPPROTO_RAW takes headers, and can only send.
            let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW)))?;
            // To broadcast addresses too.
            socket.set_broadcast(true)?;
            Ok(socket)
        });
        Ok(Self {
            socket: socket.with_context(|| format!("{}: cannot make a raw socket", host.name()))?,
            family,
        })
    }

    /// Marks what is sent from now on, as a process with `CAP_NET_ADMIN` may (`SO_MARK`).
    pub fn set_mark(&self, mark: u32) -> Result<()> {
        setsockopt(&self.socket, sockopt::Mark, &mark).with_context(|| format!("SO_MARK {mark:#x}"))
    }

    /// Sends an IP packet to the destination in its header.
    pub fn send(&self, packet: &[u8]) -> Result<()> {
        let destination: Option<IpAddr> = match self.family {
            Family::V4 => packet.get(16..20).and_then(|b| <[u8; 4]>::try_from(b).ok()).map(IpAddr::from),
            Family::V6 => packet.get(24..40).and_then(|b| <[u8; 16]>::try_from(b).ok()).map(IpAddr::from),
        };
        let destination = destination.with_context(|| format!("{} bytes hold no IP header", packet.len()))?;
        // The port of a raw IPv6 socket's address is a protocol; it has to be 0 or the socket's own.
        let sent = self.socket.send_to(packet, &SocketAddr::new(destination, 0).into());
        let sent = sent.with_context(|| format!("cannot send a packet to {destination}"))?;
        ensure!(sent == packet.len(), "{sent} of the {} bytes of a packet were sent", packet.len());
        Ok(())
    }
}
