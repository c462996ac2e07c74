//! A client's socket with time limits. It closes a connection on which no request begins, one whose
//! request head does not arrive, and one whose client does not read. It notices a client that
//! leaves while its request is being answered. It knows what the connection is doing from
//! [`Progress`], and nothing of HTTP but where a request line ends.

use crate::metrics::{Counter, Metrics};
use std::{
    io::{self, ErrorKind, IoSlice},
    pin::Pin,
    sync::Arc,
    sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed},
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::oneshot,
    time::{Instant, Sleep, sleep_until},
};

/// Longest request line, in bytes. A longer one is answered with 414, or 501 if its method does not
/// end (RFC 9112, section 3).
pub(super) const MAX_REQUEST_LINE_BYTES: usize = 64 << 10;
/// Most bytes of one read. hyper doubles its buffer, per connection, whenever a read fills it, and
/// 16 KiB are not filled so.
const MAX_READ_BYTES: usize = (16 << 10) - 1;
/// A client that has closed its sending side gets its answer if it is there after this: longer than
/// the default timeout of a request for a reply, and short enough that clients that have gone do
/// not fill the connection limit.
const HALF_CLOSED_TIMEOUT: Duration = Duration::from_secs(60);

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    /// The first request is awaited, or the head of a request has begun to arrive.
    Head,
    /// A request is being answered.
    Answer,
    /// The answer is an event stream: it has no end while the client listens.
    Stream,
    /// The answer is complete, and the next request has not begun.
    Idle,
}

/// What a connection is doing, shared between its socket and what answers its requests. One task
/// uses it.
#[derive(Debug, Default)]
pub(super) struct Progress {
    phase: AtomicU8,
    /// A request was answered before its body had been read.
    unread: AtomicBool,
    /// The last answer is or was an event stream.
    streamed: AtomicBool,
}

impl Progress {
    pub(super) fn enter(&self, phase: Phase) {
        if matches!(phase, Phase::Answer | Phase::Stream) {
            self.streamed.store(phase == Phase::Stream, Relaxed);
        }
        self.phase.store(phase as u8, Relaxed);
    }

    fn phase(&self) -> Phase {
        [Phase::Head, Phase::Answer, Phase::Stream, Phase::Idle][usize::from(self.phase.load(Relaxed) & 3)]
    }

    pub(super) fn is_stream(&self) -> bool {
        self.streamed.load(Relaxed)
    }

    pub(super) fn leave_body_unread(&self) {
        self.unread.store(true, Relaxed);
    }

    pub(super) fn left_body_unread(&self) -> bool {
        self.unread.load(Relaxed)
    }
}

/// The time limits of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct TimeLimits {
    /// From the first byte of a request head (of the first request: from the start of the
    /// connection) to its end.
    pub(super) head: Duration,
    /// From the end of an answer to the first byte of the next request.
    pub(super) idle: Duration,
    /// For a write to make progress.
    pub(super) write: Duration,
}

/// Why the socket ended a connection with which HTTP had not come to an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    HeadTimeout,
    UriTooLong,
    MethodTooLong,
}

/// A socket that is no longer served. Nothing of an answer waits to be written.
pub(super) struct Returned {
    pub(super) stream: TcpStream,
    pub(super) refusal: Option<Refusal>,
    /// A time limit ended it, which has been counted.
    pub(super) is_cut: bool,
}

/// See the module's head. When it is dropped, it returns its socket to whoever has the receiver.
pub(super) struct Patient {
    stream: Option<TcpStream>,
    returned: Option<oneshot::Sender<Returned>>,
    progress: Arc<Progress>,
    limits: TimeLimits,
    metrics: Arc<Metrics>,
    is_cut: bool,
    /// The phase that was seen last, and since when.
    phase: (Phase, Instant),
    line: RequestLine,
    refusal: Option<Refusal>,
    half_closed: Option<Instant>,
    read_alarm: Alarm,
    half_closed_alarm: Alarm,
    /// Set while nothing can be written.
    write_alarm: Option<Pin<Box<Sleep>>>,
}

