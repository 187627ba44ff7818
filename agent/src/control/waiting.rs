//! Pods whose network is made and whose containers are not started yet: who waits for their policy, and their addresses.
//!
//! ```text
//! CNI plugin --Wait: pod, addresses--> given addresses --> laid over the pod as the source knows it --> compiler
//!            <--in force, or why not-- every turn of the loop
//! ```
//!
//! The API server learns a pod's addresses when its containers have been started, so what the plugin says comes first, and is
//! newer than what the source says of a pod that was started again. It counts until the source says the same, or the pod is
//! gone. Whoever asks here is root on this node.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use agent_api::reply::Reply;
use agent_api::request::Request;
use agent_api::wait::{InForce, Pod as Named, Wait};
use policy_compiler::compiler::Event;
use policy_compiler::facts::Pod;
use policy_compiler::object::PodKey;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Control;
use crate::api::{Answer, Call};
use crate::endpoint::role::Role;

/// The longest wait, below the time in which every request is answered.
const LONGEST: Duration = Duration::from_secs(20);

/// Who waits, and what was said of pods' addresses.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    given: BTreeMap<PodKey, Given>,
    waiters: Vec<Waiter>,
}

/// Addresses that a pod was given on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Given {
    /// Empty if it is not known.
    uid: Arc<str>,
    addresses: Vec<IpAddr>,
}

#[derive(Debug)]
struct Waiter {
    key: PodKey,
    wait: Wait,
    deadline: Instant,
    answer: oneshot::Sender<Result<Answer, String>>,
}

impl Waiting {
    /// A pod was given addresses; who had them before has them no more.
    fn give(&mut self, key: PodKey, given: Given) {
        self.given
            .retain(|_, other| !other.addresses.iter().any(|address| given.addresses.contains(address)));
        self.given.insert(key, given);
    }

    /// A pod's network is taken down.
    fn release(&mut self, key: &PodKey, uid: &str) {
        if self.given.get(key).is_some_and(|given| same(&given.uid, uid)) {
            self.given.remove(key);
        }
    }

    /// Lays given addresses over what the source says, before the compiler hears it.
    pub(super) fn correct(&mut self, events: &mut [Event]) {
        if self.given.is_empty() {
            return;
        }
        for event in events {
            if let Event::Pod(pod) = event {
                self.correct_pod(pod);
            }
        }
    }

    /// Forgets what was given to pods that are gone.
    pub(super) fn forget(&mut self, events: &[Event]) {
        for event in events {
            if let Event::PodGone { key, uid } = event {
                self.release(key, uid.as_deref().unwrap_or_default());
            }
        }
    }

    fn correct_pod(&mut self, pod: &mut Pod) {
        if !pod.owns_addresses() {
            self.release(&pod.key, &pod.uid);
            return;
        }
        if let Some(given) = self.given.get(&pod.key).filter(|given| same(&given.uid, &pod.uid)) {
            if given.addresses.iter().all(|address| pod.addresses.contains(address)) {
                // The source knows it by now.
                self.given.remove(&pod.key);
            } else {
                pod.addresses.clone_from(&given.addresses);
                pod.addresses_made_up = false;
            }
        } else if !pod.addresses.is_empty() {
            // They were given to another pod meanwhile: this one is gone, and the source has yet to say so.
            let taken = |address: &IpAddr| self.given.values().any(|given| given.addresses.contains(address));
            pod.addresses.retain(|address| !taken(address));
        }
    }
}

/// Whether two UIDs can be of one pod.
fn same(one: &str, other: &str) -> bool {
    one.is_empty() || other.is_empty() || one == other
}

fn key(pod: &Named) -> PodKey {
    PodKey::new(&pod.namespace, &pod.name)
}

