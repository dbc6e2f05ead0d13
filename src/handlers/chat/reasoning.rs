//! The reasoning that models write in front of an answer, between `<think>` and `</think>`: it belongs neither to the answer nor to
//! the memory of a conversation.
//!
//! Servers with a parser for reasoning move it to fields of its own (`reasoning_content`, `reasoning`); others leave it in the text.
//! Where the prompt of the model ends with the opening tag, as with templates of DeepSeek and Qwen, the text begins with the
//! reasoning and has only the closing tag. That can't be known before the tag comes: see [`Piece::Restart`], and
//! [`ReasoningFilter::new`] for a model that is known to do so.

/// The tags of reasoning, opening and closing.
const TAGS: &[(&str, &str)] = &[
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<seed:think>", "</seed:think>"),
    ("◁think▷", "◁/think▷"),
];
/// The longest text that is held back, in bytes: it is cut to the length of an answer anyway.
const MAX_HELD_BYTES: usize = 64 * 1024;

/// A result of the filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// The next part of the answer.
    Text(String),
    /// Everything so far was reasoning: the answer begins only now.
    Restart,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// The text so far is reasoning if a closing tag comes, and else the answer.
    Held(String),
    Answer,
    /// Up to this closing tag.
    Reasoning(&'static str),
}

/// Removes reasoning from a text that comes in pieces, wherever it is cut.
#[derive(Debug)]
pub(super) struct ReasoningFilter {
    state: State,
    /// Text that may be the beginning of a tag.
    pending: String,
    /// The character before `pending`.
    before: Option<char>,
    /// White space at the beginning, as long as nothing else has come.
    blank: String,
    /// The answer has begun.
    begun: bool,
    /// Reasoning has ended.
    closed: bool,
    /// What has come from an opening tag in the middle of the answer on: the answer may only speak of the tag.
    mentioned: Option<String>,
}

/// A tag in the text: its place, its text, and the closing tag of an opening one.
struct Tag {
    at: usize,
    text: &'static str,
    closed_by: Option<&'static str>,
}

/// The next tag of a text.
enum Found {
    Tag(Tag),
    /// From this place on it may be the beginning of a tag.
    Partly(usize),
    Nothing,
}

impl ReasoningFilter {
    /// Creates the filter. With `held`, the text is taken for reasoning until a closing tag comes.
    pub(super) fn new(held: bool) -> Self {
        let state = if held { State::Held(String::new()) } else { State::Answer };
        Self { state, pending: String::new(), before: None, blank: String::new(), begun: false, closed: false, mentioned: None }
    }

    /// Adds the next text, and returns what of it belongs to the answer.
    pub(super) fn push(&mut self, text: &str) -> Vec<Piece> {
        self.pending.push_str(text);
        self.advance(false)
    }

