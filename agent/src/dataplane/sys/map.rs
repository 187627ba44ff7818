//! A map, as bytes.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use super::{call, info, number, owned, size};

const MAP_CREATE: libc::c_long = 0;
const MAP_LOOKUP_ELEM: libc::c_long = 1;
const MAP_UPDATE_ELEM: libc::c_long = 2;
const MAP_DELETE_ELEM: libc::c_long = 3;
const MAP_GET_NEXT_KEY: libc::c_long = 4;
const MAP_LOOKUP_BATCH: libc::c_long = 24;
const MAP_UPDATE_BATCH: libc::c_long = 26;

/// Types of maps (`enum bpf_map_type`), as far as they matter here.
pub(in crate::dataplane) mod kind {
    pub(in crate::dataplane) const ARRAY: u32 = 2;
    pub(in crate::dataplane) const PERCPU_HASH: u32 = 5;
    pub(in crate::dataplane) const PERCPU_ARRAY: u32 = 6;
    pub(in crate::dataplane) const LRU_PERCPU_HASH: u32 = 10;
    pub(in crate::dataplane) const ARRAY_OF_MAPS: u32 = 12;
}

/// `BPF_F_MMAPABLE`: an array whose values user space may map (Linux 5.5).
pub(in crate::dataplane) const MMAPABLE: u32 = 1 << 10;
/// What kernels say of a batch that a type of map does not know (`ENOTSUPP`, which libc does not name).
const NOT_SUPPORTED: i32 = 524;
/// Entries in one batch: large enough that the calls do not count, small enough that buffers stay in the cache.
const BATCH: usize = 4096;

#[repr(C)]
struct Element {
    map: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
struct Batch {
    from: u64,
    to: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

#[repr(C)]
struct Create {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
    inner: u32,
    numa_node: u32,
    name: [u8; 16],
}

/// What a map is, as the kernel or the object has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::dataplane) struct Shape {
    /// Its type.
    pub(in crate::dataplane) kind: u32,
    /// Bytes of a key.
    pub(in crate::dataplane) key_size: u32,
    /// Bytes of a value; of one CPU's, where each has its own.
    pub(in crate::dataplane) value_size: u32,
    /// Room for how many.
    pub(in crate::dataplane) max_entries: u32,
}

/// An open map.
#[derive(Debug)]
pub(in crate::dataplane) struct RawMap {
    fd: OwnedFd,
    shape: Shape,
    /// Bytes that the kernel reads or writes for a value.
    stride: usize,
    /// Whether the kernel knows batches for this type; asked by trying.
    batches: AtomicBool,
}

impl RawMap {
    /// Takes a descriptor, and asks the kernel what map it is.
    pub(in crate::dataplane) fn new(fd: OwnedFd, cpus: usize) -> io::Result<Self> {
        let [kind, _, key_size, value_size, max_entries] = info::<5>(fd.as_fd())?;
        let shape = Shape { kind, key_size, value_size, max_entries };
        let each = value_size as usize;
        let stride = match kind {
            // The kernel rounds each CPU's value up to eight bytes (`bpf_map_value_size`).
            kind::PERCPU_HASH | kind::PERCPU_ARRAY | kind::LRU_PERCPU_HASH => each.next_multiple_of(8) * cpus,
            _ => each,
        };
        Ok(Self { fd, shape, stride, batches: AtomicBool::new(true) })
    }

    /// Creates a map. `inner` is an example of what a map of maps holds.
    pub(in crate::dataplane) fn create(
        name: &str,
        shape: Shape,
        flags: u32,
        inner: Option<BorrowedFd<'_>>,
    ) -> io::Result<OwnedFd> {
        let mut create = Create {
            kind: shape.kind,
            key_size: shape.key_size,
            value_size: shape.value_size,
            max_entries: shape.max_entries,
            flags,
            inner: inner.map_or(0, number),
            numa_node: 0,
            name: [0; 16],
        };
        // The last byte stays zero.
        for (to, from) in create.name.iter_mut().take(15).zip(name.bytes()) {
            *to = from;
        }
        // SAFETY: no pointer is given; the descriptor that comes back is nobody else's.
        unsafe { call(MAP_CREATE, &mut create).map(|fd| owned(fd)) }
    }

    /// What map it is.
    pub(in crate::dataplane) fn shape(&self) -> Shape {
        self.shape
    }

    /// How many bytes [`Self::lookup`] gives.
    pub(in crate::dataplane) fn stride(&self) -> usize {
        self.stride
    }

    fn key_size(&self) -> usize {
        self.shape.key_size as usize
    }

    fn checked(&self, key: &[u8], value: Option<&[u8]>) -> io::Result<()> {
        if key.len() == self.key_size() && value.is_none_or(|value| value.len() == self.stride) {
            Ok(())
        } else {
            Err(io::Error::from_raw_os_error(libc::EINVAL))
        }
    }

