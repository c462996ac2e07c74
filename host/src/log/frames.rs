//! What a view found as bytes on the wire, made once for all its clients: server frames of
//! WebSocket (RFC 6455, section 5.2) are unmasked and records of server-sent events name nobody, so
//! the bytes are the same for everyone.

use super::selection::{FilterFailure, Record, Selection};
use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;

/// Records in a row, and where each of them ends.
#[derive(Debug, Clone, Default)]
pub struct Frames {
    /// All of them.
    pub bytes: Bytes,
    /// Where each record ends, in the order of the records.
    pub ends: Box<[RecordEnd]>,
}

/// Which seqs a record is about, and where it ends. Records are in order, and their seqs do not
/// overlap, but for an event that follows its own failure.
#[derive(Debug, Clone, Copy)]
pub struct RecordEnd {
    /// The first seq that the record is about: an event's own, or the `from` of a failure.
    pub first: u64,
    /// The last seq that the record is about.
    pub last: u64,
    /// The offset of the byte after the record.
    pub end: usize,
    /// How many events there are among the records up to and including this one.
    events: usize,
}

impl Frames {
    /// How many events lie wholly within the first `written` bytes.
    pub fn whole_events(&self, written: usize) -> usize {
        self.ends
            .partition_point(|record| record.end <= written)
            .checked_sub(1)
            .map_or(0, |last| self.ends[last].events)
    }

    /// How many records have at least one byte within the first `written` bytes.
    pub fn begun(&self, written: usize) -> usize {
        let before = self.ends.partition_point(|record| record.end < written);
        if written == 0 { 0 } else { (before + 1).min(self.ends.len()) }
    }

    /// The offset of the first record about `seq` or a later one.
    pub fn offset_of(&self, seq: u64) -> usize {
        match self.ends.partition_point(|record| record.last < seq) {
            0 => 0,
            index => self.ends[index - 1].end,
        }
    }
}

/// The control message of the WebSocket protocol that tells of a failure.
#[derive(Serialize)]
struct FilterError<'a> {
    op: &'static str,
    #[serde(flatten)]
    failure: &'a FilterFailure,
}

/// A WebSocket text frame for each record.
pub fn websocket(selection: &Selection) -> Frames {
    encode(selection, |out, record, json| match record {
        Record::Event(_) => text_frame(out, json),
        Record::Failure(failure) => {
            let message = FilterError { op: "filter_error", failure };
            text_frame(out, &serde_json::to_vec(&message).unwrap_or_default());
        }
    })
}

/// One unmasked, unfragmented text frame.
pub fn text_frame(out: &mut BytesMut, text: &[u8]) {
    const FINAL_TEXT: u8 = 0x81;
    out.put_u8(FINAL_TEXT);
    match text.len() {
        short @ 0..126 => out.put_u8(short as u8),
        medium @ 126..=0xffff => {
            out.put_u8(126);
            out.put_u16(medium as u16);
        }
        long => {
            out.put_u8(127);
            out.put_u64(long as u64);
        }
    }
    out.put_slice(text);
}

/// A server-sent-events record (WHATWG HTML, section 9.2) for each record. An event's id is
/// `<epoch>:<seq>`, so that a client that reconnects after the hub has begun a new numbering is
/// told so. The data has no line breaks: admission sees to that.
pub fn server_sent(selection: &Selection, epoch: &str) -> Frames {
    encode(selection, |out, record, json| {
        match record {
            Record::Event(event) => out.put_slice(format!("id: {epoch}:{}\ndata: ", event.seq).as_bytes()),
            Record::Failure(failure) => {
                // An event that was passed on has yet to come: a client resumes with it.
                let done = if failure.passed { failure.from - 1 } else { failure.to };
                out.put_slice(format!("event: filter_error\nid: {epoch}:{done}\ndata: ").as_bytes());
            }
        }
        out.put_slice(json);
        out.put_slice(b"\n\n");
    })
}

