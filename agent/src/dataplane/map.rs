//! A map, by the types of its keys and values.

use std::fmt::Debug;
use std::io;
use std::marker::PhantomData;

use super::error::MapError;
use super::sys::map::RawMap;
use super::sys::plain::Plain;

/// So many entries are worth a batch.
const MANY: usize = 64;

/// A map of the kernel.
#[derive(Debug)]
pub(super) struct Map<K, V> {
    name: &'static str,
    raw: RawMap,
    types: PhantomData<fn(K) -> V>,
}

impl<K: Plain + Debug, V: Plain> Map<K, V> {
    /// Types an open map, whose keys and values must have their sizes.
    pub(super) fn new(name: &'static str, raw: RawMap) -> Result<Self, MapError> {
        let shape = raw.shape();
        if (shape.key_size as usize, shape.value_size as usize) == (size_of::<K>(), size_of::<V>()) {
            return Ok(Self { name, raw, types: PhantomData });
        }
        let found = format!(
            "keys of {} and values of {} bytes, expected {} and {}",
            shape.key_size,
            shape.value_size,
            size_of::<K>(),
            size_of::<V>()
        );
        Err(MapError { map: name, key: None, operation: "open", error: io::Error::other(found) })
    }

    fn failed(&self, operation: &'static str, key: Option<&K>, error: io::Error) -> MapError {
        MapError { map: self.name, key: key.map(|key| format!("{key:?}")), operation, error }
    }

    /// Its name.
    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// For how many entries it has room.
    pub(super) fn size(&self) -> usize {
        self.raw.shape().max_entries as usize
    }

    /// The map, as bytes.
    pub(super) fn raw(&self) -> &RawMap {
        &self.raw
    }

    /// A value.
    pub(super) fn get(&self, key: &K) -> Result<Option<V>, MapError> {
        let mut value = vec![0; self.raw.stride()];
        let found = self
            .raw
            .lookup(key.bytes(), &mut value)
            .map_err(|error| self.failed("look up", Some(key), error))?;
        Ok(if found { V::read(&value) } else { None })
    }

    /// Sets a value.
    pub(super) fn set(&self, key: &K, value: &V) -> Result<(), MapError> {
        self.raw.update(key.bytes(), value.bytes()).map_err(|error| self.failed("set", Some(key), error))
    }

    /// Sets many values, in their order.
    pub(super) fn set_many(&self, keys: &[K], values: &[V]) -> Result<(), MapError> {
        if keys.len() < MANY {
            return keys.iter().zip(values).try_for_each(|(key, value)| self.set(key, value));
        }
        self.raw
            .update_many(K::all_bytes(keys), V::all_bytes(values))
            .map_err(|(done, error)| self.failed("set", keys.get(done), error))
    }

    /// Removes an entry; false if there was none.
    pub(super) fn remove(&self, key: &K) -> Result<bool, MapError> {
        self.raw.delete(key.bytes()).map_err(|error| self.failed("remove", Some(key), error))
    }

    /// All entries.
    pub(super) fn entries(&self) -> Result<Vec<(K, V)>, MapError> {
        let mut entries = Vec::new();
        self.each(|key, value| entries.push((key, value)))?;
        Ok(entries)
    }

    /// Hands every entry to `each`.
    pub(super) fn each(&self, mut each: impl FnMut(K, V)) -> Result<(), MapError> {
        self.raw
            .walk(|key, value| {
                if let (Some(key), Some(value)) = (K::read(key), V::read(value)) {
                    each(key, value);
                }
            })
            .map_err(|error| self.failed("list", None, error))
    }

    /// How many entries there are.
    pub(super) fn count(&self) -> Result<usize, MapError> {
        let mut count = 0;
        self.raw.walk(|_, _| count += 1).map_err(|error| self.failed("list", None, error))?;
        Ok(count)
    }

    /// Every CPU's values of all entries.
    pub(super) fn each_cpu(
        &self,
        mut each: impl FnMut(K, &mut dyn Iterator<Item = V>),
    ) -> Result<(), MapError> {
        let step = size_of::<V>().next_multiple_of(8);
        self.raw
            .walk(|key, values| {
                if let Some(key) = K::read(key) {
                    each(key, &mut values.chunks(step).filter_map(V::read));
                }
            })
            .map_err(|error| self.failed("list", None, error))
    }
}
