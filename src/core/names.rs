//! Names of users and serials of devices: what a new one may consist of, and the forms in which two of them are compared.
//!
//! New names of users follow the profile `UsernameCasePreserved` of PRECIS (RFC 8265 section 3.4) with blanks between the parts of a
//! name (section 3.5), on the characters of the newest Unicode: the crate `precis-profiles` ends with those of 2013, which lack
//! characters of Chinese names. Stricter than the profile: the join controls are refused, since nobody sees them.
//!
//! Names that look alike are those whose skeletons are equal (Unicode Technical Standard 39 section 4).

use icu_properties::props::{BidiClass, DefaultIgnorableCodePoint, GeneralCategory, NoncharacterCodePoint};
use icu_properties::{CodePointMapData, CodePointSetData};
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// The longest name of a user, in characters (Django's limit, from which accounts may come).
pub const MAX_USERNAME_CHARS: usize = 150;

/// The beginning of an id where the command line takes a name or an id.
pub const ID_PREFIX: &str = "id:";

/// The sender of the messages of the command line.
pub const CONSOLE: &str = "console";

/// The reason a new name of a user is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Empty or too long.
    #[error("must have 1 to {MAX_USERNAME_CHARS} characters")]
    Length,
    /// A blank at an end, or after another.
    #[error("must have single blanks between its parts only, none at its ends")]
    Blanks,
    /// Would be taken for an id at the command line.
    #[error("must not begin with {ID_PREFIX}, which stands for the number of a user; choose another name")]
    Id,
    /// A character that PRECIS does not allow.
    #[error(
        "must have no control or invisible characters, only letters, digits, punctuation of ASCII and blanks between its parts; \
         remove U+{:04X}",
        u32::from(*.0)
    )]
    Character(char),
    /// Parts of a word that are written in different directions (RFC 5893 section 2).
    #[error("must not mix letters that are written from right to left with others in one word")]
    Direction,
}

/// Returns the form in which a new name is stored, which is its normal form C.
///
/// # Errors
/// [`NameError`] where it is no valid name.
pub fn prepare_username(text: &str) -> Result<String, NameError> {
    if text.chars().count() > 4 * MAX_USERNAME_CHARS {
        return Err(NameError::Length); // a normal form is at most that much shorter
    }
    let name: String = text.chars().flat_map(narrowed).nfc().collect();
    if !(1..=MAX_USERNAME_CHARS).contains(&name.chars().count()) {
        return Err(NameError::Length);
    }
    if name.split(' ').any(str::is_empty) {
        return Err(NameError::Blanks);
    }
    if name.get(..ID_PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(ID_PREFIX)) {
        return Err(NameError::Id);
    }
    let characters: Vec<char> = name.chars().collect();
    if let Some(at) = (0..characters.len()).find(|&at| characters[at] != ' ' && !is_allowed(&characters, at)) {
        return Err(NameError::Character(characters[at]));
    }
    if name.split(' ').all(keeps_direction) { Ok(name) } else { Err(NameError::Direction) }
}

/// The width mapping rule (RFC 8265 section 3.4.1): full-width and half-width characters become ordinary ones.
fn narrowed(c: char) -> Vec<char> {
    if matches!(c, '\u{3000}' | '\u{ff01}'..='\u{ffee}') { std::iter::once(c).nfkc().collect() } else { vec![c] }
}

/// Returns whether the character at `at` is in the `IdentifierClass` (RFC 8264 section 4.2), with the exceptions and contexts of RFC
/// 5892 sections 2.6 and 2.7.
fn is_allowed(characters: &[char], at: usize) -> bool {
    use GeneralCategory::{
        DecimalNumber, LowercaseLetter, ModifierLetter, NonspacingMark, OtherLetter, SpacingMark, UppercaseLetter,
    };
    let before = at.checked_sub(1).map(|at| characters[at]);
    let any = |of: fn(char) -> bool| characters.iter().any(|&c| of(c));
    match characters[at] {
        c @ '\u{21}'..='\u{7e}' => !c.is_control(),
        'ß' | 'ς' | '\u{6fd}' | '\u{6fe}' | '\u{f0b}' | '〇' => true,
        '·' => before == Some('l') && characters.get(at + 1) == Some(&'l'),
        '\u{5f3}' | '\u{5f4}' => before.is_some_and(|c| matches!(c, 'א'..='ת')),
        '・' => any(
            |c| matches!(c, '\u{3041}'..='\u{30fa}' | '\u{30fc}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{20000}'..='\u{3ffff}'),
        ),
        '\u{660}'..='\u{669}' => !any(|c| matches!(c, '\u{6f0}'..='\u{6f9}')),
        '\u{6f0}'..='\u{6f9}' => !any(|c| matches!(c, '\u{660}'..='\u{669}')),
        '\u{640}' | '\u{7fa}' | '\u{302e}' | '\u{302f}' | '\u{3031}'..='\u{3035}' | '\u{303b}' => false,
        // Conjoining jamo, which are no syllable on their own.
        '\u{1100}'..='\u{11ff}' | '\u{a960}'..='\u{a97c}' | '\u{d7b0}'..='\u{d7fb}' => false,
        // A mark of nothing would be shown on what is before the name.
        c if at == 0 && is_combining_mark(c) => false,
        c => {
            let category = CodePointMapData::<GeneralCategory>::new().get(c);
            let letter_or_digit = matches!(
                category,
                LowercaseLetter | UppercaseLetter | OtherLetter | DecimalNumber | ModifierLetter | NonspacingMark | SpacingMark
            );
            letter_or_digit && !is_ignorable(c) && std::iter::once(c).nfkc().eq(std::iter::once(c).nfc())
        }
    }
}

