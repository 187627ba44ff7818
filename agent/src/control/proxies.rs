//! Who reads requests: the proxies of the node, by the devices that lead to them.
//!
//! A proxy is there when its device is, and up at both ends. The newest takes what begins; the others keep what they have.

use std::cmp::Reverse;

use datapath::settings::PROXIES;

use super::Control;
use crate::endpoint::role::Role;

impl Control {
    /// Tells the programs which proxies there are.
    pub(super) fn follow_proxies(&mut self) {
        if let Err(error) = self.tell_proxies() {
            self.fall_behind(&format!("telling the programs where requests are read: {error}"));
        }
    }

    fn tell_proxies(&self) -> Result<(), crate::dataplane::Error> {
        let mut settings = self.parts.dataplane.settings()?;
        let proxies = self.proxies();
        if settings.proxies == proxies {
            return Ok(());
        }
        settings.proxies = proxies;
        self.parts.dataplane.configure(&settings)?;
        let newest = proxies.first().and_then(|newest| self.snapshot.devices.get(newest));
        if let Some(device) = newest {
            tracing::info!(interface = device.name, "requests are read by the proxy there");
        } else {
            tracing::warn!("no proxy is there: connections about which requests decide are rejected");
        }
        Ok(())
    }

    /// What is wrong if requests decide about connections, and nobody reads them.
    pub(super) fn unread(&self) -> Option<String> {
        let asks = || self.compiler.tables().rules.values().any(|rows| rows.lists.iter().len() > 0);
        let nobody = self.proxies() == [0; PROXIES];
        (nobody && asks()).then(|| {
            "no proxy runs on this node: connections about which requests decide are rejected".to_owned()
        })
    }

    /// The names of the devices of proxies, the newest first.
    pub(super) fn proxy_names(&self) -> Vec<String> {
        let devices = &self.snapshot.devices;
        self.proxies()
            .iter()
            .filter_map(|proxy| devices.get(proxy))
            .map(|device| device.name.clone())
            .collect()
    }

    /// The devices of proxies, the newest first. (Indexes of devices grow.)
    fn proxies(&self) -> [u32; PROXIES] {
        let up = |interface: &u32| self.snapshot.veths.get(interface).is_some_and(|veth| veth.up);
        let mut found: Vec<u32> = self
            .roles
            .iter()
            .filter(|(interface, role)| {
                **role == Role::Proxy && up(interface) && !self.failed.contains_key(interface)
            })
            .map(|(interface, _)| *interface)
            .collect();
        found.sort_unstable_by_key(|interface| Reverse(*interface));
        let mut found = found.into_iter();
        std::array::from_fn(|_| found.next().unwrap_or(0))
    }
}
