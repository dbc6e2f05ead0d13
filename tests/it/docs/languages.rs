//! The English pages and their Chinese counterparts: the same sections, tables, code and links, so that neither falls behind.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::page::{Block, Page, Row, Section};

/// Pages that exist in both languages. More appear by being put into `docs/zh`.
const BOTH: [&str; 6] =
    ["README.md", "docs/companion.md", "docs/delivery.md", "docs/migration.md", "docs/operations.md", "docs/protocol.md"];

/// Opens the line of each page that links to the other language.
const LANGUAGES: [&str; 2] = ["English", "简体中文"];

/// The repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Whether the character is a Chinese one.
pub fn is_han(c: char) -> bool {
    matches!(c, '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{323af}')
}

/// The path of the Chinese page, whether or not there is one.
fn chinese(english: &str) -> String {
    match english.strip_prefix("docs/") {
        Some(name) => format!("docs/zh/{name}"),
        None => english.replace(".md", ".zh-CN.md"),
    }
}

/// Whether the page is a Chinese one.
fn is_chinese(path: &str) -> bool {
    path.starts_with("docs/zh/") || path.ends_with(".zh-CN.md")
}

/// All pages of the top directory, `docs` and `docs/zh`, by path.
pub fn pages() -> BTreeMap<String, Page> {
    let mut pages = BTreeMap::new();
    for folder in ["", "docs/", "docs/zh/"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let path = format!("{folder}{}", entry.unwrap().file_name().to_str().unwrap());
            if path.ends_with(".md") {
                let source = fs::read_to_string(root().join(&path)).unwrap();
                pages.insert(path.clone(), Page::parse(&path, &source));
            }
        }
    }
    pages
}

/// The same page in two languages, and what was found.
struct Pair<'a> {
    english: &'a Page,
    chinese: &'a Page,
    pages: &'a BTreeMap<String, Page>,
    faults: Vec<String>,
}

impl Pair<'_> {
    /// Notes a difference between two places.
    fn fault(&mut self, here: &Section, line: usize, there: &Section, there_line: usize, text: &str) {
        let (to, from) = (&self.chinese.path, &self.english.path);
        self.faults.push(format!("{to}:{line} in \"{}\" ({from}:{there_line}, \"{}\"): {text}", here.title, there.title));
    }

    fn compare(mut self) -> Vec<String> {
        let (english, chinese) = (&self.english.sections, &self.chinese.sections);
        let levels = |sections: &[Section]| sections.iter().map(|section| section.level).collect::<Vec<_>>();
        if levels(english) != levels(chinese) {
            // The first one that differs in what it has, too: where a section is missing, that is nearest to it.
            let shape = |section: &Section| {
                (section.level, section.tables.len(), section.blocks.len(), section.items, section.code.clone())
            };
            let differs = english.iter().zip(chinese).position(|(one, other)| shape(one) != shape(other));
            let at = differs.unwrap_or(english.len().min(chinese.len()));
            let name = |page: &Page| match page.sections.get(at) {
                Some(section) => format!("{}:{} \"{}\"", page.path, section.line, section.title),
                None => format!("the end of {}", page.path),
            };
            let count = format!("{} and {} headings", english.len() - 1, chinese.len() - 1);
            return vec![format!("the headings differ ({count}), from {} and {} on", name(self.english), name(self.chinese))];
        }
        for (there, here) in english.iter().zip(chinese) {
            self.compare_section(there, here);
        }
        self.faults
    }

    fn compare_section(&mut self, there: &Section, here: &Section) {
        let counts = [
            ("tables", there.tables.len(), here.tables.len()),
            ("code blocks", there.blocks.len(), here.blocks.len()),
            ("list items", there.items, here.items),
        ];
        for (what, expected, found) in counts {
            if expected != found {
                self.fault(here, here.line, there, there.line, &format!("has {found} {what}, not {expected}"));
            }
        }
        if let Some(text) = difference(&there.code, &here.code) {
            self.fault(here, here.line, there, there.line, &text);
        }
        for (one, other) in there.tables.iter().zip(&here.tables) {
            if one.rows.len() != other.rows.len() {
                let lacks = one.rows.iter().find(|row| !other.rows.iter().any(|o| row_code(row) == row_code(o)));
                let nearest =
                    lacks.map_or(String::new(), |row| format!("; {}:{} has no counterpart", self.english.path, row.line));
                let text = format!("a table has {} rows, not {}{nearest}", other.rows.len(), one.rows.len());
                self.fault(here, other.line, there, one.line, &text);
                continue;
            }
            for (one, other) in one.rows.iter().zip(&other.rows) {
                if let Some(text) = row_difference(one, other) {
                    self.fault(here, other.line, there, one.line, &text);
                }
            }
        }
        for (one, other) in there.blocks.iter().zip(&here.blocks) {
            if let Some((line, text)) = block_difference(one, other) {
                self.fault(here, other.line + line, there, one.line + line, &text);
            }
        }
        self.compare_links(there, here);
    }

    /// Compares the targets of links, by page and position of the section, whatever the language of either.
    fn compare_links(&mut self, there: &Section, here: &Section) {
        let places = |page: &Page, section: &Section| {
            let place = |target: &str| match resolve(self.pages, &page.path, target) {
                Some((path, section)) => format!("{}#{section:?}", path.replace("docs/zh/", "docs/").replace(".zh-CN", "")),
                None => target.rsplit('/').next().unwrap().to_owned(),
            };
            section.links.iter().map(|link| place(&link.target)).collect::<BTreeSet<_>>()
        };
        let (expected, found) = (places(self.english, there), places(self.chinese, here));
        if let Some(text) = difference(&expected, &found) {
            self.fault(here, here.line, there, there.line, &format!("links, as page and position of the section: {text}"));
        }
    }
}

