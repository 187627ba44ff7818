//! The API server is away, and the agent starts meanwhile.

use std::time::{Duration, Instant};

use kube::ResourceExt;
use tokio::time::sleep;

use crate::bed::{Bed, PATIENCE, within};
use crate::guarded::Guarded;

/// How long agents may take to hear of what changed once the server is back.
const CONVERGED: Duration = Duration::from_secs(30);

#[tokio::test]
async fn without_the_api_server_what_was_in_force_stays_even_over_a_restart_of_the_agent() {
    let Some(bed) = Bed::new("server_away").await else { return };
    let guarded = Guarded::new(&bed).await;
    let uid = bed.agent("n1").await.uid().unwrap();
    let process = || bed.agent_process("n1", &uid);
    let before = process();
    bed.cluster.hold_api_server(true).unwrap();
    bed.kill_agent("n1", &uid);
    let after =
        within("another agent", PATIENCE, async || process().filter(|pid| Some(*pid) != before)).await;
    // It has no server to ask: it goes on with what it wrote down, and does not end.
    sleep(Duration::from_secs(8)).await;
    assert_eq!(process(), Some(after), "the agent ended while the API server was away");
    assert!(guarded.friend_connects(), "the friend cannot connect while the API server is away");
    assert!(!guarded.other_connects(), "a stranger connects while the API server is away");
    let (open, interrupted) = guarded.harm();
    println!("server_away: OPEN-ms {open}, INTR {interrupted}");
    assert_eq!((open, interrupted), (0, 0));

    bed.cluster.hold_api_server(false).unwrap();
    let back = Instant::now();
    // Its clients reconnect by themselves.
    within("the API server", PATIENCE, async || bed.pods().get("other").await.ok()).await;
    bed.label("other", "friend").await;
    let converged = within("the change in force", CONVERGED, async || guarded.heard_after(back)).await;
    println!("server_away: a change after its return was in force {converged:?} after that");
}
