//! The system call `bpf` (bpf(2)) where aya has no call for it: batches, links by interface number, what hangs on a hook.
//!
//! All that is unsafe about maps is here. What the kernel reads and writes through a pointer has the size that the kernel
//! itself told when the map was opened ([`map::RawMap`]).

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

pub(super) mod link;
pub(super) mod live;
pub(super) mod map;
pub(super) mod plain;

const OBJ_PIN: libc::c_long = 6;
const OBJ_GET: libc::c_long = 7;
const PROG_TEST_RUN: libc::c_long = 10;
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;

#[repr(C)]
struct Pin {
    path: u64,
    fd: u32,
    flags: u32,
}

#[repr(C)]
struct InfoOf {
    fd: u32,
    length: u32,
    info: u64,
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
    batch: u32,
    pad: u32,
}

/// Pins an object below a bpffs.
pub(super) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let text = CString::new(path.as_os_str().as_bytes())?;
    let mut pin = Pin { path: text.as_ptr() as u64, fd: number(object), flags: 0 };
    // SAFETY: the kernel reads the path up to its terminating zero; it outlives the call.
    unsafe { call(OBJ_PIN, &mut pin) }.map(|_| ())
}

/// Opens a pinned object; `None` if there is nothing at the path.
pub(super) fn pinned(path: &Path) -> io::Result<Option<OwnedFd>> {
    let text = CString::new(path.as_os_str().as_bytes())?;
    let mut pin = Pin { path: text.as_ptr() as u64, fd: 0, flags: 0 };
    // SAFETY: as in `pin`; the descriptor that comes back is nobody else's.
    match unsafe { call(OBJ_GET, &mut pin).map(|fd| owned(fd)) } {
        Ok(object) => Ok(Some(object)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Runs a classifier once on a frame (`BPF_PROG_TEST_RUN`) and gives what it returns. The frame seems to be at the
/// loopback device of the calling thread's network namespace.
pub(super) fn run(program: BorrowedFd<'_>, frame: &[u8]) -> io::Result<u32> {
    run_into(program, frame, &mut [])
}

/// The same; what becomes of the frame is written to `out`, which must be as long or empty.
pub(super) fn run_into(program: BorrowedFd<'_>, frame: &[u8], out: &mut [u8]) -> io::Result<u32> {
    let mut test = TestRun {
        program: number(program),
        size_in: size(frame.len())?,
        data_in: frame.as_ptr() as u64,
        repeat: 1,
        ..TestRun::default()
    };
    if !out.is_empty() {
        test.size_out = size(out.len())?;
        test.data_out = out.as_mut_ptr() as u64;
    }
    // SAFETY: the kernel reads `size_in` bytes from `data_in`, and writes at most `size_out` to `data_out`, or none where
    // that is null.
    unsafe { call(PROG_TEST_RUN, &mut test) }?;
    Ok(test.returned)
}

/// The id of a program (`struct bpf_prog_info` begins with type and id).
pub(super) fn program_id(program: BorrowedFd<'_>) -> io::Result<u32> {
    let [_, id] = info::<2>(program)?;
    Ok(id)
}

/// The first words of what the kernel tells of an object.
fn info<const WORDS: usize>(object: BorrowedFd<'_>) -> io::Result<[u32; WORDS]> {
    let mut words = [0_u32; WORDS];
    let mut request =
        InfoOf { fd: number(object), length: size(size_of_val(&words))?, info: words.as_mut_ptr() as u64 };
    // SAFETY: the kernel writes at most `length` bytes to `info` (a shorter structure is one of an older kernel to it);
    // every bit pattern is a valid number.
    unsafe { call(OBJ_GET_INFO_BY_FD, &mut request) }?;
    Ok(words)
}

/// The number of a descriptor. The kernel takes it unsigned; those that are open are not negative.
fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

fn size(of: usize) -> io::Result<u32> {
    u32::try_from(of).map_err(|_| io::Error::from_raw_os_error(libc::E2BIG))
}

/// # Safety
///
/// `fd` came from a call just now and was given to nobody else.
unsafe fn owned(fd: libc::c_long) -> OwnedFd {
    #[expect(clippy::cast_possible_truncation, reason = "the kernel gives descriptors as int")]
    // SAFETY: by this function's own condition.
    unsafe {
        OwnedFd::from_raw_fd(fd as libc::c_int)
    }
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
