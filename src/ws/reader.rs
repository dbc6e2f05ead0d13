//! The messages of a client, from the bytes of its connection (RFC 6455 sections 5 to 8): frames, masks, fragments, UTF-8.
//!
//! # Invariants
//! - Messages are lent from the buffer that they were read into; only what waits for its rest is kept, in memory of its own size. An
//!   idle connection has no buffer.
//! - No more memory is taken than a small multiple of what has arrived, whatever length a header claims.
//! - Nothing follows an error or a close frame.

use std::borrow::Cow;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncRead;
use tokio_util::io::poll_read_buf;

use super::buffers::{self, BUFFER_BYTES};
use super::frame_rates::FrameRates;
use crate::config::Limits;
use crate::session::End;
use crate::wire::CloseCode;
use crate::wire::frame::{
    BINARY, CLOSE, CONTINUATION, FrameHeader, MAX_CONTROL_BYTES, PING, PONG, TEXT, append, append_close, apply_mask,
};

/// A message or a control frame from the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Incoming<'a> {
    /// A text message.
    Text(Cow<'a, str>),
    /// A binary message.
    Binary(Cow<'a, [u8]>),
    /// A ping, with the payload of the pong that answers it.
    Ping(Cow<'a, [u8]>),
    /// A pong, with the payload of the server's ping.
    Pong(Cow<'a, [u8]>),
}

impl Incoming<'_> {
    /// The length of the payload.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) | Self::Ping(bytes) | Self::Pong(bytes) => bytes.len(),
        }
    }

    /// A copy that is not lent.
    pub(super) fn into_owned(self) -> Incoming<'static> {
        match self {
            Self::Text(text) => Incoming::Text(text.into_owned().into()),
            Self::Binary(bytes) => Incoming::Binary(bytes.into_owned().into()),
            Self::Ping(payload) => Incoming::Ping(payload.into_owned().into()),
            Self::Pong(payload) => Incoming::Pong(payload.into_owned().into()),
        }
    }
}

/// A whole message or control frame that has been found and not been taken yet.
#[derive(Debug)]
enum Found {
    /// The opcode, and the place of the payload, unmasked.
    Frame(u8, Range<usize>),
    /// A message that came in fragments.
    Assembled(Assembly),
}

/// The fragments of a message.
#[derive(Debug)]
struct Assembly {
    text: bool,
    payload: Vec<u8>,
    /// Up to here a text has been checked: what follows is the beginning of a character.
    valid: usize,
}

impl Assembly {
    fn new(opcode: u8) -> Self {
        Self { text: opcode == TEXT, payload: Vec::new(), valid: 0 }
    }

    /// Appends a fragment.
    ///
    /// # Errors
    /// [`CloseCode::InvalidData`] if no continuation can make it UTF-8 (RFC 3629), or it is the last one and there is none.
    fn append(&mut self, fragment: &[u8], last: bool) -> Result<(), CloseCode> {
        self.payload.extend_from_slice(fragment);
        if !self.text {
            return Ok(());
        }
        match std::str::from_utf8(&self.payload[self.valid..]) {
            Ok(text) => self.valid += text.len(),
            Err(error) if error.error_len().is_none() && !last => self.valid += error.valid_up_to(),
            Err(_) => return Err(CloseCode::InvalidData),
        }
        Ok(())
    }
}

/// Finds messages in what has been read.
pub(super) struct Reader {
    /// What has been read; without memory where all of it was taken.
    input: Vec<u8>,
    /// Up to here it was taken.
    taken: usize,
    /// The frame at `taken`, of which the rest has not come, is counted already.
    counted: bool,
    found: Option<Found>,
    /// Boxed, since fragments are rare.
    assembly: Option<Box<Assembly>>,
    /// The longest message in bytes; 0: any.
    max_bytes: usize,
    /// Boxed, so that the futures that hold the reader stay small.
    rates: Box<FrameRates>,
    /// The close frame that answers the client's.
    close_answer: Option<Box<[u8]>>,
}

