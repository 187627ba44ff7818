//! The API server is away, and the agent starts meanwhile.

use std::time::{Duration, Instant};

use kube::ResourceExt;
use serde_json::json;
use tokio::time::sleep;

use crate::bed::{Bed, PATIENCE, within};

/// How long agents may take to hear of what changed once the server is back.
const CONVERGED: Duration = Duration::from_secs(30);

#[tokio::test]
async fn without_the_api_server_what_was_in_force_stays_even_over_a_restart_of_the_agent() {
    let Some(bed) = Bed::new("server_away").await else { return };
    bed.replace_agent("n1").await;
    let [server, friend, other] =
        bed.run([("server", "server", "n1"), ("friend", "friend", "n2"), ("other", "other", "n1")]).await;
    let (sink, _echo) = (server.inside.sink(5353), server.inside.echo(7000));
    let sender = other.inside.metronome(server.at(5353));
    bed.heard(&sink, sender.port).await;
    bed.policy(
        "friends",
        &json!({
            "podSelector": {"matchLabels": {"app": "server"}},
            "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "friend"}}}]}],
        }),
    )
    .await;
    sleep(Duration::from_secs(2)).await;
    let streams = friend.inside.keep(server.at(7000), 4);
    let began = Instant::now();
    let uid = bed.agent("n1").await.uid().unwrap();
    let process = || bed.cluster.pod_process_named("n1", &uid, "polder-agent").unwrap();
    let before = process();
    bed.kill_agent_while_held("n1", &uid);
    let after =
        within("another agent", PATIENCE, async || process().filter(|pid| Some(*pid) != before)).await;
    // It has no server to ask: it goes on with what it wrote down, and does not end.
    sleep(Duration::from_secs(8)).await;
    assert_eq!(process(), Some(after), "the agent ended while the API server was away");
    assert!(
        friend.inside.connects(server.at(7000)),
        "the friend cannot connect while the API server is away"
    );
    assert!(!other.inside.connects(server.at(7000)), "a stranger connects while the API server is away");
    let open = sink.count(sender.port, began);
    println!("server_away: OPEN-ms {open}, INTR {}", streams.interrupted());
    assert_eq!((open, streams.interrupted()), (0, 0));

    bed.cluster.hold_api_server(false).unwrap();
    let back = Instant::now();
    // Its clients reconnect by themselves.
    within("the API server", PATIENCE, async || bed.pods().get("other").await.ok()).await;
    bed.label("other", "friend").await;
    let converged = within("the change in force", CONVERGED, async || sink.first(sender.port, back)).await;
    println!("server_away: a change after its return was in force {converged:?} after that");
}

impl Bed {
    /// Takes the API server away, then kills the agent of a node.
    fn kill_agent_while_held(&self, node: &str, uid: &str) {
        self.cluster.hold_api_server(true).unwrap();
        let pid = self.cluster.pod_process_named(node, uid, "polder-agent").unwrap().unwrap();
        let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    }
}
