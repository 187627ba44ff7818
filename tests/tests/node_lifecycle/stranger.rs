//! A program of somebody else's on an interface: it says "let through" to everything, which ends the kernel's list.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

const PROG_LOAD: libc::c_long = 5;
const PROG_QUERY: libc::c_long = 16;
const LINK_CREATE: libc::c_long = 28;
/// `BPF_PROG_TYPE_SCHED_CLS`.
const CLASSIFIER: u32 = 3;
const BEFORE: u32 = 1 << 3;

/// Where on an interface (`BPF_TCX_INGRESS`, `BPF_TCX_EGRESS`).
#[derive(Clone, Copy, Debug)]
pub(crate) enum Site {
    Ingress = 46,
    Egress = 47,
}

#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    instructions: u32,
    code: u64,
    license: u64,
    log: [u32; 6],
}

#[repr(C)]
#[derive(Default)]
struct Link {
    program: u32,
    interface: u32,
    site: u32,
    flags: u32,
    relative: u32,
    pad: u32,
    revision: u64,
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
    rest: [u64; 4],
}

fn call<T>(command: libc::c_long, attributes: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: `attributes` is a prefix of `union bpf_attr` of the length that is given; the pointers that it holds are to
    // memory of the callers below, that outlives the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    let number = RawFd::try_from(result).map_err(io::Error::other)?;
    // SAFETY: the kernel gave this descriptor just now, to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Puts such a program in front of all others at an interface of the calling thread's namespace; it stays until the
/// link is dropped.
pub(crate) fn in_front(interface: u32, site: Site) -> io::Result<OwnedFd> {
    // r0 = 0 (TC_ACT_OK); exit.
    let code: [u64; 2] = [0xb7, 0x95];
    let license = c"GPL";
    let mut load = Load {
        kind: CLASSIFIER,
        instructions: 2,
        code: code.as_ptr() as u64,
        license: license.as_ptr() as u64,
        ..Load::default()
    };
    let program = owned(call(PROG_LOAD, &mut load)?)?;
    let number = u32::try_from(program.as_raw_fd()).map_err(io::Error::other)?;
    let mut link = Link { program: number, interface, site: site as u32, flags: BEFORE, ..Link::default() };
    owned(call(LINK_CREATE, &mut link)?)
}

/// How many programs are at an interface of the calling thread's namespace.
pub(crate) fn count(interface: u32, site: Site) -> io::Result<u32> {
    let mut ids = [0_u32; 64];
    let mut query = Query {
        interface,
        site: site as u32,
        programs: ids.as_mut_ptr() as u64,
        count: 64,
        ..Query::default()
    };
    call(PROG_QUERY, &mut query)?;
    Ok(query.count)
}
