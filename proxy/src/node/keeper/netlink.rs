//! Questions to the kernel's routing tables and interfaces (rtnetlink(7)), one after the other.

use std::io;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

/// Adds something that must not be there yet.
pub(super) const ADD: u16 = NLM_F_CREATE | NLM_F_EXCL;
/// Changes or removes what is there.
pub(super) const CHANGE: u16 = 0;

/// A socket of the network namespace in which it was opened, whatever the thread does later.
#[derive(Debug)]
pub(super) struct Netlink(Socket);

impl Netlink {
    /// Of the calling thread's network namespace.
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self(socket))
    }

    /// Has something done.
    pub(super) fn tell(&self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.send(message, flags | NLM_F_ACK)?;
        self.answers(|_| {})
    }

    /// Everything of a kind.
    pub(super) fn list(&self, message: RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.send(message, NLM_F_DUMP)?;
        let mut all = Vec::new();
        self.answers(|one| all.push(one))?;
        Ok(all)
    }

    /// An interface, by number or name.
    pub(super) fn link(&self, message: LinkMessage) -> io::Result<LinkMessage> {
        self.send(RouteNetlinkMessage::GetLink(message), NLM_F_ACK)?;
        let mut found = None;
        self.answers(|one| {
            if let RouteNetlinkMessage::NewLink(link) = one {
                found = Some(link);
            }
        })?;
        found.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn send(&self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        let mut message = NetlinkMessage::from(message);
        message.header.flags = NLM_F_REQUEST | flags;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.0.send(&bytes, 0).map(|_| ())
    }

    /// Hands over each answer, up to the one that says how it came out.
    fn answers(&self, mut each: impl FnMut(RouteNetlinkMessage)) -> io::Result<()> {
        loop {
            let (datagram, _) = self.0.recv_from_full()?;
            let mut rest = datagram.as_slice();
            while !rest.is_empty() {
                let message = NetlinkMessage::deserialize(rest).map_err(io::Error::other)?;
                let length = (message.header.length as usize).next_multiple_of(4);
                match message.payload {
                    NetlinkPayload::InnerMessage(answer) => each(answer),
                    NetlinkPayload::Done(_) => return Ok(()),
                    NetlinkPayload::Error(error) if error.code.is_none() => return Ok(()),
                    NetlinkPayload::Error(error) => return Err(error.to_io()),
                    _ => {}
                }
                rest = rest.get(length..).unwrap_or_default();
            }
        }
    }
}

/// The number of the device at the other end of a veth.
pub(super) fn peer(link: &LinkMessage) -> Option<u32> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Link(number) => Some(*number),
        _ => None,
    })
}

/// A link's name.
pub(super) fn name(link: &LinkMessage) -> Option<&str> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.as_str()),
        _ => None,
    })
}

/// The size of a link's packets.
pub(super) fn mtu(link: &LinkMessage) -> Option<u32> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Mtu(size) => Some(*size),
        _ => None,
    })
}
