//! A WebSocket connection's socket. `tungstenite` works on two buffers in memory: it checks what
//! came in (fragments, sizes, UTF-8; the headers of frames have been checked by [`super::header`])
//! and leaves its own frames (pongs, closes, our short messages) to go out. The frames of events go
//! past it to the socket, as they are.

use super::header::{HeaderError, Headers};
use bytes::{Buf, Bytes, BytesMut};
use std::io::{self, ErrorKind, Read, Write};
use tokio::net::TcpStream;
use tungstenite::{
    Error, Message,
    protocol::{CloseFrame, Role, WebSocketConfig, WebSocketContext, frame::coding::CloseCode},
};

/// Read from the socket at once; on the stack while reading only.
const READ_BYTES: usize = 4 << 10;
/// More than this waiting to be said to a client that does not read: no more is read from it.
const MAX_UNSAID_BYTES: usize = 256 << 10;

/// Bytes of the header of a client's control frame: two, and the mask.
const CONTROL_HEADER: usize = 6;

/// See the module's head.
pub struct Socket {
    stream: TcpStream,
    context: WebSocketContext,
    memory: Memory,
    headers: Headers,
    /// Bytes that came since the last whole message of data.
    unfinished: usize,
    /// What is wrong with the frame after all those in `memory`. Nothing of what comes after it is
    /// read.
    broken: Option<HeaderError>,
}

/// Why no more messages can be read.
#[derive(Debug)]
pub(super) enum ReadError {
    /// The connection has ended, in order or not.
    Ended,
    /// The client broke the protocol; the close frame that tells it how.
    Violation(CloseFrame),
}

impl From<HeaderError> for ReadError {
    fn from(error: HeaderError) -> Self {
        Self::violation(CloseCode::Protocol, &error)
    }
}

impl From<Error> for ReadError {
    fn from(error: Error) -> Self {
        match error {
            Error::Io(_) | Error::ConnectionClosed | Error::AlreadyClosed => Self::Ended,
            Error::Capacity(_) => Self::violation(CloseCode::Size, &error),
            Error::Utf8(_) => Self::violation(CloseCode::Invalid, &error),
            _ => Self::violation(CloseCode::Protocol, &error),
        }
    }
}

impl ReadError {
    fn violation(code: CloseCode, error: &impl std::fmt::Display) -> Self {
        // A control frame carries 125 bytes, two of them the code.
        let mut reason = error.to_string();
        reason.truncate(reason.floor_char_boundary(123));
        Self::Violation(CloseFrame { code, reason: reason.into() })
    }
}

/// What reading from the socket came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fill {
    /// There was something.
    Some,
    /// Nothing is there now.
    Nothing,
    /// The client has closed its side.
    Closed,
}

#[derive(Default)]
struct Memory {
    incoming: BytesMut,
    outgoing: Vec<u8>,
}

impl Read for Memory {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.incoming.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let n = buffer.len().min(self.incoming.len());
        self.incoming.copy_to_slice(&mut buffer[..n]);
        if self.incoming.is_empty() {
            // An idle connection holds no buffer.
            self.incoming = BytesMut::new();
        }
        Ok(n)
    }
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.outgoing.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Socket {
    /// `early`: what the client sent right behind its handshake.
    pub fn new(stream: TcpStream, early: &Bytes, max_message_bytes: usize) -> Self {
        let config = WebSocketConfig::default()
            // Its buffers are for reading from a socket; ours is memory already.
            .read_buffer_size(512)
            .write_buffer_size(0)
            .max_message_size(Some(max_message_bytes))
            .max_frame_size(Some(max_message_bytes));
        let context = WebSocketContext::new(Role::Server, Some(config));
        let (memory, headers) = (Memory::default(), Headers::default());
        let mut socket = Self { stream, context, memory, headers, unfinished: 0, broken: None };
        socket.take_in(early);
        socket
    }

    fn take_in(&mut self, bytes: &[u8]) {
        let good = match self.headers.check(bytes) {
            _ if self.broken.is_some() => return,
            Ok(()) => bytes,
            Err((good, error)) => {
                self.broken = Some(error);
                &bytes[..good]
            }
        };
        self.unfinished += good.len();
        self.memory.incoming.extend_from_slice(good);
    }

    /// Bytes of a message of which the rest has not come.
    pub(super) fn unfinished(&self) -> usize {
        self.unfinished
    }

    /// Whether there is room for the answer to another message.
    pub(super) fn may_read(&self) -> bool {
        self.memory.outgoing.len() < MAX_UNSAID_BYTES
    }

    /// Waits until there may be something to read.
    pub(super) async fn readable(&self) -> io::Result<()> {
        self.stream.readable().await
    }

    /// Reads what is there, up to [`READ_BYTES`].
    pub(super) fn fill(&mut self) -> io::Result<Fill> {
        let mut buffer = [0; READ_BYTES];
        match self.stream.try_read(&mut buffer) {
            Ok(0) => Ok(Fill::Closed),
            Ok(n) => {
                self.take_in(&buffer[..n]);
                Ok(Fill::Some)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Fill::Nothing),
            Err(error) => Err(error),
        }
    }

    /// The next message in what was read; `None`: no whole one is there.
    pub(super) fn message(&mut self) -> Result<Option<Message>, ReadError> {
        let message = match self.context.read(&mut self.memory) {
            Ok(message) => Some(message),
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => match self.broken {
                Some(error) => return Err(error.into()),
                None => None,
            },
            Err(error) => return Err(error.into()),
        };
        match &message {
            Some(Message::Text(_) | Message::Binary(_)) => self.unfinished = self.memory.incoming.len(),
            // They may come between the frames of a message, and are gone.
            Some(Message::Ping(payload) | Message::Pong(payload)) => {
                self.unfinished -= self.unfinished.min(payload.len() + CONTROL_HEADER);
            }
            _ => {}
        }
        // Answers to pings and closes go out with whatever goes out next.
        self.context.flush(&mut self.memory)?;
        Ok(message)
    }

    /// Puts a message behind what waits to go out.
    pub(super) fn say(&mut self, message: Message) {
        // Into memory; it fails only once a close has been said, and then there is nothing more to say.
        let _ = self.context.write(&mut self.memory, message);
        let _ = self.context.flush(&mut self.memory);
    }

    /// Begins the closing handshake.
    pub(super) fn say_close(&mut self, frame: CloseFrame) {
        let _ = self.context.close(&mut self.memory, Some(frame));
        let _ = self.context.flush(&mut self.memory);
    }

    /// Takes what waits to go out besides events.
    pub(super) fn unsaid(&mut self) -> Option<Bytes> {
        (!self.memory.outgoing.is_empty()).then(|| Bytes::from(std::mem::take(&mut self.memory.outgoing)))
    }

    /// Waits until something can be written.
    pub(super) async fn writable(&self) -> io::Result<()> {
        self.stream.writable().await
    }

    /// Writes what the socket takes now; 0: nothing.
    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self.stream.try_write(bytes) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
            result => result,
        }
    }

    /// Says to the system that no more will be written.
    pub(super) async fn shutdown(&mut self) {
        let _ = tokio::io::AsyncWriteExt::shutdown(&mut self.stream).await;
    }

    /// Reads and throws away until the client closes too, so that the system does not cut off what is still on its way.
    pub(super) async fn drain(&mut self) {
        let mut buffer = [0; READ_BYTES];
        while self.readable().await.is_ok() {
            match self.stream.try_read(&mut buffer) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }
}
