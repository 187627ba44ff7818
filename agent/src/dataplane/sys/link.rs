//! Links: what keeps a program on a hook, and what hangs there.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use super::{call, info, number, owned};

const PROG_QUERY: libc::c_long = 16;
const LINK_CREATE: libc::c_long = 28;
const LINK_UPDATE: libc::c_long = 29;

/// Before all others, if nothing is named that it is to stand before.
const BEFORE: u32 = 1 << 3;

/// Where a link attaches (`enum bpf_attach_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(in crate::dataplane) enum Site {
    Xdp = 37,
    TcxIngress = 46,
    TcxEgress = 47,
}

/// How an XDP program runs (`XDP_FLAGS_*_MODE`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(in crate::dataplane) enum XdpMode {
    Generic = 1 << 1,
    Native = 1 << 2,
}

#[repr(C)]
#[derive(Default)]
struct LinkCreate {
    program: u32,
    interface: u32,
    site: u32,
    flags: u32,
    relative: u32,
    pad: u32,
    revision: u64,
}

#[repr(C)]
struct LinkUpdate {
    link: u32,
    program: u32,
    flags: u32,
    old_program: u32,
}

#[repr(C)]
#[derive(Default)]
struct Query {
    interface: u32,
    site: u32,
    flags: u32,
    attach_flags: u32,
    programs: u64,
    count: u32,
    pad: u32,
    program_flags: u64,
    links: u64,
    link_flags: u64,
    revision: u64,
}

/// What the kernel tells of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dataplane) struct LinkInfo {
    /// The program that it holds.
    pub(in crate::dataplane) program: u32,
    /// Where; 0 if it was detached by force or the device is gone.
    pub(in crate::dataplane) interface: u32,
}

/// Attaches a classifier before all others.
pub(in crate::dataplane) fn attach_first(
    program: BorrowedFd<'_>,
    interface: u32,
    site: Site,
) -> io::Result<OwnedFd> {
    create(LinkCreate {
        program: number(program),
        interface,
        site: site as u32,
        flags: BEFORE,
        ..LinkCreate::default()
    })
}

/// Attaches an XDP program.
pub(in crate::dataplane) fn attach_xdp(
    program: BorrowedFd<'_>,
    interface: u32,
    mode: XdpMode,
) -> io::Result<OwnedFd> {
    create(LinkCreate {
        program: number(program),
        interface,
        site: Site::Xdp as u32,
        flags: mode as u32,
        ..LinkCreate::default()
    })
}

fn create(mut link: LinkCreate) -> io::Result<OwnedFd> {
    // What comes after the flags is of tcx (Linux 6.6); older kernels want it zero, and it is.
    // SAFETY: no pointer is given; the descriptor that comes back is nobody else's.
    unsafe { call(LINK_CREATE, &mut link).map(|fd| owned(fd)) }
}

/// Gives a link another program, without a gap.
pub(in crate::dataplane) fn update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut update = LinkUpdate { link: number(link), program: number(program), flags: 0, old_program: 0 };
    // SAFETY: no pointer is given.
    unsafe { call(LINK_UPDATE, &mut update) }.map(|_| ())
}

/// What a link holds, and where. (`struct bpf_link_info`: type, id, program, then of tcx and XDP the interface.)
pub(in crate::dataplane) fn link_info(link: &OwnedFd) -> io::Result<LinkInfo> {
    // The part that depends on the type may hold 64-bit numbers, so it begins at the 16th byte.
    let [_, _, program, _, interface, ..] = info::<8>(link.as_fd())?;
    Ok(LinkInfo { program, interface })
}

/// The ids of the programs on a hook, in the order in which packets meet them.
pub(in crate::dataplane) fn programs_at(interface: u32, site: Site) -> io::Result<Vec<u32>> {
    const MOST: u32 = 256;
    // `BPF_MPROG_MAX` is 64.
    let mut ids = [0_u32; MOST as usize];
    let mut query = Query {
        interface,
        site: site as u32,
        programs: ids.as_mut_ptr() as u64,
        count: MOST,
        ..Query::default()
    };
    // SAFETY: the kernel writes at most `count` numbers to `programs`; the other pointers are null.
    unsafe { call(PROG_QUERY, &mut query) }?;
    Ok(ids.into_iter().take(query.count as usize).collect())
}
