//! A server that only its friend may reach, and who watches what arrives there while the agent of its node is disturbed.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::sleep;

use crate::bed::{Bed, Running, only_friends};
use crate::traffic::{Echo, Kept, Metronome, Sink};

const SINK: u16 = 5353;
const ECHO: u16 = 7000;
/// How long the policy may take to be in force, and what is under way to arrive.
const SETTLED: Duration = Duration::from_secs(2);

/// See the module. The agent of its node, `n1`, is a new one.
pub(crate) struct Guarded {
    pub(crate) server: Running,
    pub(crate) friend: Running,
    pub(crate) other: Running,
    sink: Sink,
    _echo: Echo,
    sender: Metronome,
    streams: Kept,
    /// From here on nothing of the other's may arrive.
    began: Instant,
}

impl Guarded {
    pub(crate) async fn new(bed: &Bed) -> Self {
        bed.replace_agent("n1").await;
        let pods = [("server", "server", "n1"), ("friend", "friend", "n2"), ("other", "other", "n1")];
        let [server, friend, other] = bed.run(pods).await;
        let (sink, echo) = (server.inside.sink(SINK), server.inside.echo(ECHO));
        let sender = other.inside.metronome(server.at(SINK));
        bed.heard(&sink, sender.port).await;
        bed.policy("friends", &only_friends()).await;
        sleep(SETTLED).await;
        let streams = friend.inside.keep(server.at(ECHO), 4);
        Self { server, friend, other, sink, _echo: echo, sender, streams, began: Instant::now() }
    }

    pub(crate) fn friend_connects(&self) -> bool {
        self.friend.inside.connects(self.server.at(ECHO))
    }

    pub(crate) fn other_connects(&self) -> bool {
        self.other.inside.connects(self.server.at(ECHO))
    }

    /// When the first of the other's datagrams after a time arrived.
    pub(crate) fn heard_after(&self, time: Instant) -> Option<Duration> {
        self.sink.first(self.sender.port, time)
    }

    /// Milliseconds in which the other's datagrams arrived, and connections of the friend that were interrupted.
    pub(crate) fn harm(&self) -> (usize, u32) {
        (self.sink.count(self.sender.port, self.began), self.streams.interrupted())
    }
}

impl Bed {
    /// The process of a node's agent.
    pub(crate) fn agent_process(&self, node: &str, uid: &str) -> Option<u32> {
        self.cluster.pod_process_named(node, uid, "polder-agent").unwrap()
    }

    /// Kills the agent of a node as the kernel does when memory is short.
    pub(crate) fn kill_agent(&self, node: &str, uid: &str) {
        let pid = self.agent_process(node, uid).unwrap_or_else(|| unreachable!("no agent runs on {node}"));
        kill(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGKILL).unwrap();
    }
}
