//! One request that was allowed, and its response: both bodies stream at the same time.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

use bytes::Buf as _;
use tokio::time::Instant;

use super::framing::{Body, Trailers};
use super::head::RequestHead;
use super::response::{Answer, Question};
use super::scan::{Kind, Scanner};
use crate::fault::Fault;
use crate::leg::{Leg, Stream};
use crate::limits::Limits;
use crate::relay::{Interruption, poll_pass};
use crate::timer::Timer;

/// How an exchange ended well.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Finished {
    pub(crate) answer: Answer,
    /// Whether both sides stand before the next request.
    pub(crate) clean: bool,
}

/// How an exchange ended otherwise.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Broken {
    /// The client's request turned out to be faulty.
    Request(Fault),
    /// The upstream's response did.
    Response(Fault),
    /// The client is gone, or as good as gone.
    Client(Fault),
}

/// An exchange on its way.
pub(crate) struct Exchange<'a, C, U> {
    client: &'a mut Leg<C>,
    upstream: &'a mut Leg<U>,
    limits: &'a Limits,
    question: Question,
    upload: Upload,
    download: Download,
    /// The client sends its body once it is told to continue, and nobody has told it yet.
    held: bool,
}

#[derive(Debug)]
enum Upload {
    Body(Body),
    Done,
    /// The upstream takes no more; its response may say why.
    Refused,
}

#[derive(Debug)]
enum Download {
    Head(Scanner),
    Body(Answer, Body),
}

/// What there was to see of the pace when it was last looked at.
#[derive(Clone, Copy, Debug)]
struct Pace {
    received: u64,
    sent: u64,
    moved: u64,
    /// Whether the rest of the request was waited for.
    sends: bool,
    /// Whether the client did not take what was there for it.
    reads: bool,
    /// When anything moved last.
    since: Instant,
}

impl<'a, C: Stream, U: Stream> Exchange<'a, C, U> {
    /// Begins with the head of a request that was allowed; its body is what comes next from the client.
    pub(crate) fn new(
        head: &RequestHead,
        client: &'a mut Leg<C>,
        upstream: &'a mut Leg<U>,
        limits: &'a Limits,
    ) -> Self {
        upstream.output.extend_from_slice(head.text());
        let question = Question {
            head: head.method() == b"HEAD",
            old: head.old,
            persistent: head.persistent,
            upgrade: head.upgrade(),
        };
        let upload = Upload::Body(Body::new(head.framing, Trailers::Drop));
        let download = Download::Head(Scanner::default());
        Exchange { client, upstream, limits, question, upload, download, held: head.expects }
    }

    /// Whether the client has been sent any of the response: then no other one can be.
    pub(crate) fn has_begun(&self) -> bool {
        matches!(self.download, Download::Body(..))
    }

    /// The status that the upstream answered with, if it has.
    pub(crate) fn status(&self) -> Option<u16> {
        match &self.download {
            Download::Head(_) => None,
            Download::Body(answer, _) => Some(answer.status),
        }
    }

    /// Runs to the end of the response.
    pub(crate) async fn run(&mut self, timer: &mut Timer, now: Instant) -> Result<Finished, Broken> {
        timer.set(now, self.limits.pace_time);
        let mut pace = self.measure(now);
        poll_fn(|context| self.poll(timer, &mut pace, context)).await
    }

    fn poll(
        &mut self,
        timer: &mut Timer,
        pace: &mut Pace,
        context: &mut Context<'_>,
    ) -> Poll<Result<Finished, Broken>> {
        self.poll_upload(context)?;
        if let Poll::Ready(answer) = self.poll_download(context)? {
            // A server may answer early and still take the rest. Whoever waits to be told to continue may never send it.
            let takes_rest = answer.persistent && !self.held && matches!(self.upload, Upload::Body(_));
            if !takes_rest {
                let clean = matches!(self.upload, Upload::Done);
                return Poll::Ready(Ok(Finished { answer, clean }));
            }
        }
        if matches!(self.upload, Upload::Done) {
            self.poll_ahead(context).map_err(|_| Broken::Client(Fault::CLIENT_GONE))?;
        }
        while timer.poll(context).is_ready() {
            let now = Instant::now();
            *pace = self.check_pace(pace, now)?;
            timer.set(now, self.limits.pace_time);
        }
        Poll::Pending
    }

