//! Frames that enter by an interface as if they had come there: a program that lets everything pass, run on live frames.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use super::{PROG_TEST_RUN, TestRun, call, number, owned, size};

const PROG_LOAD: libc::c_long = 5;
/// `BPF_PROG_TYPE_XDP`.
const XDP: u32 = 6;
/// `BPF_F_TEST_XDP_LIVE_FRAMES` (Linux 5.18).
const LIVE: u32 = 1 << 1;

#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    instructions: u32,
    code: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

/// `struct xdp_md`.
#[repr(C)]
struct Context {
    data: u32,
    data_end: u32,
    data_meta: u32,
    interface: u32,
    queue: u32,
    egress: u32,
}

/// Loads an XDP program that returns `XDP_PASS`.
pub(in crate::dataplane) fn load_pass() -> io::Result<OwnedFd> {
    // r0 = 2; exit.
    let code: [u64; 2] = [0x0000_0002_0000_00b7, 0x95];
    let mut load = Load {
        kind: XDP,
        instructions: 2,
        code: code.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        ..Load::default()
    };
    for (to, from) in load.name.iter_mut().take(15).zip(b"polder_pass") {
        *to = *from;
    }
    // SAFETY: the kernel reads two instructions and a text up to its terminating zero, which outlive the call; there is no
    // log. The descriptor that comes back is nobody else's.
    unsafe { call(PROG_LOAD, &mut load).map(|fd| owned(fd)) }
}

/// Has a frame enter by an interface of the calling thread's network namespace.
pub(in crate::dataplane) fn run(program: BorrowedFd<'_>, frame: &[u8], interface: u32) -> io::Result<()> {
    let context =
        Context { data: 0, data_end: size(frame.len())?, data_meta: 0, interface, queue: 0, egress: 0 };
    let mut test = TestRun {
        program: number(program),
        size_in: size(frame.len())?,
        data_in: frame.as_ptr() as u64,
        repeat: 1,
        context_size_in: size(size_of::<Context>())?,
        context_in: std::ptr::from_ref(&context) as u64,
        flags: LIVE,
        batch: 1,
        ..TestRun::default()
    };
    // SAFETY: the kernel reads `size_in` bytes from `data_in` and `context_size_in` from `context_in`, and writes nowhere.
    unsafe { call(PROG_TEST_RUN, &mut test) }.map(|_| ())
}