impl Control {
    /// Takes the requests that are about pods being started or taken down; gives back all others.
    pub(super) fn take_waiting(&mut self, call: Call) -> Option<Call> {
        match call.request {
            Request::Wait(wait) => {
                let key = key(&wait.pod);
                let uid = wait.pod.uid.as_str().into();
                self.waiting.give(key.clone(), Given { uid, addresses: wait.addresses.clone() });
                self.apply_given(&key, &wait.addresses);
                let patience = Duration::from_millis(wait.patience_ms).min(LONGEST);
                let deadline = Instant::now() + patience;
                self.waiting.waiters.push(Waiter { key, wait, deadline, answer: call.answer });
                None
            }
            Request::Release(pod) => {
                self.waiting.release(&key(&pod), &pod.uid);
                // The client may have gone meanwhile.
                let _gone = call.answer.send(Ok(Answer::Reply(Box::new(Reply::Released))));
                None
            }
            _ => Some(call),
        }
    }

    /// Has the compiler know at once what was given, as far as it knows the pods.
    fn apply_given(&mut self, given: &PodKey, addresses: &[IpAddr]) {
        if !self.world.is_known {
            return;
        }
        let local = self.compiler.tables().endpoints.keys();
        let pods = local.filter_map(|key| self.compiler.cluster().pods.get(key));
        let concerned = |pod: &&Arc<Pod>| {
            pod.key == *given || pod.addresses.iter().any(|address| addresses.contains(address))
        };
        let mut events = Vec::new();
        for before in pods.filter(concerned) {
            let mut after = Pod::clone(before);
            self.waiting.correct_pod(&mut after);
            if after != **before {
                events.push(Event::Pod(Box::new(after)));
            }
        }
        if !events.is_empty() {
            self.enforce(events, Vec::new(), false);
        }
    }

    /// Answers those whose pod is enforced, and those whose time is up.
    pub(super) fn settle_waiting(&mut self) {
        if self.waiting.waiters.is_empty() {
            return;
        }
        let now = Instant::now();
        for waiter in std::mem::take(&mut self.waiting.waiters) {
            let answer = match self.in_force(&waiter) {
                Ok(in_force) => Ok(Answer::Reply(Box::new(Reply::InForce(in_force)))),
                Err(why) if now >= waiter.deadline => Err(why),
                Err(_) if waiter.answer.is_closed() => continue,
                Err(_) => {
                    self.waiting.waiters.push(waiter);
                    continue;
                }
            };
            // The client may have gone meanwhile.
            let _gone = waiter.answer.send(answer);
        }
    }

    /// Whether a pod's policy is in force at the interface that has its addresses; or why not.
    fn in_force(&self, waiter: &Waiter) -> Result<InForce, String> {
        let (key, wait) = (&waiter.key, &waiter.wait);
        if !self.world.is_known {
            return Err("the agent does not know the cluster yet".to_owned());
        }
        let pod = self
            .compiler
            .cluster()
            .pods
            .get(key)
            .ok_or_else(|| format!("{key}: the agent has not heard of it yet"))?;
        if !same(&pod.uid, &wait.pod.uid) {
            return Err(format!(
                "{key}: the agent knows the one before it: found uid {:?}, expected {:?}",
                pod.uid, wait.pod.uid
            ));
        }
        if !self.compiler.tables().endpoints.contains_key(key) {
            return Err(format!("{key}: it is not a pod of this node that has a network of its own"));
        }
        if let Some(why) = &self.behind {
            return Err(format!("{key}: {why}"));
        }
        let has_all = |addresses: &[IpAddr]| wait.addresses.iter().all(|address| addresses.contains(address));
        let mut why = format!("{key}: no interface with its addresses is seen yet");
        for veth in self.snapshot.veths.values().filter(|veth| has_all(&veth.addresses)) {
            if self.roles.get(&veth.interface) != Some(&Role::Pod) {
                continue;
            }
            match self.failed.get(&veth.interface).or(self.held.get(&veth.interface)) {
                Some(held) => why = format!("{key}: interface {}: {held}", veth.name),
                None if self.armed && self.parts.dataplane.pod_at(veth.interface) == Some(key) => {
                    let generation = u64::from(self.parts.dataplane.generation());
                    return Ok(InForce { interface: veth.name.clone(), generation });
                }
                None => why = format!("{key}: interface {}: its programs are not attached yet", veth.name),
            }
        }
        Err(why)
    }
}

#[cfg(test)]
mod tests {
    use policy_compiler::facts::{Phase, Workload};
    use policy_compiler::labels::Labels;

    use super::*;

