//! The requests of one HTTP/1 connection: strictly in order, each judged by the rules of its moment.

use std::future::{Future, poll_fn};
use std::io;
use std::task::Poll;

use bytes::Buf as _;
use tokio::time::Instant;

use super::exchange::{Broken, Exchange, Finished};
use super::head::RequestHead;
use super::scan::{Kind, Scanner};
use crate::connection::Connection;
use crate::fault::Fault;
use crate::leg::{Leg, Stream};
use crate::log::{Outcome, Protocol, Record};
use crate::policy::{Policy, RuleId, Verdict};
use crate::tunnel::{End, tunnel};

/// What comes after a request.
enum Next {
    /// Another one may.
    Request,
    /// The client is told this, and the connection ends.
    Answer { status: u16, text: String, to_head: bool },
    /// The response told the client that the connection ends: it may read to its end.
    Close,
    /// The connection ends, as nobody is there to tell.
    End,
    /// The connection is reset: a response was cut off, or a tunnel.
    Abort,
}

/// Serves a client to its end.
pub(crate) async fn serve<C, U, F>(mut connection: Connection<'_, C, F>)
where
    C: Stream,
    U: Stream,
    F: Future<Output = io::Result<U>> + Send,
{
    let mut upstream = None;
    let mut head = RequestHead::default();
    loop {
        let next;
        (head, next) = match connection.head(upstream.as_mut(), head).await {
            Ok(Some(head)) => {
                let next = connection.request(&mut upstream, &head).await;
                (head, next)
            }
            Ok(None) => (RequestHead::default(), Next::End),
            Err(fault) => {
                let ends = connection.ends;
                connection.proxy.refuse(ends, Protocol::Http1, connection.policy, fault, Some(fault.status));
                (RequestHead::default(), answer(fault, &RequestHead::default()))
            }
        };
        match next {
            Next::Request => {}
            Next::Answer { status, text, to_head } => {
                // The upstream must not take part of a request for all of one, nor answer it.
                drop(upstream);
                write_answer(&mut connection.client, status, &text, to_head);
                return connection.linger().await;
            }
            Next::Close => return connection.linger().await,
            Next::End => return,
            Next::Abort => return connection.client.reset(),
        }
    }
}

fn answer(fault: Fault, head: &RequestHead) -> Next {
    Next::Answer { status: fault.status, text: fault.name.to_owned(), to_head: head.method() == b"HEAD" }
}

impl<C, U, F> Connection<'_, C, F>
where
    C: Stream,
    U: Stream,
    F: Future<Output = io::Result<U>> + Send,
{
    /// The next request's head; `None` if there is none.
    async fn head(
        &mut self,
        mut upstream: Option<&mut Leg<U>>,
        recycled: RequestHead,
    ) -> Result<Option<RequestHead>, Fault> {
        let Connection { client, timer, proxy, .. } = self;
        let limits = &proxy.limits;
        let mut scanner = Scanner::default();
        // The first one's time began with the connection.
        let mut begun = upstream.is_none();
        let found = poll_fn(|context| {
            loop {
                if let Some(range) = scanner.scan(&client.input, Kind::Request, limits)? {
                    return Poll::Ready(Ok(Some(range)));
                }
                if !begun && !client.input.is_empty() {
                    begun = true;
                    timer.set(Instant::now(), limits.head_time);
                }
                match client.poll_fill(context) {
                    Poll::Ready(Ok(0)) if !client.input.is_empty() => {
                        return Poll::Ready(Err(Fault::TRUNCATED));
                    }
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Ok(None)),
                    Poll::Ready(Ok(_)) => {}
                    Poll::Pending => break,
                }
            }
            // Its end is the connection's, and whatever it says unasked is no answer to what comes next.
            if upstream.as_mut().is_some_and(|upstream| upstream.poll_fill(context).is_ready()) {
                return Poll::Ready(Ok(None));
            }
            let due = timer.poll(context);
            // Not between any two requests, as it costs more than the memory is worth to a busy connection.
            if timer.went_off_early() {
                client.rest();
                if let Some(upstream) = &mut upstream {
                    upstream.rest();
                }
            }
            match due {
                Poll::Ready(()) if client.input.is_empty() => Poll::Ready(Ok(None)),
                Poll::Ready(()) => Poll::Ready(Err(Fault::HEAD_SLOW)),
                Poll::Pending => Poll::Pending,
            }
        });
        let Some(range) = found.await? else { return Ok(None) };
        let head = RequestHead::parse(&client.input[range.clone()], limits, recycled)?;
        if head.underscored().any(|name| self.policy.names_header(&name)) {
            return Err(Fault::UNDERSCORE);
        }
        client.input.advance(range.end);
        Ok(Some(head))
    }

    /// Judges a request and, if it may, passes it on and its response back.
    async fn request(&mut self, upstream: &mut Option<Leg<U>>, head: &RequestHead) -> Next {
        let begin = Instant::now();
        let generation = self.policy.generation();
        let told = Told { head, begin, generation };
        let rule = match head.show(|head| self.policy.judge(head)) {
            Verdict::Allow { rule } => rule,
            Verdict::Deny { rule, text } => {
                self.tell(&told, Some(403), Outcome::Denied(rule));
                return Next::Answer {
                    status: 403,
                    text: text.to_string(),
                    to_head: head.method() == b"HEAD",
                };
            }
        };
        let reused = upstream.is_some();
        if upstream.is_none() {
            match self.open().await {
                Ok(leg) => *upstream = Some(leg),
                Err(fault) => {
                    self.tell(&told, Some(fault.status), Outcome::Failed(rule, fault));
                    return answer(fault, head);
                }
            }
        }
        let Some(leg) = upstream.as_mut() else { return Next::End };
        let mut exchange = Exchange::new(head, &mut self.client, leg, &self.proxy.limits);
        let result = exchange.run(&mut self.timer, begin).await;
        let (begun, status) = (exchange.has_begun(), exchange.status());
        match result {
            Ok(finished) if finished.answer.switched => {
                let end = self.tunnel(leg, head, generation).await;
                self.tell(&told, status, end.outcome(rule));
                if end == End::Natural { Next::End } else { Next::Abort }
            }
            Ok(finished) => {
                self.tell(&told, status, Outcome::Allowed(rule));
                self.after(&finished, leg)
            }
            Err(broken) => self.broken(&told, rule, broken, status, begun, reused),
        }
    }

    /// Whether another request may follow.
    fn after(&mut self, finished: &Finished, upstream: &Leg<U>) -> Next {
        if !finished.answer.persistent || !finished.clean {
            return Next::Close;
        }
        if !upstream.input.is_empty() {
            self.proxy.refuse(self.ends, Protocol::Http1, self.policy, Fault::RESPONSE_UNASKED, None);
            return Next::Close;
        }
        self.timer.set(Instant::now(), self.proxy.limits.idle_time);
        Next::Request
    }

    fn broken(
        &mut self,
        told: &Told<'_>,
        rule: RuleId,
        broken: Broken,
        status: Option<u16>,
        begun: bool,
        reused: bool,
    ) -> Next {
        let (Broken::Request(fault) | Broken::Response(fault) | Broken::Client(fault)) = broken;
        let tells = match broken {
            // A server that ends a resting connection may do so just when a request comes. To the client that is what it
            // would have seen without a proxy, and it knows which requests it may send again.
            Broken::Response(Fault::UPSTREAM_ENDED) if reused => false,
            Broken::Request(_) | Broken::Response(_) => !begun,
            Broken::Client(_) => false,
        };
        // What a response lacks is no fault of the client's.
        let fault_status =
            if matches!(broken, Broken::Response(_)) && fault.status < 500 { 502 } else { fault.status };
        let status = if tells { Some(fault_status) } else { status };
        self.tell(told, status, Outcome::Failed(rule, fault));
        if !tells {
            return Next::Abort;
        }
        // Nothing of the upstream's is left in it but interim responses, which may come before any other.
        answer(Fault { status: fault_status, ..fault }, told.head)
    }

    async fn tunnel(&mut self, upstream: &mut Leg<U>, head: &RequestHead, generation: u64) -> End {
        let allowed = still_allowed(self.policy, head, generation);
        tunnel(&mut self.client, upstream, &self.proxy.limits, &mut self.timer, allowed).await
    }

    fn tell(&self, told: &Told<'_>, status: Option<u16>, outcome: Outcome) {
        self.proxy.tell(&Record {
            ends: self.ends,
            protocol: Protocol::Http1,
            method: told.head.method(),
            host: told.head.host(),
            path: told.head.path(),
            status,
            outcome,
            generation: told.generation,
            duration: told.begin.elapsed(),
        });
    }
}

/// What is known of a request that was judged.
struct Told<'a> {
    head: &'a RequestHead,
    begin: Instant,
    generation: u64,
}

/// Asks again, but only when the rules have changed.
fn still_allowed(policy: &dyn Policy, head: &RequestHead, mut judged: u64) -> impl FnMut() -> bool {
    move || {
        let generation = policy.generation();
        if generation == judged {
            return true;
        }
        judged = generation;
        matches!(head.show(|head| policy.judge(head)), Verdict::Allow { .. })
    }
}

/// An answer of the proxy's own: always the last on its connection.
fn write_answer<C: Stream>(client: &mut Leg<C>, status: u16, text: &str, to_head: bool) {
    let length = text.len() + 1;
    let reason = reason(status);
    let head = format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    client.output.extend_from_slice(head.as_bytes());
    if !to_head {
        client.output.extend_from_slice(text.as_bytes());
        client.output.extend_from_slice(b"\n");
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        403 => "Forbidden",
        408 => "Request Timeout",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Bad Gateway",
    }
}
