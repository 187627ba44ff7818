//! Whom a pod that was held until now is asked to reach: see [`Dataplane::ask_neighbours`](crate::dataplane::Dataplane).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use tokio::time::Instant;

use super::Control;
use crate::dataplane::{Neighbour, PodInterface};
use crate::endpoint::snapshot::{Snapshot, Veth};

/// The gateway of pods that have a link of their own, in which the node answers to an address that no device has (Calico's
/// choice).
const ROUTED_GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// So many neighbours are asked for at most.
const MOST: usize = 512;
/// For so long after a pod was opened neighbours that come are asked for too; then its kernel has asked again by itself.
const RECENT: Duration = Duration::from_secs(2);

/// Pods that were opened a moment ago, by interface.
#[derive(Debug, Default)]
pub(super) struct Asked(BTreeMap<u32, (Instant, BTreeSet<IpAddr>)>);

impl Asked {
    /// Those of these neighbours that a pod has not been asked for since it was opened, if that was a moment ago.
    fn news(
        &mut self,
        interface: u32,
        opened: bool,
        now: Instant,
        mut neighbours: Vec<Neighbour>,
    ) -> Vec<Neighbour> {
        self.0.retain(|_, (since, _)| now.duration_since(*since) < RECENT);
        if opened {
            self.0.insert(interface, (now, BTreeSet::new()));
        }
        let Some((_, asked)) = self.0.get_mut(&interface) else { return Vec::new() };
        neighbours.retain(|neighbour| asked.insert(neighbour.address));
        neighbours
    }
}

impl Control {
    /// A pod is open, since a moment ago if `opened`.
    pub(super) fn ask_neighbours(&mut self, pod: &PodInterface, veth: &Veth, opened: bool) {
        if !opened && !self.asked.0.contains_key(&veth.interface) {
            return;
        }
        let all = neighbours(&self.snapshot, veth);
        let neighbours = self.asked.news(veth.interface, opened, Instant::now(), all);
        match self.parts.dataplane.ask_neighbours(pod, &neighbours) {
            Ok(asked) => tracing::debug!(interface = veth.name, asked, "asked for neighbours in its name"),
            Err(error) => tracing::warn!(interface = veth.name, %error, "it is silent for up to a second"),
        }
    }
}

/// Whom a pod may want to reach on its link: the node, and on a bridge the other pods.
fn neighbours(snapshot: &Snapshot, veth: &Veth) -> Vec<Neighbour> {
    let near = veth.master.unwrap_or(veth.interface);
    let own = snapshot.devices.get(&near).map(|device| device.addresses.clone()).unwrap_or_default();
    let answered = veth.master.is_none().then_some(IpAddr::from(ROUTED_GATEWAY));
    let node = own.into_iter().chain(answered).map(|address| Neighbour { address, mac: None });
    let is_beside = |other: &&Veth| {
        other.interface != veth.interface && other.master.is_some() && other.master == veth.master
    };
    let beside = snapshot.veths.values().filter(is_beside).filter_map(|other| Some((other, other.mac?)));
    let pods = beside.flat_map(|(other, mac)| {
        other.addresses.iter().map(move |address| Neighbour { address: *address, mac: Some(mac) })
    });
    node.chain(pods).take(MOST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn neighbour(last: u8) -> Neighbour {
        Neighbour { address: [10, 0, 0, last].into(), mac: None }
    }

    #[test]
    fn each_neighbour_is_asked_for_once_and_only_for_pods_that_were_opened_a_moment_ago() {
        let (mut asked, now) = (Asked::default(), Instant::now());
        assert_eq!(asked.news(7, false, now, vec![neighbour(1)]), []);
        assert_eq!(asked.news(7, true, now, vec![neighbour(1)]), [neighbour(1)]);
        let both = vec![neighbour(1), neighbour(2)];
        assert_eq!(asked.news(7, false, now, both.clone()), [neighbour(2)]);
        assert_eq!(asked.news(8, false, now, both.clone()), []);
        assert_eq!(asked.news(7, true, now, both.clone()), both, "closed and opened again");
        assert_eq!(asked.news(7, false, now + RECENT, vec![neighbour(3)]), []);
    }
}
