//! Who wants to hear of requests that were allowed. On a busy node they are many, so proxies are asked for them only then.

use std::sync::Arc;

use tokio::sync::watch;

/// Whether somebody does.
#[derive(Debug, Default)]
pub struct Demand(watch::Sender<Wants>);

#[derive(Debug, Default)]
struct Wants {
    /// How many follow flows that may be allowed ones.
    followers: usize,
    /// A policy in force wants what it allows to be told.
    policies: bool,
}

/// Somebody who wants to hear of them, until this is dropped.
#[derive(Debug)]
pub struct Follower(Arc<Demand>);

impl Demand {
    /// Somebody follows from now on.
    pub fn follow(self: &Arc<Self>) -> Follower {
        self.0.send_modify(|wants| wants.followers += 1);
        Follower(Arc::clone(self))
    }

    /// Whether somebody follows.
    pub fn is_followed(&self) -> bool {
        self.0.borrow().followers > 0
    }

    /// Whether a policy in force wants what it allows to be told.
    pub fn set_policies(&self, want: bool) {
        self.0.send_if_modified(|wants| std::mem::replace(&mut wants.policies, want) != want);
    }

    /// Waits until somebody wants them, or until nobody does.
    pub(super) async fn becomes(&self, wanted: bool) {
        let is = |wants: &Wants| (wants.followers > 0 || wants.policies) == wanted;
        // An error says that the sender is gone, which is our own.
        let mut wants = self.0.subscribe();
        let _wants = wants.wait_for(is).await;
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.0.send_modify(|wants| wants.followers -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn requests_are_wanted_while_somebody_follows_or_a_policy_wants_it() {
        let demand = Arc::new(Demand::default());
        demand.becomes(false).await;
        let follower = demand.follow();
        assert!(demand.is_followed());
        demand.becomes(true).await;
        drop(follower);
        demand.becomes(false).await;
        demand.set_policies(true);
        demand.becomes(true).await;
        assert!(!demand.is_followed());
    }
}
