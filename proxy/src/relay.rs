//! Moving a body from one side to the other with bounded memory: the sender is read only as fast as the receiver takes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Buf as _;

use crate::fault::Fault;
use crate::http1::framing::Body;
use crate::leg::{Leg, Stream};
use crate::limits::Limits;
use crate::splice::{Failed, Moved, Pipe, WORTH_A_PIPE};

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
        if is_long(body, from) && from.pipe.is_none() {
            from.pipe = Pipe::new();
        }
        if let Some(moved) = ready!(poll_splice(body, from, to, context))? {
            if moved == Moved::In(0) {
                end_of_sender(body)?;
            }
            continue;
        }
        if ready!(from.poll_fill(context)).map_err(|_| Interruption::Sender)? == 0 {
            end_of_sender(body)?;
        }
    }
}

/// The end of whoever sends a body is the body's end only if it has no other.
fn end_of_sender(body: &mut Body) -> Result<(), Interruption> {
    if !matches!(body, Body::UntilClose) {
        return Err(Interruption::Ended);
    }
    *body = Body::Done;
    Ok(())
}

/// Whether much of a body is left, as far as one can tell: what had no end until now will go on.
fn is_long<A: Stream>(body: &Body, from: &Leg<A>) -> bool {
    from.stream.socket().is_some() && body.plain() >= WORTH_A_PIPE && from.received >= WORTH_A_PIPE
}

/// Has the kernel move octets, if there is a pipe between the two; `None` if there is none.
fn poll_splice<A: Stream, B: Stream>(
    body: &mut Body,
    from: &mut Leg<A>,
    to: &mut Leg<B>,
    context: &mut Context<'_>,
) -> Poll<Result<Option<Moved>, Interruption>> {
    let (Some(sender), Some(receiver), Some(pipe)) =
        (from.stream.socket(), to.stream.socket(), &mut from.pipe)
    else {
        return Poll::Ready(Ok(None));
    };
    if body.plain() == 0 || from.ended {
        return Poll::Ready(Ok(None));
    }
    let moved =
        ready!(pipe.poll_move(sender, receiver, body.plain(), context)).map_err(|failed| match failed {
            Failed::Sender => Interruption::Sender,
            Failed::Receiver => Interruption::Receiver,
        })?;
    match moved {
        Moved::In(count) => {
            from.received += count as u64;
            from.ended = count == 0;
        }
        Moved::Out(count) => {
            to.sent += count as u64;
            body.passed(count as u64);
        }
    }
    Poll::Ready(Ok(Some(moved)))
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
