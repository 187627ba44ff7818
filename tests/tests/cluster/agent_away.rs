//! The agent dies under load.

use std::time::Instant;

use kube::ResourceExt;

use crate::bed::{Bed, PATIENCE, is_ready, restarts, within};
use crate::guarded::Guarded;

#[tokio::test]
async fn an_agent_that_is_killed_opens_nothing_and_breaks_nothing() {
    let Some(bed) = Bed::new("agent_killed").await else { return };
    let guarded = Guarded::new(&bed).await;
    let mut away = Vec::new();
    for _ in 0..2 {
        let agent = bed.agent("n1").await;
        bed.kill_agent("n1", &agent.uid().unwrap());
        let killed = Instant::now();
        // What is new meanwhile is in force when it is back.
        bed.label("friend", "friend").await;
        within("the agent back", PATIENCE, async || {
            let now = bed.agent("n1").await;
            (restarts(&now) > restarts(&agent) && is_ready(&now)).then_some(())
        })
        .await;
        away.push(killed.elapsed());
        assert!(guarded.friend_connects(), "the friend cannot connect when the agent is back");
    }
    let (open, interrupted) = guarded.harm();
    println!("agent_killed: away {away:?}; OPEN-ms {open}, INTR {interrupted}");
    assert_eq!((open, interrupted), (0, 0));
}
