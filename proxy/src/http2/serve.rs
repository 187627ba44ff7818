//! The streams of one HTTP/2 connection: each is judged by the rules of its moment, and a forbidden one troubles no other.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, client, server};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Request, Response, StatusCode};
use tokio::time::{Instant, timeout};

use super::guard::{Guarded, Meter};
use super::head::StreamHead;
use super::stream::{End, pass};
use crate::connection::Connection;
use crate::fault::Fault;
use crate::leg::{Leg, Stream};
use crate::limits::Limits;
use crate::log::{Ends, Outcome, Protocol, Record};
use crate::policy::{RuleId, Verdict};
use crate::timer::Timer;

/// gRPC's status for what is not permitted, and for what cannot be reached.
const PERMISSION_DENIED: &str = "7";
const UNAVAILABLE: &str = "14";

/// Octets that may be on their way in one stream, and in all of a connection.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 256 * 1024;

/// Streams that were reset and are still remembered, or not yet looked at.
const RESETS: usize = 20;

type Running<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Serves a client to its end.
pub(crate) async fn serve<C, U, F>(mut connection: Connection<'_, C, F>)
where
    C: Stream,
    U: Stream,
    F: Future<Output = io::Result<U>> + Send,
{
    let (proxy, policy, ends) = (connection.proxy, connection.policy, connection.ends);
    let limits = &proxy.limits;
    let connect = connection.connect.take();
    let Leg { stream, input, .. } = connection.client;
    let (guarded, meter) = Guarded::new(stream, input, limits);
    let handshake = timeout(limits.head_time, server_settings(limits).handshake(guarded));
    let Ok(Ok(client)) = handshake.await else {
        return proxy.refuse(ends, Protocol::Http2, policy, Fault::HTTP2, None);
    };
    let judge = Judge { proxy, policy, ends };
    let mut session = Session {
        judge,
        client,
        meter,
        streams: FuturesUnordered::new(),
        upstream: None,
        driver: None,
        timer: connection.timer,
        moved: 0,
        since: Instant::now(),
        leaving: false,
    };
    let mut connect = connect;
    while let Some(accepted) = session.next(limits).await {
        session.accept(accepted, &mut connect, limits).await;
    }
}

fn server_settings(limits: &Limits) -> server::Builder {
    let mut builder = server::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(header_list(limits))
        .max_concurrent_streams(limits.streams)
        .max_concurrent_reset_streams(RESETS)
        .max_pending_accept_reset_streams(RESETS)
        .max_local_error_reset_streams(Some(RESETS))
        .max_send_buffer_size(limits.buffer);
    builder
}

fn client_settings(limits: &Limits) -> client::Builder {
    let mut builder = client::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(header_list(limits))
        .max_concurrent_reset_streams(RESETS)
        .max_pending_accept_reset_streams(RESETS)
        .max_local_error_reset_streams(Some(RESETS))
        .max_send_buffer_size(limits.buffer)
        .enable_push(false);
    builder
}

fn header_list(limits: &Limits) -> u32 {
    u32::try_from(limits.head).unwrap_or(u32::MAX)
}

type Accepted = (Request<RecvStream>, SendResponse<Bytes>);

/// A connection and its streams.
struct Session<'a, C> {
    judge: Judge<'a>,
    client: server::Connection<Guarded<C>, Bytes>,
    meter: Arc<Meter>,
    streams: FuturesUnordered<Running<'a>>,
    upstream: Option<client::SendRequest<Bytes>>,
    /// Moves the frames of the upstream's connection; ends with it.
    driver: Option<Running<'a>>,
    timer: Timer,
    moved: u64,
    since: Instant,
    /// The end has been announced, for the client or for the upstream.
    leaving: bool,
}