/// Returns whether `c` is shown as nothing where it is not supported, or is no character at all: `Default_Ignorable_Code_Point` and
/// `Noncharacter_Code_Point` of Unicode.
pub fn is_ignorable(c: char) -> bool {
    CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
        || CodePointSetData::new::<NoncharacterCodePoint>().contains(c)
}

/// The Bidi rule (RFC 5893 section 2), which words without letters from right to left keep anyway.
fn keeps_direction(word: &str) -> bool {
    use BidiClass as B;
    let class = |c| CodePointMapData::<BidiClass>::new().get(c);
    let classes: Vec<BidiClass> = word.chars().map(class).collect();
    let has = |wanted: &[BidiClass]| classes.iter().any(|class| wanted.contains(class));
    let right = [B::RightToLeft, B::ArabicLetter];
    if !has(&right) && !has(&[B::ArabicNumber]) {
        return true;
    }
    let neutral = [
        B::EuropeanNumber,
        B::EuropeanSeparator,
        B::CommonSeparator,
        B::EuropeanTerminator,
        B::OtherNeutral,
        B::BoundaryNeutral,
        B::NonspacingMark,
    ];
    let Some(last) = classes.iter().rev().find(|&&class| class != B::NonspacingMark) else { return false };
    match classes.first() {
        Some(first) if right.contains(first) => {
            let allowed = |class: &BidiClass| right.contains(class) || *class == B::ArabicNumber || neutral.contains(class);
            classes.iter().all(allowed)
                && (right.contains(last) || matches!(*last, B::EuropeanNumber | B::ArabicNumber))
                && !(has(&[B::EuropeanNumber]) && has(&[B::ArabicNumber]))
        }
        // One that begins from left to right may have no letter of the other direction, and this one has.
        _ => false,
    }
}

/// Returns the form of a password that is hashed: any blank is the one of ASCII, in normal form C, by the profile `OpaqueString` (RFC
/// 8265 section 4.2). What the profile refuses is left as it is: nobody sees a password, and its characters were chosen by its owner.
pub fn prepare_password(password: &str) -> String {
    let space = |c| CodePointMapData::<GeneralCategory>::new().get(c) == GeneralCategory::SpaceSeparator;
    password.chars().map(|c| if space(c) { ' ' } else { c }).nfc().collect()
}

/// Returns the form in which names are compared at a log-in: without differences of case, width, normal form and compatibility, and
/// without characters that nobody sees.
pub fn fold(text: &str) -> String {
    let visible = |text: &str| text.chars().nfkc().filter(|&c| !is_ignorable(c)).collect::<String>();
    // By way of the capitals, as ß and ς need it; a Turkish ı is no i.
    let folded = |c: char| if c == 'ı' { vec![c] } else { c.to_uppercase().flat_map(char::to_lowercase).collect() };
    visible(&visible(text).chars().flat_map(folded).collect::<String>())
}

/// The forms by which names that look alike are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Looks {
    /// Those of the name itself.
    pub own: [String; 3],
    /// Those that no other name may have.
    pub foreign: Vec<String>,
}

