//! What the compiler says becomes what the kernel holds.

use agent_api::status::Reconcile;
use jiff::Timestamp;
use policy_compiler::compiler::Event;
use policy_compiler::image::difference::Kind;
use policy_compiler::plan::adoption::{Adoption, plan_from};
use policy_compiler::plan::{Step, plan};
use tokio::time::Instant;

use super::services::Touched;
use super::{Control, RETRY_EVERY};
use crate::lists::Published;

/// What was not as intended, since the maps were last compared.
#[derive(Debug, Default)]
pub(super) struct Met {
    found: u64,
    repaired: u64,
}

impl Met {
    fn add(&mut self, found: u64, repaired: u64) {
        self.found += found;
        self.repaired += repaired;
    }
}

impl Control {
    /// Takes in what changed, and brings the kernel to it. `moved` changes no table.
    pub(super) fn enforce(&mut self, events: Vec<Event>, moved: Vec<Event>, first: bool) {
        let begun = Instant::now();
        let touched = Touched::by(&events);
        let delta = self.compiler.apply(events);
        let same = self.compiler.apply(moved);
        debug_assert!(same.is_empty(), "what only moved to another line changes no table");
        self.parts.metrics.compile_seconds.observe(begun.elapsed().as_secs_f64());
        self.count_policies();
        self.tell_what_is_logged();
        let begun = Instant::now();
        self.write_facts(&touched);
        if first || self.behind.is_some() {
            // Pods are told apart first: what the kernel holds is adopted by pod.
            self.bind_all();
            self.catch_up();
        } else {
            match plan(&delta, self.compiler.tables(), self.parts.dataplane.generation()) {
                Ok(steps) => {
                    self.perform(&steps);
                }
                Err(error) => {
                    tracing::warn!(%error, "planning from what the kernel holds instead");
                    self.catch_up();
                }
            }
            self.bind_all();
        }
        self.parts.metrics.apply_seconds.observe(begun.elapsed().as_secs_f64());
        if first && !self.armed {
            self.arm();
        }
        self.take_over();
        let (generation, policies) = (self.parts.dataplane.generation(), self.compiler.policies().count());
        if delta.is_empty() && !first {
            tracing::debug!(generation, policies, "nothing to change in the kernel");
        } else {
            tracing::info!(generation, policies, changed = delta.len(), "enforced");
        }
    }

    /// Performs a plan. If that fails, the kernel keeps what it had, or has all of the new policy; the rest is caught up with.
    fn perform(&mut self, steps: &[Step]) -> bool {
        if steps.is_empty() && self.parts.lists.are_settled() {
            return true;
        }
        if let Err(capacity) = self.parts.dataplane.fits(self.compiler.tables()) {
            self.fall_behind(&format!("{capacity}; the policy that was in force stays in force"));
            return false;
        }
        let published = match self.parts.lists.publish(steps, self.compiler.tables()) {
            Ok(published) => published,
            Err(error) => {
                self.fall_behind(&unwritten(&error));
                return false;
            }
        };
        match self.parts.dataplane.perform(steps) {
            Ok(()) => {
                self.sweep_lists(published);
                self.parts.metrics.map_writes.inc_by(steps.len() as u64);
                self.parts.metrics.generation.set(i64::from(self.parts.dataplane.generation()));
                true
            }
            Err(error) => {
                self.fall_behind(&error.to_string());
                false
            }
        }
    }

    /// Puts an end to what an agent before this one attached, once the kernel holds what this one intends.
    pub(super) fn take_over(&mut self) {
        if self.took_over || !self.world.is_known || !self.armed || self.behind.is_some() {
            return;
        }
        match self.parts.dataplane.take_over() {
            Ok(programs) => {
                self.took_over = true;
                tracing::info!(programs, "all that is attached is of this agent");
            }
            Err(error) => {
                self.fall_behind(&format!("programs attached by an agent before this one: {error}"));
            }
        }
    }

    /// Removes the lists that no row names any more.
    fn sweep_lists(&mut self, published: Published) {
        // Programs of the agent before this one may still read maps of their own, whose rows name lists of their own.
        if !matches!(self.parts.dataplane.is_beside_another(), Ok(false)) {
            return;
        }
        if let Err(error) = self.parts.lists.sweep(published, self.compiler.tables()) {
            tracing::warn!(error = format!("{error:#}"), "lists that no rule names stay behind");
        }
    }

