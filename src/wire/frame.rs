//! Frames from the server, encoded once.
//!
//! A frame from a server is not masked (RFC 6455 section 5.1), so one encoding serves every receiver: a broadcast to ten
//! thousand connections serialises its JSON once and clones a reference count ten thousand times. Parsing what clients
//! send is tungstenite's work; only this, the writing side of unfragmented frames, is our own.

use bytes::Bytes;
use serde::Serialize;

/// FIN and the opcode of a text frame (RFC 6455 section 5.2).
const TEXT: u8 = 0x81;
/// FIN and the opcode of a ping frame.
const PING: u8 = 0x89;
/// FIN and the opcode of a close frame.
const CLOSE: u8 = 0x88;
/// The longest header of an unmasked frame: two bytes and a 64-bit length.
const HEADER_MAX: usize = 10;

/// One complete frame, header and payload, ready to be written. Cloning shares the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame(Bytes);

impl Frame {
    /// A text frame that holds `value` as JSON.
    ///
    /// # Errors
    /// When `value`'s own `Serialize` fails; the types of this crate never do.
    pub fn json(value: &impl Serialize) -> serde_json::Result<Self> {
        let mut buffer = Vec::with_capacity(192);
        buffer.resize(HEADER_MAX, 0);
        serde_json::to_writer(&mut buffer, value)?;
        Ok(Self::seal(buffer, TEXT))
    }

    /// A text frame that holds `json`, which is JSON already.
    pub fn text(json: &[u8]) -> Self {
        let mut buffer = Vec::with_capacity(HEADER_MAX + json.len());
        buffer.resize(HEADER_MAX, 0);
        buffer.extend_from_slice(json);
        Self::seal(buffer, TEXT)
    }

    /// A binary frame.
    #[cfg(feature = "echo")]
    pub fn binary(payload: &[u8]) -> Self {
        let buffer = [&[0; HEADER_MAX][..], payload].concat();
        Self::seal(buffer, 0x82)
    }

    /// A text frame that holds a JSON object, `open` being all of it but the closing brace, with `"id":id` as its last field.
    pub fn object_with_id(open: &str, id: u64) -> Self {
        Self::text(format!("{open},\"id\":{id}}}").as_bytes())
    }

    /// A ping frame; `payload` is cut to the 125 bytes of a control frame (RFC 6455 section 5.5).
    pub fn ping(payload: &[u8]) -> Self {
        Self::control(PING, payload)
    }

    /// A close frame with `code` and `reason`.
    pub fn close(code: u16, reason: &str) -> Self {
        let mut payload = code.to_be_bytes().to_vec();
        payload.extend_from_slice(reason.as_bytes());
        Self::control(CLOSE, &payload)
    }

    fn control(first: u8, payload: &[u8]) -> Self {
        let mut buffer = vec![0; HEADER_MAX];
        buffer.extend_from_slice(&payload[..payload.len().min(125)]);
        Self::seal(buffer, first)
    }

    /// Writes the header just before the payload, which starts at `HEADER_MAX`, and cuts off what is left over in front.
    fn seal(mut buffer: Vec<u8>, first: u8) -> Self {
        let length = buffer.len() - HEADER_MAX;
        let start = match length {
            0..126 => {
                buffer[9] = length as u8;
                8
            }
            126..65536 => {
                buffer[7] = 126;
                buffer[8..10].copy_from_slice(&(length as u16).to_be_bytes());
                6
            }
            _ => {
                buffer[1] = 127;
                buffer[2..10].copy_from_slice(&(length as u64).to_be_bytes());
                0
            }
        };
        buffer[start] = first;
        Self(Bytes::from(buffer).slice(start..))
    }

    /// Header and payload.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The payload alone.
    pub fn payload(&self) -> &[u8] {
        let header = match self.0[1] & 0x7f {
            126 => 4,
            127 => 10,
            _ => 2,
        };
        &self.0[header..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_lengths_of_a_header() {
        for (length, header) in [(0, 2), (1, 2), (123, 2), (124, 4), (65_533, 4), (65_534, 10), (200_000, 10)] {
            let text = "x".repeat(length);
            let frame = Frame::json(&text).unwrap();
            let bytes = frame.as_bytes();
            assert_eq!(bytes[0], 0x81);
            assert_eq!(bytes.len(), header + length + 2, "{length}");
            assert_eq!(frame.payload(), format!("\"{text}\"").as_bytes());
            let said = match bytes[1] {
                126 => u64::from(u16::from_be_bytes([bytes[2], bytes[3]])),
                127 => u64::from_be_bytes(bytes[2..10].try_into().unwrap()),
                n => u64::from(n),
            };
            assert_eq!(said, length as u64 + 2);
        }
    }

    #[test]
    fn control_frames_stay_within_125_bytes() {
        assert_eq!(Frame::ping(&[7; 300]).payload().len(), 125);
        assert_eq!(Frame::close(4001, "no").as_bytes(), [0x88, 4, 0x0f, 0xa1, b'n', b'o']);
    }
}
