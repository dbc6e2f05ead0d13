//! The messages that clients send most, heartbeats and acknowledgements, read in one pass without building values.
//!
//! Only the plain forms: known fields once each, strings without escapes. Everything else is left to the parser of all messages, which
//! reads these forms, too, with the same outcome.

use super::inbound::{Command, Inbound, MAX_REF_CHARS, Request, Target};
use crate::core::ids::MessageId;

/// Reads `text` if it is in a plain form.
#[inline]
pub(super) fn parse(text: &str) -> Option<Inbound> {
    let mut rest = Cursor { text, at: 0 };
    let (mut kind, mut reference, mut id, mut has_message) = (None, None, None, false);
    rest.expect(b'{')?;
    loop {
        let name = rest.string()?;
        rest.expect(b':')?;
        match name {
            "type" if kind.is_none() => kind = Some(rest.string()?),
            "ref" if reference.is_none() => reference = Some(rest.string().filter(|text| text.len() <= MAX_REF_CHARS)?),
            "message" if !has_message => {
                has_message = true;
                rest.expect(b'{')?;
                if rest.expect(b'}').is_none() {
                    rest.string().filter(|&name| name == "id")?;
                    rest.expect(b':')?;
                    id = Some(MessageId(rest.number()?));
                    rest.expect(b'}')?;
                }
            }
            _ => return None,
        }
        if rest.expect(b',').is_none() {
            break;
        }
    }
    rest.expect(b'}')?;
    rest.end()?;
    let reference = reference.map(str::to_owned);
    match kind? {
        "ping" => Some(Inbound::Request(Request { reference, target: Target::Requester, command: Command::Ping })),
        "ack" => id.map(|id| Inbound::Ack { id, reference }),
        _ => None,
    }
}

/// A text, and how much of it is read. Byte by byte: patterns of `str` are not inlined in code that is optimised for size.
struct Cursor<'a> {
    text: &'a str,
    /// The offset of the next byte; between two characters, as what is passed are whole strings and single bytes of ASCII.
    at: usize,
}

impl<'a> Cursor<'a> {
    #[inline]
    fn next(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    #[inline]
    fn skip_space(&mut self) {
        while matches!(self.next(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    /// Skips white space and `expected`.
    #[inline]
    fn expect(&mut self, expected: u8) -> Option<()> {
        self.skip_space();
        (self.next()? == expected).then(|| self.at += 1)
    }

    /// Reads a string without escapes; those with control characters are no JSON.
    #[inline]
    fn string(&mut self) -> Option<&'a str> {
        self.expect(b'"')?;
        let start = self.at;
        loop {
            match self.next()? {
                b'"' => break,
                b'\\' | 0..0x20 => return None,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        self.text.get(start..self.at - 1)
    }

    /// Reads a whole number without a sign or leading zeros.
    #[inline]
    fn number(&mut self) -> Option<u64> {
        self.skip_space();
        let start = self.at;
        while self.next()?.is_ascii_digit() {
            self.at += 1;
        }
        let digits = self.text.get(start..self.at)?;
        if digits.starts_with('0') && digits.len() > 1 { None } else { digits.parse().ok() }
    }

    #[inline]
    fn end(&mut self) -> Option<()> {
        self.skip_space();
        self.next().is_none().then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::inbound;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn plain_forms_are_read() {
        for text in [
            r#"{"type":"ping","message":{}}"#,
            r#"{"type":"ping"}"#,
            r#"{ "message" : { } , "ref" : "7" , "type" : "ping" }"#,
            "\t{\"type\":\"ack\",\r\n\"message\":{\"id\":18446744073709551615}} \n",
            r#"{"ref":"语","message":{"id":0},"type":"ack"}"#,
        ] {
            assert_eq!(parse(text), inbound::parse_any(text, &[]).ok(), "{text}");
            assert!(parse(text).is_some(), "{text}");
        }
    }

    proptest! {
        /// Whatever is read here, the parser of all messages reads alike.
        #[test]
        fn outcome_is_that_of_the_parser_of_all_messages(pieces in proptest::collection::vec(prop_oneof![
            Just("{"), Just("}"), Just("{}"), Just(","), Just(":"), Just(" "), Just("\n"), Just("\u{b}"), Just("\u{a0}"), Just("\""),
            Just("\"type\":"), Just("\"ping\""), Just("\"ack\""), Just("\"message\":"), Just("\"ref\":"), Just("\"id\":"),
            Just("{\"id\":"), Just("\"r\""), Just("\"\\u0041\""), Just("0"), Just("07"), Just("12"), Just("-1"), Just("1e3"), Just("1.0"),
            Just("99999999999999999999"), Just("null"), Just("\"timestamp\":"), Just("\"target\":\"self\""), Just("\"\u{7f}\u{1f}\""),
        ], 0..14), cut in 0..3usize) {
            let text = pieces.concat();
            let framed = [text.clone(), format!("{{\"type\":\"ping\",{text}}}"), format!("{{{text},\"type\":\"ack\"}}")];
            let text = &framed[cut];
            if let Some(read) = parse(text) {
                prop_assert_eq!(Ok(read), inbound::parse_any(text, &[]), "{}", text);
            }
        }

        /// Orders, spaces and fields that are often right.
        #[test]
        fn outcome_is_the_same_for_what_is_nearly_plain(
            fields in proptest::sample::subsequence(vec![
                r#""type":"ping""#, r#""type": "ack""#, r#""message":{}"#, r#""message":{"id":5}"#, r#""message":{"id":05}"#,
                r#""message":{"id":5,"id":6}"#, r#""ref":"a""#, r#""ref":"0123456789012345678901234567890123456789012345678901234567890123x""#,
                r#""ref":null"#, r#""timestamp":"x""#, r#""type":"weather""#, r#""extra":1"#,
            ], 0..5).prop_shuffle(),
            space in "[ \t\r\n]{0,2}",
        ) {
            let text = format!("{space}{{{space}{}{space}}}{space}", fields.join(&format!("{space},{space}")));
            if let Some(read) = parse(&text) {
                prop_assert_eq!(Ok(read), inbound::parse_any(&text, &[]), "{}", text);
            }
        }
    }
}
