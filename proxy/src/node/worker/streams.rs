//! Requests for whoever wants to hear of them as they end: lines, in two streams. Nothing is written while nobody reads.
//!
//! A request never waits for who reads: whoever is too slow loses lines, and is told how many.

use bytes::{Bytes, BytesMut};
use futures_util::stream::{Stream, unfold};
use prometheus_client::metrics::counter::Counter;
use proxy_api::news::News;
use proxy_api::request::{Outcome, Request};
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::broadcast::{Receiver, Sender, channel};

/// How many lines a reader may be behind before it loses some.
const BEHIND: usize = 4096;
/// How many may read one stream: agents, of which there is one at a time, and people.
const READERS: usize = 4;
/// How much is written at a time, about.
const AT_ONCE: usize = 16 << 10;

/// Which stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Requests that somebody should know of.
    Notable,
    /// Those that were allowed, and went well.
    Plain,
}

/// Both streams.
#[derive(Debug)]
pub(crate) struct Streams {
    notable: Sender<Bytes>,
    plain: Sender<Bytes>,
    lost: Counter,
}

impl Streams {
    /// Without readers. What they lose is counted.
    pub(crate) fn new(lost: Counter) -> Self {
        Self { notable: channel(BEHIND).0, plain: channel(BEHIND).0, lost }
    }

    /// Whether anybody wants to hear of what came out so.
    pub(crate) fn want(&self, outcome: Outcome) -> bool {
        self.at(kind(outcome)).receiver_count() > 0
    }

    /// Tells whoever reads.
    pub(crate) fn tell(&self, request: Request<'_>) {
        send(self.at(kind(request.outcome)), &News::Request(request));
    }

    fn at(&self, kind: Kind) -> &Sender<Bytes> {
        match kind {
            Kind::Notable => &self.notable,
            Kind::Plain => &self.plain,
        }
    }

    /// The lines of a stream, from now on; `None` if too many read it.
    pub(crate) fn read(&self, kind: Kind) -> Option<impl Stream<Item = Bytes> + Send + use<>> {
        let from = self.at(kind);
        let reader = Reader { lines: from.subscribe(), lost: self.lost.clone() };
        (from.receiver_count() <= READERS).then(|| {
            unfold(reader, async |mut reader| {
                let lines = reader.next().await?;
                Some((lines, reader))
            })
        })
    }
}

/// Who reads a stream.
struct Reader {
    lines: Receiver<Bytes>,
    lost: Counter,
}

impl Reader {
    /// The next line, and those that are there already.
    async fn next(&mut self) -> Option<Bytes> {
        let first = match self.lines.recv().await {
            Ok(line) => line,
            Err(RecvError::Lagged(count)) => self.hole(count),
            Err(RecvError::Closed) => return None,
        };
        let mut lines = BytesMut::from(first);
        while lines.len() < AT_ONCE {
            match self.lines.try_recv() {
                Ok(line) => lines.extend_from_slice(&line),
                Err(TryRecvError::Lagged(count)) => lines.extend_from_slice(&self.hole(count)),
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        Some(lines.freeze())
    }

    fn hole(&self, count: u64) -> Bytes {
        self.lost.inc_by(count);
        line(&News::Lost(count))
    }
}

fn kind(outcome: Outcome) -> Kind {
    match outcome {
        Outcome::Allowed => Kind::Plain,
        Outcome::Denied | Outcome::Refused | Outcome::Failed | Outcome::Withdrawn => Kind::Notable,
    }
}

fn send(to: &Sender<Bytes>, news: &News<'_>) {
    if to.receiver_count() > 0 {
        // An error says that the last reader has just gone.
        let _readers = to.send(line(news));
    }
}

fn line(news: &News<'_>) -> Bytes {
    let mut line = match serde_json::to_vec(news) {
        Ok(line) => line,
        // Strings, numbers and no map: there is nothing that JSON could not say.
        Err(error) => {
            tracing::error!(%error, "a request cannot be told");
            return Bytes::new();
        }
    };
    line.push(b'\n');
    line.into()
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;
    use proxy_api::request::Protocol;

    use super::*;

    fn request(outcome: Outcome, generation: u64) -> Request<'static> {
        Request {
            time: "2026-01-02T03:04:05Z".parse().unwrap(),
            client: ([10, 0, 0, 1], 4000).into(),
            server: ([10, 0, 0, 2], 80).into(),
            protocol: Protocol::Http1,
            method: "GET".into(),
            host: "shop".into(),
            path: "/a".into(),
            status: Some(403),
            outcome,
            fault: None,
            reason: None,
            rule_set: None,
            rank: None,
            generation,
            seconds: 0.0,
        }
    }

    fn news(lines: &Bytes) -> Vec<News<'_>> {
        let lines = lines.split(|octet| *octet == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
    }

    #[tokio::test]
    async fn what_went_well_and_what_did_not_are_two_streams_and_nobody_costs_nothing() {
        let streams = Streams::new(Counter::default());
        assert!(!streams.want(Outcome::Denied) && !streams.want(Outcome::Allowed));
        streams.tell(request(Outcome::Denied, 0));
        let mut notable = Box::pin(streams.read(Kind::Notable).unwrap());
        assert!(streams.want(Outcome::Refused) && !streams.want(Outcome::Allowed));
        let mut plain = Box::pin(streams.read(Kind::Plain).unwrap());
        streams.tell(request(Outcome::Denied, 1));
        streams.tell(request(Outcome::Allowed, 2));
        streams.tell(request(Outcome::Failed, 3));
        let lines = notable.next().await.unwrap();
        let [denied, failed] = [(Outcome::Denied, 1), (Outcome::Failed, 3)].map(|(o, g)| request(o, g));
        assert_eq!(news(&lines), [News::Request(denied), News::Request(failed)]);
        let lines = plain.next().await.unwrap();
        assert_eq!(news(&lines), [News::Request(request(Outcome::Allowed, 2))]);
    }

    #[tokio::test]
    async fn a_slow_reader_is_told_what_it_lost_and_more_than_a_few_are_turned_away() {
        let streams = Streams::new(Counter::default());
        let mut slow = Box::pin(streams.read(Kind::Notable).unwrap());
        for number in 0..BEHIND as u64 + 5 {
            streams.tell(request(Outcome::Denied, number));
        }
        let lines = slow.next().await.unwrap();
        assert_eq!(news(&lines)[..2], [News::Lost(5), News::Request(request(Outcome::Denied, 5))]);
        assert_eq!(streams.lost.get(), 5);
        let others: Vec<_> = (0..READERS).map(|_| streams.read(Kind::Notable)).collect();
        assert_eq!(others.iter().filter(|reader| reader.is_some()).count(), READERS - 1);
    }
}