    fn element(&self, key: *const u8, value: u64) -> Element {
        Element { map: number(self.fd.as_fd()), pad: 0, key: key as u64, value, flags: 0 }
    }

    /// Reads a value into a buffer of [`Self::stride`] bytes; false if there is none.
    pub(in crate::dataplane) fn lookup(&self, key: &[u8], value: &mut [u8]) -> io::Result<bool> {
        self.checked(key, Some(value))?;
        let mut element = self.element(key.as_ptr(), value.as_mut_ptr() as u64);
        // SAFETY: key and value have the sizes that the kernel itself told, so it reads and writes within them.
        found(unsafe { call(MAP_LOOKUP_ELEM, &mut element) })
    }

    /// Sets a value.
    pub(in crate::dataplane) fn update(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.checked(key, Some(value))?;
        let mut element = self.element(key.as_ptr(), value.as_ptr() as u64);
        // SAFETY: as in `lookup`; the kernel only reads.
        unsafe { call(MAP_UPDATE_ELEM, &mut element) }.map(|_| ())
    }

    /// Puts a map into a map of maps.
    pub(in crate::dataplane) fn put_map(&self, index: u32, inner: BorrowedFd<'_>) -> io::Result<()> {
        self.update(&index.to_ne_bytes(), &number(inner).to_ne_bytes())
    }

    /// Removes an entry; false if there was none.
    pub(in crate::dataplane) fn delete(&self, key: &[u8]) -> io::Result<bool> {
        self.checked(key, None)?;
        let mut element = self.element(key.as_ptr(), 0);
        // SAFETY: as in `lookup`; there is no value.
        found(unsafe { call(MAP_DELETE_ELEM, &mut element) })
    }

    /// Sets many values: `keys` and `values` lie one behind the other. Gives how many were set before a failure.
    pub(in crate::dataplane) fn update_many(
        &self,
        keys: &[u8],
        values: &[u8],
    ) -> Result<(), (usize, io::Error)> {
        let pairs = keys.chunks(self.key_size() * BATCH).zip(values.chunks(self.stride * BATCH));
        let mut done = 0;
        for (keys, values) in pairs {
            let count = keys.len() / self.key_size();
            if !self.batches.load(Ordering::Relaxed) || !self.update_batch(keys, values, &mut done)? {
                self.update_singly(keys, values, &mut done)?;
                continue;
            }
            done += count;
        }
        Ok(())
    }

    /// False if the kernel knows no batches for this type of map.
    fn update_batch(&self, keys: &[u8], values: &[u8], done: &mut usize) -> Result<bool, (usize, io::Error)> {
        let count = keys.len() / self.key_size();
        if keys.len() != count * self.key_size() || values.len() != count * self.stride {
            return Err((*done, io::Error::from_raw_os_error(libc::EINVAL)));
        }
        let mut batch = Batch {
            from: 0,
            to: 0,
            keys: keys.as_ptr() as u64,
            values: values.as_ptr() as u64,
            count: size(count).map_err(|error| (*done, error))?,
            map: number(self.fd.as_fd()),
            element_flags: 0,
            flags: 0,
        };
        // SAFETY: the kernel reads `count` keys and values, whose sizes were just checked.
        match unsafe { call(MAP_UPDATE_BATCH, &mut batch) } {
            Ok(_) => Ok(true),
            Err(error)
                if is_unknown(&error) && batch.count as usize == count
                    || unknown_at_start(&error, &batch) =>
            {
                self.batches.store(false, Ordering::Relaxed);
                Ok(false)
            }
            Err(error) => Err((*done + (batch.count as usize).min(count), error)),
        }
    }

    fn update_singly(&self, keys: &[u8], values: &[u8], done: &mut usize) -> Result<(), (usize, io::Error)> {
        for (key, value) in keys.chunks(self.key_size()).zip(values.chunks(self.stride)) {
            self.update(key, value).map_err(|error| (*done, error))?;
            *done += 1;
        }
        Ok(())
    }

    /// Hands every entry to `each`. Entries that come or go meanwhile may be among them or not.
    pub(in crate::dataplane) fn walk(&self, mut each: impl FnMut(&[u8], &[u8])) -> io::Result<()> {
        if self.batches.load(Ordering::Relaxed) {
            if self.walk_batches(&mut each)? {
                return Ok(());
            }
            self.batches.store(false, Ordering::Relaxed);
        }
        self.walk_singly(each)
    }