impl Patient {
    pub(super) fn new(
        stream: TcpStream,
        limits: TimeLimits,
        progress: Arc<Progress>,
        metrics: Arc<Metrics>,
    ) -> (Self, oneshot::Receiver<Returned>) {
        let (returned, receiver) = oneshot::channel();
        let patient = Self {
            stream: Some(stream),
            returned: Some(returned),
            progress,
            limits,
            metrics,
            is_cut: false,
            phase: (Phase::Head, Instant::now()),
            line: RequestLine::default(),
            refusal: None,
            half_closed: None,
            read_alarm: Alarm::default(),
            half_closed_alarm: Alarm::default(),
            write_alarm: None,
        };
        (patient, receiver)
    }

    /// The socket itself, without limits; always there.
    pub(super) fn into_inner(mut self) -> Option<TcpStream> {
        self.stream.take()
    }

    fn stream(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        self.stream.as_mut().map(Pin::new).ok_or_else(|| ErrorKind::NotConnected.into())
    }

    fn write_limited<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.write_alarm = None;
            return written;
        }
        let until = Instant::now() + self.limits.write;
        let alarm = self.write_alarm.get_or_insert_with(|| Box::pin(sleep_until(until)));
        ready!(alarm.as_mut().poll(context));
        self.cut(|metrics| &metrics.http_slow);
        Poll::Ready(Err(io::Error::new(ErrorKind::TimedOut, "the client does not read")))
    }

    /// Counts that a time limit ends the connection. Once: hyper may read or write again before it
    /// gives the socket up.
    fn cut(&mut self, counter: fn(&Metrics) -> &Counter) {
        if !std::mem::replace(&mut self.is_cut, true) {
            counter(&self.metrics).inc();
        }
    }

    /// The phase and its beginning.
    fn look(&mut self) -> (Phase, Instant) {
        let phase = self.progress.phase();
        if phase != self.phase.0 {
            self.phase = (phase, Instant::now());
        }
        self.phase
    }

    fn received(&mut self, phase: Phase, bytes: &[u8]) -> io::Result<()> {
        if phase == Phase::Idle && !bytes.is_empty() {
            self.progress.enter(Phase::Head);
            self.line = RequestLine::default();
        }
        if !matches!(self.look().0, Phase::Head) {
            return Ok(());
        }
        self.line.extend(bytes).map_err(|refusal| {
            self.refusal = Some(refusal);
            io::Error::new(ErrorKind::InvalidData, "the request line is too long")
        })
    }

    /// Nothing can be read. An end of the connection looks like the client's end, so that it is no
    /// error.
    fn silent(&mut self, context: &mut Context<'_>, phase: Phase, since: Instant) -> Poll<io::Result<()>> {
        let limit = match phase {
            Phase::Head => self.limits.head,
            Phase::Idle => self.limits.idle,
            // Whoever reads the body, or writes the answer, has a limit of its own.
            Phase::Answer | Phase::Stream => return Poll::Pending,
        };
        ready!(self.read_alarm.poll_reached(context, since + limit));
        self.cut(|metrics| &metrics.http_silent);
        if phase == Phase::Idle || !self.line.has_begun() {
            return Poll::Ready(Ok(()));
        }
        self.refusal = Some(Refusal::HeadTimeout);
        Poll::Ready(Err(io::Error::new(ErrorKind::TimedOut, "the request head did not arrive")))
    }

    /// Whether the client still wants its answer. hyper does not read while it waits for an answer,
    /// so this looks.
    fn check_client(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let phase = self.look().0;
        if !matches!(phase, Phase::Answer | Phase::Stream) {
            return Ok(());
        }
        if self.half_closed.is_none() {
            let mut byte = [0];
            let Some(stream) = &self.stream else { return Ok(()) };
            match stream.poll_peek(context, &mut ReadBuf::new(&mut byte)) {
                Poll::Ready(Ok(0)) => self.half_closed = Some(Instant::now()),
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Ready(Ok(_)) | Poll::Pending => {}
            }
        }
        let Some(since) = self.half_closed else { return Ok(()) };
        let gone = phase == Phase::Stream
            || self.half_closed_alarm.poll_reached(context, since + HALF_CLOSED_TIMEOUT).is_ready();
        if gone { Err(io::Error::new(ErrorKind::ConnectionAborted, "the client has gone")) } else { Ok(()) }
    }
}