    fn poll_upload(&mut self, context: &mut Context<'_>) -> Result<(), Broken> {
        let Upload::Body(body) = &mut self.upload else { return Ok(()) };
        match poll_pass(body, self.client, self.upstream, self.limits, context) {
            Poll::Pending => return Ok(()),
            Poll::Ready(Ok(())) => self.upload = Upload::Done,
            Poll::Ready(Err(Interruption::Receiver)) => {
                self.upstream.output.clear();
                self.upload = Upload::Refused;
            }
            Poll::Ready(Err(Interruption::Fault(fault))) => return Err(Broken::Request(fault)),
            Poll::Ready(Err(Interruption::Ended)) => return Err(Broken::Request(Fault::TRUNCATED)),
            Poll::Ready(Err(Interruption::Sender)) => return Err(Broken::Client(Fault::CLIENT_GONE)),
        }
        Ok(())
    }

    fn poll_download(&mut self, context: &mut Context<'_>) -> Poll<Result<Answer, Broken>> {
        loop {
            let scanner = match &mut self.download {
                Download::Head(scanner) => scanner,
                Download::Body(answer, body) => {
                    let passed = poll_pass(body, self.upstream, self.client, self.limits, context);
                    return passed.map_ok(|()| *answer).map_err(|interruption| match interruption {
                        Interruption::Receiver => Broken::Client(Fault::CLIENT_GONE),
                        Interruption::Fault(fault) => Broken::Response(fault),
                        Interruption::Ended | Interruption::Sender => Broken::Response(Fault::UPSTREAM_ENDED),
                    });
                }
            };
            let scanned = scanner.scan(&self.upstream.input, Kind::Response, self.limits);
            if let Some(range) = scanned.map_err(Broken::Response)? {
                let head = &self.upstream.input[range.clone()];
                let answer = Answer::parse(head, self.question, self.limits, &mut self.client.output)
                    .map_err(Broken::Response)?;
                self.upstream.input.advance(range.end);
                self.held &= !answer.is_interim();
                self.download = if answer.is_interim() {
                    Download::Head(Scanner::default())
                } else {
                    let body = Body::new(answer.framing, Trailers::Forward);
                    // A connection that ends with an answer which is all there.
                    if !answer.persistent && !answer.switched && body.is_within(self.upstream.input.len()) {
                        self.client.hold_for_end();
                    }
                    Download::Body(answer, body)
                };
                continue;
            }
            // An interim response is waited for: `100 Continue` is what brings the body.
            match self.client.poll_flush(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Broken::Client(Fault::CLIENT_GONE))),
                Poll::Ready(Ok(())) => {}
            }
            match self.upstream.poll_fill(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0) | Err(_)) => {
                    return Poll::Ready(Err(Broken::Response(Fault::UPSTREAM_ENDED)));
                }
                Poll::Ready(Ok(_)) => {}
            }
        }
    }

    /// Reads the next request while the response to this one is under way, as far as there is room: so the client's end is
    /// noticed.
    fn poll_ahead(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        while !self.client.ended && self.client.input.len() < self.limits.buffer {
            match self.client.poll_fill(context) {
                Poll::Pending => break,
                Poll::Ready(count) => count?,
            };
        }
        Ok(())
    }

    fn measure(&self, now: Instant) -> Pace {
        Pace {
            received: self.client.received,
            sent: self.client.sent,
            moved: self.client.received + self.client.sent + self.upstream.received + self.upstream.sent,
            sends: matches!(self.upload, Upload::Body(_))
                && self.upstream.output.is_empty()
                && !self.client.holds()
                && !self.held,
            reads: !self.client.output.is_empty() || self.has_begun() && self.upstream.holds(),
            since: now,
        }
    }

    /// A client that is waited for all the time has to move a little in each period. An upstream may think for longer.
    fn check_pace(&self, before: &Pace, instant: Instant) -> Result<Pace, Broken> {
        let mut now = self.measure(instant);
        let answering = matches!(&self.download, Download::Body(_, body) if !body.is_done());
        if before.sends && now.sends && !answering && now.received - before.received < self.limits.pace {
            return Err(Broken::Request(Fault::BODY_SLOW));
        }
        if before.reads && now.reads && now.sent - before.sent < self.limits.pace {
            return Err(Broken::Client(Fault::READ_SLOW));
        }
        if now.moved == before.moved {
            now.since = before.since;
        }
        if now.since.duration_since(before.since).is_zero()
            && instant - before.since >= self.limits.stall_time
        {
            return Err(Broken::Response(Fault::STALLED));
        }
        Ok(now)
    }
}
