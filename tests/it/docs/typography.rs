//! How Chinese is set: full-width punctuation, blanks beside Latin letters, no line ends within a sentence, marks that are rendered, the
//! usual terms.

use std::fs;
use std::path::Path;

use super::languages::{is_han, pages, root, split_comment};
use super::page::{CODE, Page};

/// Words that are not used, and what is written instead.
const TERMS: [(&str, &str); 9] = [
    ("配对代码", "配对码"),
    ("配对密码", "配对码"),
    ("代币", "令牌"),
    ("伫列", "队列"),
    ("佇列", "队列"),
    ("已投递", "已送达"),
    ("限速", "限流"),
    ("反代", "反向代理"),
    ("重新连线", "重连"),
];

/// Half-width marks that have a full-width form in Chinese.
const HALF_WIDTH: &str = ",;:!?.()\"'";
/// Those of them that are no part of code, for comments, in which code is not marked as such.
const IN_COMMENTS: &str = ",;:!?";

/// Full-width marks.
fn is_full_width(c: char) -> bool {
    "，。、；：！？（）“”‘’《》…".contains(c)
}

/// What is wrong in a text with Chinese in it, which should not have `half_width` marks.
fn faults(text: &str, half_width: &str) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    let mut faults = Vec::new();
    let excerpt = |at: usize| -> String {
        let around = &characters[at.saturating_sub(8)..characters.len().min(at + 9)];
        around.iter().map(|&c| if c == CODE { '□' } else { c }).collect()
    };
    for (at, &c) in characters.iter().enumerate() {
        let before = at.checked_sub(1).map(|at| characters[at]);
        let after = characters.get(at + 1).copied();
        let chinese = |c: Option<char>| c.is_some_and(|c| is_han(c) || is_full_width(c));
        // A mark behind a code span or a word belongs to the Chinese sentence where that goes on behind it.
        let beyond = characters.get(at + 2).copied().filter(|_| after == Some(' '));
        let sentence = half_width.contains(c) && (chinese(before) || chinese(after) || chinese(beyond));
        let behind_code = ",;:.".contains(c) && before == Some(CODE) && after.is_none_or(char::is_whitespace);
        if sentence || behind_code {
            faults.push(format!("half-width {c:?} in {:?}", excerpt(at)));
        }
        if c == '\n' && chinese(before) && chinese(after) {
            faults.push(format!("a line end within Chinese, which is shown as a blank, in {:?}", excerpt(at)));
        }
        if c == ' '
            && (chinese(before) && after.is_some_and(is_full_width) || before.is_some_and(is_full_width) && chinese(after))
        {
            faults.push(format!("a blank beside a full-width mark in {:?}", excerpt(at)));
        }
        let latin = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == CODE);
        if is_han(c) && (latin(before) || latin(after)) {
            faults.push(format!("no blank between Chinese and other letters, figures or code in {:?}", excerpt(at)));
        }
        if matches!(c, '*' | '`') || c == ']' && after == Some('(') {
            faults.push(format!(
                "{c:?} is shown as it is in {:?}: such a mark must not stand between punctuation and a letter",
                excerpt(at)
            ));
        }
    }
    faults.extend(terms(text));
    faults
}

/// Words that are not used.
fn terms(text: &str) -> Vec<String> {
    let mut faults: Vec<String> =
        TERMS.iter().filter(|(not, _)| text.contains(not)).map(|(not, but)| format!("{not:?}, not {but:?}")).collect();
    for sentence in text.split(['。', '；', '！', '？', '\n']) {
        if sentence.contains("代码") && (sentence.contains("配对") || sentence.contains("设备上显示")) {
            faults.push(format!("\"代码\", not \"配对码\", in {sentence:?}"));
        }
    }
    faults
}

/// The faults of a page, with their lines. Texts without Chinese are not looked at.
fn of_page(page: &Page) -> Vec<String> {
    let mut all = Vec::new();
    for text in page.texts.iter().filter(|text| text.text.chars().any(is_han)) {
        all.extend(faults(&text.text, HALF_WIDTH).into_iter().map(|fault| format!("{}:{}: {fault}", page.path, text.line)));
    }
    for block in page.sections.iter().flat_map(|section| &section.blocks) {
        for (number, line) in block.content.lines().enumerate() {
            let (_, comment) = split_comment(line, &block.language);
            if comment.chars().any(is_han) {
                let place = format!("{}:{}", page.path, block.line + number + 1);
                all.extend(faults(comment, IN_COMMENTS).into_iter().map(|fault| format!("{place}: {fault}")));
            }
        }
    }
    all
}

