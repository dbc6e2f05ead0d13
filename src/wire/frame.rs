//! WebSocket frames (RFC 6455 section 5.2): one parser of headers, one encoder.
//!
//! A frame from a server is not masked (section 5.1), so one encoding serves every receiver: a broadcast to ten thousand
//! connections is encoded once and shared by reference count. This module encodes unfragmented frames and reads headers; the messages
//! of clients are assembled where they are read.

/// The opcode of the fragments of a message behind the first one.
pub const CONTINUATION: u8 = 0x0;
/// The opcode of a text frame.
pub const TEXT: u8 = 0x1;
/// The opcode of a binary frame.
pub const BINARY: u8 = 0x2;
/// The opcode of a close frame.
pub const CLOSE: u8 = 0x8;
/// The opcode of a ping frame.
pub const PING: u8 = 0x9;
/// The opcode of a pong frame.
pub const PONG: u8 = 0xa;

/// The bit of the first byte that marks the last, or only, fragment of a message.
const FIN: u8 = 0x80;
/// The bits of the first byte that only extensions use.
const RESERVED: u8 = 0x70;
/// The bit of the second byte that marks a masked payload.
const MASKED: u8 = 0x80;

/// The longest header without a mask, in bytes.
const MAX_UNMASKED_HEADER_BYTES: usize = 10;
/// The longest payload of a control frame, in bytes (section 5.5).
pub const MAX_CONTROL_BYTES: usize = 125;
/// The header size that [`append_json`] reserves: that of payloads of 126 to 65,535 bytes, the most frequent ones.
const USUAL_HEADER_BYTES: usize = 4;
/// The capacity that [`append_json`] reserves, in bytes: most events fit.
const USUAL_EVENT_BYTES: usize = 192;

/// The header of one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// Set on the last, or only, fragment of a message.
    pub fin: bool,
    /// The reserved bits, which are 0 without an extension.
    pub reserved: u8,
    /// The opcode, 0 to 15.
    pub opcode: u8,
    /// Set if the payload is masked, as it is from every client.
    pub masked: bool,
    /// The length of the header, mask included, in bytes.
    pub header_bytes: usize,
    /// The length of the payload, in bytes.
    pub payload_bytes: u64,
}

impl FrameHeader {
    /// Parses the header at the start of `bytes`; `None` while part of it is missing. Reserved bits and opcodes are not checked.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let [first, second, rest @ ..] = bytes else { return None };
        let (extended, payload_bytes) = match second & !MASKED {
            126 => (2, u64::from(u16::from_be_bytes(*rest.first_chunk()?))),
            127 => (8, u64::from_be_bytes(*rest.first_chunk()?)),
            short => (0, u64::from(short)),
        };
        let masked = second & MASKED != 0;
        let header_bytes = 2 + extended + if masked { 4 } else { 0 };
        let (fin, reserved, opcode) = (first & FIN != 0, first & RESERVED, first & 0x0f);
        (bytes.len() >= header_bytes).then_some(Self { fin, reserved, opcode, masked, header_bytes, payload_bytes })
    }

    /// The length of header and payload together, in bytes.
    #[inline]
    pub fn frame_bytes(&self) -> u64 {
        self.payload_bytes.saturating_add(self.header_bytes as u64)
    }
}

/// The header of an unmasked, unfragmented frame, and its length in bytes.
#[inline]
fn header(opcode: u8, payload_bytes: usize) -> ([u8; MAX_UNMASKED_HEADER_BYTES], usize) {
    let mut header = [0; MAX_UNMASKED_HEADER_BYTES];
    header[0] = FIN | opcode;
    let length = match payload_bytes {
        0..126 => {
            header[1] = payload_bytes as u8;
            2
        }
        126..65_536 => {
            header[1] = 126;
            header[2..4].copy_from_slice(&(payload_bytes as u16).to_be_bytes());
            4
        }
        _ => {
            header[1] = 127;
            header[2..10].copy_from_slice(&(payload_bytes as u64).to_be_bytes());
            10
        }
    };
    (header, length)
}

/// Appends a frame with `opcode` to `out`. The payload of a control frame is cut to 125 bytes (section 5.5).
#[inline]
pub fn append(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    let payload = if opcode >= CLOSE { &payload[..payload.len().min(MAX_CONTROL_BYTES)] } else { payload };
    let (header, length) = header(opcode, payload.len());
    out.reserve(length + payload.len());
    out.extend_from_slice(&header[..length]);
    out.extend_from_slice(payload);
}

/// Returns the payload of the unmasked frame that `bytes` are.
#[inline]
pub fn payload(bytes: &[u8]) -> &[u8] {
    let header = FrameHeader::parse(bytes).map_or(0, |header| header.header_bytes);
    bytes.get(header..).unwrap_or_default()
}

