//! Two devices joined by a wire, made by netlink: a kernel under emulation has no `ip`.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, Result, bail};
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

/// Programs are attached to this one.
pub(crate) const NEAR: &str = "near";
/// The other end of the wire.
pub(crate) const FAR: &str = "far";

/// The device of what does not leave the machine.
pub(crate) const LOOPBACK: &str = "lo";

/// From `linux/veth.h`: the attribute that holds the other end's message.
const VETH_INFO_PEER: u16 = 1;
/// The head of every netlink message.
const HEADER: usize = 16;

/// Both ends, up, each with a socket that sends frames from it.
pub(crate) struct Pair {
    near: OwnedFd,
    far: OwnedFd,
}

impl Pair {
    /// Makes the devices in the network namespace of this process; they end with it.
    pub(crate) fn create() -> Result<Self> {
        request(libc::RTM_NEWLINK, libc::NLM_F_CREATE | libc::NLM_F_EXCL, &pair())
            .context("no veth pair can be made")?;
        for name in [NEAR, FAR] {
            // Not in the request above: an end opens only once it has another (`veth_open`).
            up(name)?;
        }
        Ok(Self { near: packet_socket(NEAR)?, far: packet_socket(FAR)? })
    }

    /// Sends a frame out of the near end.
    pub(crate) fn send_out(&self, frame: &[u8]) -> Result<()> {
        transmit(&self.near, frame).with_context(|| format!("a frame cannot be sent out of {NEAR}"))
    }

    /// Sends a frame out of the far end, so that the near one receives it.
    pub(crate) fn send_in(&self, frame: &[u8]) -> Result<()> {
        transmit(&self.far, frame).with_context(|| format!("a frame cannot be sent out of {FAR}"))
    }
}

/// Sets a device up.
pub(crate) fn up(name: &str) -> Result<()> {
    request(libc::RTM_SETLINK, 0, &[information(libc::IFF_UP), text(libc::IFLA_IFNAME, name)].concat())
        .with_context(|| format!("the device {name} does not come up"))
}

fn transmit(from: &OwnedFd, frame: &[u8]) -> Result<()> {
    match send(from.as_raw_fd(), frame, MsgFlags::empty()) {
        // `ENOBUFS` is what becomes of the call if a classifier at egress drops the frame; that it ran is seen elsewhere.
        Ok(_) | Err(nix::Error::ENOBUFS) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A socket that sends whole frames from a device and receives none.
fn packet_socket(device: &str) -> Result<OwnedFd> {
    let index = if_nametoindex(device).with_context(|| format!("there is no device {device}"))?;
    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)
        .context("the kernel gives no packet socket")?;
    // SAFETY: `sockaddr_ll` is made of integers, and zero is a value of each.
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET)?;
    address.sll_ifindex = i32::try_from(index)?;
    let length = libc::socklen_t::try_from(size_of_val(&address))?;
    // SAFETY: the pointer is to a live `sockaddr_ll` of that length, which the kernel only reads.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    if bound != 0 {
        return Err(io::Error::last_os_error())
            .with_context(|| format!("a packet socket cannot be bound to {device}"));
    }
    Ok(socket)
}

/// The body of the request for the pair: the near end, and inside it the far one.
fn pair() -> Vec<u8> {
    let far = [information(0), text(libc::IFLA_IFNAME, FAR)].concat();
    let data = attribute(libc::IFLA_INFO_DATA, &attribute(VETH_INFO_PEER, &far));
    let kind = attribute(libc::IFLA_INFO_KIND, b"veth");
    let link = attribute(libc::IFLA_LINKINFO, &[kind, data].concat());
    [information(0), text(libc::IFLA_IFNAME, NEAR), link].concat()
}

/// `struct ifinfomsg` with these flags set.
fn information(flags: i32) -> Vec<u8> {
    let mut bytes = vec![0; 8];
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes
}

fn text(kind: u16, value: &str) -> Vec<u8> {
    attribute(kind, format!("{value}\0").as_bytes())
}

/// A netlink attribute: length, kind, value, and zeros up to a multiple of four.
#[expect(clippy::cast_possible_truncation, reason = "the longest attribute here has less than 100 bytes")]
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(4 + value.len().next_multiple_of(4));
    bytes.extend((4 + value.len() as u16).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Sends a request and reads whether it was granted.
fn request(kind: u16, flags: i32, body: &[u8]) -> Result<()> {
    let socket =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(5, 0))?;
    let flags = u16::try_from(flags | libc::NLM_F_REQUEST | libc::NLM_F_ACK)?;
    let mut message = u32::try_from(HEADER + body.len())?.to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    send(socket.as_raw_fd(), &message, MsgFlags::empty())?;
    let mut answer = [0; 1024];
    let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    match answer[..length].get(HEADER..).and_then(|rest| rest.first_chunk()) {
        Some([0, 0, 0, 0]) => Ok(()),
        // `nlmsgerr.error` is a negated error number.
        Some(code) => Err(io::Error::from_raw_os_error(-i32::from_ne_bytes(*code)).into()),
        None => bail!("the kernel answered netlink with {length} bytes, which is too short for an answer"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_says_its_length_without_the_padding() {
        assert_eq!(attribute(3, b"far\0x").len(), 12);
        assert_eq!(attribute(3, b"far\0x")[..4], [9_u16.to_ne_bytes(), 3_u16.to_ne_bytes()].concat());
    }
}