/// What `found` lacks or has beyond `expected`.
fn difference(expected: &BTreeSet<String>, found: &BTreeSet<String>) -> Option<String> {
    let lacks: Vec<_> = expected.difference(found).collect();
    let extra: Vec<_> = found.difference(expected).collect();
    match (lacks.is_empty(), extra.is_empty()) {
        (true, true) => None,
        (false, true) => Some(format!("lacks {lacks:?}")),
        (true, false) => Some(format!("has {extra:?}, which the English page has not")),
        (false, false) => Some(format!("lacks {lacks:?}, and has {extra:?} instead")),
    }
}

/// All code spans of a row.
fn row_code(row: &Row) -> BTreeSet<&String> {
    row.cells.iter().flat_map(|cell| &cell.code).collect()
}

fn row_difference(expected: &Row, found: &Row) -> Option<String> {
    if expected.cells.len() != found.cells.len() {
        return Some(format!("the row has {} columns, not {}", found.cells.len(), expected.cells.len()));
    }
    let figures = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit() || " ,.·".contains(c));
    expected.cells.iter().zip(&found.cells).enumerate().find_map(|(column, (one, other))| {
        let column = column + 1;
        if figures(&one.text) && one.text != other.text.replace('、', ", ") {
            return Some(format!("column {column} of the row has {:?}, not {:?}", other.text, one.text));
        }
        if one.text.is_empty() != other.text.is_empty() {
            return Some(format!("column {column} of the row is empty in one language"));
        }
        difference(&one.code, &other.code).map(|text| format!("column {column} of the row {text}"))
    })
}

/// The line of a code block without its comment, and the comment.
pub fn split_comment<'a>(line: &'a str, language: &str) -> (&'a str, &'a str) {
    let mark = match language {
        "sh" | "toml" | "ini" | "yaml" | "python" => "# ",
        "js" | "c" | "cpp" => "// ",
        _ => return (line, ""),
    };
    let starts = line.match_indices(mark).map(|(at, _)| at);
    let at = starts.into_iter().find(|at| line[..*at].chars().next_back().is_none_or(char::is_whitespace));
    line.split_at(at.unwrap_or(line.len()))
}

