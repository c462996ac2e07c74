//! What RFC 6455 says a server must do, over raw sockets.

use crate::hub::{TestHub, within};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const KEY: &str = "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==";

/// A connection on which nothing happens but what the test says.
pub struct Raw {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Raw {
    pub async fn connect(hub: &TestHub) -> Self {
        let stream = within(TcpStream::connect(hub.addr())).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, read: Vec::new() }
    }

    /// A WebSocket that has been welcomed, and is told no events.
    pub async fn open(hub: &TestHub) -> Self {
        let mut raw = Self::connect(hub).await;
        let (status, head, _) = raw.ask("GET /ws/events?types=none HTTP/1.1", &standard()).await;
        assert_eq!(status, 101, "{head}");
        assert!(raw.text().await.contains("welcome"));
        raw
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        // A hub that has closed already does not take everything.
        let _ = within(self.stream.write_all(bytes)).await;
    }

    /// Sends a head, and gives the status, the head and the body of the answer.
    async fn ask(&mut self, line: &str, headers: &[String]) -> (u16, String, Value) {
        self.send(format!("{line}\r\n{}\r\n\r\n", headers.join("\r\n")).as_bytes()).await;
        self.answer().await
    }

    /// The status, the head and the body of the next answer.
    async fn answer(&mut self) -> (u16, String, Value) {
        let (status, head) = self.head().await;
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length = length.map_or(0, |length| length.parse().unwrap());
        self.need(length).await;
        let body: Vec<u8> = self.read.drain(..length).collect();
        (status, head, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    async fn head(&mut self) -> (u16, String) {
        let end = loop {
            if let Some(end) = self.read.windows(4).position(|window| window == b"\r\n\r\n") {
                break end;
            }
            assert!(self.fill().await, "an answer: {:?}", String::from_utf8_lossy(&self.read));
        };
        let head = String::from_utf8(self.read.drain(..end + 4).collect()).unwrap().to_ascii_lowercase();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), head)
    }

    async fn fill(&mut self) -> bool {
        within(self.stream.read_buf(&mut self.read)).await.is_ok_and(|n| n > 0)
    }

    async fn need(&mut self, bytes: usize) {
        while self.read.len() < bytes {
            assert!(self.fill().await, "more of {:?}", String::from_utf8_lossy(&self.read));
        }
    }

    /// The next frame of the hub: its first byte and its payload.
    pub async fn frame(&mut self) -> (u8, Vec<u8>) {
        self.need(2).await;
        let (first, short) = (self.read[0], usize::from(self.read[1]));
        let (header, length) = match short {
            126 => {
                self.need(4).await;
                (4, usize::from(u16::from_be_bytes([self.read[2], self.read[3]])))
            }
            _ => (2, short),
        };
        assert!(short < 127, "no frame of the hub is as long as that here");
        self.need(header + length).await;
        self.read.drain(..header);
        (first, self.read.drain(..length).collect())
    }

    async fn text(&mut self) -> String {
        let (first, payload) = self.frame().await;
        assert_eq!(first, 0x81, "{:?}", String::from_utf8_lossy(&payload));
        String::from_utf8(payload).unwrap()
    }

    /// The close frame of the hub, after which it ends: 0 without a code.
    async fn closed(&mut self) -> u16 {
        let (first, payload) = self.frame().await;
        assert_eq!(first, 0x88, "{:?}", String::from_utf8_lossy(&payload));
        let code = payload.first_chunk().map_or(0, |code| u16::from_be_bytes(*code));
        assert!(!self.fill().await, "nothing comes after it: {:?}", self.read);
        code
    }
}

/// The headers of a handshake.
fn standard() -> Vec<String> {
    ["host: 127.0.0.1", "upgrade: websocket", "connection: Upgrade", "sec-websocket-version: 13", KEY]
        .map(str::to_owned)
        .to_vec()
}

/// Those, without the ones of the names in `without`, and with these.
fn headers(without: &[&str], with: &[&str]) -> Vec<String> {
    let mut headers = standard();
    headers.retain(|line| !without.iter().any(|name| line.starts_with(&format!("{name}:"))));
    headers.extend(with.iter().map(|line| (*line).to_owned()));
    headers
}