/// Returns the forms of a name: how it looks in small letters; how it looks as it is written, whatever the case of the letters that it
/// looks like; and how it looks in capitals. The last counts only where one of the two names has other letters than those of ASCII:
/// `АDМІN` in letters of Cyrillic passes for `admin`, but `ana1` does not for `anai`.
pub fn looks(name: &str) -> Looks {
    let skeleton = |text: &str| unicode_security::skeleton(text).collect::<String>();
    let as_written = |text: &str| skeleton(&fold(&skeleton(text)));
    let compatible: String = name.chars().nfkc().collect();
    let capitals: String = compatible.chars().flat_map(char::to_uppercase).collect();
    let (small, written, capitals) = (skeleton(&fold(name)), as_written(&compatible), as_written(&capitals));
    // The forms of names with and without other letters are told apart by the number in front.
    let numbered = |number: u8, form: &str| format!("{number}{form}");
    let [small, written, plain, other] =
        [numbered(0, &small), numbered(1, &written), numbered(2, &capitals), numbered(3, &capitals)];
    let mut foreign = vec![small.clone(), written.clone(), other.clone()];
    if name.is_ascii() {
        return Looks { own: [small, written, plain], foreign };
    }
    foreign.push(plain);
    Looks { own: [small, written, other], foreign }
}

impl Looks {
    /// Returns whether the two names look alike.
    pub fn like(&self, other: &Self) -> bool {
        self.own.iter().any(|form| other.foreign.contains(form))
    }
}

