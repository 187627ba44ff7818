//! A map, by the types of its keys and values.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::sys::{self, Plain};

/// A map of the kernel, for reading.
#[derive(Debug)]
pub(crate) struct Map<K, V> {
    fd: OwnedFd,
    types: PhantomData<fn(K) -> V>,
}

impl<K: Plain, V: Plain> Map<K, V> {
    /// Takes a descriptor of a map whose keys and values must have their sizes. (None of the maps that are read here has values
    /// by CPU: those would be longer.)
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        let info = sys::info(fd.as_fd())?;
        if (info.key_size as usize, info.value_size as usize) == (size_of::<K>(), size_of::<V>()) {
            return Ok(Self { fd, types: PhantomData });
        }
        Err(io::Error::other(format!(
            "keys of {} and values of {} bytes, expected {} and {}",
            info.key_size,
            info.value_size,
            size_of::<K>(),
            size_of::<V>()
        )))
    }

    /// A value.
    pub(crate) fn get(&self, key: &K) -> io::Result<Option<V>> {
        // SAFETY: `new` asked the kernel for the sizes.
        unsafe { sys::lookup(self.fd.as_fd(), key) }
    }
}

impl<K, V> AsFd for Map<K, V> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
