//! The agent dies under load.

use std::time::{Duration, Instant};

use kube::ResourceExt;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tokio::time::sleep;

use crate::bed::{Bed, PATIENCE, is_ready, restarts, within};

#[tokio::test]
async fn an_agent_that_is_killed_opens_nothing_and_breaks_nothing() {
    let Some(bed) = Bed::new("agent_killed").await else { return };
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
    let mut away = Vec::new();
    for _ in 0..2 {
        let agent = bed.agent("n1").await;
        bed.kill_agent("n1").await;
        let killed = Instant::now();
        // What is new meanwhile is in force when it is back.
        bed.label("friend", "friend").await;
        within("the agent back", PATIENCE, async || {
            let now = bed.agent("n1").await;
            (restarts(&now) > restarts(&agent) && is_ready(&now)).then_some(())
        })
        .await;
        away.push(killed.elapsed());
        assert!(friend.inside.connects(server.at(7000)), "the friend cannot connect when the agent is back");
    }
    let open = sink.count(sender.port, began);
    println!("agent_killed: away {away:?}; OPEN-ms {open}, INTR {}", streams.interrupted());
    assert_eq!(open, 0);
    assert_eq!(streams.interrupted(), 0);
}

impl Bed {
    /// Kills the agent of a node as the kernel does when memory is short.
    pub(crate) async fn kill_agent(&self, node: &str) {
        let agent = self.agent(node).await;
        let uid = agent.uid().unwrap();
        let pid = self.cluster.pod_process_named(node, &uid, "polder-agent").unwrap();
        let pid = pid.unwrap_or_else(|| unreachable!("no agent runs on {node}"));
        kill(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGKILL).unwrap();
    }
}
