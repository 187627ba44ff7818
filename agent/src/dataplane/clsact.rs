//! Classifiers as filters of the clsact qdisc, where the kernel has no tcx (before Linux 6.6).
//!
//! Ours have priority 1. Within a priority the filter that came last is asked first (`cls_bpf_change` puts it at the head
//! of its list), and a filter is replaced in place by one of the same handle. To come in front of a stranger again, one of
//! the other handle is added before the old one is removed.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike as _};

/// Which side of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Ingress,
    Egress,
}

/// A filter of one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Filter {
    pub(super) priority: u16,
    pub(super) handle: u32,
    /// The id of its program, if it is one of BPF.
    pub(super) program: Option<u32>,
}

/// The handles of our filters: those of a stranger at priority 1 are small numbers.
pub(super) const HANDLES: [u32; 2] = [0x706f_6c01, 0x706f_6c02];
/// Asked before all others.
pub(super) const PRIORITY: u16 = 1;

const TC_H_CLSACT: u32 = 0xffff_fff1;
const CLSACT_HANDLE: u32 = 0xffff_0000;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_FD: u16 = 6;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
const TCA_BPF_ID: u16 = 11;
const DIRECT_ACTION: u32 = 1;
const TYPE_MASK: u16 = 0x3fff;
const HEADER: usize = 16;
/// `struct tcmsg`.
const TCMSG: usize = 20;
/// A request waits for the kernel's lock over all interfaces.
const PATIENCE_SECONDS: i64 = 5;
/// Datagrams of one answer.
const LONGEST_ANSWER: usize = 1024;

impl Side {
    const fn parent(self) -> u32 {
        match self {
            Self::Ingress => 0xffff_fff2,
            Self::Egress => 0xffff_fff3,
        }
    }
}

/// Adds the qdisc; it is no failure if it is there.
pub(super) fn add_qdisc(interface: u32) -> io::Result<()> {
    let mut request = Request::new(libc::RTM_NEWQDISC, libc::NLM_F_CREATE | libc::NLM_F_EXCL, interface);
    request.tcmsg(CLSACT_HANDLE, TC_H_CLSACT, 0);
    request.attribute(TCA_KIND, b"clsact\0");
    match ask(request, |_| {}) {
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        result => result,
    }
}

/// Adds a filter, or replaces the one of the same handle without a gap.
pub(super) fn set(
    interface: u32,
    side: Side,
    handle: u32,
    program: BorrowedFd<'_>,
    name: &str,
) -> io::Result<()> {
    let mut request = Request::new(libc::RTM_NEWTFILTER, libc::NLM_F_CREATE | libc::NLM_F_REPLACE, interface);
    request.tcmsg(handle, side.parent(), info());
    request.attribute(TCA_KIND, b"bpf\0");
    let mut options = Vec::new();
    put(&mut options, TCA_BPF_FD, &program.as_raw_fd().to_ne_bytes());
    put(&mut options, TCA_BPF_NAME, &[name.as_bytes(), b"\0"].concat());
    put(&mut options, TCA_BPF_FLAGS, &DIRECT_ACTION.to_ne_bytes());
    request.attribute(TCA_OPTIONS, &options);
    ask(request, |_| {})
}

/// Removes one of our filters; it is no failure if it, the qdisc or the device is gone.
pub(super) fn remove(interface: u32, side: Side, handle: u32) -> io::Result<()> {
    let mut request = Request::new(libc::RTM_DELTFILTER, 0, interface);
    request.tcmsg(handle, side.parent(), info());
    match ask(request, |_| {}) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINVAL | libc::ENODEV)) => {
            Ok(())
        }
        result => result,
    }
}

/// The filters of one side, in the order in which packets meet them; none if there is no qdisc.
pub(super) fn filters(interface: u32, side: Side) -> io::Result<Vec<Filter>> {
    let mut request = Request::new(libc::RTM_GETTFILTER, libc::NLM_F_DUMP, interface);
    request.tcmsg(0, side.parent(), 0);
    let mut filters = Vec::new();
    let result = ask(request, |body| filters.extend(filter(body)));
    match result {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOENT)) => Ok(Vec::new()),
        Err(error) => Err(error),
        Ok(()) => {
            // Lower priorities first; within one the kernel's order stays.
            filters.sort_by_key(|filter| filter.priority);
            Ok(filters)
        }
    }
}

