//! The end of a certificate's validity (RFC 5280 section 4.1.2.5), for a notice in time. Whether a certificate is any good is for rustls and
//! for clients to judge.

use crate::core::time::Timestamp;

/// The tags of the values on the way there (X.690).
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// Returns the end of validity of a certificate in DER; `None` where it can't be found.
pub fn end(certificate: &[u8]) -> Option<Timestamp> {
    let (whole, _) = content(certificate, SEQUENCE)?;
    let (mut rest, _) = content(whole, SEQUENCE)?;
    if rest.first() == Some(&VERSION) {
        rest = value(rest)?.2;
    }
    for _ in ["serial number", "signature", "issuer"] {
        rest = value(rest)?.2;
    }
    let (validity, _) = content(rest, SEQUENCE)?;
    let (tag, time, _) = value(value(validity)?.2)?;
    parse(tag, std::str::from_utf8(time).ok()?)
}

/// Splits the first value off: its tag, its content, and what follows it.
fn value(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        short @ 0..0x80 => (usize::from(short), rest),
        long => {
            let (length, rest) = rest.split_at_checked(usize::from(long & 0x7f).min(8))?;
            (length.iter().try_fold(0usize, |sum, &byte| sum.checked_mul(256)?.checked_add(byte.into()))?, rest)
        }
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// Returns the content of the first value, where it has that tag, and what follows it.
fn content(bytes: &[u8], expected: u8) -> Option<(&[u8], &[u8])> {
    let (tag, content, rest) = value(bytes)?;
    (tag == expected).then_some((content, rest))
}

/// Reads a time: `YYMMDDHHMMSSZ`, of 1950 to 2049, or `YYYYMMDDHHMMSSZ`.
fn parse(tag: u8, text: &str) -> Option<Timestamp> {
    let digits = text.strip_suffix('Z').filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))?;
    let digits = match (tag, digits.len()) {
        (UTC_TIME, 12) if digits < "50" => format!("20{digits}"),
        (UTC_TIME, 12) => format!("19{digits}"),
        (GENERALIZED_TIME, 14) => digits.to_owned(),
        _ => return None,
    };
    let [year, month, day, hour, minute, second] = [0..4, 4..6, 6..8, 8..10, 10..12, 12..14].map(|part| &digits[part]);
    format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn made(year: i32) -> Vec<u8> {
        let mut params = rcgen::CertificateParams::new(vec!["box.lan".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 3, 4);
        params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn end_is_that_of_the_certificate_in_both_forms_of_time() {
        assert_eq!(end(&made(2031)).unwrap().to_string(), "2031-03-04T00:00:00.000000+00:00");
        assert_eq!(end(&made(2077)).unwrap().to_string(), "2077-03-04T00:00:00.000000+00:00");
        assert_eq!(parse(UTC_TIME, "991231235959Z").unwrap().to_string(), "1999-12-31T23:59:59.000000+00:00");
        for (tag, text) in
            [(UTC_TIME, "991231235959"), (UTC_TIME, "99123123595aZ"), (GENERALIZED_TIME, "991231235959Z"), (5, "Z")]
        {
            assert_eq!(parse(tag, text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 0..400usize, flip in 0..400usize) {
            let _ = end(&bytes);
            let mut certificate = made(2031);
            let at = flip.min(certificate.len() - 1);
            certificate[at] ^= 0xff;
            certificate.truncate(cut);
            let _ = end(&certificate);
        }
    }
}