impl Drop for Patient {
    fn drop(&mut self) {
        if let (Some(stream), Some(returned)) = (self.stream.take(), self.returned.take()) {
            let _ = returned.send(Returned { stream, refusal: self.refusal, is_cut: self.is_cut });
        }
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (phase, since) = self.look();
        let before = buffer.filled().len();
        let read = if buffer.remaining() > MAX_READ_BYTES {
            let mut part = ReadBuf::new(buffer.initialize_unfilled_to(MAX_READ_BYTES));
            let read = self.stream()?.poll_read(context, &mut part);
            let count = part.filled().len();
            buffer.advance(count);
            read
        } else {
            self.stream()?.poll_read(context, buffer)
        };
        match read {
            Poll::Pending => self.silent(context, phase, since),
            Poll::Ready(Ok(())) => Poll::Ready(self.received(phase, &buffer.filled()[before..])),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        }
    }
}

impl AsyncWrite for Patient {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = self.stream()?.poll_write(context, bytes);
        self.write_limited(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.stream()?.poll_write_vectored(context, slices);
        self.write_limited(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.stream()?.poll_flush(context))?;
        Poll::Ready(self.check_client(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_shutdown(context)
    }
}

/// A timer that is set anew only where it would ring too late, since most requests arrive long
/// before it rings.
#[derive(Default)]
struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    fn poll_reached(&mut self, context: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        loop {
            ready!(sleep.as_mut().poll(context));
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            // It was set for an earlier phase.
            sleep.as_mut().reset(deadline);
        }
    }
}

/// How much of a request line has arrived. hyper would answer one that does not end like header
/// fields that are too large.
#[derive(Debug, Default)]
struct RequestLine {
    bytes: usize,
    has_method: bool,
    is_whole: bool,
}

impl RequestLine {
    fn has_begun(&self) -> bool {
        self.bytes > 0
    }

    fn extend(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        for byte in bytes {
            match byte {
                _ if self.is_whole => break,
                // Empty lines before a request are passed over (RFC 9112, section 2.2).
                b'\r' | b'\n' if self.bytes == 0 => {}
                b'\n' => self.is_whole = true,
                byte => {
                    self.bytes += 1;
                    self.has_method |= *byte == b' ' && self.bytes <= MAX_REQUEST_LINE_BYTES;
                }
            }
        }
        match self {
            Self { bytes: ..=MAX_REQUEST_LINE_BYTES, .. } => Ok(()),
            Self { has_method: true, .. } => Err(Refusal::UriTooLong),
            Self { has_method: false, .. } => Err(Refusal::MethodTooLong),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(parts: &[&[u8]], expected: Result<(), Refusal>) {
        let mut line = RequestLine::default();
        let result = parts.iter().try_for_each(|part| line.extend(part));
        assert_eq!(result, expected);
    }

    #[test]
    fn a_request_line_that_does_not_end_is_refused_by_what_of_it_is_too_long() {
        let long = vec![b'a'; MAX_REQUEST_LINE_BYTES];
        check(&[b"GET /", &long], Err(Refusal::UriTooLong));
        check(&[b"\r\n\r\n", &long], Ok(()));
        check(&[&long, b"a"], Err(Refusal::MethodTooLong));
        check(&[&long, b"a / HTTP/1.1\r\n"], Err(Refusal::MethodTooLong));
        check(&[b"GET / HTTP/1.1\r\nx: ", &long, &long], Ok(()));
        check(&[b"\nGET / HTTP/1.1", b"\r\n", &long, b"a"], Ok(()));
    }
}
