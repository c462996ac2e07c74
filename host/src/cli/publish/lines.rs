//! Lines of a stream, with a bound on their length: a file without line breaks must not fill the memory.

use std::io;
use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// One line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// 1 for the first.
    pub(super) number: u64,
    /// Without the line break; `None` if it was longer than allowed, and is gone.
    pub(super) bytes: Option<Vec<u8>>,
}

/// Reads lines that end in LF or CRLF; the last may end in nothing.
pub(super) struct Lines<R> {
    input: R,
    longest: usize,
    number: u64,
    partial: Vec<u8>,
    too_long: bool,
}

impl<R: AsyncBufRead + Unpin> Lines<R> {
    pub(super) fn new(input: R, longest: usize) -> Self {
        Self { input, longest, number: 0, partial: Vec::new(), too_long: false }
    }

    /// The next line, `None` at the end. May be dropped and called again: nothing that was read is lost.
    pub(super) async fn next(&mut self) -> io::Result<Option<Line>> {
        loop {
            let chunk = self.input.fill_buf().await?;
            if chunk.is_empty() {
                let rest = !self.partial.is_empty() || self.too_long;
                return Ok(rest.then(|| self.finish()));
            }
            let end = chunk.iter().position(|byte| *byte == b'\n');
            let text = &chunk[..end.unwrap_or(chunk.len())];
            // One more for the CR that may be the last of them.
            if self.partial.len() + text.len() > self.longest + 1 {
                self.too_long = true;
                self.partial = Vec::new();
            }
            if !self.too_long {
                self.partial.extend_from_slice(text);
            }
            let used = end.map_or(chunk.len(), |end| end + 1);
            self.input.consume(used);
            if end.is_some() {
                return Ok(Some(self.finish()));
            }
        }
    }

    fn finish(&mut self) -> Line {
        self.number += 1;
        let mut bytes = std::mem::take(&mut self.partial);
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
        let too_long = std::mem::take(&mut self.too_long) || bytes.len() > self.longest;
        Line { number: self.number, bytes: (!too_long).then_some(bytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::BufReader;

    async fn read(text: &str, capacity: usize) -> Vec<Option<String>> {
        let mut lines = Lines::new(BufReader::with_capacity(capacity, text.as_bytes()), 5);
        let mut found = Vec::new();
        while let Some(line) = lines.next().await.unwrap() {
            assert_eq!(line.number, found.len() as u64 + 1);
            found.push(line.bytes.map(|bytes| String::from_utf8(bytes).unwrap()));
        }
        found
    }

    #[tokio::test]
    async fn lines_are_whole_wherever_the_input_is_cut() {
        for capacity in 1..12 {
            let found = read("one\r\n\ntoo long\nfive5\r\n123456\nlast", capacity).await;
            let expected = [Some("one"), Some(""), None, Some("five5"), None, Some("last")];
            assert_eq!(found, expected.map(|line| line.map(String::from)), "capacity {capacity}");
        }
    }

    #[tokio::test]
    async fn an_empty_input_has_no_lines() {
        assert!(read("", 4).await.is_empty());
    }
}