/// Priority and protocol, as `tcm_info` has them.
fn info() -> u32 {
    /// `ETH_P_ALL`.
    const EVERY_PROTOCOL: u16 = 3;
    u32::from(PRIORITY) << 16 | u32::from(EVERY_PROTOCOL.to_be())
}

fn filter(body: &[u8]) -> Option<Filter> {
    let (handle, info) = (u32_at(body, 8)?, u32_at(body, 16)?);
    // One of handle 0 is the head of its priority, not a filter.
    if handle == 0 {
        return None;
    }
    let attributes = body.get(TCMSG..)?;
    let options = find(attributes, TCA_OPTIONS).unwrap_or(&[]);
    let is_bpf = find(attributes, TCA_KIND).is_some_and(|kind| kind.starts_with(b"bpf\0"));
    let program = if is_bpf { find(options, TCA_BPF_ID).and_then(|id| u32_at(id, 0)) } else { None };
    Some(Filter { priority: u16::try_from(info >> 16).ok()?, handle, program })
}

/// The value of an attribute among others.
fn find(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    while let (Some(length), Some(kind)) = (u16_at(attributes, 0), u16_at(attributes, 2)) {
        let value = attributes.get(4..usize::from(length))?;
        if kind & TYPE_MASK == wanted {
            return Some(value);
        }
        attributes = attributes.get(usize::from(length).next_multiple_of(4)..)?;
    }
    None
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn put(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// A message to the kernel.
struct Request {
    bytes: Vec<u8>,
    interface: u32,
}

impl Request {
    fn new(kind: u16, flags: libc::c_int, interface: u32) -> Self {
        let flags = flags | libc::NLM_F_REQUEST | libc::NLM_F_ACK;
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(u16::try_from(flags).unwrap_or(u16::MAX).to_ne_bytes());
        bytes.extend([0; 8]);
        Self { bytes, interface }
    }

    fn tcmsg(&mut self, handle: u32, parent: u32, info: u32) {
        // Family and padding, then `tcm_ifindex`, `tcm_handle`, `tcm_parent`, `tcm_info`.
        for number in [0, self.interface, handle, parent, info] {
            self.bytes.extend(number.to_ne_bytes());
        }
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        put(&mut self.bytes, kind, value);
    }
}

/// Sends a request and hands the bodies of what comes back to `read`, up to the end or the acknowledgement.
fn ask(request: Request, mut read: impl FnMut(&[u8])) -> io::Result<()> {
    let mut bytes = request.bytes;
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    bytes[..4].copy_from_slice(&length.to_ne_bytes());
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(PATIENCE_SECONDS))?;
    socket.bind_auto()?;
    socket.send_to(&bytes, &SocketAddr::new(0, 0), 0)?;
    for _ in 0..LONGEST_ANSWER {
        let (datagram, _) = socket.recv_from_full()?;
        let mut rest = datagram.as_slice();
        while let (Some(length), Some(kind)) = (u32_at(rest, 0), u16_at(rest, 4)) {
            let body = rest.get(HEADER..length as usize).ok_or(io::ErrorKind::InvalidData)?;
            match libc::c_int::from(kind) {
                libc::NLMSG_ERROR | libc::NLMSG_DONE => {
                    return match u32_at(body, 0).unwrap_or(0).cast_signed() {
                        0 => Ok(()),
                        error => Err(io::Error::from_raw_os_error(-error)),
                    };
                }
                _ => read(body),
            }
            rest = rest.get((length as usize).next_multiple_of(4)..).unwrap_or(&[]);
        }
    }
    Err(io::Error::from(io::ErrorKind::InvalidData))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_read_from_what_the_kernel_says_and_heads_are_not_filters() {
        let mut body = Vec::new();
        for number in [0, 7, HANDLES[0], Side::Ingress.parent(), 3 << 16 | 0x300] {
            body.extend(u32::to_ne_bytes(number));
        }
        put(&mut body, TCA_KIND, b"bpf\0");
        let mut options = Vec::new();
        put(&mut options, TCA_BPF_NAME, b"x\0");
        put(&mut options, TCA_BPF_ID, &42_u32.to_ne_bytes());
        put(&mut body, TCA_OPTIONS, &options);
        assert_eq!(filter(&body), Some(Filter { priority: 3, handle: HANDLES[0], program: Some(42) }));
        body[8..12].fill(0);
        assert_eq!(filter(&body), None);
        assert_eq!(filter(&body[..10]), None);
    }
}