/// Returns the form in which serials are compared: as [`fold`] does, with one separator for all. Hexadecimal digits in groups of two,
/// or in three or four groups of four, as addresses of networks are written, are the same with any separator and with none.
pub fn fold_serial(serial: &str) -> String {
    let is_separator = |c: char| matches!(c, ':' | '-' | '.' | '_' | '/' | '\u{2010}'..='\u{2015}') || c.is_whitespace();
    let folded: String = fold(serial.trim()).chars().map(|c| if is_separator(c) { '-' } else { c }).collect();
    let groups: Vec<&str> = folded.split('-').collect();
    let of = |size: usize| groups.iter().all(|group| group.len() == size && group.bytes().all(|b| b.is_ascii_hexdigit()));
    if groups.len() > 1 && (of(2) || (matches!(groups.len(), 3 | 4) && of(4))) { groups.concat() } else { folded }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_of_all_writings_are_accepted_in_normal_form() {
        // Those of the guide's system are letters and digits of any writing, and `@.+-_`.
        let same = [
            "ana",
            "Ana",
            "user@example.com",
            "a.b+c-d_e",
            "!#$%&'*/=?^`{|}~",
            "张伟",
            "王小明2",
            "欧阳_娜娜",
            "𬭩锴",
            "〇一",
            "ちえ",
            "カール・マルクス",
            "김철수",
            "Ана",
            "Ελένη",
            "Straße",
            "ΟΔΟΣ",
            "أحمد",
            "אברהם",
            "ज़ाकिर",
            "José",
            "Đặng",
            "Ana Maria",
            "admin2",
        ];
        for name in same {
            let stored: String = name.nfc().collect();
            assert_eq!(prepare_username(name), Ok(stored.clone()), "{name}");
            assert_eq!(prepare_username(&name.nfd().collect::<String>()), Ok(stored), "{name}, decomposed");
        }
        assert_eq!(prepare_username("ＡＢｃ１２"), Ok("ABc12".into()));
        assert_eq!(prepare_username("张\u{3000}伟"), Ok("张 伟".into()));
        assert_eq!(prepare_username(&"长".repeat(150)).map(|name| name.chars().count()), Ok(150));
    }

    #[test]
    fn names_that_mislead_are_refused() {
        use NameError::{Blanks, Character, Direction, Id, Length};
        let cases = [
            ("", Length),
            (&*"x".repeat(151), Length),
            (&*"e\u{301}".repeat(151), Length),
            (" a", Blanks),
            ("a ", Blanks),
            ("a  b", Blanks),
            ("\u{3000}a", Blanks),
            ("id:1", Id),
            ("ID:x", Id),
            ("ｉｄ：1", Id),
            ("a\u{a0}b", Character('\u{a0}')),
            ("a\nb", Character('\n')),
            ("a\u{7f}", Character('\u{7f}')),
            ("ﬁn", Character('ﬁ')),
            ("𝐚dmin", Character('𝐚')),
            ("ⓐdmin", Character('ⓐ')),
            ("x²", Character('²')),
            ("🎉", Character('🎉')),
            ("a–b", Character('–')),
            ("\u{301}a", Character('\u{301}')),
            ("a\u{e000}", Character('\u{e000}')),
            ("a\u{378}", Character('\u{378}')),
            ("a\u{ffff}", Character('\u{ffff}')),
            ("anaأحمد", Direction),
            ("أحمدana", Direction),
            ("أحمد-", Direction),
        ];
        for (name, error) in cases {
            assert_eq!(prepare_username(name), Err(error), "{name:?}");
        }
        assert!(NameError::Character('\u{3164}').to_string().ends_with("remove U+3164"));
    }

    #[test]
    fn no_character_that_nobody_sees_is_in_a_name() {
        for c in (0..=0x10_ffff).filter_map(char::from_u32).filter(|&c| is_ignorable(c) || c.is_control()) {
            for name in [format!("admin{c}"), format!("{c}admin"), format!("ad{c}min")] {
                assert!(prepare_username(&name).is_err(), "{name:?}");
            }
        }
    }

    #[test]
    fn names_that_look_alike_have_a_form_in_common() {
        let alike = |a: &str, b: &str| {
            assert_eq!(looks(a).like(&looks(b)), looks(b).like(&looks(a)), "{a} {b}");
            looks(a).like(&looks(b))
        };
        let admins = [
            "ADMIN",
            "admın",
            "аdmin",
            "аdmіn",
            "ΑDΜΙΝ",
            "АDМІN",
            "ａｄｍｉｎ",
            "admin\u{3164}",
            "ad\u{200d}min",
            "admin\u{e0061}",
            "admin\u{fe0f}",
            "𝐚dmin",
            "ⓐdmin",
        ];
        for name in admins {
            assert!(alike("admin", name) && alike("Admin", name), "{name:?}: {:?}", looks(name));
        }
        for (a, b) in [
            ("Ivan", "lvan"),
            ("bob", "ВОВ"),
            ("Straße", "STRASSE"),
            ("ΟΔΟΣ", "οδος"),
            ("José", "Jose\u{301}"),
            ("paypal", "раураl"),
        ] {
            assert!(alike(a, b), "{a} {b}: {:?} {:?}", looks(a), looks(b));
        }
        for (a, b) in [
            ("ana", "anna"),
            ("admin", "admin2"),
            ("José", "Jose"),
            ("张伟", "张玮"),
            ("bob", "rob"),
            ("a-b", "ab"),
            ("ana1", "anai"),
        ] {
            assert!(!alike(a, b), "{a} {b}");
        }
    }

    #[test]
    fn spellings_of_a_serial_have_one_form() {
        for (form, spellings) in [
            ("aabb", &["AA:BB", "aa:bb", "aa-bb", "AA.BB", "aabb", "AA BB", "ＡＡ：ＢＢ", "aa:bb\u{200b}", " AA:BB "][..]),
            ("aabbccddeeff", &["AA:BB:CC:DD:EE:FF", "aa-bb-cc-dd-ee-ff", "aabb.ccdd.eeff", "AABBCCDDEEFF"]),
            ("sn-1-11", &["SN-1-11", "sn_1_11", "Sn:1:11", "sn–1–11"]),
            ("sn-11-1", &["SN-11-1"]),
            ("lampé", &["LAMPÉ", "lampe\u{301}"]),
        ] {
            for serial in spellings {
                assert_eq!(fold_serial(serial), form, "{serial:?}");
            }
        }
        assert_ne!(fold_serial("1234-5678"), fold_serial("12345678"), "two groups of four are no address");
    }

    #[test]
    fn passwords_of_the_same_characters_are_one() {
        for (given, prepared) in [
            ("pa\u{a0}ss\u{3000}word", "pa ss word"),
            ("pe\u{301}p\u{131}n", "p\u{e9}p\u{131}n"),
            ("\u{1112}\u{1161}\u{11ab}", "\u{d55c}"),
            ("ＡＢ👩\u{200d}💻\u{1}", "ＡＢ👩\u{200d}💻\u{1}"),
        ] {
            assert_eq!(prepare_password(given), prepared);
            assert_eq!(prepare_password(prepared), prepared);
        }
    }

    proptest! {
        #[test]
        fn prepared_names_stay_as_they_are(text in "\\PC{0,12}") {
            if let Ok(name) = prepare_username(&text) {
                prop_assert_eq!(prepare_username(&name), Ok(name.clone()));
                prop_assert_eq!(fold(&name), fold(&text));
                prop_assert_eq!(looks(&name), looks(&text));
            }
        }

        #[test]
        fn folding_twice_changes_nothing(text in "\\PC{0,12}") {
            prop_assert_eq!(fold(&fold(&text)), fold(&text));
            prop_assert_eq!(fold_serial(&fold_serial(&text)), fold_serial(&text));
        }
    }
}
