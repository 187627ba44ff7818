//! The system call `bpf` (bpf(2)), as far as maps of somebody else are opened and read.
//!
//! All that is unsafe about this program is here. What the kernel writes through a pointer has the size that the kernel itself
//! told when the map was opened.

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering, fence};

use datapath::abi::{Endpoint, Halves, Identity, PortAtom, Prefix4, Prefix6, RuleKey, RuleRow};
use datapath::family::{Ipv4, Ipv6};
use datapath::flow::{Flow, FlowKey};
use datapath::hook::{ServiceKey, ServiceRow};
use datapath::interface::Interface;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

const MAP_LOOKUP_ELEM: libc::c_long = 1;
const OBJ_GET: libc::c_long = 7;
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;
/// `BPF_F_RDONLY`
const READ_ONLY: u32 = 1 << 3;

/// A key or value of a map.
///
/// # Safety
///
/// The type has no padding, every bit pattern is a valid value of it, and it holds no reference.
pub(crate) unsafe trait Plain: Copy + 'static {}

macro_rules! plain {
    ($($type:ty),* $(,)?) => {
        // SAFETY: these are numbers, arrays of them, and `repr(C)` structures of `datapath` without implicit padding (each is
        // as large as its fields, which that crate asserts); none holds a `bool`, an enum or a reference.
        $(unsafe impl Plain for $type {})*
    };
}

plain!(
    u32,
    [u8; 4],
    [u8; 16],
    [u64; 3],
    Halves<Endpoint>,
    Halves<Identity>,
    Halves<PortAtom>,
    Prefix4,
    Prefix6,
    RuleKey,
    RuleRow,
    FlowKey<Ipv4>,
    FlowKey<Ipv6>,
    Flow,
    Interface,
    ServiceKey,
    ServiceRow,
);

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
struct Element {
    map: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// What the kernel tells of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Info {
    /// No other map of this boot has or had it.
    pub(crate) id: u32,
    /// Bytes of a key.
    pub(crate) key_size: u32,
    /// Bytes of a value.
    pub(crate) value_size: u32,
}

/// Opens a pinned map for reading; `None` if there is nothing at the path.
pub(crate) fn pinned(path: &Path) -> io::Result<Option<OwnedFd>> {
    get(path, READ_ONLY)
}

/// The same for writing, too: the kernel maps nothing into memory that was opened for reading only.
pub(crate) fn pinned_for_mapping(path: &Path) -> io::Result<Option<OwnedFd>> {
    get(path, 0)
}

fn get(path: &Path, flags: u32) -> io::Result<Option<OwnedFd>> {
    let text = CString::new(path.as_os_str().as_bytes())?;
    let mut pin = Pin { path: text.as_ptr() as u64, fd: 0, flags };
    // SAFETY: the kernel reads the path up to its terminating zero, and it outlives the call.
    match unsafe { call(OBJ_GET, &mut pin) } {
        Ok(fd) => {
            #[expect(clippy::cast_possible_truncation, reason = "the kernel gives descriptors as int")]
            // SAFETY: the descriptor came from the call just now and is nobody else's.
            Ok(Some(unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) }))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// What map it is (`struct bpf_map_info` begins with type, id, and the sizes of keys and values).
pub(crate) fn info(map: BorrowedFd<'_>) -> io::Result<Info> {
    const WORDS: u32 = 4;
    let mut words = [0_u32; WORDS as usize];
    let mut request = InfoOf { fd: number(map), length: WORDS * 4, info: words.as_mut_ptr() as u64 };
    // SAFETY: the kernel writes at most `length` bytes to `info`; every bit pattern is a valid number.
    unsafe { call(OBJ_GET_INFO_BY_FD, &mut request) }?;
    let [_, id, key_size, value_size] = words;
    Ok(Info { id, key_size, value_size })
}

/// Reads a value.
///
/// # Safety
///
/// The kernel told of this map that its keys have the size of `K`, and its values that of `V`; each CPU has the same ones.
pub(crate) unsafe fn lookup<K: Plain, V: Plain>(map: BorrowedFd<'_>, key: &K) -> io::Result<Option<V>> {
    let mut value = MaybeUninit::<V>::zeroed();
    let mut element = Element {
        map: number(map),
        pad: 0,
        key: std::ptr::from_ref(key) as u64,
        value: value.as_mut_ptr() as u64,
        flags: 0,
    };
    // SAFETY: by this function's own condition the kernel reads within the key and writes within the value.
    match unsafe { call(MAP_LOOKUP_ELEM, &mut element) } {
        // SAFETY: it was zeroed and then written to, and every bit pattern is a valid value.
        Ok(_) => Ok(Some(unsafe { value.assume_init() })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The first value of an array map, in memory.
#[derive(Debug)]
pub(crate) struct Word(NonNull<AtomicU32>);

/// As much as one value needs.
const PAGE: usize = 4096;

impl Word {
    /// Maps it for reading. What is mapped so cannot be made writable later (`VM_MAYWRITE`, kernel commit dfeb376dd4cb), and
    /// needs no descriptor.
    ///
    /// # Errors
    ///
    /// It is no array that was made for mapping (`BPF_F_MMAPABLE`), not of numbers, or not open for writing.
    pub(crate) fn map(map: BorrowedFd<'_>) -> io::Result<Self> {
        let info = info(map)?;
        if (info.key_size, info.value_size) != (4, 4) {
            return Err(io::Error::other(format!("values of {} bytes, expected 4", info.value_size)));
        }
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that is there.
        let memory = unsafe { mmap(std::ptr::null_mut(), PAGE, ProtFlags::READ, MapFlags::SHARED, map, 0) }?;
        NonNull::new(memory.cast()).map(Self).ok_or_else(|| io::Error::other("mapped at no address"))
    }

    /// What it is now. What was read before, by system calls too, was read before this; what is read afterwards, after it.
    pub(crate) fn get(&self) -> u32 {
        fence(Ordering::Acquire);
        // SAFETY: the mapping lives as long as `self` and begins with the first value, as the only maps that have keys and can
        // be mapped are arrays, which are never empty. It is written to by the kernel, and only read here.
        unsafe { self.0.as_ref() }.load(Ordering::Acquire)
    }
}

// SAFETY: it is memory that other processes write to anyway, and only read by atomic operations.
unsafe impl Send for Word {}
// SAFETY: as for `Send`.
unsafe impl Sync for Word {}

impl Drop for Word {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and no reference into it outlives the value.
        let removed = unsafe { munmap(self.0.as_ptr().cast(), PAGE) };
        debug_assert!(removed.is_ok(), "a whole mapping can always be removed");
    }
}

/// The number of a descriptor. The kernel takes it unsigned; those that are open are not negative.
fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

/// # Safety
///
/// `T` is laid out as the kernel's `union bpf_attr` for this command, and its pointers are valid for what the command reads and
/// writes.
unsafe fn call<T>(command: libc::c_long, attributes: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: by this function's own condition; the kernel reads and writes `size_of::<T>()` bytes of the attributes.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