impl Reader {
    /// Uses of `limits`: the bytes of a frame and of a message, frames and bytes a minute.
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            input: Vec::new(),
            taken: 0,
            counted: false,
            found: None,
            assembly: None,
            max_bytes: limits.max_frame_bytes,
            rates: Box::new(FrameRates::new(limits)),
            close_answer: None,
        }
    }

    /// Begins with bytes that were read before.
    pub(super) fn begin_with(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    /// Notes that `count` pings are about to be written: their pongs are not counted against the client.
    pub(super) fn expect_pongs(&mut self, count: u32) {
        self.rates.expect_pongs(count);
    }

    /// The close frame that answers the client's, where that has come.
    pub(super) fn close_answer(&self) -> Option<&[u8]> {
        self.close_answer.as_deref()
    }

    /// Reads what the stream has; 0 bytes at its end. Called when [`find`](Self::find) has found nothing.
    #[inline]
    pub(super) fn poll_fill<S: AsyncRead + Unpin>(&mut self, stream: &mut S, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.input.capacity() == 0 {
            self.input = buffers::take();
        }
        if self.taken > 0 {
            self.input.drain(..self.taken);
            self.taken = 0;
        }
        if self.input.len() == self.input.capacity() {
            self.input.reserve(BUFFER_BYTES.max(self.input.len()));
        }
        let read = poll_read_buf(Pin::new(stream), cx, &mut self.input);
        if read.is_pending() {
            self.release();
        }
        Poll::Ready(ready!(read))
    }

    /// Gives the buffer back, and keeps what waits for its rest.
    #[inline]
    fn release(&mut self) {
        let rest = &self.input[self.taken..];
        if rest.is_empty() || self.input.capacity() > 2 * rest.len() + 64 {
            let rest = rest.to_vec();
            buffers::give_back(std::mem::replace(&mut self.input, rest));
            self.taken = 0;
        }
    }

    /// Looks for a whole message or control frame; returns whether there is one to [`take`](Self::take).
    ///
    /// # Errors
    /// The end of the connection, for what is no WebSocket, too large or too much, and for a close frame.
    #[inline]
    pub(super) fn find(&mut self) -> Result<bool, End> {
        while self.found.is_none() {
            let Some(header) = FrameHeader::parse(&self.input[self.taken..]) else { return Ok(false) };
            if !self.counted {
                self.check(&header)?;
                self.rates.count(&header).map_err(End::too_many)?;
                self.counted = true;
            }
            let start = self.taken + header.header_bytes;
            let Some(end) = usize::try_from(header.payload_bytes).ok().and_then(|bytes| start.checked_add(bytes)) else {
                return Err(CloseCode::TooBig.into());
            };
            if end > self.input.len() {
                return Ok(false);
            }
            if let Some((&mut mask, payload)) = self.input[start - 4..end].split_first_chunk_mut() {
                apply_mask(mask, payload);
            }
            (self.taken, self.counted) = (end, false);
            self.found = self.receive(header.opcode, header.fin, start..end)?;
        }
        Ok(true)
    }

    /// Takes what [`find`](Self::find) has found.
    #[inline]
    pub(super) fn take(&mut self) -> Option<Result<Incoming<'_>, End>> {
        let invalid = || End::from(CloseCode::InvalidData);
        Some(Ok(match self.found.take()? {
            Found::Frame(TEXT, place) => match std::str::from_utf8(&self.input[place]) {
                Ok(text) => Incoming::Text(text.into()),
                Err(_) => return Some(Err(invalid())),
            },
            Found::Frame(PING, place) => Incoming::Ping(self.input[place].into()),
            Found::Frame(PONG, place) => Incoming::Pong(self.input[place].into()),
            Found::Frame(_, place) => Incoming::Binary(self.input[place].into()),
            Found::Assembled(Assembly { text: false, payload, .. }) => Incoming::Binary(payload.into()),
            Found::Assembled(Assembly { payload, .. }) => match String::from_utf8(payload) {
                Ok(text) => Incoming::Text(text.into()),
                Err(_) => return Some(Err(invalid())),
            },
        }))
    }

    /// Checks what a header alone shows to be wrong (RFC 6455 sections 5.2, 5.4, 5.5).
    #[inline]
    fn check(&self, header: &FrameHeader) -> Result<(), CloseCode> {
        let &FrameHeader { fin, reserved, opcode, masked, payload_bytes, .. } = header;
        let fragments = self.assembly.as_ref().map(|assembly| assembly.payload.len());
        let proper = masked
            && reserved == 0
            && match opcode {
                CONTINUATION => fragments.is_some(),
                TEXT | BINARY => fragments.is_none(),
                CLOSE | PING | PONG => fin && payload_bytes <= MAX_CONTROL_BYTES as u64,
                _ => false,
            };
        if !proper {
            return Err(CloseCode::Protocol);
        }
        let bytes = payload_bytes.saturating_add(fragments.filter(|_| opcode == CONTINUATION).unwrap_or(0) as u64);
        // Section 5.2 allows 2^63 bytes at most.
        let most = if self.max_bytes > 0 { self.max_bytes as u64 } else { i64::MAX as u64 };
        if bytes > most { Err(CloseCode::TooBig) } else { Ok(()) }
    }

    /// Processes a whole frame, whose payload is at `place`; `None` for a fragment that others follow.
    #[inline]
    fn receive(&mut self, opcode: u8, fin: bool, place: Range<usize>) -> Result<Option<Found>, End> {
        if opcode == CLOSE {
            let (code, answer) = answer_close(&self.input[place])?;
            self.close_answer = Some(answer.into());
            return Err(End::Gone(code));
        }
        if fin && opcode != CONTINUATION {
            return Ok(Some(Found::Frame(opcode, place)));
        }
        let mut assembly = self.assembly.take().unwrap_or_else(|| Box::new(Assembly::new(opcode)));
        assembly.append(&self.input[place], fin)?;
        if fin {
            return Ok(Some(Found::Assembled(*assembly)));
        }
        self.assembly = Some(assembly);
        Ok(None)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        buffers::give_back(std::mem::take(&mut self.input));
    }
}

