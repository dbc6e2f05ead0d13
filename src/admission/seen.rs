//! Texts that the log has named, so that it names each of them once.

use std::collections::VecDeque;

use parking_lot::Mutex;

/// The most texts that are remembered; beyond that the oldest gives way, and is named again. `log::bounded` bounds the lines of somebody
/// who makes up new ones.
const MAX_TEXTS: usize = 128;

/// Texts that have been named, each for a subject.
#[derive(Debug, Default)]
pub struct Seen(Mutex<VecDeque<(&'static str, Box<str>)>>);

impl Seen {
    /// Remembers `text`, which must have a bounded length, and reports whether it is new for `subject`.
    pub fn is_new(&self, subject: &'static str, text: &str) -> bool {
        let mut texts = self.0.lock();
        if texts.iter().any(|(of, known)| *of == subject && **known == *text) {
            return false;
        }
        if texts.len() == MAX_TEXTS {
            texts.pop_front();
        }
        texts.push_back((subject, text.into()));
        true
    }

    /// Forgets all texts.
    pub fn clear(&self) {
        self.0.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_new_once_for_each_subject_until_it_is_forgotten() {
        let seen = Seen::default();
        assert!(seen.is_new("a", "x") && seen.is_new("b", "x") && seen.is_new("a", "y"));
        assert!(!seen.is_new("a", "x") && !seen.is_new("b", "x") && !seen.is_new("a", "y"));
        for n in 0..MAX_TEXTS * 3 {
            assert!(seen.is_new("a", &format!("{n}")));
        }
        assert_eq!(seen.0.lock().len(), MAX_TEXTS);
        assert!(seen.is_new("b", "x") && !seen.is_new("b", "x"));
        seen.clear();
        assert!(seen.is_new("b", "x"));
    }
}