/// Appends a frame as a client writes it, with `mask` (section 5.3), to `out`.
pub fn append_masked(out: &mut Vec<u8>, opcode: u8, mask: [u8; 4], payload: &[u8]) {
    let (mut header, length) = header(opcode, payload.len());
    header[1] |= MASKED;
    out.extend_from_slice(&header[..length]);
    out.extend_from_slice(&mask);
    let start = out.len();
    out.extend_from_slice(payload);
    apply_mask(mask, &mut out[start..]);
}

/// Applies a mask to a payload, or removes it (section 5.3).
#[inline]
pub fn apply_mask(mask: [u8; 4], payload: &mut [u8]) {
    let word = u64::from(u32::from_ne_bytes(mask));
    let word = word << 32 | word;
    let (words, rest) = payload.as_chunks_mut::<8>();
    for bytes in words {
        *bytes = (u64::from_ne_bytes(*bytes) ^ word).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

/// Appends a text frame to `out` whose payload is what `write` appends, in place.
///
/// # Errors
/// If `write` fails; `out` is as before then.
#[inline]
pub fn append_json(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> serde_json::Result<()>) -> serde_json::Result<()> {
    let start = out.len();
    let payload_start = start + USUAL_HEADER_BYTES;
    out.reserve(USUAL_EVENT_BYTES);
    out.resize(payload_start, 0);
    if let Err(error) = write(out) {
        out.truncate(start);
        return Err(error);
    }
    let payload_end = out.len();
    let (header, length) = header(TEXT, payload_end - payload_start);
    if length != USUAL_HEADER_BYTES {
        out.resize(payload_end.max(payload_end + length - USUAL_HEADER_BYTES), 0);
        out.copy_within(payload_start..payload_end, start + length);
        out.truncate(payload_end + length - USUAL_HEADER_BYTES);
    }
    out[start..start + length].copy_from_slice(&header[..length]);
    Ok(())
}

/// Appends a close frame with `code` and `reason` to `out`.
pub fn append_close(out: &mut Vec<u8>, code: u16, reason: &str) {
    append(out, CLOSE, &[&code.to_be_bytes(), reason.as_bytes()].concat());
}

/// Returns a text frame, header and payload.
pub fn text(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    append(&mut out, TEXT, payload);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_of_each_length_form_is_minimal_and_parses_back() {
        for (length, header_bytes) in [(0, 2), (1, 2), (123, 2), (124, 4), (65_533, 4), (65_534, 10), (200_000, 10)] {
            let value = "x".repeat(length);
            let json = format!("\"{value}\"");
            let frame = text(json.as_bytes());
            assert_eq!(frame[0], 0x81);
            assert_eq!(frame.len(), header_bytes + length + 2, "{length}");
            assert_eq!(&frame[header_bytes..], json.as_bytes());
            let payload_bytes = length as u64 + 2;
            let expected = FrameHeader { fin: true, reserved: 0, opcode: TEXT, masked: false, header_bytes, payload_bytes };
            assert_eq!(FrameHeader::parse(&frame), Some(expected));
            assert_eq!(expected.frame_bytes(), frame.len() as u64);
            let mut out = b"before".to_vec();
            append_json(&mut out, |out| serde_json::to_writer(out, &value)).unwrap();
            assert_eq!(out, [&b"before"[..], &frame].concat(), "{length}");
        }
    }

    #[test]
    fn header_parse_waits_for_the_whole_header() {
        for header in
            [&[0x81, 5][..], &[0x01, 0x85, 1, 2, 3, 4], &[0x82, 126, 1, 0], &[0x8a, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 9, 9, 9, 9]]
        {
            for have in 0..header.len() {
                assert_eq!(FrameHeader::parse(&header[..have]), None, "{have} of {header:?}");
            }
            assert_eq!(FrameHeader::parse(header).unwrap().header_bytes, header.len());
        }
        let huge = FrameHeader::parse(&[0x81, 127, 255, 255, 255, 255, 255, 255, 255, 255]).unwrap();
        assert_eq!((huge.payload_bytes, huge.frame_bytes()), (u64::MAX, u64::MAX));
    }

    #[test]
    fn control_frames_stay_within_125_bytes() {
        let mut ping = Vec::new();
        append(&mut ping, PING, &[7; 300]);
        assert_eq!((ping[0], FrameHeader::parse(&ping).unwrap().payload_bytes, ping.len()), (0x89, 125, 127));
        let mut close = Vec::new();
        append_close(&mut close, 4001, "no");
        assert_eq!(close, [0x88, 4, 0x0f, 0xa1, b'n', b'o']);
    }

    #[test]
    fn failed_serialisation_leaves_the_buffer_unchanged() {
        let write = |out: &mut Vec<u8>| {
            out.extend_from_slice(b"half");
            Err(serde::ser::Error::custom("refused"))
        };
        let mut out = b"before".to_vec();
        assert!(append_json(&mut out, write).is_err());
        assert_eq!(out, b"before");
    }
}
