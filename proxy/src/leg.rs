//! One side of a connection: a stream and the bounded buffers of what came from it and what goes to it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::net::TcpStream;
use tokio_util::io::poll_read_buf;

use crate::splice::Pipe;

/// What is read at a time: most requests and responses are smaller.
const READ: usize = 8 * 1024;

/// A connection to a client or an upstream: a socket, or in tests a pipe in memory, with which time can be paused.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {
    /// The socket, if the kernel can be asked to move octets by itself.
    fn socket(&self) -> Option<&TcpStream> {
        None
    }
}

impl Stream for TcpStream {
    fn socket(&self) -> Option<&TcpStream> {
        Some(self)
    }
}

impl Stream for DuplexStream {}

/// A stream and its buffers.
#[derive(Debug)]
pub(crate) struct Leg<S> {
    pub(crate) stream: S,
    /// What came and was not passed on yet.
    pub(crate) input: BytesMut,
    /// What is to be sent.
    pub(crate) output: BytesMut,
    /// What came and is in the kernel still, on its way to the other side. It comes after `input`.
    pub(crate) pipe: Option<Pipe>,
    /// Nothing more comes.
    pub(crate) ended: bool,
    /// All octets that came.
    pub(crate) received: u64,
    /// All octets that were sent.
    pub(crate) sent: u64,
}

impl<S: Stream> Leg<S> {
    pub(crate) fn new(stream: S) -> Self {
        let (input, output) = (BytesMut::new(), BytesMut::new());
        Leg { stream, input, output, pipe: None, ended: false, received: 0, sent: 0 }
    }

    /// Whether something that came is not passed on yet.
    pub(crate) fn holds(&self) -> bool {
        !self.input.is_empty() || self.pipe.as_ref().is_some_and(Pipe::holds)
    }

    /// Reads once. 0 is the end.
    pub(crate) fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.ended {
            return Poll::Ready(Ok(0));
        }
        self.input.reserve(READ);
        let count = ready!(poll_read_buf(Pin::new(&mut self.stream), context, &mut self.input))?;
        self.ended = count == 0;
        self.received += count as u64;
        Poll::Ready(Ok(count))
    }

    /// Sends what is to be sent.
    pub(crate) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.output.is_empty() {
            let count = ready!(Pin::new(&mut self.stream).poll_write(context, &self.output))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.output.advance(count);
            self.sent += count as u64;
        }
        Poll::Ready(Ok(()))
    }

    /// Has what is sent from now on wait for the end of what there is to send, which must come soon: they leave as one segment.
    pub(crate) fn hold_for_end(&self) {
        if let Some(socket) = self.stream.socket()
            && let Err(error) = SockRef::from(socket).set_tcp_cork(true)
        {
            tracing::debug!(%error, "the last octets and the end leave one after the other");
        }
    }

    /// Has the peer see a reset instead of an end: what it was sent is not all there was.
    pub(crate) fn reset(&self) {
        if let Some(socket) = self.stream.socket()
            && let Err(error) = socket.set_zero_linger()
        {
            tracing::debug!(%error, "a connection that was cut off will look as if it had ended");
        }
    }

    /// Gives memory back while nothing is expected soon: most connections rest most of the time.
    pub(crate) fn rest(&mut self) {
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
        if self.output.is_empty() {
            self.output = BytesMut::new();
        }
        if !self.pipe.as_ref().is_some_and(Pipe::holds) {
            self.pipe = None;
        }
    }
}