/// Returns the code of a close frame, if it has one, and the frame that answers it (section 5.5.1).
///
/// # Errors
/// If the payload is malformed.
fn answer_close(payload: &[u8]) -> Result<(Option<u16>, Vec<u8>), CloseCode> {
    let mut answer = Vec::new();
    let Some((code, reason)) = payload.split_first_chunk() else {
        if !payload.is_empty() {
            return Err(CloseCode::Protocol); // half a code
        }
        append(&mut answer, CLOSE, &[]);
        return Ok((None, answer));
    };
    let code = u16::from_be_bytes(*code);
    let reason = std::str::from_utf8(reason).map_err(|_| CloseCode::InvalidData)?;
    // Section 7.4: the others are reserved, or never in a frame.
    if matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        append_close(&mut answer, code, reason);
    } else {
        append_close(&mut answer, CloseCode::Protocol.code(), CloseCode::Protocol.reason());
    }
    Ok((Some(code), answer))
}

/// For fuzzers: reads `bytes` behind the first two as what a client sends, at once and in pieces whose length the first two give. Both find
/// the same messages, and come to the same end.
#[doc(hidden)]
pub fn fuzz_frames(bytes: &[u8]) {
    let Some((&[low, high], stream)) = bytes.split_first_chunk() else { return };
    let limits = Limits { max_frame_bytes: 4096, messages_per_minute: 0, frames_per_minute: 0, ..Limits::default() };
    let whole = read_all(&mut Reader::new(&limits), std::iter::once(stream));
    let length = usize::from(u16::from_le_bytes([low, high])).max(1);
    assert_eq!(read_all(&mut Reader::new(&limits), stream.chunks(length)), whole, "in pieces of {length}");
    assert!(!matches!(whole.1, Some(End::Close(CloseCode::Internal, _))));
}