impl<'a, C: Stream + 'a> Session<'a, C> {
    /// The next stream; `None` at the connection's end. All that is under way moves meanwhile.
    async fn next(&mut self, limits: &Limits) -> Option<Accepted> {
        self.timer.set(Instant::now(), limits.pace_time);
        poll_fn(|context| self.poll(limits, context)).await
    }

    fn poll(&mut self, limits: &Limits, context: &mut Context<'_>) -> Poll<Option<Accepted>> {
        while self.streams.poll_next_unpin(context) == Poll::Ready(Some(())) {}
        if let Some(driver) = &mut self.driver
            && driver.as_mut().poll(context).is_ready()
        {
            self.driver = None;
            self.leave();
        }
        let accepted = self.client.poll_accept(context);
        // Streams that were answered need their frames sent, and new frames may be for streams that wait.
        while self.streams.poll_next_unpin(context) == Poll::Ready(Some(())) {}
        match accepted {
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Ready(Some(Ok(accepted))) => return Poll::Ready(Some(accepted)),
            Poll::Ready(Some(Err(error))) => {
                if !error.is_io() {
                    self.judge.refuse(Fault::HTTP2);
                }
                return Poll::Ready(None);
            }
            Poll::Pending => {}
        }
        if self.meter.is_flooded() && !std::mem::replace(&mut self.leaving, true) {
            self.judge.refuse(Fault::HTTP2);
            self.client.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
            context.waker().wake_by_ref();
        }
        self.poll_time(limits, context)
    }

    fn poll_time(&mut self, limits: &Limits, context: &mut Context<'_>) -> Poll<Option<Accepted>> {
        while self.timer.poll(context).is_ready() {
            let now = Instant::now();
            let moved = self.meter.moved();
            if moved != self.moved {
                (self.moved, self.since) = (moved, now);
            }
            let most = if self.streams.is_empty() { limits.idle_time } else { limits.stall_time };
            if now - self.since >= most {
                if self.leaving {
                    return Poll::Ready(None);
                }
                self.since = now;
                self.leave();
                context.waker().wake_by_ref();
            }
            self.timer.set(now, limits.pace_time);
        }
        Poll::Pending
    }

    fn leave(&mut self) {
        self.leaving = true;
        self.client.graceful_shutdown();
    }

    async fn accept<U, F>(
        &mut self,
        (request, mut respond): Accepted,
        connect: &mut Option<F>,
        limits: &Limits,
    ) where
        U: Stream + 'a,
        F: Future<Output = io::Result<U>> + Send,
    {
        let (parts, body) = request.into_parts();
        let grpc = parts
            .headers
            .get(CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
        let judged = match self.judge.judge(parts, limits) {
            Ok(judged) => judged,
            Err(Refusal { status, text }) => {
                return answer(&mut respond, grpc, status, PERMISSION_DENIED, &text);
            }
        };
        if self.upstream.is_none()
            && let Err(fault) = self.connect(connect, limits).await
        {
            self.judge.tell(&judged, Some(fault.status), Outcome::Failed(judged.rule, fault));
            let status = StatusCode::from_u16(fault.status).unwrap_or(StatusCode::BAD_GATEWAY);
            return answer(&mut respond, grpc, status, UNAVAILABLE, fault.name);
        }
        let Some(upstream) = self.upstream.clone() else { return };
        let judge = self.judge;
        self.streams.push(Box::pin(async move {
            let end = pass(&judged.head, body, respond, upstream).await;
            judge.ended(&judged, end);
        }));
    }

    async fn connect<U, F>(&mut self, connect: &mut Option<F>, limits: &Limits) -> Result<(), Fault>
    where
        U: Stream + 'a,
        F: Future<Output = io::Result<U>> + Send,
    {
        let connect = connect.take().ok_or(Fault::UPSTREAM_ENDED)?;
        let opened = timeout(limits.connect_time, async {
            let stream = connect.await.map_err(|_| Fault::CONNECT_REFUSED)?;
            client_settings(limits).handshake(stream).await.map_err(|_| Fault::UPSTREAM_ENDED)
        });
        let (sender, driver) = opened.await.map_err(|_| Fault::CONNECT_SLOW)??;
        self.upstream = Some(sender);
        self.driver = Some(Box::pin(async move {
            if let Err(error) = driver.await {
                tracing::debug!(%error, "an upstream's connection ended");
            }
        }));
        Ok(())
    }
}

