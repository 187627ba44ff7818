//! What is no longer HTTP: upgraded connections and TLS, passed on both ways as they come.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::Instant;

use crate::fault::Fault;
use crate::http1::framing::Body;
use crate::leg::{Leg, Stream};
use crate::limits::Limits;
use crate::log::Outcome;
use crate::policy::RuleId;
use crate::relay::poll_pass;
use crate::timer::Timer;

/// Why a tunnel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Both sides ended, or one failed: no business of ours.
    Natural,
    /// Nothing moved for too long.
    Stalled(Fault),
    /// Policy no longer allows it.
    Withdrawn,
}

/// One direction.
#[derive(Debug)]
enum Direction {
    Open(Body),
    Closed,
}

/// Passes on until both sides have ended. `allowed` is asked before anything moves, and now and then while nothing does.
pub(crate) async fn tunnel<C: Stream, U: Stream>(
    client: &mut Leg<C>,
    upstream: &mut Leg<U>,
    limits: &Limits,
    timer: &mut Timer,
    mut allowed: impl FnMut() -> bool + Send,
) -> End {
    let mut up = Direction::Open(Body::UntilClose);
    let mut down = Direction::Open(Body::UntilClose);
    let mut moved = 0;
    let mut since = Instant::now();
    timer.set(since, limits.review_time);
    poll_fn(|context| {
        loop {
            if !allowed() {
                return Poll::Ready(End::Withdrawn);
            }
            let up = up.poll(client, upstream, limits, context);
            let down = down.poll(upstream, client, limits, context);
            match (up, down) {
                (Poll::Ready(Ok(())), Poll::Ready(Ok(())))
                | (Poll::Ready(Err(())), _)
                | (_, Poll::Ready(Err(()))) => return Poll::Ready(End::Natural),
                _ => {}
            }
            ready!(timer.poll(context));
            let now = Instant::now();
            let total = client.received + client.sent + upstream.received + upstream.sent;
            if total != moved {
                (moved, since) = (total, now);
            } else if now - since >= limits.tunnel_time {
                return Poll::Ready(End::Stalled(Fault::STALLED));
            }
            timer.set(now, limits.review_time);
        }
    })
    .await
}

impl Direction {
    /// Ready once this direction has ended and the receiver knows.
    fn poll<A: Stream, B: Stream>(
        &mut self,
        from: &mut Leg<A>,
        to: &mut Leg<B>,
        limits: &Limits,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), ()>> {
        let Direction::Open(body) = self else { return Poll::Ready(Ok(())) };
        ready!(poll_pass(body, from, to, limits, context)).map_err(|_| ())?;
        ready!(Pin::new(&mut to.stream).poll_shutdown(context)).map_err(|_| ())?;
        *self = Direction::Closed;
        Poll::Ready(Ok(()))
    }
}

impl End {
    /// How the request that became a tunnel came out.
    pub(crate) fn outcome(self, rule: RuleId) -> Outcome {
        match self {
            End::Natural => Outcome::Allowed(rule),
            End::Stalled(fault) => Outcome::Failed(rule, fault),
            End::Withdrawn => Outcome::Withdrawn(rule),
        }
    }
}