    /// False if the kernel knows no batches for this type of map.
    fn walk_batches(&self, each: &mut impl FnMut(&[u8], &[u8])) -> io::Result<bool> {
        let key_size = self.key_size();
        let mut room = BATCH.min(self.shape.max_entries.max(1) as usize);
        let (mut keys, mut values) = (vec![0; key_size * room], vec![0; self.stride * room]);
        // A hash map's cursor is a bucket number, any other map's a key (`generic_map_lookup_batch`).
        let (mut cursor, mut next) = (vec![0_u8; key_size.max(4)], vec![0_u8; key_size.max(4)]);
        let mut first = true;
        // Each round that is no failure moves the cursor on by a bucket or an entry, or grows the buffers.
        for _ in 0..=u64::from(self.shape.max_entries) * 4 + 64 {
            let mut batch = Batch {
                from: if first { 0 } else { cursor.as_ptr() as u64 },
                to: next.as_mut_ptr() as u64,
                keys: keys.as_mut_ptr() as u64,
                values: values.as_mut_ptr() as u64,
                count: size(room)?,
                map: number(self.fd.as_fd()),
                element_flags: 0,
                flags: 0,
            };
            // SAFETY: the kernel writes at most `count` keys and values of the sizes that it told, for which there is room,
            // and a cursor of four bytes or a key's size.
            let result = unsafe { call(MAP_LOOKUP_BATCH, &mut batch) };
            let (ended, error) = match result {
                Ok(_) => (false, None),
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => (true, None),
                Err(error) => (false, Some(error)),
            };
            match error {
                Some(error) if first && is_unknown(&error) => return Ok(false),
                // A bucket with more entries than there is room for.
                Some(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
                    room *= 2;
                    keys.resize(key_size * room, 0);
                    values.resize(self.stride * room, 0);
                    continue;
                }
                Some(error) => return Err(error),
                None => {}
            }
            let count = (batch.count as usize).min(room);
            for (key, value) in keys.chunks(key_size).zip(values.chunks(self.stride)).take(count) {
                each(key, value);
            }
            if ended {
                return Ok(true);
            }
            std::mem::swap(&mut cursor, &mut next);
            first = false;
        }
        Err(io::Error::from_raw_os_error(libc::EAGAIN))
    }

    fn walk_singly(&self, mut each: impl FnMut(&[u8], &[u8])) -> io::Result<()> {
        let (mut key, mut next) = (vec![0; self.key_size()], vec![0; self.key_size()]);
        let mut value = vec![0; self.stride];
        let mut from = 0;
        // A hash map begins anew if the key that it is to go on from is gone.
        for _ in 0..=u64::from(self.shape.max_entries) * 2 {
            let mut element = Element {
                map: number(self.fd.as_fd()),
                pad: 0,
                key: from,
                value: next.as_mut_ptr() as u64,
                flags: 0,
            };
            // SAFETY: `from` is null or a key of the size that the kernel told, and so is where it writes the next one.
            if !found(unsafe { call(MAP_GET_NEXT_KEY, &mut element) })? {
                return Ok(());
            }
            std::mem::swap(&mut key, &mut next);
            from = key.as_ptr() as u64;
            if self.lookup(&key, &mut value)? {
                each(&key, &value);
            }
        }
        Err(io::Error::from_raw_os_error(libc::EAGAIN))
    }
}

impl AsFd for RawMap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Whether a kernel says that it does not know a command, or not for this type of map.
fn is_unknown(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP | NOT_SUPPORTED))
}

/// The kernel writes back how many it did: none means that it did not like the batch as such.
fn unknown_at_start(error: &io::Error, batch: &Batch) -> bool {
    is_unknown(error) && batch.count == 0
}

fn found(result: io::Result<libc::c_long>) -> io::Result<bool> {
    match result {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_by_one_and_in_batches_the_same_is_written_and_read() {
        const COUNT: u32 = 10_000;
        let shape = Shape { kind: 1, key_size: 4, value_size: 8, max_entries: COUNT };
        if !nix::unistd::geteuid().is_root() {
            assert_ne!(std::env::var("POLDER_STRICT").as_deref(), Ok("1"), "this needs root");
            eprintln!("!!! SKIPPED: maps cannot be made without root");
            return;
        }
        for batches in [true, false] {
            let map = RawMap::new(RawMap::create("test", shape, 0, None).unwrap(), 1).unwrap();
            map.batches.store(batches, Ordering::Relaxed);
            let keys: Vec<u8> = (0..COUNT).flat_map(u32::to_ne_bytes).collect();
            let values: Vec<u8> = (0..u64::from(COUNT)).flat_map(u64::to_ne_bytes).collect();
            map.update_many(&keys, &values).unwrap();
            let mut found = Vec::new();
            map.walk(|key, value| found.push((key.to_vec(), value.to_vec()))).unwrap();
            assert_eq!(map.batches.load(Ordering::Relaxed), batches, "this kernel knows them");
            found.sort_unstable();
            let mut wanted: Vec<_> = keys
                .chunks(4)
                .zip(values.chunks(8))
                .map(|(key, value)| (key.to_vec(), value.to_vec()))
                .collect();
            wanted.sort_unstable();
            assert!(found == wanted, "{} of {COUNT}", found.len());
            let one_too_many = map.update_many(&[0xff; 4], &[0; 8]).unwrap_err();
            assert_eq!((one_too_many.0, one_too_many.1.raw_os_error()), (0, Some(libc::E2BIG)));
        }
    }
}