/// The first line in which two code blocks differ, other than in comments, and in strings for people that are Chinese in the
/// second. A block without a language is a drawing or an output: a line of it may be Chinese as a whole.
fn block_difference(expected: &Block, found: &Block) -> Option<(usize, String)> {
    if expected.language != found.language {
        return Some((0, format!("a code block is {:?}, not {:?}", found.language, expected.language)));
    }
    let (one, other): (Vec<_>, Vec<_>) = (expected.content.lines().collect(), found.content.lines().collect());
    if one.len() != other.len() {
        return Some((0, format!("a code block has {} lines, not {}", other.len(), one.len())));
    }
    one.iter().zip(&other).enumerate().find_map(|(number, (one, other))| {
        let drawn = expected.language.is_empty() && (other.chars().any(is_han) || is_drawing(one) && is_drawing(other));
        let same = drawn || same_code(split_comment(one, &expected.language).0, split_comment(other, &found.language).0);
        (!same).then(|| (number + 1, format!("code {other:?}, not {one:?}")))
    })
}

/// Whether the line has arrows and lines only.
fn is_drawing(line: &str) -> bool {
    line.chars().all(|c| c == ' ' || matches!(c, '\u{2500}'..='\u{25ff}'))
}

fn same_code(one: &str, other: &str) -> bool {
    let (one, other): (Vec<_>, Vec<_>) = (one.trim_end().split('"').collect(), other.trim_end().split('"').collect());
    let strings = one.iter().zip(&other).enumerate();
    one.len() == other.len()
        && strings.into_iter().all(|(at, (one, other))| one == other || at % 2 == 1 && other.chars().any(is_han))
}

/// The page that a link leads to, and the position of the section; nothing if it leads out of the pages.
fn resolve(pages: &BTreeMap<String, Page>, from: &str, target: &str) -> Option<(String, Option<usize>)> {
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    let path = if file.is_empty() { from.to_owned() } else { joined(from, file) };
    let page = pages.get(&path)?;
    Some((path, page.anchored(anchor)))
}