fn encode(selection: &Selection, write: impl Fn(&mut BytesMut, Record<'_>, &[u8])) -> Frames {
    let mut out = BytesMut::with_capacity(selection.weight());
    let mut json = Vec::with_capacity(1024);
    let mut ends = Vec::with_capacity(selection.events.len() + selection.failures.len());
    let mut events = 0;
    for record in selection.records() {
        json.clear();
        let serializer = &mut serde_json::Serializer::new(&mut json);
        // Both serialise without fail; see `Event::to_json`.
        let (first, last, _) = match record {
            Record::Event(event) => {
                events += 1;
                (event.seq, event.seq, event.serialize(serializer))
            }
            Record::Failure(failure) => (failure.from, failure.to, failure.serialize(serializer)),
        };
        write(&mut out, record, &json);
        ends.push(RecordEnd { first, last, end: out.len(), events });
    }
    Frames { bytes: out.freeze(), ends: ends.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, NewEvent};
    use std::sync::Arc;

    fn events(sizes: &[usize]) -> Vec<Arc<Event>> {
        let event = |(index, size): (usize, &usize)| {
            let mut event = NewEvent::new("t").data("x".repeat(*size)).unwrap().admit().unwrap();
            event.seq = 10 * (index as u64 + 1);
            Arc::new(event)
        };
        sizes.iter().enumerate().map(event).collect()
    }

    /// Reads frames back with an implementation that is not ours.
    #[test]
    fn frames_of_every_length_class_are_read_by_another_implementation() {
        let events = events(&[0, 100, 70_000]);
        let frames = websocket(&events.clone().into());
        let mut out = BytesMut::new();
        text_frame(&mut out, b"hi");
        let bytes = [&frames.bytes[..], &out[..]].concat();
        let mut socket = tungstenite::WebSocket::from_raw_socket(
            std::io::Cursor::new(bytes),
            tungstenite::protocol::Role::Client,
            None,
        );
        for event in &events {
            assert_eq!(socket.read().unwrap().into_text().unwrap().as_str(), event.to_json());
        }
        assert_eq!(socket.read().unwrap().into_text().unwrap().as_str(), "hi");
    }

    #[test]
    fn a_partly_written_chunk_says_which_records_are_whole() {
        let frames = websocket(&events(&[10, 10, 10]).into());
        let first = frames.ends[0].end;
        assert_eq!([first - 1, first, first + 1].map(|written| frames.whole_events(written)), [0, 1, 1]);
        assert_eq!([frames.begun(0), frames.begun(1), frames.begun(first), frames.begun(first + 1)], [0, 1, 1, 2]);
        assert_eq!([frames.offset_of(1), frames.offset_of(11), frames.offset_of(20)], [0, first, first]);
        assert_eq!(frames.offset_of(31), frames.bytes.len());
    }

    #[test]
    fn a_failure_is_a_record_that_counts_as_no_event_and_is_found_by_each_of_its_seqs() {
        let mut selection = Selection::from(events(&[1]));
        let failure = |from, to, passed| FilterFailure {
            plugin: "f".into(),
            code: "trap",
            from,
            to,
            count: 2,
            passed,
            detail: "it trapped".into(),
        };
        selection.fail(failure(12, 19, false));
        selection.fail(failure(20, 20, true));
        selection.events.extend(events(&[1, 1]).pop());
        let frames = websocket(&selection);
        let ends: Vec<_> = frames.ends.iter().map(|record| record.end).collect();
        assert_eq!(ends.len(), 4, "{frames:?}");
        assert_eq!([0, 1, 2, 3].map(|record| frames.whole_events(ends[record])), [1, 1, 1, 2]);
        let expected = [0, ends[0], ends[0], ends[0], ends[1], ends[3]];
        assert_eq!([10, 11, 12, 19, 20, 21].map(|seq| frames.offset_of(seq)), expected);
        let text = String::from_utf8(server_sent(&selection, "e").bytes.to_vec()).unwrap();
        let data = r#"{"plugin":"f","code":"trap","from":12,"to":19,"count":2,"passed":false,"detail":"it trapped"}"#;
        assert!(text.contains(&format!("\n\nevent: filter_error\nid: e:19\ndata: {data}\n\n")), "{text}");
        let passed = data.replace("12", "20").replace("19", "20").replace("false", "true");
        assert!(text.contains(&format!("\n\nevent: filter_error\nid: e:19\ndata: {passed}\n\nid: e:20\n")), "{text}");
    }
}