/// Answers a stream that is not passed on. Whether the client is still there to hear it makes no difference.
fn answer(
    respond: &mut SendResponse<Bytes>,
    grpc: bool,
    status: StatusCode,
    grpc_status: &'static str,
    text: &str,
) {
    let mut response = Response::new(());
    let sent = if grpc {
        // A response of trailers only (gRPC over HTTP/2, "Responses").
        *response.headers_mut() = grpc_trailers(grpc_status, text);
        respond.send_response(response, true).map(|_| ())
    } else {
        *response.status_mut() = status;
        let body = Bytes::from(format!("{text}\n"));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        respond.send_response(response, false).and_then(|mut stream| stream.send_data(body, true))
    };
    if let Err(error) = sent {
        tracing::debug!(%error, "a refusal could not be sent");
    }
    // The request's body is dropped with its stream: `h2` then tells the client to send no more of it.
}

fn grpc_trailers(status: &'static str, text: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(HeaderName::from_static("grpc-status"), HeaderValue::from_static(status));
    let mut message = BytesMut::new();
    for octet in text.bytes() {
        match octet {
            b' '..=b'~' if octet != b'%' => message.extend_from_slice(&[octet]),
            _ => message.extend_from_slice(format!("%{octet:02X}").as_bytes()),
        }
    }
    if let Ok(message) = HeaderValue::from_maybe_shared(message.freeze()) {
        headers.insert(HeaderName::from_static("grpc-message"), message);
    }
    headers
}

/// What a stream is judged with, and told of.
#[derive(Clone, Copy)]
struct Judge<'a> {
    proxy: &'a crate::connection::Proxy,
    policy: &'a dyn crate::policy::Policy,
    ends: Ends,
}

/// A stream that was allowed.
struct Judged {
    head: StreamHead,
    rule: RuleId,
    begin: Instant,
    generation: u64,
}

/// A stream that was not.
struct Refusal {
    status: StatusCode,
    text: String,
}

impl Judge<'_> {
    fn judge(self, parts: http::request::Parts, limits: &Limits) -> Result<Judged, Refusal> {
        let begin = Instant::now();
        let generation = self.policy.generation();
        let head = StreamHead::parse(parts, limits).and_then(|head| {
            let clear = !head.underscored().any(|name| self.policy.names_header(&name));
            if clear { Ok(head) } else { Err(Fault::UNDERSCORE) }
        });
        let head = head.map_err(|fault| {
            self.proxy.refuse(self.ends, Protocol::Http2, self.policy, fault, Some(fault.status));
            let status = StatusCode::from_u16(fault.status).unwrap_or(StatusCode::BAD_REQUEST);
            Refusal { status, text: fault.name.to_owned() }
        })?;
        match head.show(|head| self.policy.judge(head)) {
            Verdict::Allow { rule } => Ok(Judged { head, rule, begin, generation }),
            Verdict::Deny { rule, text } => {
                self.tell(&Judged { head, rule, begin, generation }, Some(403), Outcome::Denied(rule));
                Err(Refusal { status: StatusCode::FORBIDDEN, text: text.to_string() })
            }
        }
    }

    fn ended(self, judged: &Judged, end: End) {
        let (status, outcome) = match end {
            Ok(status) => (Some(status), Outcome::Allowed(judged.rule)),
            Err((status, fault)) => (status, Outcome::Failed(judged.rule, fault)),
        };
        self.tell(judged, status.map(|status| status.as_u16()), outcome);
    }

    fn tell(self, judged: &Judged, status: Option<u16>, outcome: Outcome) {
        self.proxy.tell(&Record {
            ends: self.ends,
            protocol: Protocol::Http2,
            method: judged.head.method(),
            host: judged.head.host(),
            path: judged.head.path(),
            status,
            outcome,
            generation: judged.generation,
            duration: judged.begin.elapsed(),
        });
    }

    fn refuse(self, fault: Fault) {
        self.proxy.refuse(self.ends, Protocol::Http2, self.policy, fault, None);
    }
}
