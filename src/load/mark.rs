//! The mark in every message: run, sender, recipient, number and time.
//!
//! As text it is `qbRUN.SENDER.RECIPIENT.NUMBER.NANOS.`: ASCII that stands in any JSON string unchanged, found in a frame without
//! parsing its JSON. Messages without the run's mark, such as those of others, are none of this load.

use std::io::Write;

use memchr::memmem::Finder;

/// The recipient in marks of broadcasts.
pub const EVERYBODY: u32 = u32::MAX;

/// The longest mark, in bytes: below the 64 characters of a `ref`.
pub const MAX_MARK_BYTES: usize = 62;

/// What a message carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The sender's number in this run.
    pub sender: u32,
    /// The recipient's number in this run, or [`EVERYBODY`].
    pub recipient: u32,
    /// The number of the message, from 0, of this sender to this recipient.
    pub number: u32,
    /// When it was sent, or due at a fixed rate: nanoseconds since the beginning of the run.
    pub nanos: u64,
}

/// Writes and finds the marks of one run.
#[derive(Debug, Clone)]
pub struct Marks {
    begin: String,
    finder: Finder<'static>,
}

impl Marks {
    /// For a new run, with a random number.
    pub fn new() -> Self {
        Self::of(rand::random())
    }

    /// For the run with that number.
    pub fn of(run: u32) -> Self {
        let begin = format!("qb{run:08x}.");
        Self { finder: Finder::new(&begin).into_owned(), begin }
    }

    /// Appends a mark.
    pub fn append(&self, out: &mut Vec<u8>, mark: Mark) {
        let Mark { sender, recipient, number, nanos } = mark;
        let _ = write!(out, "{}{sender:x}.{recipient:x}.{number:x}.{nanos:x}.", self.begin);
    }

    /// Finds the mark in a message.
    pub fn find(&self, text: &[u8]) -> Option<Mark> {
        let at = self.finder.find(text)? + self.begin.len();
        let mut rest = &text[at..];
        let mut next = || -> Option<u64> {
            let mut value = 0_u64;
            for (n, byte) in rest.iter().enumerate() {
                match (byte, char::from(*byte).to_digit(16)) {
                    (b'.', _) if n > 0 => {
                        rest = &rest[n + 1..];
                        return Some(value);
                    }
                    (_, Some(digit)) if n < 16 => value = value << 4 | u64::from(digit),
                    _ => return None,
                }
            }
            None
        };
        let number = |value: u64| u32::try_from(value).ok();
        let (sender, recipient, number) = (number(next()?)?, number(next()?)?, number(next()?)?);
        Some(Mark { sender, recipient, number, nanos: next()? })
    }
}

impl Default for Marks {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn marks_are_found_in_any_text(
            run: u32, sender: u32, recipient: u32, number: u32, nanos in 0_u64..1 << 60, before: Vec<u8>, after: Vec<u8>,
        ) {
            let (marks, mark) = (Marks::of(run), Mark { sender, recipient, number, nanos });
            let mut text = before;
            let start = text.len();
            marks.append(&mut text, mark);
            prop_assert!(text.len() - start <= MAX_MARK_BYTES);
            text.extend(after);
            prop_assert_eq!(marks.find(&text), Some(mark));
            prop_assert_eq!(Marks::of(run ^ 1).find(&text), None);
        }

        #[test]
        fn cut_marks_are_none(cut in 0_usize..25) {
            let marks = Marks::of(7);
            let mut text = Vec::new();
            marks.append(&mut text, Mark { sender: 1, recipient: 2, number: 3, nanos: 0x1234_5678 });
            text.truncate(cut.min(text.len() - 1));
            prop_assert_eq!(marks.find(&text), None);
        }
    }
}
