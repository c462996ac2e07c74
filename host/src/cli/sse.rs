//! A parser of server-sent events: the `text/event-stream` of the HTML standard, section 9.2.
//!
//! Pure: it is fed bytes as they come, cut anywhere, and gives the messages that became complete. `retry` fields are
//! not used; reconnecting is for the caller.

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    /// The last id that the stream has set, in this message or before.
    pub(super) id: Option<String>,
    /// `message` unless the stream named another kind.
    pub(super) event: String,
    /// The data lines, joined by line feeds.
    pub(super) data: String,
}

/// A line or a message is longer than any event of a hub.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message of the stream is longer than {LONGEST} bytes")]
pub(super) struct TooLong;

/// The hub's events have at most 1 MiB of data and as much again of extensions.
const LONGEST: usize = 8 << 20;

/// The state between two pieces of a stream.
#[derive(Debug, Default)]
pub(super) struct Parser {
    line: Vec<u8>,
    started: bool,
    after_cr: bool,
    id: Option<String>,
    event: String,
    data: String,
}

impl Parser {
    /// Takes the next piece of the stream.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) -> Result<Vec<Message>, TooLong> {
        let mut messages = Vec::new();
        while !bytes.is_empty() {
            if std::mem::take(&mut self.after_cr) && bytes[0] == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let end = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let text = &bytes[..end.unwrap_or(bytes.len())];
            if self.line.len() + self.data.len() + text.len() > LONGEST {
                return Err(TooLong);
            }
            self.line.extend_from_slice(text);
            let Some(end) = end else { break };
            self.after_cr = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            messages.extend(self.end_of_line());
        }
        Ok(messages)
    }

    fn end_of_line(&mut self) -> Option<Message> {
        let line = std::mem::take(&mut self.line);
        let text = String::from_utf8_lossy(&line);
        let first = !std::mem::replace(&mut self.started, true);
        let text = if first { text.strip_prefix('\u{feff}').unwrap_or(&text) } else { &text };
        if text.is_empty() {
            return self.dispatch();
        }
        let (field, value) = text.split_once(':').unwrap_or((text, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => {
                self.data.push_str(value);
                self.data.push('\n');
            }
            "event" => self.event = value.to_string(),
            "id" if !value.contains('\0') => self.id = Some(value.to_string()),
            // Comments (an empty field name) and fields of a later day.
            _ => {}
        }
        None
    }

    fn dispatch(&mut self) -> Option<Message> {
        let event = std::mem::take(&mut self.event);
        let mut data = std::mem::take(&mut self.data);
        // An empty buffer means that there was no data field, which makes it no message.
        data.pop()?;
        let event = if event.is_empty() { "message".to_string() } else { event };
        Some(Message { id: self.id.clone(), event, data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: Option<&str>, event: &str, data: &str) -> Message {
        Message { id: id.map(String::from), event: event.into(), data: data.into() }
    }

    /// Fed whole and cut at every place, the stream gives the same messages.
    #[track_caller]
    fn gives(stream: &str, expected: &[Message]) {
        let bytes = stream.as_bytes();
        for cut in 0..=bytes.len() {
            let mut parser = Parser::default();
            let mut found = parser.feed(&bytes[..cut]).unwrap();
            found.extend(parser.feed(&bytes[cut..]).unwrap());
            assert_eq!(found, expected, "cut at {cut}");
        }
        let mut parser = Parser::default();
        let found: Vec<_> = bytes.iter().flat_map(|byte| parser.feed(&[*byte]).unwrap()).collect();
        assert_eq!(found, expected, "byte by byte");
    }

    #[test]
    fn messages_end_at_a_blank_line_of_any_kind() {
        let expected = [message(Some("e:1"), "message", "{\"ü\":1}"), message(Some("e:2"), "lagged", "x")];
        for end in ["\n", "\r\n", "\r"] {
            let stream = "id: e:1\ndata: {\"ü\":1}\n\nid:e:2\nevent:lagged\ndata:x\n\n".replace('\n', end);
            gives(&stream, &expected);
        }
    }

    #[test]
    fn data_lines_are_joined_and_lose_one_space() {
        gives("data\ndata:  two\ndata: three\n\n", &[message(None, "message", "\n two\nthree")]);
        gives("data:\n\n", &[message(None, "message", "")]);
    }

    #[test]
    fn comments_and_unknown_fields_are_nothing() {
        gives(": ping\n\n:\n\nretry: 10\ntime: 5\n\ndata: a:b\n\n", &[message(None, "message", "a:b")]);
    }

    #[test]
    fn an_id_stays_until_another_comes() {
        let expected = [message(Some("7"), "message", "a"), message(Some("7"), "message", "b")];
        gives("id: 7\ndata: a\n\nevent: lost\n\nid: x\0y\ndata: b\n\n", &expected);
    }

    #[test]
    fn a_message_that_was_cut_off_is_none() {
        gives("data: a\n\ndata: b\n", &[message(None, "message", "a")]);
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_first_field() {
        gives("\u{feff}data: a\n\n", &[message(None, "message", "a")]);
    }

    #[test]
    fn an_endless_message_is_refused() {
        let mut parser = Parser::default();
        let line = format!("data: {}\n", "x".repeat(LONGEST / 2));
        assert_eq!(parser.feed(line.as_bytes()), Ok(vec![]));
        assert_eq!(parser.feed(line.as_bytes()), Err(TooLong));
    }
}
