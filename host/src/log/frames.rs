//! Events as bytes on the wire, made once for all clients of a view: server frames of WebSocket (RFC 6455, section 5.2)
//! are unmasked and records of server-sent events name nobody, so the bytes are the same for everyone.

use crate::event::Event;
use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;
use std::sync::Arc;

/// Records in a row, and where each of them ends.
#[derive(Debug, Clone, Default)]
pub struct Frames {
    /// All of them.
    pub bytes: Bytes,
    /// Seq of each record and the offset just past it.
    pub ends: Box<[(u64, usize)]>,
}

impl Frames {
    /// How many records lie wholly within the first `written` bytes.
    pub fn whole(&self, written: usize) -> usize {
        self.ends.partition_point(|(_, end)| *end <= written)
    }

    /// How many records have at least one byte within the first `written` bytes.
    pub fn begun(&self, written: usize) -> usize {
        if written == 0 { 0 } else { (self.ends.partition_point(|(_, end)| *end < written) + 1).min(self.ends.len()) }
    }

    /// The offset of the first record with a seq of at least `seq`.
    pub fn offset_of(&self, seq: u64) -> usize {
        match self.ends.partition_point(|(other, _)| *other < seq) {
            0 => 0,
            index => self.ends[index - 1].1,
        }
    }
}

/// A WebSocket text frame for each event.
pub fn websocket(events: &[Arc<Event>]) -> Frames {
    encode(events, |out, _, json| text_frame(out, json))
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

/// A server-sent-events record (WHATWG HTML, section 9.2) for each event. Its id is `<epoch>:<seq>`, so that a client that
/// reconnects after the hub has begun a new numbering is told so. The data has no line breaks: admission sees to that.
pub fn server_sent(events: &[Arc<Event>], epoch: &str) -> Frames {
    encode(events, |out, seq, json| {
        out.put_slice(format!("id: {epoch}:{seq}\ndata: ").as_bytes());
        out.put_slice(json);
        out.put_slice(b"\n\n");
    })
}

fn encode(events: &[Arc<Event>], record: impl Fn(&mut BytesMut, u64, &[u8])) -> Frames {
    let mut out = BytesMut::with_capacity(events.iter().map(|event| event.weight()).sum());
    let mut json = Vec::with_capacity(1024);
    let mut ends = Vec::with_capacity(events.len());
    for event in events {
        json.clear();
        // An event serialises without fail; see `Event::to_json`.
        let _ = event.serialize(&mut serde_json::Serializer::new(&mut json));
        record(&mut out, event.seq, &json);
        ends.push((event.seq, out.len()));
    }
    Frames { bytes: out.freeze(), ends: ends.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::NewEvent;

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
        let frames = websocket(&events);
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
        let frames = websocket(&events(&[10, 10, 10]));
        let first = frames.ends[0].1;
        assert_eq!([frames.whole(first - 1), frames.whole(first), frames.whole(first + 1)], [0, 1, 1]);
        assert_eq!([frames.begun(0), frames.begun(1), frames.begun(first), frames.begun(first + 1)], [0, 1, 1, 2]);
        assert_eq!([frames.offset_of(1), frames.offset_of(11), frames.offset_of(20)], [0, first, first]);
        assert_eq!(frames.offset_of(31), frames.bytes.len());
    }
}
