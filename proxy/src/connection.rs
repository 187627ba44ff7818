//! One client's connection, from its first octet to its end.
//!
//! The first octets say what is spoken. What the port has no rules about is closed, never passed on unread.

use std::future::{Future, poll_fn};
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Buf as _;
use prometheus_client::registry::Registry;
use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, timeout};

use crate::fault::Fault;
use crate::leg::{Leg, Stream};
use crate::limits::Limits;
use crate::log::{Ends, Observer, Outcome, Protocol, Record};
use crate::metrics::Metrics;
use crate::policy::Policy;
use crate::quota::Quota;
use crate::timer::Timer;
use crate::{http1, http2};

/// What all connections share.
pub struct Proxy {
    pub(crate) limits: Limits,
    observer: Arc<dyn Observer>,
    quota: Quota,
    metrics: Metrics,
}

/// One connection on its way.
pub(crate) struct Connection<'a, C, F> {
    pub(crate) proxy: &'a Proxy,
    pub(crate) policy: &'a dyn Policy,
    pub(crate) ends: Ends,
    pub(crate) client: Leg<C>,
    /// Opens the way to the server when it is first awaited.
    pub(crate) connect: Option<F>,
    pub(crate) timer: Timer,
}

impl Proxy {
    /// A proxy that tells `observer` of each request, and `registry` of their number.
    pub fn new(limits: Limits, observer: Arc<dyn Observer>, registry: &mut Registry) -> Self {
        Proxy { limits, observer, quota: Quota::default(), metrics: Metrics::new(registry) }
    }

    /// Serves a client to its connection's end. `connect` opens the way to the server that the client meant: it is not
    /// awaited before a request was allowed, and what it gives is for this client alone.
    pub async fn serve<C, U, F>(&self, client: C, ends: Ends, policy: &dyn Policy, connect: F)
    where
        C: Stream,
        U: Stream,
        F: Future<Output = io::Result<U>> + Send,
    {
        let Some(_place) = self.quota.take(ends.client.ip(), self.limits.connections) else {
            // No answer: whoever has this many connections would get one for each.
            self.refuse(ends, Protocol::Unknown, policy, Fault::QUOTA, None);
            return;
        };
        self.metrics.connections.inc();
        let _open = Open(&self.metrics);
        let timer = Timer::new(self.limits.head_time);
        let connect = Some(connect);
        let connection = Connection { proxy: self, policy, ends, client: Leg::new(client), connect, timer };
        connection.run().await;
    }

    /// Tells of a request's end.
    pub(crate) fn tell(&self, record: &Record<'_>) {
        self.metrics.count(record);
        self.observer.record(record);
    }

    /// Tells of what never became a request.
    pub(crate) fn refuse(
        &self,
        ends: Ends,
        protocol: Protocol,
        policy: &dyn Policy,
        fault: Fault,
        status: Option<u16>,
    ) {
        self.tell(&Record {
            ends,
            protocol,
            method: b"",
            host: b"",
            path: b"",
            status,
            outcome: Outcome::Refused(fault),
            generation: policy.generation(),
            duration: Duration::ZERO,
        });
    }
}

/// A connection that is counted as open.
struct Open<'a>(&'a Metrics);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.connections.dec();
    }
}

/// What the first octets of a connection say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opening {
    Http1,
    Http2,
    Tls,
}

/// The octet that every TLS handshake begins with.
const TLS_HANDSHAKE: u8 = 0x16;

/// Enough of HTTP/2's preface to tell it from a request: no method is called `PRI`.
const PREFACE: &[u8] = b"PRI ";

impl Opening {
    /// `None`: more is needed.
    fn of(input: &[u8]) -> Option<Opening> {
        match input {
            [] => None,
            [TLS_HANDSHAKE, ..] => Some(Opening::Tls),
            _ if input.starts_with(PREFACE) => Some(Opening::Http2),
            _ if PREFACE.starts_with(input) => None,
            _ => Some(Opening::Http1),
        }
    }
}

