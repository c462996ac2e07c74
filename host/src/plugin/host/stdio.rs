//! Stdout and stderr of a guest: kept for the call, bounded, and never an error to the guest. Stderr is where Rust, Go,
//! JavaScript and Python say why they trapped.

use super::HostFault;
use crate::plugin::fault::FaultCode;
use crate::plugin::limits::MAX_STDIO_BYTES;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use tokio::io::AsyncWrite;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

/// Both streams of one instance.
pub(super) struct Stdio {
    pub(super) stdout: Capture,
    pub(super) stderr: Capture,
}

impl Stdio {
    /// To each of which at most `most` bytes may be written in one call.
    pub(super) fn new(most: usize) -> Self {
        Self { stdout: Capture::new(most), stderr: Capture::new(most) }
    }
}

/// Keeps the first bytes that are written and counts the rest.
#[derive(Clone)]
pub(super) struct Capture {
    kept: Arc<Mutex<Kept>>,
    /// Bytes that may be written in one call.
    most: usize,
}

#[derive(Default)]
struct Kept {
    bytes: Vec<u8>,
    dropped: usize,
}

impl Capture {
    fn new(most: usize) -> Self {
        Self { kept: Arc::default(), most }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives what was written since it was last taken, in bytes.
    fn keep(&self, bytes: &[u8]) -> usize {
        let mut kept = self.lock();
        let room = bytes.len().min(MAX_STDIO_BYTES - kept.bytes.len());
        kept.bytes.extend_from_slice(&bytes[..room]);
        kept.dropped += bytes.len() - room;
        kept.bytes.len() + kept.dropped
    }

    /// What was written since this was last asked.
    pub(super) fn take(&self) -> String {
        let Kept { bytes, dropped } = std::mem::take(&mut *self.lock());
        let mut text = String::from_utf8_lossy(&bytes).into_owned();
        if dropped > 0 {
            text.push_str(&format!("… ({dropped} bytes more)"));
        }
        text
    }
}

impl IsTerminal for Capture {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Capture {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    // The provided one moves every write to a task of its own.
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl Pollable for Capture {
    async fn ready(&mut self) {}
}

impl OutputStream for Capture {
    fn write(&mut self, bytes: bytes::Bytes) -> StreamResult<()> {
        if self.keep(&bytes) > self.most {
            let message = format!("wrote more than {} bytes to stdout or stderr in one call", self.most);
            return Err(StreamError::Trap(HostFault { code: FaultCode::Lift, message }.into()));
        }
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(64 << 10)
    }
}

impl AsyncWrite for Capture {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.keep(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_are_kept_and_the_rest_counted() {
        let capture = Capture::new(usize::MAX);
        capture.keep(b"why");
        assert_eq!((capture.take(), capture.take()), ("why".to_owned(), String::new()));
        capture.keep(&vec![b'x'; MAX_STDIO_BYTES - 1]);
        capture.keep(b"yz");
        assert!(capture.take().ends_with("xy… (1 bytes more)"));
    }
}
