//! The other side, as lean as it gets since it shares the cores: many WebSocket clients on one thread that only count, one
//! client that reads messages, and one HTTP connection that publishes.

use crate::frames::{Counter, header_bytes, payload_bytes};
use mio::{Events, Interest, Poll, Token};
use std::{
    io::{self, BufRead, BufReader, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    ops::Range,
    time::{Duration, Instant},
};

/// What nothing here may take longer than.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Opens a WebSocket connection; what came behind the handshake is in the reader.
pub(crate) fn websocket(addr: SocketAddr, path: &str) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(addr).expect("it listens");
    stream.set_nodelay(true).expect("a socket");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let head = format!(
        "GET {path} HTTP/1.1\r\nhost: {addr}\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).expect("it reads");
    let mut reader = BufReader::with_capacity(64 << 10, stream);
    let head = read_head(&mut reader);
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    reader
}

fn read_head(reader: &mut impl BufRead) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).expect("it answers") > 0, "it hung up: {head}");
    }
    head
}

/// A text frame from a client. The mask of zeros is a mask like any other, and leaves the text as it is.
pub(crate) fn masked(text: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x81];
    match u16::try_from(text.len()) {
        Ok(short @ 0..126) => frame.push(0x80 | short as u8),
        Ok(medium) => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&medium.to_be_bytes());
        }
        Err(_) => panic!("longer than anything here sends"),
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(text);
    frame
}

/// The payload of the next data frame.
pub(crate) fn message(reader: &mut impl Read) -> Vec<u8> {
    loop {
        let mut header = [0; 10];
        reader.read_exact(&mut header[..2]).expect("a frame");
        let length = header_bytes(&header[..2]);
        reader.read_exact(&mut header[2..length]).expect("a frame");
        let mut payload = vec![0; payload_bytes(&header[..length])];
        reader.read_exact(&mut payload).expect("a frame");
        if header[0] & 0x08 == 0 {
            return payload;
        }
    }
}

/// Clients that count.
pub(crate) struct Swarm {
    poll: Poll,
    clients: Vec<mio::net::TcpStream>,
    pub(crate) counters: Vec<Counter>,
    buffer: Vec<u8>,
}

impl Swarm {
    /// Connects them one after the other; each says `hello` first, if there is any.
    pub(crate) fn connect(addr: SocketAddr, path: &str, clients: usize, hello: &[u8]) -> Self {
        let poll = Poll::new().expect("epoll");
        let mut swarm = Self { poll, clients: Vec::new(), counters: Vec::new(), buffer: vec![0; 256 << 10] };
        for index in 0..clients {
            let mut reader = websocket(addr, path);
            if !hello.is_empty() {
                reader.get_mut().write_all(hello).expect("it reads");
            }
            let mut counter = Counter::default();
            counter.feed(reader.buffer());
            let stream = reader.into_inner();
            stream.set_nonblocking(true).expect("a socket");
            let mut stream = mio::net::TcpStream::from_std(stream);
            swarm.poll.registry().register(&mut stream, Token(index), Interest::READABLE).expect("epoll");
            swarm.clients.push(stream);
            swarm.counters.push(counter);
        }
        swarm
    }

    /// How many data frames came so far, to all of them.
    pub(crate) fn frames(&self) -> u64 {
        self.counters.iter().map(|counter| counter.frames).sum()
    }

    /// How many bytes these carried.
    pub(crate) fn payload(&self) -> u64 {
        self.counters.iter().map(|counter| counter.payload).sum()
    }

    /// Reads until `count` of what came has reached `target`; false if that takes too long.
    pub(crate) fn read_until(&mut self, target: u64, count: fn(&Self) -> u64) -> bool {
        let deadline = Instant::now() + PATIENCE;
        let mut events = Events::with_capacity(1_024);
        while count(self) < target {
            if Instant::now() > deadline {
                return false;
            }
            self.poll.poll(&mut events, Some(Duration::from_millis(100))).expect("epoll");
            for event in &events {
                self.drain(event.token().0).expect("the connection stays");
            }
        }
        true
    }

    /// As [`Swarm::read_until`] for frames, and tells `arrived` which of a client's frames came whole, and when.
    pub(crate) fn follow(&mut self, target: u64, mut arrived: impl FnMut(Range<u64>, Instant)) -> bool {
        let deadline = Instant::now() + PATIENCE;
        let mut events = Events::with_capacity(1_024);
        while self.frames() < target {
            if Instant::now() > deadline {
                return false;
            }
            self.poll.poll(&mut events, Some(Duration::from_millis(100))).expect("epoll");
            for event in &events {
                let before = self.counters[event.token().0].frames;
                self.drain(event.token().0).expect("the connection stays");
                arrived(before..self.counters[event.token().0].frames, Instant::now());
            }
        }
        true
    }

    /// Reads what comes within `time`.
    pub(crate) fn read_for(&mut self, time: Duration) {
        let deadline = Instant::now() + time;
        let mut events = Events::with_capacity(1_024);
        while let Some(left) = deadline.checked_duration_since(Instant::now()) {
            self.poll.poll(&mut events, Some(left)).expect("epoll");
            for event in &events {
                self.drain(event.token().0).expect("the connection stays");
            }
        }
    }

    fn drain(&mut self, index: usize) -> io::Result<()> {
        loop {
            match self.clients[index].read(&mut self.buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(n) => {
                    self.counters[index].feed(&self.buffer[..n]);
                    // All that there was: one call to the system less.
                    if n < self.buffer.len() {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}

/// One HTTP connection, kept open.
pub(crate) struct Http {
    addr: SocketAddr,
    reader: BufReader<TcpStream>,
}

impl Http {
    pub(crate) fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).expect("it listens");
        stream.set_nodelay(true).expect("a socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        Self { addr, reader: BufReader::new(stream) }
    }

    /// The whole request, to be sent again and again.
    pub(crate) fn post(&self, path: &str, body: &str) -> Vec<u8> {
        let (addr, length) = (self.addr, body.len());
        format!(
            "POST {path} HTTP/1.1\r\nhost: {addr}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        )
        .into_bytes()
    }

    /// Sends a request and waits for the answer's body; tries again where the hub says that its queue is full.
    pub(crate) fn send(&mut self, request: &[u8]) -> String {
        loop {
            self.reader.get_mut().write_all(request).expect("it reads");
            let head = read_head(&mut self.reader).to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
            let mut body = vec![0; length.parse().expect("a number")];
            self.reader.read_exact(&mut body).expect("a body");
            match head.get(9..12) {
                Some("200") => return String::from_utf8(body).expect("UTF-8"),
                Some("429") => std::thread::sleep(Duration::from_millis(1)),
                _ => panic!("{head}{}", String::from_utf8_lossy(&body)),
            }
        }
    }

    pub(crate) fn get(&mut self, path: &str) -> serde_json::Value {
        serde_json::from_str(&self.text(path)).expect("JSON")
    }

    pub(crate) fn text(&mut self, path: &str) -> String {
        let request = format!("GET {path} HTTP/1.1\r\nhost: {}\r\n\r\n", self.addr);
        self.send(request.as_bytes())
    }
}