const GET: &str = "GET /ws/events HTTP/1.1";

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_that_the_rfc_allows_are_accepted() {
    let hub = TestHub::start().await;
    for (without, with) in [
        (&[][..], &[][..]),
        (&["upgrade"], &["upgrade: WebSocket"]),
        (&["upgrade"], &["upgrade: h2c, websocket"]),
        (&["upgrade"], &["upgrade: h2c", "upgrade: websocket"]),
        (&["connection"], &["connection: keep-alive, Upgrade"]),
        (&["connection"], &["connection: keep-alive", "connection: UPGRADE"]),
        (&[], &["sec-websocket-protocol: chat, superchat", "sec-websocket-protocol: more"]),
        (&[], &["sec-websocket-extensions: permessage-deflate; client_max_window_bits"]),
        (&[], &["sec-websocket-extensions: x", "sec-websocket-extensions: y"]),
    ] {
        let mut raw = Raw::connect(&hub).await;
        let (status, head, _) = raw.ask(GET, &headers(without, with)).await;
        assert_eq!(status, 101, "{with:?}: {head}");
        for line in ["upgrade: websocket", "connection: upgrade", "sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="]
        {
            assert!(head.lines().any(|other| other == line), "{with:?}: {head}");
        }
        assert!(!head.contains("sec-websocket-protocol") && !head.contains("sec-websocket-extensions"), "{head}");
        assert!(raw.text().await.contains("welcome"), "{with:?}");
    }
}

/// Section 4.2.1; the status of section 4.4, and what RFC 9110, section 15.5.22, asks to be said
/// with it.
#[tokio::test(flavor = "multi_thread")]
async fn handshakes_that_it_does_not_allow_are_refused_with_what_is_wrong() {
    let hub = TestHub::start().await;
    let http_10 = "GET /ws/events HTTP/1.0";
    for (line, without, with, status, field) in [
        (http_10, &[][..], &[][..], 400, "version"),
        (GET, &["upgrade"], &[], 426, "upgrade"),
        (GET, &["upgrade"], &["upgrade: h2c"], 426, "upgrade"),
        (GET, &["upgrade"], &["upgrade: websockets"], 426, "upgrade"),
        (GET, &["connection"], &[], 426, "connection"),
        (GET, &["connection"], &["connection: keep-alive"], 426, "connection"),
        (GET, &["connection"], &["connection: upgraded"], 426, "connection"),
        (GET, &["sec-websocket-version"], &[], 426, "sec-websocket-version"),
        (GET, &["sec-websocket-version"], &["sec-websocket-version: 8"], 426, "sec-websocket-version"),
        (GET, &["sec-websocket-version"], &["sec-websocket-version: 013"], 426, "sec-websocket-version"),
        (GET, &[], &["sec-websocket-version: 13"], 426, "sec-websocket-version"),
        (GET, &["sec-websocket-key"], &[], 400, "sec-websocket-key"),
        (GET, &["sec-websocket-key"], &["sec-websocket-key: "], 400, "sec-websocket-key"),
        (GET, &["sec-websocket-key"], &["sec-websocket-key: no base 64 at all!!!"], 400, "sec-websocket-key"),
        (GET, &["sec-websocket-key"], &["sec-websocket-key: dGhlIHNhbXBsZSBub25j"], 400, "sec-websocket-key"),
        (GET, &["sec-websocket-key"], &["sec-websocket-key: dGhlIHNhbXBsZSBub25jZSE="], 400, "sec-websocket-key"),
        (GET, &[], &[KEY], 400, "sec-websocket-key"),
        (GET, &[], &["content-length: 5"], 400, "body"),
        (GET, &[], &["transfer-encoding: chunked"], 400, "body"),
    ] {
        let mut raw = Raw::connect(&hub).await;
        let (found, head, problem) = raw.ask(line, &headers(without, with)).await;
        assert_eq!((found, &problem["field"]), (status, &json!(field)), "{line} {with:?}: {head}{problem}");
        assert_eq!(problem["code"], "websocket.handshake");
        let offers = ["upgrade: websocket", "connection: upgrade", "sec-websocket-version: 13"];
        let offered = offers.iter().filter(|line| head.lines().any(|other| other == **line)).count();
        assert_eq!(offered, if status == 426 { 3 } else { 0 }, "{line} {with:?}: {head}");
    }
    for method in ["HEAD", "POST", "PUT", "DELETE"] {
        let mut raw = Raw::connect(&hub).await;
        raw.send(format!("{method} /ws/events HTTP/1.1\r\n{}\r\n\r\n", standard().join("\r\n")).as_bytes()).await;
        let (status, head) = raw.head().await;
        assert!((400..500).contains(&status), "{method}: {head}");
    }
    assert_eq!(hub.bus().metrics().websocket_accepted.get(), 0);
}

/// A masked frame, its length in as few bytes as there are.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let length = match payload.len() {
        short @ 0..126 => vec![0x80 | short as u8],
        medium @ 126..=0xffff => [&[0x80 | 126][..], &(medium as u16).to_be_bytes()].concat(),
        long => [&[0x80 | 127][..], &(long as u64).to_be_bytes()].concat(),
    };
    let masked = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
    [&[first], &length[..], &mask, &masked.collect::<Vec<_>>()].concat()
}

