//! A page in parts: sections with their tables, code blocks, lists and links, and the texts of paragraphs.

use std::collections::BTreeSet;
use std::ops::Range;

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

/// Stands for a code span in a [`Text`].
pub const CODE: char = '\u{fffc}';

/// A Markdown page.
pub struct Page {
    /// Its path in the repository.
    pub path: String,
    /// In the order of the page. The first one, without a heading, is what comes before the first heading.
    pub sections: Vec<Section>,
    /// Every heading, paragraph, list item and cell.
    pub texts: Vec<Text>,
}

/// A heading, and what follows up to the next one.
#[derive(Default)]
pub struct Section {
    /// 1 to 6; 0 before the first heading.
    pub level: u8,
    pub title: String,
    pub line: usize,
    pub tables: Vec<Table>,
    pub blocks: Vec<Block>,
    /// The number of list items.
    pub items: usize,
    /// The code spans outside of tables.
    pub code: BTreeSet<String>,
    pub links: Vec<Link>,
}

/// A table; its rows include the head.
pub struct Table {
    pub line: usize,
    pub rows: Vec<Row>,
}

pub struct Row {
    pub line: usize,
    pub cells: Vec<Cell>,
}

#[derive(Default)]
pub struct Cell {
    pub text: String,
    /// Its code spans.
    pub code: BTreeSet<String>,
}

/// A code block.
pub struct Block {
    pub line: usize,
    /// The language, or nothing.
    pub language: String,
    pub content: String,
}

pub struct Link {
    pub line: usize,
    pub text: String,
    pub target: String,
}

/// The text of one paragraph, heading, list item or cell, with [`CODE`] for code spans, and line ends as in the source.
#[derive(Default)]
pub struct Text {
    pub line: usize,
    pub text: String,
}

impl Page {
    /// The page that `source` is.
    pub fn parse(path: &str, source: &str) -> Self {
        let mut reader = Reader::new(source);
        for (event, range) in Parser::new_ext(source, Options::ENABLE_TABLES).into_offset_iter() {
            reader.read(event, range);
        }
        reader.end_text();
        Self { path: path.to_owned(), sections: reader.sections, texts: reader.texts }
    }

    /// The position of the section with this anchor, as GitHub makes them: lower case, blanks as dashes, without punctuation; a
    /// repeated one with a number.
    pub fn anchored(&self, anchor: &str) -> Option<usize> {
        let mut seen = Vec::new();
        for (position, section) in self.sections.iter().enumerate().filter(|(_, section)| section.level > 0) {
            let lower = section.title.to_lowercase();
            let kept = lower.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            let plain: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
            let slug = match seen.iter().filter(|earlier| **earlier == plain).count() {
                0 => plain.clone(),
                count => format!("{plain}-{count}"),
            };
            if slug == anchor {
                return Some(position);
            }
            seen.push(plain);
        }
        None
    }
}

/// The state between two events.
struct Reader {
    /// Where each line begins.
    lines: Vec<usize>,
    sections: Vec<Section>,
    texts: Vec<Text>,
    /// The text that is being read.
    text: Text,
    heading: bool,
    cell: bool,
    block: bool,
    link: bool,
}

impl Reader {
    fn new(source: &str) -> Self {
        let lines = std::iter::once(0).chain(source.match_indices('\n').map(|(at, _)| at + 1)).collect();
        let sections = vec![Section { line: 1, ..Section::default() }];
        Self { lines, sections, texts: Vec::new(), text: Text::default(), heading: false, cell: false, block: false, link: false }
    }

    /// The line of the byte at `at`, from 1.
    fn line(&self, at: usize) -> usize {
        self.lines.partition_point(|begin| *begin <= at)
    }

    fn section(&mut self) -> &mut Section {
        self.sections.last_mut().unwrap()
    }

    /// The last cell of the last row.
    fn last_cell(&mut self) -> &mut Cell {
        self.section().tables.last_mut().unwrap().rows.last_mut().unwrap().cells.last_mut().unwrap()
    }

    fn end_text(&mut self) {
        let text = std::mem::take(&mut self.text);
        if !text.text.trim().is_empty() {
            self.texts.push(text);
        }
    }

    fn add(&mut self, text: &str, line: usize) {
        if self.text.text.is_empty() {
            self.text.line = line;
        }
        self.text.text.push_str(text);
        if self.heading {
            self.section().title.push_str(text);
        }
        if self.cell {
            self.last_cell().text.push_str(text);
        }
        if self.link {
            self.section().links.last_mut().unwrap().text.push_str(text);
        }
    }

    fn read(&mut self, event: Event<'_>, range: Range<usize>) {
        let line = self.line(range.start);
        match event {
            Event::Start(tag) => self.start(tag, line),
            Event::End(tag) => self.end(tag),
            Event::Text(text) if self.block => self.section().blocks.last_mut().unwrap().content.push_str(&text),
            Event::Text(text) => self.add(&text, line),
            Event::Code(code) => self.code(&code, line),
            Event::SoftBreak | Event::HardBreak => self.add("\n", line),
            _ => {}
        }
    }

    fn code(&mut self, code: &str, line: usize) {
        // A title has the code itself, since the anchor is made of it.
        let heading = std::mem::take(&mut self.heading);
        self.add(CODE.encode_utf8(&mut [0; 4]), line);
        self.heading = heading;
        if heading {
            self.section().title.push_str(code);
        } else if self.cell {
            self.last_cell().code.insert(code.to_owned());
        } else {
            self.section().code.insert(code.to_owned());
        }
    }

    fn start(&mut self, tag: Tag<'_>, line: usize) {
        match tag {
            Tag::Heading { level, .. } => {
                self.end_text();
                self.sections.push(Section { level: level as u8, line, ..Section::default() });
                self.heading = true;
            }
            Tag::Paragraph => self.end_text(),
            Tag::Item => {
                self.end_text();
                self.section().items += 1;
            }
            Tag::Table(_) => self.section().tables.push(Table { line, rows: Vec::new() }),
            Tag::TableHead | Tag::TableRow => {
                self.section().tables.last_mut().unwrap().rows.push(Row { line, cells: Vec::new() })
            }
            Tag::TableCell => {
                self.end_text();
                self.section().tables.last_mut().unwrap().rows.last_mut().unwrap().cells.push(Cell::default());
                self.cell = true;
            }
            Tag::CodeBlock(kind) => {
                self.end_text();
                let language = match kind {
                    CodeBlockKind::Fenced(language) => language.to_string(),
                    CodeBlockKind::Indented => String::new(),
                };
                self.section().blocks.push(Block { line, language, content: String::new() });
                self.block = true;
            }
            Tag::Link { dest_url, .. } => {
                self.section().links.push(Link { line, text: String::new(), target: dest_url.to_string() });
                self.link = true;
            }
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Heading(_) => self.heading = false,
            TagEnd::TableCell => self.cell = false,
            TagEnd::CodeBlock => self.block = false,
            TagEnd::Link => {
                self.link = false;
                return;
            }
            TagEnd::Paragraph | TagEnd::Item => {}
            _ => return,
        }
        self.end_text();
    }
}
