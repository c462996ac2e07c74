//! What RFC 6455, section 5.2, asks of the header of each frame that a client sends, checked before
//! its payload is there.
//!
//! `tungstenite` checks some of it, and only once the whole frame has come. Not checked here is
//! what depends on the frames before: fragments, sizes and UTF-8 are `tungstenite`'s.

/// Longest header of a masked frame: two bytes, eight of length, four of the mask.
const MAX_HEADER: usize = 14;

/// What a client has done that RFC 6455 forbids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum HeaderError {
    #[error("reserved bits are set, and no extension was agreed on")]
    ReservedBits,
    #[error("opcode {0} is reserved")]
    Opcode(u8),
    #[error("a frame of a client is masked")]
    Unmasked,
    #[error("a control frame is not fragmented")]
    FragmentedControl,
    #[error("a control frame has at most 125 bytes")]
    LongControl,
    #[error("a length has as few bytes as it can")]
    LongLength,
    #[error("a length has 63 bits")]
    HugeLength,
}

/// Follows the frames in a stream of bytes, which may be cut anywhere.
#[derive(Debug, Default)]
pub(super) struct Headers {
    /// The begin of a header.
    header: [u8; MAX_HEADER],
    filled: usize,
    /// Bytes of the payload that are still to come.
    payload: u64,
}

impl Headers {
    /// Looks at the next bytes. With the error comes how many of them belong to the frames before.
    pub(super) fn check(&mut self, bytes: &[u8]) -> Result<(), (usize, HeaderError)> {
        let mut at = 0;
        // Where, in `bytes`, the frame begins: before them if its header was cut.
        let mut frame = 0;
        while at < bytes.len() {
            if self.payload > 0 {
                let skipped = self.payload.min((bytes.len() - at) as u64);
                self.payload -= skipped;
                at += skipped as usize;
                frame = at;
                continue;
            }
            self.header[self.filled] = bytes[at];
            (self.filled, at) = (self.filled + 1, at + 1);
            if let Some(payload) = read(&self.header[..self.filled]).map_err(|error| (frame, error))? {
                (self.payload, self.filled, frame) = (payload, 0, at);
            }
        }
        Ok(())
    }
}

/// The length of the payload, once the header is whole.
fn read(header: &[u8]) -> Result<Option<u64>, HeaderError> {
    let [first, rest @ ..] = header else { return Ok(None) };
    let (is_final, reserved, opcode) = (first & 0x80 != 0, first & 0x70 != 0, first & 0x0f);
    let is_control = opcode & 0x08 != 0;
    if reserved {
        return Err(HeaderError::ReservedBits);
    }
    if !matches!(opcode, 0..=2 | 8..=10) {
        return Err(HeaderError::Opcode(opcode));
    }
    if is_control && !is_final {
        return Err(HeaderError::FragmentedControl);
    }
    let [second, rest @ ..] = rest else { return Ok(None) };
    if second & 0x80 == 0 {
        return Err(HeaderError::Unmasked);
    }
    let short = second & 0x7f;
    if is_control && short > 125 {
        return Err(HeaderError::LongControl);
    }
    let (bytes, least) = match short {
        126 => (2, 126),
        127 => (8, 1 << 16),
        _ => (0, 0),
    };
    let Some((length, rest)) = rest.split_at_checked(bytes) else { return Ok(None) };
    let length =
        if bytes == 0 { u64::from(short) } else { length.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)) };
    if length < least {
        return Err(HeaderError::LongLength);
    }
    if length >> 63 != 0 {
        return Err(HeaderError::HugeLength);
    }
    Ok((rest.len() == 4).then_some(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: [u8; 4] = [1, 2, 3, 4];

    /// Whole and byte by byte, the same is found at the same place.
    #[track_caller]
    fn check(bytes: &[u8], expected: Result<(), (usize, HeaderError)>) {
        assert_eq!(Headers::default().check(bytes), expected, "{bytes:x?}");
        let mut headers = Headers::default();
        let found = bytes.iter().find_map(|byte| headers.check(&[*byte]).err());
        assert_eq!(found.map(|(_, error)| error), expected.err().map(|(_, error)| error), "{bytes:x?}, byte by byte");
    }

    fn frame(first: u8, length: &[u8], payload: usize) -> Vec<u8> {
        [&[first], length, &MASK, &vec![0; payload]].concat()
    }

    #[test]
    fn what_the_rfc_allows_is_allowed() {
        let all = [
            frame(0x81, &[0x80], 0),
            frame(0x81, &[0x80 | 125], 125),
            frame(0x81, &[0x80 | 126, 0, 126], 126),
            frame(0x82, &[0x80 | 126, 0xff, 0xff], 0xffff),
            frame(0x82, &[0x80 | 127, 0, 0, 0, 0, 0, 1, 0, 0], 1 << 16),
            frame(0x01, &[0x80 | 1], 1),
            frame(0x00, &[0x80], 0),
            frame(0x80, &[0x80], 0),
            frame(0x89, &[0x80 | 125], 125),
            frame(0x8a, &[0x80], 0),
            frame(0x88, &[0x80 | 2], 2),
        ];
        check(&all.concat(), Ok(()));
        check(&frame(0x82, &[0x80 | 127, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], 0), Ok(()));
    }

    #[test]
    fn what_it_forbids_is_found_in_the_header_and_at_the_frame() {
        let good = frame(0x81, &[0x80 | 5], 5);
        let bad: &[(&[u8], HeaderError)] = &[
            (&[0xc1], HeaderError::ReservedBits),
            (&[0xa1], HeaderError::ReservedBits),
            (&[0x91], HeaderError::ReservedBits),
            (&[0xc9], HeaderError::ReservedBits),
            (&[0x83], HeaderError::Opcode(3)),
            (&[0x87], HeaderError::Opcode(7)),
            (&[0x8b], HeaderError::Opcode(11)),
            (&[0x8f], HeaderError::Opcode(15)),
            (&[0x09], HeaderError::FragmentedControl),
            (&[0x08], HeaderError::FragmentedControl),
            (&[0x81, 0x05], HeaderError::Unmasked),
            (&[0x89, 0x00], HeaderError::Unmasked),
            (&[0x89, 0x80 | 126], HeaderError::LongControl),
            (&[0x88, 0x80 | 127], HeaderError::LongControl),
            (&[0x81, 0x80 | 126, 0, 125], HeaderError::LongLength),
            (&[0x81, 0x80 | 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff], HeaderError::LongLength),
            (&[0x81, 0x80 | 127, 0x80, 0, 0, 0, 0, 0, 0, 0], HeaderError::HugeLength),
        ];
        for (header, error) in bad {
            check(header, Err((0, *error)));
            check(&[&good, &good, *header].concat(), Err((2 * good.len(), *error)));
        }
    }
}