    /// Notes that the kernel does not hold what is intended.
    pub(super) fn fall_behind(&mut self, why: &str) {
        // It is tried again every second; once is enough to be told of one cause.
        if self.behind.as_deref() != Some(why) {
            tracing::error!(why, "the kernel does not hold what is intended");
        }
        self.parts.metrics.map_write_failures.inc();
        self.behind = Some(why.to_owned());
        self.retry_at = Instant::now() + RETRY_EVERY;
    }

    /// Brings the kernel from whatever it holds to what is intended.
    pub(super) fn catch_up(&mut self) {
        self.retry_at = Instant::now() + RETRY_EVERY;
        if !self.world.is_known {
            // Nothing is intended yet: what the kernel holds stays, and only what failed is tried again.
            self.behind = None;
            return self.follow();
        }
        let image = match self.parts.dataplane.image() {
            Ok(image) => image,
            Err(error) => return self.fall_behind(&format!("reading the kernel's maps: {error}")),
        };
        let Adoption { steps, found } = plan_from(&image, self.compiler.tables());
        let adopted = std::mem::take(&mut self.adopted);
        let intended = self.behind.is_some() || self.reconciled.is_none() || adopted;
        if self.perform(&steps) {
            self.behind = None;
            if self.armed {
                self.follow_proxies();
            }
            if !found.is_empty() && !intended {
                tracing::warn!(%found, "the kernel's maps were not as intended, and were put right");
            }
            let mut sum = 0;
            for (map, kind, count) in found.iter().filter(|(_, kind, _)| *kind != Kind::Stale) {
                sum += count as u64;
                if !intended {
                    let count = count as u64;
                    self.parts.metrics.add_reconciled(map.name(), count, count);
                    tracing::warn!(map = map.name(), ?kind, count, "repaired");
                }
            }
            let sum = if intended { 0 } else { sum };
            self.met.add(sum, sum);
            let Met { found, repaired } = std::mem::take(&mut self.met);
            self.reconciled = Some(Reconcile { when: Timestamp::now(), found, repaired });
        }
    }

    /// Compares all that the kernel holds with intent, and puts it right.
    pub(super) fn compare(&mut self) {
        if !self.world.is_known || !self.armed {
            return;
        }
        match self.parts.dataplane.repair_interfaces() {
            Ok(rows) => self.put_right("interfaces", rows),
            Err(error) => self.fall_behind(&format!("comparing rows of interfaces: {error}")),
        }
        match self.parts.lists.repair(self.compiler.tables()) {
            Ok(lists) => self.put_right("lists", lists),
            Err(error) => self.fall_behind(&unwritten(&error)),
        }
        self.facts.forget();
        self.write_facts(&Touched::default());
        self.catch_up();
    }

    /// Notes what was not as intended and is again.
    fn put_right(&mut self, what: &'static str, count: usize) {
        if count > 0 {
            tracing::warn!(what, count, "not as intended, and put right");
            let count = count as u64;
            self.parts.metrics.add_reconciled(what, count, count);
            self.met.add(count, count);
        }
    }

    /// Looks at every hook, and puts right what is not as it should be.
    pub(super) fn look_at_hooks(&mut self) {
        for finding in self.parts.dataplane.verify() {
            let place = finding.place;
            match &finding.failure {
                None => {
                    tracing::warn!(%place, flaw = ?finding.flaw, "a hook was not as intended, and was put right");
                    self.parts.metrics.hooks_repaired.inc();
                    self.parts.metrics.add_reconciled("hook", 1, 1);
                    self.met.add(1, 1);
                }
                Some(error) => {
                    tracing::error!(%place, flaw = ?finding.flaw, %error, "a hook is not as intended");
                    self.parts.metrics.add_reconciled("hook", 1, 0);
                    self.met.add(1, 0);
                    self.failed.insert(place.interface, format!("{place}: {error}"));
                }
            }
        }
    }
}

/// Why nothing is put in force while a list cannot be written.
fn unwritten(error: &anyhow::Error) -> String {
    format!("{error:#}; the policy that was in force stays in force")
}
