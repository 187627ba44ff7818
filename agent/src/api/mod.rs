//! The agent's side of the local socket.
//!
//! ```text
//! socket (who may listen, where) --> connection: lines, bounds, credentials
//!                                      |-- flows ---------> history  <-- broadcast of flows
//!                                      +-- all else: Call --> the task that owns the state --> Answer
//! ```
//!
//! Nothing here knows the state. A client that is slow or silent costs its own connection and nobody else anything: who
//! answers hands over a value and never waits.

mod connection;
pub mod history;
pub mod socket;

use std::sync::Arc;
use std::time::Duration;

use agent_api::reply::Reply;
use agent_api::request::Request;
use agent_api::world::{Document, World, pieces};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;

use history::History;
use socket::Socket;

/// A request that the task with the state has to answer. Flows are not among them.
#[derive(Debug)]
pub struct Call {
    /// What is asked.
    pub request: Request,
    /// Where the answer goes. Dropping it is an answer too: that the agent is stopping.
    pub answer: oneshot::Sender<Result<Answer, String>>,
}

/// An answer.
#[derive(Debug)]
pub enum Answer {
    /// To all but `world`.
    Reply(Box<Reply>),
    /// To `world`; it is cut into pieces on the way.
    World(Pieces),
}

/// Documents in pieces, made as they are taken.
pub struct Pieces(Box<dyn Iterator<Item = World> + Send>);

impl Pieces {
    /// Cuts these.
    pub fn of(documents: impl Iterator<Item = Document> + Send + 'static) -> Self {
        Self(Box::new(pieces(documents)))
    }
}

impl Iterator for Pieces {
    type Item = World;

    fn next(&mut self) -> Option<World> {
        self.0.next()
    }
}

impl std::fmt::Debug for Pieces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pieces")
    }
}

/// Bounds.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How many connections are served at a time.
    pub connections: usize,
    /// How long a client may take for its next request.
    pub read: Duration,
    /// How long a client may take to receive a line.
    pub write: Duration,
    /// How long the task with the state may take for an answer; below the client's patience, so that it is told.
    pub answer: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 32,
            read: Duration::from_secs(30),
            write: Duration::from_secs(10),
            answer: Duration::from_secs(25),
        }
    }
}

/// What a connection needs of the agent.
#[derive(Clone, Debug)]
struct Agent {
    calls: mpsc::Sender<Call>,
    history: Arc<History>,
    limits: Limits,
}

/// Serves until `calls` has no receiver any more.
pub async fn serve(socket: Socket, calls: mpsc::Sender<Call>, history: Arc<History>, limits: Limits) {
    let room = Arc::new(Semaphore::new(limits.connections));
    let agent = Agent { calls, history, limits };
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            () = agent.calls.closed() => break,
            // Finished ones are only to be forgotten.
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "a connection of the local socket failed");
                }
                continue;
            }
        };
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) => {
                // Most likely no file descriptor is left: trying again at once would only burn time.
                tracing::warn!(%error, "accepting on the local socket");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        match Arc::clone(&room).try_acquire_owned() {
            Ok(permit) => {
                let agent = agent.clone();
                connections.spawn(async move {
                    connection::serve(stream, agent).await;
                    drop(permit);
                });
            }
            Err(_) => connection::turn_away(&stream, limits.connections),
        }
    }
    // Clients see the end of the stream.
    connections.abort_all();
}
