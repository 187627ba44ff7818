//! `BPF_PROG_TEST_RUN` with a context, and two programs of a few instructions: the only unsafe code of the benchmark.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

const PROG_LOAD: libc::c_long = 5;
const PROG_TEST_RUN: libc::c_long = 10;
const SCHED_CLS: u32 = 3;

/// The fields of `struct __sk_buff` that a test run may set (`convert___skb_to_skb` in `net/bpf/test_run.c`): by word.
const MARK: usize = 2;
const IFINDEX: usize = 10;
const CONTEXT_WORDS: usize = 48;

/// A program is run on a frame that seems to be at an interface of the calling thread's network namespace.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) frame: Vec<u8>,
    pub(crate) interface: u32,
    pub(crate) mark: u32,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) returned: i32,
    /// The mean over all repetitions.
    pub(crate) nanoseconds: u32,
    /// The packet's mark in the end.
    pub(crate) mark: u32,
}

#[repr(C)]
#[derive(Default)]
struct TestRun {
    program: u32,
    returned: u32,
    size_in: u32,
    size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    context_size_in: u32,
    context_size_out: u32,
    context_in: u64,
    context_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    pad: u32,
}

#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    instructions: u32,
    instructions_at: u64,
    license_at: u64,
    log_level: u32,
    log_size: u32,
    log_at: u64,
}

/// Runs a classifier so many times, one after the other, on one and the same packet.
pub(crate) fn run(program: BorrowedFd<'_>, packet: &Packet, times: u32) -> io::Result<Run> {
    let mut context = [0_u32; CONTEXT_WORDS];
    context[MARK] = packet.mark;
    context[IFINDEX] = packet.interface;
    let mut after = [0_u32; CONTEXT_WORDS];
    let size = |of: usize| u32::try_from(of).map_err(|_| io::Error::from_raw_os_error(libc::E2BIG));
    let mut test = TestRun {
        program: program.as_raw_fd().cast_unsigned(),
        size_in: size(packet.frame.len())?,
        data_in: packet.frame.as_ptr() as u64,
        repeat: times,
        context_size_in: size(size_of_val(&context))?,
        context_size_out: size(size_of_val(&after))?,
        context_in: context.as_ptr() as u64,
        context_out: after.as_mut_ptr() as u64,
        ..TestRun::default()
    };
    // SAFETY: the kernel reads `size_in` and `context_size_in` bytes, which is how long those buffers are, and writes at
    // most `context_size_out` bytes to `after`; all outlive the call.
    unsafe { call(PROG_TEST_RUN, &mut test) }?;
    Ok(Run { returned: test.returned.cast_signed(), nanoseconds: test.duration, mark: after[MARK] })
}

/// Loads a classifier of these instructions. They must call nothing that only GPL programs may.
pub(crate) fn load(instructions: &[u64]) -> io::Result<OwnedFd> {
    let license = c"Apache-2.0";
    let mut log = vec![0_u8; 1 << 16];
    let mut load = Load {
        kind: SCHED_CLS,
        instructions: u32::try_from(instructions.len()).unwrap_or(u32::MAX),
        instructions_at: instructions.as_ptr() as u64,
        license_at: license.as_ptr() as u64,
        log_level: 1,
        log_size: 1 << 16,
        log_at: log.as_mut_ptr() as u64,
    };
    // SAFETY: an instruction has eight bytes, so the kernel reads just the slice; it reads the license up to its
    // terminating zero, and writes at most `log_size` bytes to the log. All outlive the call.
    let fd = unsafe { call(PROG_LOAD, &mut load) }.map_err(|error| {
        let said: Vec<u8> = log.into_iter().take_while(|byte| *byte != 0).collect();
        io::Error::new(error.kind(), format!("{error}: {}", String::from_utf8_lossy(&said)))
    })?;
    #[expect(clippy::cast_possible_truncation, reason = "the kernel gives descriptors as int")]
    // SAFETY: the descriptor came from the call just now and is nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) })
}

/// # Safety
///
/// `T` is laid out as the kernel's `union bpf_attr` for this command, and its pointers are valid for what the command
/// reads and writes.
unsafe fn call<T>(command: libc::c_long, attributes: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: by this function's own condition; the kernel reads and writes `size_of::<T>()` bytes of the attributes.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