impl<C, U, F> Connection<'_, C, F>
where
    C: Stream,
    U: Stream,
    F: Future<Output = io::Result<U>> + Send,
{
    async fn run(mut self) {
        let protocols = self.policy.protocols();
        match self.opening().await {
            // Nobody said anything: nothing to tell of.
            None => {}
            Some(Opening::Http1) if protocols.http1 => http1::serve::serve(self).await,
            // It is told in HTTP/1 what is wrong, which a client of HTTP/2 understands as well as any refusal.
            Some(Opening::Http2) if protocols.http1 && !protocols.http2 => http1::serve::serve(self).await,
            Some(Opening::Http2) if protocols.http2 => http2::serve::serve(self).await,
            Some(Opening::Tls) if protocols.tls => self.serve_tls().await,
            Some(_) => self.proxy.refuse(self.ends, Protocol::Unknown, self.policy, Fault::PROTOCOL, None),
        }
    }

    async fn opening(&mut self) -> Option<Opening> {
        let Connection { client, timer, .. } = self;
        poll_fn(|context| {
            loop {
                if let Some(opening) = Opening::of(&client.input) {
                    return Poll::Ready(Some(opening));
                }
                match client.poll_fill(context) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(None),
                    Poll::Ready(Ok(_)) => {}
                    Poll::Pending => break,
                }
            }
            // A server that speaks first waits here, as does its client: they speak no HTTP.
            timer.poll(context).map(|()| None)
        })
        .await
    }

    /// Opens the way to the server.
    pub(crate) async fn open(&mut self) -> Result<Leg<U>, Fault> {
        let connect = self.connect.take().ok_or(Fault::UPSTREAM_ENDED)?;
        match timeout(self.proxy.limits.connect_time, connect).await {
            Ok(Ok(stream)) => Ok(Leg::new(stream)),
            Ok(Err(_)) => Err(Fault::CONNECT_REFUSED),
            Err(_) => Err(Fault::CONNECT_SLOW),
        }
    }

    /// Sends what there is to send, and ends the connection so that the client can read it: what it still sends is read for a
    /// moment and thrown away, as a reset would take the answer with it (RFC 9112, section 9.6).
    pub(crate) async fn linger(&mut self) {
        let Connection { client, timer, proxy, .. } = self;
        timer.set(Instant::now(), proxy.limits.linger_time);
        if !client.output.is_empty() {
            client.hold_for_end();
        }
        let flushed = poll_fn(|context| match client.poll_flush(context) {
            Poll::Pending => timer.poll(context).map(|()| false),
            Poll::Ready(result) => Poll::Ready(result.is_ok()),
        });
        if !flushed.await || client.stream.shutdown().await.is_err() {
            return;
        }
        let mut left = proxy.limits.linger;
        poll_fn(|context| poll_discard(client, timer, &mut left, context)).await;
    }
}

fn poll_discard<C: Stream>(
    client: &mut Leg<C>,
    timer: &mut Timer,
    left: &mut usize,
    context: &mut Context<'_>,
) -> Poll<()> {
    loop {
        *left = left.saturating_sub(client.input.len());
        client.input.advance(client.input.len());
        if *left == 0 {
            return Poll::Ready(());
        }
        match client.poll_fill(context) {
            Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
            Poll::Ready(Ok(_)) => {}
            Poll::Pending => return timer.poll(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_octets_say_what_is_spoken() {
        assert_eq!(Opening::of(b""), None);
        assert_eq!(Opening::of(b"P"), None);
        assert_eq!(Opening::of(b"PRI"), None);
        assert_eq!(Opening::of(b"PRI "), Some(Opening::Http2));
        assert_eq!(Opening::of(b"PRO"), Some(Opening::Http1));
        assert_eq!(Opening::of(b"POST"), Some(Opening::Http1));
        assert_eq!(Opening::of(b"\x16"), Some(Opening::Tls));
        assert_eq!(Opening::of(b"\0"), Some(Opening::Http1));
    }
}
