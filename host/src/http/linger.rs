//! How a connection ends whose client may still be sending (RFC 9112, section 9.6). A socket that
//! is closed while bytes are unread resets the connection, and a reset takes from the client the
//! answer that it has not read yet. So the sending side is closed first, and what still arrives is
//! read and thrown away until the client closes too.

use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Most bytes that are thrown away: some of the largest bodies that a client may believe to be
/// welcome.
const MAX_BYTES: usize = 16 << 20;
/// Longest time in all. Less than the drain timeout, since a hub that stops waits for this.
const MAX_TIME: Duration = Duration::from_secs(5);
/// A client that sends nothing for this long has read its answer, or does not want it.
const MAX_SILENCE: Duration = Duration::from_secs(2);
/// Enough for a few segments at a time.
const BUFFER_BYTES: usize = 16 << 10;

/// Writes `answer`, if there is one, and closes `stream` so that the client can read what was
/// written.
pub(super) async fn close(mut stream: TcpStream, answer: &[u8]) {
    let closing = async {
        stream.write_all(answer).await?;
        stream.shutdown().await?;
        let (mut buffer, mut left) = (vec![0; BUFFER_BYTES], MAX_BYTES);
        while left > 0
            && let Ok(read) = timeout(MAX_SILENCE, stream.read(&mut buffer)).await
        {
            match read? {
                0 => break,
                count => left = left.saturating_sub(count),
            }
        }
        std::io::Result::Ok(())
    };
    // Whichever way it ends, nothing more can be done for this client.
    let _ = timeout(MAX_TIME, closing).await;
}