    /// Returns the rest of the answer at the end of the text. `truncated`: the model was stopped before it came to an end.
    pub(super) fn finish(&mut self, truncated: bool) -> Vec<Piece> {
        let mut pieces = self.advance(true);
        if let State::Held(held) = &mut self.state
            && !truncated
        {
            let held = std::mem::take(held);
            self.state = State::Answer;
            self.answer(&held, &mut pieces);
        }
        if let Some(mentioned) = self.mentioned.take()
            && !truncated
        {
            self.state = State::Answer;
            push_text(&mentioned, &mut pieces);
        }
        if !self.begun && !self.closed && self.state == State::Answer && !self.blank.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut self.blank)));
        }
        pieces
    }

    /// Returns whether the text had reasoning, or was nothing else.
    pub(super) fn has_reasoning(&self) -> bool {
        self.closed || self.state != State::Answer
    }

    /// Returns whether text is held back that may be the answer.
    pub(super) fn is_holding(&self) -> bool {
        matches!(&self.state, State::Held(held) if !held.trim().is_empty())
    }

    fn advance(&mut self, at_end: bool) -> Vec<Piece> {
        let mut pieces = Vec::new();
        loop {
            let (upto, tag) = match self.find(at_end) {
                Found::Tag(tag) => (tag.at, Some(tag)),
                Found::Partly(at) => (at, None),
                Found::Nothing => (self.pending.len(), None),
            };
            let rest = self.pending.split_off(upto + tag.as_ref().map_or(0, |tag| tag.text.len()));
            let mut text = std::mem::replace(&mut self.pending, rest);
            self.before = text.chars().next_back().or(self.before);
            text.truncate(upto);
            self.text(&text, &mut pieces);
            let Some(tag) = tag else { return pieces };
            self.tag(&tag, &mut pieces);
        }
    }

    /// Applies text without tags.
    fn text(&mut self, text: &str, pieces: &mut Vec<Piece>) {
        match &mut self.state {
            State::Reasoning(_) => {
                if let Some(mentioned) = &mut self.mentioned
                    && mentioned.len() + text.len() <= MAX_HELD_BYTES
                {
                    mentioned.push_str(text);
                }
            }
            State::Held(held) => {
                if held.len() + text.len() <= MAX_HELD_BYTES {
                    held.push_str(text);
                }
            }
            State::Answer => self.answer(text, pieces),
        }
    }

    /// Adds `text` to the answer. White space between reasoning and the answer belongs to neither.
    fn answer(&mut self, text: &str, pieces: &mut Vec<Piece>) {
        if self.begun {
            push_text(text, pieces);
            return;
        }
        let content = text.trim_start();
        if content.is_empty() {
            if !self.closed && self.blank.len() + text.len() <= MAX_HELD_BYTES {
                self.blank.push_str(text);
            }
            return;
        }
        self.begun = true;
        let blank = std::mem::take(&mut self.blank);
        if self.closed { push_text(content, pieces) } else { push_text(&(blank + text), pieces) }
    }

    fn tag(&mut self, tag: &Tag, pieces: &mut Vec<Piece>) {
        match (&self.state, tag.closed_by) {
            (State::Answer, Some(close)) => {
                self.blank.clear();
                self.mentioned = self.begun.then(|| tag.text.to_owned());
                self.state = State::Reasoning(close);
            }
            // Some models write the opening tag although the prompt has it.
            (State::Held(held), Some(close)) if held.trim().is_empty() => self.state = State::Reasoning(close),
            (State::Held(_), Some(_)) => self.text(tag.text, pieces),
            (State::Reasoning(_), Some(_)) => {}
            (State::Answer, None) => {
                // Behind reasoning that has ended, it is only a stray tag.
                if !self.closed {
                    (self.begun, self.closed) = (false, true);
                    self.blank.clear();
                    pieces.push(Piece::Restart);
                }
            }
            (State::Held(_) | State::Reasoning(_), None) => {
                (self.state, self.closed, self.mentioned) = (State::Answer, true, None);
            }
        }
    }

    /// Returns the first tag in the pending text that means something in this state. A tag in backquotes is not markup.
    fn find(&self, at_end: bool) -> Found {
        let text = &self.pending;
        for (at, _) in text.match_indices(['<', '◁']) {
            let rest = &text[at..];
            for (tag, closed_by) in self.tags() {
                if !rest.starts_with(tag) {
                    if !at_end && tag.starts_with(rest) {
                        return Found::Partly(at);
                    }
                    continue;
                }
                let before = text[..at].chars().next_back().or(self.before);
                match rest[tag.len()..].chars().next() {
                    Some('`') if before == Some('`') => {}
                    None if before == Some('`') && !at_end => return Found::Partly(at),
                    _ => return Found::Tag(Tag { at, text: tag, closed_by }),
                }
            }
        }
        Found::Nothing
    }

    fn tags(&self) -> impl Iterator<Item = (&'static str, Option<&'static str>)> {
        let end = match self.state {
            State::Reasoning(close) => Some(close),
            _ => None,
        };
        let open = TAGS.iter().filter(move |_| end.is_none()).map(|&(open, close)| (open, Some(close)));
        let close = TAGS.iter().filter(move |(_, close)| end.is_none_or(|end| end == *close)).map(|&(_, close)| (close, None));
        open.chain(close)
    }
}