/// The faults in strings of the page's scripts: a half-width mark right behind a Chinese character, and words that are not used.
fn of_script(path: &Path) -> Vec<String> {
    let source = fs::read_to_string(path).unwrap();
    let mut all = Vec::new();
    for (number, line) in source.lines().enumerate() {
        let characters: Vec<char> = line.chars().collect();
        let half_width = characters.windows(2).find(|pair| is_han(pair[0]) && ",;:!?.()".contains(pair[1]));
        let found = half_width.map(|pair| format!("half-width {:?} behind {:?}", pair[1], pair[0]));
        let place = format!("{}:{}", path.strip_prefix(root()).unwrap_or(path).display(), number + 1);
        all.extend(found.into_iter().chain(terms(line)).map(|fault| format!("{place}: {fault}")));
    }
    all
}

/// Calls `visit` for every file below `folder` with one of the extensions.
fn walk(folder: &Path, extensions: &[&str], visit: &mut impl FnMut(&Path)) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, extensions, visit);
        } else if path.extension().is_some_and(|extension| extensions.iter().any(|known| extension == *known)) {
            visit(&path);
        }
    }
}

#[test]
fn chinese_pages_have_full_width_punctuation_and_the_usual_terms() {
    let pages = pages();
    let faults: Vec<String> = pages.values().flat_map(of_page).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    let texts = pages.values().flat_map(|page| &page.texts);
    assert!(texts.filter(|text| text.text.chars().any(is_han)).count() > 500, "the pages have Chinese in them");
}

#[test]
fn chinese_in_the_console_has_full_width_punctuation_and_the_usual_terms() {
    let (mut faults, mut chinese) = (Vec::new(), 0);
    walk(&root().join("src/web"), &["js", "mjs", "html", "json"], &mut |path| {
        faults.extend(of_script(path));
        chinese += usize::from(fs::read_to_string(path).unwrap().chars().any(is_han));
    });
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(chinese > 0, "no file below src/web has Chinese in it");
}

#[test]
fn typography_check_finds_each_fault() {
    let wrong = [
        ("重连,然后", "half-width ','"),
        ("重连.", "half-width '.'"),
        ("等待:重连", "half-width ':'"),
        ("（见下)", "half-width ')'"),
        ("重连(见下）", "half-width '('"),
        ("`a`, 然后重连", "half-width ','"),
        ("使用 `a`.", "half-width '.'"),
        ("设备 App: 重连", "half-width ':'"),
        ("设备 App, 重连", "half-width ','"),
        ("他说\"重连\"", "half-width '\"'"),
        ("客户端会\n重连", "line end"),
        ("重连， 然后", "a blank beside"),
        ("重连App", "no blank between"),
        ("用`a`重连", "no blank between"),
        ("**接受即落盘。**排队", "'*' is shown"),
        ("输入配对代码", "\"配对代码\", not \"配对码\""),
        ("请配对，输入代码", "\"代码\", not \"配对码\""),
        ("```sh\nrun # 运行,然后\n```\n", "half-width ','"),
    ];
    for (source, expected) in wrong {
        let faults = of_page(&Page::parse("a.md", source));
        assert!(faults.iter().any(|fault| fault.starts_with("a.md:") && fault.contains(expected)), "{source:?}: {faults:?}");
    }
    let right = [
        "**接受即落盘**。排队，然后 `a`、`b` 和 1,000 条；见 [protocol.md](protocol.md#a)，版本 0.2.0。",
        "示例代码在 `a.rs` 中：用 *斜体*（Apache License, Version 2.0）。",
        "English, with `code`, and (marks): all of them.",
        "使用 `a,b`：\n\n```json\n{\"text\":\"小雪\", \"a\": 1}\n```\n",
    ];
    for source in right {
        assert_eq!(of_page(&Page::parse("a.md", source)), Vec::<String>::new(), "{source:?}");
    }
}