fn ping(id: &str) -> String {
    json!({"op": "ping", "id": id}).to_string()
}

const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;

#[tokio::test(flavor = "multi_thread")]
async fn what_the_rfc_forbids_in_frames_ends_the_connection_with_the_code_that_says_why() {
    let hub = TestHub::with(|config| config.websocket.max_message_bytes = 1_000).await;
    let good = frame(TEXT, ping("before").as_bytes());
    let (half, zeros) = ([b'x'; 600], [0; 2_000]);
    let cases: Vec<(&str, Vec<u8>, u16)> = vec![
        ("reserved bit 1", frame(0xc1, b"x"), 1002),
        ("reserved bit 2", frame(0xa1, b"x"), 1002),
        ("reserved bit 3", frame(0x91, b"x"), 1002),
        ("reserved bit in a ping", frame(0xc9, b""), 1002),
        ("data opcode 3", frame(0x83, b""), 1002),
        ("data opcode 7", frame(0x87, b""), 1002),
        ("control opcode 11", frame(0x8b, b""), 1002),
        ("control opcode 15", frame(0x8f, b""), 1002),
        ("unmasked", vec![0x81, 1, b'x'], 1002),
        ("an unmasked ping", vec![0x89, 0], 1002),
        ("an unmasked frame of which only the header is there", vec![0x81, 126, 3, 0], 1002),
        ("a ping of 126 bytes", frame(0x89, &zeros[..126]), 1002),
        ("a pong of 126 bytes", frame(0x8a, &zeros[..126]), 1002),
        ("a close of 126 bytes", frame(CLOSE, &[&[3, 0xe8][..], &[b'x'; 124]].concat()), 1002),
        ("a fragmented ping", frame(0x09, b""), 1002),
        ("a fragmented close", frame(0x08, b""), 1002),
        ("a length of 5 in two bytes", vec![0x81, 0x80 | 126, 0, 5], 1002),
        ("a length of 125 in two bytes", vec![0x81, 0x80 | 126, 0, 125], 1002),
        ("a length of 5 in eight bytes", vec![0x81, 0x80 | 127, 0, 0, 0, 0, 0, 0, 0, 5], 1002),
        ("a length of 65,535 in eight bytes", vec![0x81, 0x80 | 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff], 1002),
        ("a length of 2^63", vec![0x81, 0x80 | 127, 0x80, 0, 0, 0, 0, 0, 0, 0], 1002),
        ("a continuation of nothing", frame(0x80, b"x"), 1002),
        ("a continuation of nothing that goes on", frame(0x00, b"x"), 1002),
        ("a text within a text", [frame(0x01, b"x"), frame(TEXT, b"y")].concat(), 1002),
        ("a binary message within a text", [frame(0x01, b"x"), frame(0x82, b"y")].concat(), 1002),
        ("a continuation after the last", [good.clone(), frame(0x80, b"y")].concat(), 1002),
        ("not UTF-8", frame(TEXT, b"\xff"), 1007),
        ("a surrogate", frame(TEXT, b"\xed\xa0\x80"), 1007),
        ("more than U+10FFFF", frame(TEXT, b"\xf4\x90\x80\x80"), 1007),
        ("longer UTF-8 than it needs", frame(TEXT, b"\xc0\xaf"), 1007),
        ("UTF-8 that is cut off", frame(TEXT, b"\xce"), 1007),
        ("UTF-8 that is cut off in the last fragment", [frame(0x01, b"x"), frame(0x80, b"\xce")].concat(), 1007),
        ("not UTF-8 in a first fragment", frame(0x01, b"\xff"), 1007),
        ("much that is not UTF-8", frame(0x01, &[0xff; 900]), 1007),
        ("binary", frame(0x82, b"x"), 1003),
        ("a frame that is too long", frame(TEXT, &zeros[..1_001]), 1009),
        ("the header of a frame that is too long", vec![0x81, 0x80 | 127, 0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4], 1009),
        (
            "the header of the longest frame",
            vec![0x81, 0x80 | 127, 0x7f, 255, 255, 255, 255, 255, 255, 255, 1, 2, 3, 4],
            1009,
        ),
        ("fragments that together are too long", [frame(0x01, &half), frame(0x80, &half)].concat(), 1009),
        ("a close of one byte", frame(CLOSE, &[3]), 1002),
        ("a close with a reason that is not UTF-8", frame(CLOSE, &[3, 0xe8, 0xff]), 1007),
    ];
    for (name, bytes, code) in &cases {
        // What came before it in the same segment is answered.
        let mut raw = Raw::open(&hub).await;
        raw.send(&[&good, &bytes[..]].concat()).await;
        assert_eq!(raw.text().await, r#"{"op":"pong","id":"before"}"#, "{name}");
        if name.starts_with("a continuation after") {
            raw.text().await;
        }
        assert_eq!(raw.closed().await, *code, "{name}");
        // Cut anywhere it is the same.
        let mut raw = Raw::open(&hub).await;
        for byte in bytes {
            raw.send(&[*byte]).await;
        }
        if name.starts_with("a continuation after") {
            raw.text().await;
        }
        assert_eq!(raw.closed().await, *code, "{name}, byte by byte");
    }
    let violations = hub.bus().metrics().websocket_violations.get();
    assert_eq!(violations, 2 * cases.len() as u64, "each is counted");
}

/// Section 7.4: what a client may not say is answered with 1002, and the rest is said back to it.
#[tokio::test(flavor = "multi_thread")]
async fn a_close_is_answered_with_its_code_unless_that_may_not_be_sent() {
    let hub = TestHub::start().await;
    let body = |code: u16| code.to_be_bytes().to_vec();
    for (payload, answer) in [
        (vec![], 0),
        (body(1000), 1000),
        (body(1001), 1001),
        ([body(1000), "κόσμε".into()].concat(), 1000),
        (body(1012), 1012),
        (body(3000), 3000),
        (body(4999), 4999),
        (body(0), 1002),
        (body(999), 1002),
        (body(1004), 1002),
        (body(1005), 1002),
        (body(1006), 1002),
        (body(1015), 1002),
        (body(1016), 1002),
        (body(2999), 1002),
        (body(5000), 1002),
        (body(65535), 1002),
    ] {
        let mut raw = Raw::open(&hub).await;
        raw.send(&frame(CLOSE, &payload)).await;
        assert_eq!(raw.closed().await, answer, "{payload:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_may_be_cut_into_fragments_anywhere_with_pings_between_them() {
    let hub = TestHub::start().await;
    let text = ping("κόσμε 𐍈");
    let pong = r#"{"op":"pong","id":"κόσμε 𐍈"}"#;
    let mut raw = Raw::open(&hub).await;
    for cut in 0..=text.len() {
        let (first, last) = text.as_bytes().split_at(cut);
        raw.send(&[frame(0x01, first), frame(0x89, b"between"), frame(0x80, last)].concat()).await;
        assert_eq!(raw.frame().await, (0x8a, b"between".to_vec()));
        assert_eq!(raw.text().await, pong, "cut at {cut}");
    }
    // Each byte of its own, and empty ones.
    raw.send(&frame(0x01, b"")).await;
    for byte in text.as_bytes() {
        raw.send(&[frame(0x00, &[*byte]), frame(0x00, b"")].concat()).await;
    }
    raw.send(&frame(0x80, b"")).await;
    assert_eq!(raw.text().await, pong);
}

#[tokio::test(flavor = "multi_thread")]
async fn fragments_without_end_cost_nothing_and_keep_nobody_waiting() {
    let hub = TestHub::start().await;
    let (mut endless, mut other) = (Raw::open(&hub).await, Raw::open(&hub).await);
    let text = ping("after all");
    endless.send(&frame(0x01, b"")).await;
    let many = frame(0x00, b"").repeat(1_000);
    for _ in 0..100 {
        endless.send(&many).await;
        other.send(&frame(TEXT, ping("meanwhile").as_bytes())).await;
        assert_eq!(other.text().await, r#"{"op":"pong","id":"meanwhile"}"#);
    }
    endless.send(&frame(0x80, text.as_bytes())).await;
    assert_eq!(endless.text().await, r#"{"op":"pong","id":"after all"}"#);
}

/// What comes right behind the head is read as frames, and checked like them.
#[tokio::test(flavor = "multi_thread")]
async fn frames_that_come_together_with_the_handshake_are_heard() {
    let hub = TestHub::start().await;
    for (behind, answers, code) in [
        (frame(TEXT, ping("early").as_bytes()), 1, None),
        ([frame(TEXT, ping("early").as_bytes()), frame(0xc1, b"")].concat(), 1, Some(1002)),
        (vec![0x81, 1, b'x'], 0, Some(1002)),
    ] {
        let mut raw = Raw::connect(&hub).await;
        let head = format!("GET /ws/events?types=none HTTP/1.1\r\n{}\r\n\r\n", standard().join("\r\n"));
        raw.send(&[head.as_bytes(), &behind].concat()).await;
        let (status, _, _) = raw.answer().await;
        assert_eq!(status, 101);
        assert!(raw.text().await.contains("welcome"));
        for _ in 0..answers {
            assert_eq!(raw.text().await, r#"{"op":"pong","id":"early"}"#);
        }
        if let Some(code) = code {
            assert_eq!(raw.closed().await, code);
        }
    }
}
