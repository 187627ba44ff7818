//! Moving a body from one side to the other with bounded memory: the sender is read only as fast as the receiver takes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Buf as _;

use crate::fault::Fault;
use crate::http1::framing::Body;
use crate::leg::{Leg, Stream};
use crate::limits::Limits;

/// Smaller pieces are copied behind what already waits to be sent, so that they leave in one segment with it.
const WORTH_A_WRITE: usize = 2048;

/// Why a body did not arrive.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Interruption {
    /// Whoever sends it ended before it was whole.
    Ended,
    /// Whoever sends it failed.
    Sender,
    /// Whoever reads it failed.
    Receiver,
    /// It is no body.
    Fault(Fault),
}

/// Passes a body on, and all that waits to be sent before it.
pub(crate) fn poll_pass<A: Stream, B: Stream>(
    body: &mut Body,
    from: &mut Leg<A>,
    to: &mut Leg<B>,
    limits: &Limits,
    context: &mut Context<'_>,
) -> Poll<Result<(), Interruption>> {
    loop {
        if to.output.is_empty() && body.plain() > 0 && from.input.len() >= WORTH_A_WRITE {
            ready!(poll_write_through(body, from, to, context)).map_err(|_| Interruption::Receiver)?;
            continue;
        }
        if !from.input.is_empty() && !body.is_done() && to.output.len() < limits.buffer {
            let taken = body.advance(&from.input, &mut to.output, limits.buffer, limits);
            from.input.advance(taken.map_err(Interruption::Fault)?);
            continue;
        }
        ready!(to.poll_flush(context)).map_err(|_| Interruption::Receiver)?;
        if body.is_done() {
            return Poll::Ready(Ok(()));
        }
        if !from.input.is_empty() {
            continue;
        }
        if ready!(from.poll_fill(context)).map_err(|_| Interruption::Sender)? == 0 {
            if !matches!(body, Body::UntilClose) {
                return Poll::Ready(Err(Interruption::Ended));
            }
            *body = Body::Done;
        }
    }
}

/// Sends octets from where they were received to.
fn poll_write_through<A: Stream, B: Stream>(
    body: &mut Body,
    from: &mut Leg<A>,
    to: &mut Leg<B>,
    context: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    let most = usize::try_from(body.plain()).unwrap_or(usize::MAX).min(from.input.len());
    let count = ready!(Pin::new(&mut to.stream).poll_write(context, &from.input[..most]))?;
    if count == 0 {
        return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
    }
    from.input.advance(count);
    to.sent += count as u64;
    body.passed(count as u64);
    Poll::Ready(Ok(()))
}