/// Everything that is found in a stream of these pieces, and the end that it comes to.
fn read_all<'a>(reader: &mut Reader, pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Incoming<'static>>, Option<End>) {
    let mut found = Vec::new();
    let mut cx = Context::from_waker(std::task::Waker::noop());
    for mut piece in pieces {
        loop {
            let next = match reader.find() {
                Ok(true) => reader.take().map(|taken| taken.map(Incoming::into_owned)),
                Ok(false) => None,
                Err(end) => return (found, Some(end)),
            };
            match next {
                Some(Ok(incoming)) => found.push(incoming),
                Some(Err(end)) => return (found, Some(end)),
                // A slice is always ready, and read to its end here: 0 bytes.
                None if matches!(reader.poll_fill(&mut piece, &mut cx), Poll::Ready(Ok(1..))) => {}
                None => break,
            }
        }
        reader.release();
    }
    (found, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

    /// A frame as a client writes it; `first` has the opcode and the bits before it.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        frame_header(&mut out, first, payload.len() as u64);
        out.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        out
    }

    fn frame_header(out: &mut Vec<u8>, first: u8, length: u64) {
        out.push(first);
        match length {
            0..126 => out.push(0x80 | length as u8),
            126..65_536 => {
                out.push(0x80 | 126);
                out.extend_from_slice(&(length as u16).to_be_bytes());
            }
            _ => {
                out.push(0x80 | 127);
                out.extend_from_slice(&length.to_be_bytes());
            }
        }
        out.extend_from_slice(&MASK);
    }

    fn reader(max_frame_bytes: usize) -> Reader {
        Reader::new(&Limits { max_frame_bytes, messages_per_minute: 0, frames_per_minute: 0, ..Limits::default() })
    }

    fn read_all(reader: &mut Reader, pieces: &[&[u8]]) -> (Vec<Incoming<'static>>, Option<End>) {
        super::read_all(reader, pieces.iter().copied())
    }

    fn text(text: &str) -> Incoming<'static> {
        Incoming::Text(text.to_owned().into())
    }

    fn end_of(bytes: &[u8]) -> Option<End> {
        read_all(&mut reader(65_536), &[bytes]).1
    }

    proptest! {
        #[test]
        fn messages_are_the_same_however_the_stream_is_cut(
            messages in vec((any::<bool>(), ".{0,60}|x{60000,70000}", vec(1usize..40, 0..4), any::<bool>()), 1..6),
            cuts in vec(1usize..30_000, 1..40),
        ) {
            let (mut stream, mut expected) = (Vec::new(), Vec::new());
            for (is_text, content, fragments, pinged) in &messages {
                let (mut rest, mut opcode) = (content.as_bytes(), if *is_text { TEXT } else { BINARY });
                for length in fragments {
                    let (now, later) = rest.split_at((*length).min(rest.len()));
                    stream.extend(frame(opcode, now));
                    (rest, opcode) = (later, CONTINUATION);
                    if *pinged {
                        stream.extend(frame(0x80 | PING, b"between"));
                        expected.push(Incoming::Ping(b"between"[..].into()));
                    }
                }
                stream.extend(frame(0x80 | opcode, rest));
                let content = content.clone();
                expected.push(if *is_text { Incoming::Text(content.into()) } else { Incoming::Binary(content.into_bytes().into()) });
            }
            let (mut pieces, mut rest) = (Vec::new(), &stream[..]);
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                pieces.push(now);
                rest = later;
            }
            let mut reader = reader(1 << 20);
            let (found, end) = read_all(&mut reader, &pieces);
            prop_assert_eq!(end, None);
            prop_assert_eq!(found, expected);
            prop_assert_eq!(reader.input.capacity(), 0);
        }

        #[test]
        fn any_bytes_come_to_one_end(bytes in vec(any::<u8>(), 0..300)) {
            let mut reader = reader(1024);
            if let (_, Some(end)) = read_all(&mut reader, &[&bytes]) {
                prop_assert!(!matches!(end, End::Close(CloseCode::Internal, _)));
            }
        }
    }

    #[test]
    fn what_waits_for_its_rest_is_all_that_is_kept() {
        let mut reader = reader(0);
        let whole = frame(0x81, &[b'x'; 100]);
        for cut in 0..whole.len() {
            let (found, end) = read_all(&mut reader, &[&whole, &whole, &whole[..cut]]);
            assert_eq!((found.len(), end), (2, None));
            assert_eq!(reader.input.len(), cut);
            assert!(reader.input.capacity() <= 2 * cut + 64, "{cut}: {}", reader.input.capacity());
            assert_eq!(read_all(&mut reader, &[&whole[cut..]]).0, [text(&"x".repeat(100))]);
        }
        // A header alone takes no memory for what it claims, and more than 2^63 bytes are never right.
        let mut longest = Vec::new();
        frame_header(&mut longest, 0x82, 1 << 63);
        assert_eq!(end_of(&longest), Some(CloseCode::TooBig.into()));
        let mut header = Vec::new();
        frame_header(&mut header, 0x82, 1 << 40);
        assert_eq!(read_all(&mut reader, &[&header]), (vec![], None));
        assert!(reader.input.capacity() < 100);
    }

    #[test]
    fn violations_of_the_protocol_are_named() {
        let mut unmasked = frame(0x81, b"hi");
        unmasked[1] &= 0x7f;
        let cases = [
            unmasked,
            frame(0x80, b"continues nothing"),
            [frame(0x01, b"begun"), frame(0x81, b"and begun again")].concat(),
            frame(0x09, b"a ping in fragments"),
            frame(0x89, &[b'x'; 126]),
            frame(0x88, &[3]),
        ];
        let reserved = [0xc1, 0xa1, 0x91, 0xf1].into_iter().chain(0x83..=0x87).chain(0x8b..=0x8f).map(|first| frame(first, b""));
        for bytes in cases.into_iter().chain(reserved) {
            assert_eq!(end_of(&bytes), Some(CloseCode::Protocol.into()), "{bytes:?}");
        }
    }

    #[test]
    fn text_must_be_utf8_and_is_refused_as_early_as_that_shows() {
        let kanji = "語".as_bytes();
        let invalid = Some(End::from(CloseCode::InvalidData));
        assert_eq!(end_of(&frame(0x81, &kanji[..2])), invalid);
        assert_eq!(end_of(&[frame(0x01, &kanji[..2]), frame(0x80, b"")].concat()), invalid, "it ends within a character");
        assert_eq!(end_of(&frame(0x01, b"\xff")), invalid, "no continuation can mend it");
        assert_eq!(end_of(&[frame(0x01, &kanji[..1]), frame(0x00, b"x")].concat()), invalid);
        let whole = [frame(0x01, &kanji[..1]), frame(0x00, &kanji[1..2]), frame(0x80, &kanji[2..])].concat();
        assert_eq!(read_all(&mut reader(0), &[&whole]), (vec![text("語")], None));
        let binary = [frame(0x02, b"\xff"), frame(0x80, b"\xfe")].concat();
        assert_eq!(read_all(&mut reader(0), &[&binary]).0, [Incoming::Binary(b"\xff\xfe"[..].into())]);
    }

    #[test]
    fn messages_before_the_end_are_found_and_none_behind_it() {
        let good = frame(0x81, b"good");
        for (bad, expected) in [
            (frame(0x83, b""), End::from(CloseCode::Protocol)),
            (frame(0x81, &[b'x'; 1025]), CloseCode::TooBig.into()),
            ([frame(0x01, &[b'x'; 1000]), frame(0x80, &[b'x'; 25])].concat(), CloseCode::TooBig.into()),
            (frame(0x88, b"\x03\xe8bye"), End::Gone(Some(1000))),
            (frame(0x88, b"\x03\xe8\xff"), CloseCode::InvalidData.into()),
        ] {
            let stream = [good.clone(), bad, good.clone()].concat();
            assert_eq!(read_all(&mut reader(1024), &[&stream]), (vec![text("good")], Some(expected)));
        }
        let most = [frame(0x01, &[b'x'; 1000]), frame(0x89, &[b'p'; 125]), frame(0x80, &[b'x'; 24])].concat();
        assert_eq!(read_all(&mut reader(1024), &[&most]).0.len(), 2);
    }

    #[test]
    fn close_frame_is_answered_with_its_own_code_unless_that_is_reserved() {
        let answer = |payload: &[u8]| {
            let mut reader = reader(0);
            let end = read_all(&mut reader, &[&frame(0x88, payload)]).1;
            (end, reader.close_answer().map(<[u8]>::to_vec))
        };
        assert_eq!(answer(b""), (Some(End::Gone(None)), Some(vec![0x88, 0])));
        for code in [1000, 1001, 1003, 1007, 1011, 1014, 3000, 4999u16] {
            let payload = [&code.to_be_bytes()[..], b"why"].concat();
            assert_eq!(answer(&payload), (Some(End::Gone(Some(code))), Some([&[0x88, 5], &payload[..]].concat())));
        }
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535u16] {
            let (end, answer) = answer(&code.to_be_bytes());
            assert_eq!((end, &answer.unwrap()[2..4]), (Some(End::Gone(Some(code))), &1002u16.to_be_bytes()[..]));
        }
    }

    fn limited(frames: u32, bytes: Option<u32>) -> Reader {
        let limits = Limits { frames_per_minute: frames, bytes_per_minute: bytes, max_frame_bytes: 0, ..Limits::default() };
        Reader::new(&limits)
    }

    fn is_limited(outcome: (Vec<Incoming<'static>>, Option<End>)) -> bool {
        matches!(outcome.1, Some(End::Close(CloseCode::RateLimited, Some(_))))
    }

    #[test]
    fn whole_messages_and_expected_pongs_are_not_counted_as_frames() {
        let mut reader = limited(3, Some(0));
        for _ in 0..100 {
            reader.expect_pongs(1);
            assert_eq!(read_all(&mut reader, &[&frame(0x81, b"0123456789"), &frame(0x8a, b"0123456789abcdef")]).0.len(), 2);
        }
        for first in [0x89, 0x8a, 0x01] {
            assert_eq!(read_all(&mut reader, &[&frame(first, b"")]).1, None);
        }
        assert!(is_limited(read_all(&mut reader, &[&frame(0x00, b"")])));
    }

    #[test]
    fn bytes_count_once_when_their_header_arrives() {
        let mut reader = limited(0, Some(1000));
        let first = frame(0x82, &[0; 900]);
        let pieces: Vec<_> = first.chunks(10).collect();
        assert_eq!(read_all(&mut reader, &pieces).0.len(), 1);
        assert!(is_limited(read_all(&mut reader, &[&frame(0x82, &[0; 100])[..6]])));
        assert_eq!(read_all(&mut limited(0, Some(0)), &[&frame(0x82, &[0; 100_000])]).1, None);
    }
}
