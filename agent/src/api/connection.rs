//! One client.

use std::time::Duration;

use agent_api::VERSION;
use agent_api::flow::FlowVerdict;
use agent_api::frame::{Frame, Hello, REPLY_LENGTH, REQUEST_LENGTH, line};
use agent_api::reply::Reply;
use agent_api::request::{Flows, Request};
use anyhow::{Context as _, bail};
use nix::unistd::geteuid;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, oneshot};
use tokio::time::timeout;

use super::history::News;
use super::{Agent, Answer, Call};

/// Serves a client to its end. What goes wrong concerns nobody else.
pub(super) async fn serve(stream: UnixStream, agent: Agent) {
    let user = stream.peer_cred().map(|peer| peer.uid());
    let (read, write) = stream.into_split();
    let mut client = Client { read: BufReader::new(read), write, patience: agent.limits.write };
    let served = match user {
        Ok(user) if user == 0 || user == geteuid().as_raw() => client.serve(&agent).await,
        Ok(user) => client.error(format!("user {user} may not ask the agent; expected root")).await,
        Err(error) => client.error(format!("who asks cannot be made out: {error}")).await,
    };
    if let Err(error) = served {
        tracing::debug!(error = format!("{error:#}"), "a client of the local socket");
    }
}

/// Tells a client that there are too many, if its socket takes the line at once.
pub(super) fn turn_away(stream: &UnixStream, most: usize) {
    let message = format!("{most} clients are connected already; expected fewer: try again");
    let told = line(&Frame::Error { message })
        .map_err(std::io::Error::from)
        .and_then(|line| stream.try_write(&line));
    if let Err(error) = told {
        tracing::debug!(%error, "a client was turned away without a word");
    }
}

/// Who ended a following of flows.
#[derive(PartialEq, Eq)]
enum Ended {
    ByClient,
    ByAgent,
}

struct Client {
    read: BufReader<OwnedReadHalf>,
    write: OwnedWriteHalf,
    patience: Duration,
}

impl Client {
    async fn serve(&mut self, agent: &Agent) -> anyhow::Result<()> {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        self.send(&Frame::Hello(Hello { protocol: VERSION, agent: version })).await?;
        while let Some(text) = self.request(agent.limits.read).await? {
            match serde_json::from_slice(&text) {
                Ok(Request::Flows(flows)) => self.flows(agent, &flows).await?,
                Ok(request) => self.call(agent, request).await?,
                Err(error) => self.error(format!("a request cannot be understood: {error}")).await?,
            }
        }
        Ok(())
    }

    /// The next request; `None` at the end of the stream.
    async fn request(&mut self, patience: Duration) -> anyhow::Result<Option<Vec<u8>>> {
        let mut text = Vec::new();
        let most = u64::try_from(REQUEST_LENGTH).unwrap_or(u64::MAX).saturating_add(1);
        let mut bounded = (&mut self.read).take(most);
        let read = timeout(patience, bounded.read_until(b'\n', &mut text));
        read.await.context("no request in time")?.context("reading a request")?;
        match text.pop() {
            None => Ok(None),
            Some(b'\n') => Ok(Some(text)),
            Some(_) if text.len() >= REQUEST_LENGTH => {
                let message = format!("a request is longer than {REQUEST_LENGTH} bytes");
                self.error(message.clone()).await?;
                bail!(message)
            }
            Some(_) => bail!("the connection ended in the middle of a request"),
        }
    }

    async fn call(&mut self, agent: &Agent, request: Request) -> anyhow::Result<()> {
        let (answer, answered) = oneshot::channel();
        let bound = agent.limits.answer;
        let asked = async {
            agent.calls.send(Call { request, answer }).await.ok()?;
            answered.await.ok()
        };
        match timeout(bound, asked).await {
            Ok(Some(Ok(Answer::Reply(reply)))) => self.reply(reply).await?,
            Ok(Some(Ok(Answer::World(pieces)))) => {
                for piece in pieces {
                    self.reply(Box::new(Reply::World(piece))).await?;
                }
            }
            Ok(Some(Err(message))) => return self.error(message).await,
            Ok(None) => return self.error("the agent is stopping".to_owned()).await,
            Err(_) => {
                let message = format!("the agent is busy: no answer within {} s", bound.as_secs());
                return self.error(message).await;
            }
        }
        self.send(&Frame::Done).await
    }

    async fn flows(&mut self, agent: &Agent, flows: &Flows) -> anyhow::Result<()> {
        let (last, mut live) = agent.history.follow();
        if !flows.follow || flows.since.is_some() {
            for flow in last.iter().filter(|flow| flows.mean(flow)) {
                self.reply(Box::new(Reply::Flow((**flow).clone()))).await?;
            }
        }
        drop(last);
        if flows.follow && self.follow(agent, flows, &mut live).await? == Ended::ByClient {
            return Ok(());
        }
        self.send(&Frame::Done).await
    }

    /// Sends flows as they come.
    async fn follow(
        &mut self,
        agent: &Agent,
        flows: &Flows,
        live: &mut broadcast::Receiver<News>,
    ) -> anyhow::Result<Ended> {
        let allowed = flows.verdict.is_none_or(|verdict| verdict == FlowVerdict::Allowed);
        let _follower = allowed.then(|| agent.history.demand().follow());
        loop {
            let news = tokio::select! {
                news = live.recv() => news,
                // Who follows says nothing more: this is the end of the stream.
                _ = self.read.fill_buf() => return Ok(Ended::ByClient),
                () = agent.calls.closed() => return Ok(Ended::ByAgent),
            };
            let reply = match news {
                Ok(News::Flow(flow)) if flows.mean(&flow) => Reply::Flow((*flow).clone()),
                Ok(News::Flow(_)) => continue,
                Ok(News::Lost(lines)) | Err(RecvError::Lagged(lines)) => Reply::Lost { lines },
                Err(RecvError::Closed) => return Ok(Ended::ByAgent),
            };
            self.reply(Box::new(reply)).await?;
        }
    }

    async fn reply(&mut self, reply: Box<Reply>) -> anyhow::Result<()> {
        self.send(&Frame::Reply(reply)).await
    }

    async fn error(&mut self, message: String) -> anyhow::Result<()> {
        self.send(&Frame::Error { message }).await
    }

    async fn send(&mut self, frame: &Frame) -> anyhow::Result<()> {
        let mut line = line(frame).context("writing an answer as JSON")?;
        if line.len() > REPLY_LENGTH {
            let message = format!("the answer has {} bytes; expected at most {REPLY_LENGTH}", line.len());
            line = agent_api::frame::line(&Frame::Error { message })?;
        }
        let sent = timeout(self.patience, self.write.write_all(&line));
        sent.await.context("the client takes no answer")?.context("sending an answer")
    }
}
