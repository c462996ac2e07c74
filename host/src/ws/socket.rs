//! A WebSocket connection's socket. `tungstenite` works on two buffers in memory: it checks what came in (masks, fragments,
//! UTF-8, control frames) and leaves its own frames (pongs, closes, our short messages) to go out. The frames of events
//! go past it to the socket, as they are.

use bytes::{Buf, Bytes, BytesMut};
use std::io::{self, ErrorKind, Read, Write};
use tokio::net::TcpStream;
use tungstenite::{
    Error, Message,
    protocol::{CloseFrame, Role, WebSocketConfig, WebSocketContext},
};

/// Read from the socket at once; on the stack while reading only.
const READ_BYTES: usize = 4 << 10;
/// More than this waiting to be said to a client that does not read: no more is read from it.
const MAX_UNSAID_BYTES: usize = 256 << 10;

/// See the module's head.
pub struct Socket {
    stream: TcpStream,
    context: WebSocketContext,
    memory: Memory,
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
        let memory = Memory { incoming: BytesMut::from(&early[..]), outgoing: Vec::new() };
        Self { stream, context: WebSocketContext::new(Role::Server, Some(config)), memory }
    }

    /// Whether there is room for the answer to another message.
    pub(super) fn may_read(&self) -> bool {
        self.memory.outgoing.len() < MAX_UNSAID_BYTES
    }

    /// Waits until there may be something to read.
    pub(super) async fn readable(&self) -> io::Result<()> {
        self.stream.readable().await
    }

    /// Reads what is there. False: the client has closed its side.
    pub(super) fn fill(&mut self) -> io::Result<bool> {
        let mut buffer = [0; READ_BYTES];
        match self.stream.try_read(&mut buffer) {
            Ok(n) => {
                self.memory.incoming.extend_from_slice(&buffer[..n]);
                Ok(n > 0)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// The next message in what was read; `None`: no whole one is there.
    pub(super) fn message(&mut self) -> Result<Option<Message>, Error> {
        let message = match self.context.read(&mut self.memory) {
            Ok(message) => Some(message),
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => return Err(error),
        };
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
        while self.readable().await.is_ok() && self.fill().is_ok_and(|open| open) {
            self.memory.incoming.clear();
        }
    }
}