/// The path that a link in `from` names.
fn joined(from: &str, file: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in file.split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." => {}
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[test]
fn both_languages_have_the_same_sections_tables_code_and_links() {
    let pages = pages();
    let in_zh = pages.keys().filter(|path| path.starts_with("docs/zh/")).map(|path| path.replace("docs/zh/", "docs/"));
    let mut all: BTreeSet<String> = in_zh.collect();
    all.extend(BOTH.map(str::to_owned));
    let mut faults = Vec::new();
    for path in all {
        match (pages.get(&path), pages.get(&chinese(&path))) {
            (Some(english), Some(chinese)) => {
                faults.extend(Pair { english, chinese, pages: &pages, faults: Vec::new() }.compare())
            }
            (one, _) => faults.push(format!("{} is missing", if one.is_none() { path } else { chinese(&path) })),
        }
    }
    let remedy = "write in the other language what was written in one; what is in code is the same in both";
    assert!(faults.is_empty(), "{}\n{} differences: {remedy}", faults.join("\n"), faults.len());
}

#[test]
fn links_lead_to_files_and_headings_that_exist_in_the_language_of_the_page() {
    let pages = pages();
    let mut faults = Vec::new();
    for page in pages.values() {
        for link in page.sections.iter().flat_map(|section| &section.links) {
            let (line, target) = (link.line, link.target.as_str());
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let place = format!("{}:{line} links to {target}", page.path);
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let path = if file.is_empty() { page.path.clone() } else { joined(&page.path, file) };
            let Some(to) = pages.get(&path) else {
                if !root().join(&path).exists() {
                    faults.push(format!("{place}, which does not exist"));
                }
                continue;
            };
            if !anchor.is_empty() && to.anchored(anchor).is_none() {
                faults.push(format!("{place}, but {path} has no such heading"));
            }
            // Every Chinese page has an English one.
            let in_both = is_chinese(&path) || pages.contains_key(&chinese(&path));
            if in_both && is_chinese(&page.path) != is_chinese(&path) && !LANGUAGES.contains(&link.text.as_str()) {
                faults.push(format!("{place}, which exists in the page's own language"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// A page in English, with one of everything.
const ENGLISH: &str = "# One\n\nA `setting` and [two](#two).\n\n- an item\n\n| a | b |\n| --- | --- |\n| `x` | 10 |\n| `y` | `z` |\n\n## Two\n\n```sh\nrun it  # now\n```\n\n\
```\na ──► b\n```\n\n```toml\nsystem = \"You\"\n```\n";
/// Its counterpart.
const CHINESE: &str = "# 一\n\n一项 `setting`，见[二](#二)。\n\n- 一项\n\n| 甲 | 乙 |\n| --- | --- |\n| `x` | 10 |\n| `y` | `z` |\n\n## 二\n\n```sh\nrun it  # 现在\n```\n\n\
```\n甲 ──► 乙\n```\n\n```toml\nsystem = \"您\"\n```\n";

/// The differences between two texts.
fn compared(english: &str, chinese: &str) -> Vec<String> {
    let page = |path: &str, source: &str| (path.to_owned(), Page::parse(path, source));
    let pages = BTreeMap::from([page("docs/a.md", english), page("docs/zh/a.md", chinese)]);
    Pair { english: &pages["docs/a.md"], chinese: &pages["docs/zh/a.md"], pages: &pages, faults: Vec::new() }.compare()
}

#[test]
fn comparison_with_a_translation_finds_nothing() {
    assert_eq!(compared(ENGLISH, CHINESE), Vec::<String>::new());
}

#[test]
fn comparison_with_a_page_that_fell_behind_names_the_place() {
    // (what is changed in the Chinese page, into what, what the fault contains)
    let cases = [
        ("## 二", "### 二", "the headings differ"),
        ("## 二\n", "", "the headings differ (2 and 1 headings), from docs/a.md:1"),
        ("## 二\n", "## 二\n\n## 三\n", "the headings differ (2 and 3 headings), from docs/a.md:12 \"Two\""),
        (
            "| `y` | `z` |\n",
            "",
            "docs/zh/a.md:7 in \"一\" (docs/a.md:7, \"One\"): a table has 2 rows, not 3; docs/a.md:10 has no counterpart",
        ),
        (
            "| `y` | `z` |",
            "| `y` | `w` |",
            "docs/zh/a.md:10 in \"一\" (docs/a.md:10, \"One\"): column 2 of the row lacks [\"z\"], and has [\"w\"] instead",
        ),
        ("| `y` | `z` |", "| `y` | |", "column 2"),
        ("| 10 |", "| 11 |", "column 2 of the row has \"11\", not \"10\""),
        ("| 甲 | 乙 |\n| --- | --- |", "| 甲 | 乙 | 丙 |\n| --- | --- | --- |", "the row has 3 columns, not 2"),
        ("\n- 一项\n", "", "has 0 list items, not 1"),
        ("`setting`", "`other`", "lacks [\"setting\"], and has [\"other\"] instead"),
        ("`setting`", "", "lacks [\"setting\"]"),
        ("[二](#二)", "二", "links, as page and position of the section: lacks"),
        ("[二](#二)", "[二](#一)", "links"),
        ("run it", "run", "docs/zh/a.md:15 in \"二\" (docs/a.md:15, \"Two\"): code \"run  # 现在\", not \"run it  # now\""),
        ("```sh", "```js", "a code block is \"js\", not \"sh\""),
        ("甲 ──► 乙", "a ──► c", "code \"a ──► c\""),
        ("甲 ──► 乙", "甲 ──►\n乙", "a code block has 2 lines, not 1"),
        ("\"您\"", "\"Me\"", "code"),
        ("system =", "systems =", "code"),
    ];
    for (from, into, expected) in cases {
        assert!(CHINESE.contains(from), "{from:?}");
        let faults = compared(ENGLISH, &CHINESE.replacen(from, into, 1));
        assert!(faults.iter().any(|fault| fault.contains(expected)), "{from:?} as {into:?}: {faults:?} should have {expected:?}");
    }
}

#[test]
fn anchors_are_those_of_github() {
    let page = Page::parse("docs/a.md", "# The `GET /x` (old)\n\n## 收到 “什么”？\n\n## A-b_c\n\n## A-b_c\n");
    for (anchor, position) in [("the-get-x-old", 1), ("收到-什么", 2), ("a-b_c", 3), ("a-b_c-1", 4)] {
        assert_eq!(page.anchored(anchor), Some(position), "{anchor}");
    }
    assert_eq!(page.anchored("a-b_c-2"), None);
    assert_eq!(page.anchored(""), None);
}