fn push_text(text: &str, pieces: &mut Vec<Piece>) {
    if !text.is_empty() {
        pieces.push(Piece::Text(text.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Returns the answer, and what was passed on before it was known to be reasoning.
    fn filtered<'a>(pieces: impl IntoIterator<Item = &'a str>, held: bool) -> (String, String) {
        let mut filter = ReasoningFilter::new(held);
        let mut results: Vec<Piece> = pieces.into_iter().flat_map(|piece| filter.push(piece)).collect();
        results.extend(filter.finish(false));
        let (mut answer, mut before) = (String::new(), String::new());
        for piece in results {
            match piece {
                Piece::Text(text) => answer.push_str(&text),
                Piece::Restart => before.push_str(&std::mem::take(&mut answer)),
            }
        }
        (answer, before)
    }

    fn answer(text: &str) -> String {
        filtered([text], false).0
    }

    #[test]
    fn reasoning_is_removed() {
        for (text, expected) in [
            ("<think>why</think>because", "because"),
            ("<think>\nwhy\n</think>\n\nbecause", "because"),
            ("\n <think></think>\n\n  because\n", "because\n"),
            ("one <think>two</think>three", "one three"),
            ("<think>a</think>b<think>c</think>d", "bd"),
            ("<thinking>a</think>b</thinking>c", "c"),
            ("<think>it says <think> there</think>b", "b"),
            ("<seed:think>a</seed:think>b", "b"),
            ("◁think▷a◁/think▷b", "b"),
            ("<think>never closed", ""),
            ("<think>x</thin", ""),
            ("<think>x</think>\n\n", ""),
            ("why\n</think>\n\nbecause", "because"),
            ("</think>because", "because"),
            ("<think>a</think>b</think>c", "bc"),
            ("<think>use `f`</think>b", "b"),
        ] {
            assert_eq!(answer(text), expected, "{text}");
        }
    }

    #[test]
    fn other_text_stays_as_it_is() {
        for text in [
            "",
            " ",
            "\n\n",
            "a < b, <b>x</b>",
            "<",
            "a <th",
            "x</thin",
            "<thinker>",
            "< think>",
            "\n\n  indented",
            "the tag `<think>` begins it, `</think>` ends it",
            "<THINK>",
            "a◁",
            "</",
            "◁b▷",
            "The tag <think> marks reasoning.",
            "```\n<think>\n```\nbegins it",
            "one <think>two <think>",
        ] {
            assert_eq!(answer(text), text);
            assert_eq!(filtered([text], true).0, text, "held back, and no closing tag came");
        }
    }

    #[test]
    fn reasoning_without_opening_tag_restarts_or_is_held() {
        assert_eq!(filtered(["why ", "not</think>", "\n\nbecause"], false), ("because".into(), "why not".into()));
        assert_eq!(filtered(["why ", "not</think>", "\n\nbecause"], true), ("because".into(), String::new()));
        assert_eq!(filtered(["\n<think>why <think></think>because"], true), ("because".into(), String::new()));
        assert_eq!(filtered(["why <think> not</think>because"], true), ("because".into(), String::new()));
    }

    #[test]
    fn truncated_text_that_is_held_is_no_answer() {
        let mut filter = ReasoningFilter::new(true);
        assert!(!filter.is_holding());
        assert!(
            filter.push("why and wh").is_empty()
                && filter.is_holding()
                && filter.finish(true).is_empty()
                && filter.has_reasoning()
        );
        let mut filter = ReasoningFilter::new(false);
        assert_eq!(filter.push("text"), [Piece::Text("text".into())]);
        assert!(filter.finish(true).is_empty() && !filter.has_reasoning());
    }

    #[test]
    fn held_text_is_bounded() {
        let mut filter = ReasoningFilter::new(true);
        for _ in 0..100_000 {
            assert!(filter.push("reasoning ").is_empty());
        }
        assert!(matches!(&filter.state, State::Held(held) if held.len() <= MAX_HELD_BYTES));
        assert_eq!(filter.push("</think>x"), [Piece::Text("x".into())]);
    }

    fn segment() -> impl Strategy<Value = String> {
        const FIXED: &[&str] = &[
            "<think>",
            "</think>",
            "<thinking>",
            "</thinking>",
            "◁think▷",
            "◁/think▷",
            "`",
            "\n",
            " ",
            "<",
            "</th",
            "长",
            "a<b",
            "`<think>`",
        ];
        prop_oneof![4 => prop::sample::select(FIXED).prop_map(str::to_owned), 1 => "[a-z<>/`長 ]{0,6}"]
    }

    proptest! {
        #[test]
        fn answer_is_independent_of_the_cuts(segments in prop::collection::vec(segment(), 0..12), held in any::<bool>()) {
            let text = segments.concat();
            let whole = filtered([text.as_str()], held);
            let letters: Vec<String> = text.chars().map(String::from).collect();
            prop_assert_eq!(&filtered(letters.iter().map(String::as_str), held), &whole, "letter by letter");
            for at in (0..=text.len()).filter(|&at| text.is_char_boundary(at)) {
                let (first, second) = text.split_at(at);
                prop_assert_eq!(&filtered([first, second], held), &whole, "cut at {}", at);
            }
        }

        #[test]
        fn only_the_answer_is_left(before in "[a-z \n]{0,9}", why in "[a-z长<`]{0,20}", answer_text in "[a-z长][a-z长 ]{0,20}") {
            let text = format!("<think>{why} </think>\n\n{answer_text}");
            prop_assert_eq!(answer(&text), answer_text.clone());
            let text = format!("{before}.<think>{why} </think>{answer_text}");
            prop_assert_eq!(answer(&text), format!("{before}.{answer_text}"));
            let text = format!("{why} </think>\n{answer_text}");
            prop_assert_eq!(answer(&text), answer_text);
        }
    }
}
