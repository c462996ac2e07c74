//! Reads just enough of WebSocket to count: headers of unmasked frames (RFC 6455, section 5.2); payloads are passed over.

/// Counts the data frames in a stream of bytes.
#[derive(Debug, Default)]
pub(crate) struct Counter {
    header: [u8; 10],
    have: usize,
    /// Bytes of the payload that is under way.
    rest: usize,
    pub(crate) frames: u64,
    pub(crate) payload: u64,
}

impl Counter {
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.rest > 0 {
                let skipped = self.rest.min(bytes.len());
                self.rest -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            let wanted = header_bytes(&self.header[..self.have]);
            let taken = (wanted - self.have).min(bytes.len());
            self.header[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have == header_bytes(&self.header[..self.have]) {
                self.begin();
            }
        }
    }

    fn begin(&mut self) {
        let payload = payload_bytes(&self.header[..self.have]);
        self.have = 0;
        self.rest = payload;
        // Control frames have the high bit of the opcode; the hub's pings are no deliveries.
        if self.header[0] & 0x08 == 0 {
            self.frames += 1;
            self.payload += payload as u64;
        }
    }
}

/// How long the header is, as far as its beginning tells.
pub(crate) fn header_bytes(begun: &[u8]) -> usize {
    match begun.get(1).map(|byte| byte & 0x7f) {
        None | Some(0..126) => 2,
        Some(126) => 4,
        Some(_) => 10,
    }
}

/// How long the payload behind a whole header is.
pub(crate) fn payload_bytes(header: &[u8]) -> usize {
    let big_endian = |bytes: &[u8]| bytes.iter().fold(0, |n, byte| n << 8 | usize::from(*byte));
    match header {
        [_, short] => usize::from(short & 0x7f),
        [_, _, long @ ..] => big_endian(long),
        _ => 0,
    }
}
