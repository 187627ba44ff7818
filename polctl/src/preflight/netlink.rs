//! Questions to the kernel, as bytes (netlink(7)). Attributes that nobody here knows are passed over.

use std::io;
use std::time::{Duration, Instant};

use netlink_sys::{Socket, SocketAddr};

pub(super) const ROUTE: isize = 0;
pub(super) const NETFILTER: isize = 12;
pub(super) const GENERIC: isize = 16;

/// The answer to a question of all there is.
pub(super) const DUMP: u16 = 0x300;

const REQUEST: u16 = 1;
const DONE: u16 = 3;
const ERROR: u16 = 2;
const HEADER: usize = 16;
/// Types of attributes have two bits that are none of the type.
const TYPE: u16 = 0x3fff;
/// However many rules a node has, they are told in less.
const PATIENCE: Duration = Duration::from_secs(10);

/// The kind and the body of each message of an answer.
pub(super) fn ask(protocol: isize, kind: u16, flags: u16, body: &[u8]) -> io::Result<Vec<(u16, Vec<u8>)>> {
    let mut socket = Socket::new(protocol)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let length = u32::try_from(HEADER + body.len()).map_err(io::Error::other)?;
    let mut request = Vec::with_capacity(HEADER + body.len());
    request.extend(length.to_ne_bytes());
    request.extend(kind.to_ne_bytes());
    request.extend((REQUEST | flags).to_ne_bytes());
    request.extend([0; 8]);
    request.extend(body);
    socket.send(&request, 0)?;
    let deadline = Instant::now() + PATIENCE;
    let mut answer = Vec::new();
    while Instant::now() < deadline {
        let (datagram, _) = socket.recv_from_full()?;
        for (kind, body) in messages(&datagram) {
            match kind {
                DONE => return Ok(answer),
                ERROR => match i32_at(body, 0) {
                    Some(0) => return Ok(answer),
                    Some(error) => return Err(io::Error::from_raw_os_error(-error)),
                    None => return Err(io::ErrorKind::InvalidData.into()),
                },
                _ => answer.push((kind, body.to_vec())),
            }
        }
        if flags & DUMP != DUMP {
            return Ok(answer);
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

fn messages(mut datagram: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::try_from(u32_at(datagram, 0)?).ok()?;
        let message = datagram.get(..length)?;
        let kind = u16_at(message, 4)?;
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, message.get(HEADER..)?))
    })
}

/// The attributes behind the fixed part of a body.
pub(super) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(rest, 0)?);
        let kind = u16_at(rest, 2)? & TYPE;
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The first attribute of a kind.
pub(super) fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// An attribute as bytes.
pub(super) fn put(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    let mut bytes = Vec::from(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// Text that ends with a zero.
pub(super) fn text(value: &[u8]) -> String {
    let end = value.iter().position(|&byte| byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(value.get(..end).unwrap_or_default()).into_owned()
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// In network byte order.
pub(super) fn be32(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?))
}

pub(super) fn i32_at(bytes: &[u8], at: usize) -> Option<i32> {
    u32_at(bytes, at).map(u32::cast_signed)
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_found_again_and_what_is_cut_ends_the_list() {
        let mut bytes = put(3, b"veth0\0");
        bytes.extend(put(0x8000 | 5, &7_u32.to_ne_bytes()));
        assert_eq!(attribute(&bytes, 3).map(text).as_deref(), Some("veth0"));
        assert_eq!(attribute(&bytes, 5).and_then(|value| u32_at(value, 0)), Some(7));
        assert_eq!(attribute(&bytes, 4), None);
        assert_eq!(attributes(&bytes[..bytes.len() - 1]).count(), 1);
        assert_eq!(attributes(&[0; 8]).count(), 0, "a length of nothing is no attribute");
    }
}
