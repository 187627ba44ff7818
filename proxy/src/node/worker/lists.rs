//! The lists of conditional rules: files that the agent writes before a row names them, and that never change.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use datapath::abi::{ListId, RuleSetId};
use datapath::l7::List;
use rustix::fs::{Mode, OFlags, openat};

/// How many bytes of lists are kept in memory.
const MOST: usize = 64 << 20;
/// The largest list that is read.
const LARGEST: u64 = 32 << 20;

/// What names a list.
pub(crate) type Key = (RuleSetId, ListId);

/// A list whose beginning was looked at; the rest is whenever it is asked.
#[derive(Clone, Debug)]
pub(crate) struct Bytes(Arc<[u8]>);

/// The directory of lists, and those that were used last.
#[derive(Debug)]
pub(crate) struct Library {
    directory: OwnedFd,
    cache: Mutex<Cache>,
}

impl Library {
    /// Of a directory.
    pub(crate) fn new(directory: OwnedFd) -> Self {
        Self { directory, cache: Mutex::new(Cache::new(MOST)) }
    }

    /// A list.
    ///
    /// # Errors
    ///
    /// It is not there, cannot be read, or is no list.
    pub(crate) fn list(&self, key: Key) -> io::Result<Bytes> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = cache.get(key) {
            return Ok(bytes);
        }
        let bytes = self.read(key)?;
        cache.put(key, &bytes);
        Ok(bytes)
    }

    fn read(&self, key: Key) -> io::Result<Bytes> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = openat(&self.directory, name(key), flags, Mode::empty())?;
        let mut bytes = Vec::new();
        std::fs::File::from(file).take(LARGEST + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > LARGEST {
            return Err(io::Error::other(format!("it is larger than {LARGEST} bytes")));
        }
        Bytes::new(bytes)
    }
}

impl Bytes {
    /// Of a list.
    pub(crate) fn new(bytes: Vec<u8>) -> io::Result<Self> {
        match List::new(&bytes) {
            Ok(_) => Ok(Self(bytes.into())),
            Err(fault) => {
                Err(io::Error::new(io::ErrorKind::InvalidData, format!("it is no list: {fault:?}")))
            }
        }
    }

    /// The list.
    pub(crate) fn list(&self) -> Option<List<'_>> {
        List::new(&self.0).ok()
    }
}

/// The name of a list's file.
pub(crate) fn name((rule_set, id): Key) -> String {
    format!("{:012x}-{id:08x}", rule_set.get())
}

/// Lists, of which those that were not used for the longest time go first.
#[derive(Debug)]
struct Cache {
    most: usize,
    held: usize,
    /// Counts uses.
    clock: u64,
    lists: BTreeMap<Key, (u64, Bytes)>,
}

impl Cache {
    fn new(most: usize) -> Self {
        Self { most, held: 0, clock: 0, lists: BTreeMap::new() }
    }

    fn get(&mut self, key: Key) -> Option<Bytes> {
        self.clock += 1;
        let (used, bytes) = self.lists.get_mut(&key)?;
        *used = self.clock;
        Some(bytes.clone())
    }

    fn put(&mut self, key: Key, bytes: &Bytes) {
        self.held += bytes.0.len();
        self.lists.insert(key, (self.clock, bytes.clone()));
        // Looked for one by one: it is done when something was read from disk.
        while self.held > self.most && self.lists.len() > 1 {
            let oldest = self.lists.iter().min_by_key(|(_, (used, _))| *used).map(|(key, _)| *key);
            if let Some((_, bytes)) = oldest.and_then(|oldest| self.lists.remove(&oldest)) {
                self.held -= bytes.0.len();
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use datapath::l7::{HEADER, LEAF, MAGIC};

    /// A list without questions, which says these words at its one leaf.
    pub(crate) fn always(protocols: u32, slots: [u32; 3]) -> Vec<u8> {
        let leaf = u32::try_from(HEADER).unwrap();
        let words = [MAGIC, protocols, 0, leaf, 1, leaf + 4, LEAF, slots[0], slots[1], slots[2], leaf, leaf];
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn a_list_is_read_once_and_only_if_it_is_one() {
        let directory = tempfile::tempdir().unwrap();
        let library = Library::new(std::fs::File::open(directory.path()).unwrap().into());
        let key = (RuleSetId::new(0x1a2b), 7);
        assert_eq!(library.list(key).unwrap_err().kind(), io::ErrorKind::NotFound);
        let path = directory.path().join("000000001a2b-00000007");
        std::fs::write(&path, "no list").unwrap();
        assert_eq!(library.list(key).unwrap_err().kind(), io::ErrorKind::InvalidData);
        std::fs::write(&path, always(1, [0; 3])).unwrap();
        assert!(library.list(key).unwrap().list().is_some());
        std::fs::remove_file(&path).unwrap();
        assert!(library.list(key).is_ok());
    }

    #[test]
    fn what_was_not_used_for_the_longest_time_goes_first() {
        let bytes = Bytes::new(always(1, [0; 3])).unwrap();
        let mut cache = Cache::new(bytes.0.len() * 2);
        let key = |id| (RuleSetId::new(1), id);
        for id in [1, 2] {
            assert!(cache.get(key(id)).is_none());
            cache.put(key(id), &bytes);
        }
        assert!(cache.get(key(1)).is_some());
        cache.put(key(3), &bytes);
        assert_eq!([1, 2, 3].map(|id| cache.get(key(id)).is_some()), [true, false, true]);
        assert_eq!(cache.held, bytes.0.len() * 2);
    }
}