    fn pod(name: &str, uid: &str, addresses: &[&str]) -> Event {
        Event::Pod(Box::new(Pod {
            key: PodKey::new("shop", name),
            uid: uid.into(),
            labels: Labels::new(std::iter::empty::<(&str, &str)>()),
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
            addresses_made_up: false,
            host_network: false,
            phase: Phase::Pending,
            node: Some("n1".into()),
            ports: Vec::new(),
            workload: Workload { kind: "Pod".into(), name: name.into() },
            created: None,
        }))
    }

    /// What the compiler hears of a pod's addresses.
    fn heard(waiting: &mut Waiting, event: Event) -> Vec<String> {
        let mut events = [event];
        waiting.correct(&mut events);
        let [Event::Pod(pod)] = events else { panic!("no pod") };
        pod.addresses.iter().map(ToString::to_string).collect()
    }

    fn given(name: &str, uid: &str, address: &str) -> Waiting {
        let mut waiting = Waiting::default();
        give(&mut waiting, name, uid, address);
        waiting
    }

    fn give(waiting: &mut Waiting, name: &str, uid: &str, address: &str) {
        let addresses = vec![address.parse().unwrap()];
        waiting.give(PodKey::new("shop", name), Given { uid: uid.into(), addresses });
    }

    #[test]
    fn a_pod_has_what_it_was_given_until_the_source_says_so_itself() {
        let mut waiting = given("a", "1", "10.0.0.5");
        assert_eq!(heard(&mut waiting, pod("a", "1", &[])), ["10.0.0.5"]);
        assert_eq!(heard(&mut waiting, pod("a", "1", &["10.0.0.5", "fd00::5"])), ["10.0.0.5", "fd00::5"]);
        assert_eq!(waiting.given, BTreeMap::new());
        assert_eq!(
            heard(&mut waiting, pod("a", "1", &["10.0.0.9"])),
            ["10.0.0.9"],
            "the source's word counts again"
        );
    }

    #[test]
    fn a_pod_that_was_started_again_has_the_new_address_and_not_the_old_one() {
        let mut waiting = given("a", "1", "10.0.0.6");
        assert_eq!(heard(&mut waiting, pod("a", "1", &["10.0.0.5"])), ["10.0.0.6"]);
    }

    #[test]
    fn an_address_given_anew_is_no_more_that_of_the_pod_before() {
        let mut waiting = given("b", "2", "10.0.0.5");
        assert_eq!(heard(&mut waiting, pod("a", "1", &["10.0.0.5", "fd00::5"])), ["fd00::5"]);
        assert_eq!(
            heard(&mut waiting, pod("b", "1", &["10.0.0.5"])),
            [""; 0],
            "of the same name, but the one before"
        );
        give(&mut waiting, "c", "3", "10.0.0.5");
        assert_eq!(heard(&mut waiting, pod("b", "2", &[])), [""; 0]);
        assert_eq!(heard(&mut waiting, pod("c", "3", &[])), ["10.0.0.5"]);
    }

    #[test]
    fn what_was_given_is_forgotten_with_the_pod_and_not_with_one_before_it() {
        let gone = |uid: &str| Event::PodGone { key: PodKey::new("shop", "a"), uid: Some(uid.into()) };
        let mut waiting = given("a", "2", "10.0.0.5");
        waiting.forget(&[gone("1")]);
        assert_eq!(waiting.given.len(), 1);
        waiting.forget(&[gone("2")]);
        assert_eq!(waiting.given.len(), 0);
        let mut waiting = given("a", "2", "10.0.0.5");
        waiting.release(&PodKey::new("shop", "a"), "1");
        assert_eq!(waiting.given.len(), 1);
        waiting.release(&PodKey::new("shop", "a"), "");
        assert_eq!(waiting.given.len(), 0);
    }

    #[test]
    fn a_pod_on_the_nodes_network_or_finished_has_none() {
        let mut waiting = given("a", "1", "10.0.0.5");
        let Event::Pod(mut finished) = pod("a", "1", &[]) else { panic!("no pod") };
        finished.phase = Phase::Finished;
        assert_eq!(heard(&mut waiting, Event::Pod(finished)), [""; 0]);
        assert_eq!(waiting.given, BTreeMap::new());
    }
}
