//! How many connections each client address has: one pod cannot take all of them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Connections by client address.
#[derive(Clone, Debug, Default)]
pub struct Quota {
    counts: Arc<Mutex<HashMap<IpAddr, u32>>>,
}

/// A connection that is counted for as long as this lives.
#[derive(Debug)]
#[must_use]
pub struct Place {
    quota: Quota,
    address: IpAddr,
}

impl Quota {
    /// Counts one more connection of this address, if it has fewer than `most`.
    pub fn take(&self, address: IpAddr, most: u32) -> Option<Place> {
        let mut counts = self.lock();
        let count = counts.entry(address).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Place { quota: self.clone(), address })
    }

    /// The counts are whole between any two statements, so a panic elsewhere leaves nothing half done.
    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, u32>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.quota.lock();
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_so_many_places_and_gets_them_back() {
        let quota = Quota::default();
        let (one, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let first = quota.take(one, 2);
        let second = quota.take(one, 2);
        assert!(first.is_some() && second.is_some());
        assert!(quota.take(one, 2).is_none());
        assert!(quota.take(other, 2).is_some());
        drop(first);
        assert!(quota.take(one, 2).is_some());
        drop(second);
        assert!(quota.lock().is_empty());
    }
}
