//! Values as people read them: widths on a terminal, times, sizes and numbers of things.

use icu_properties::CodePointMapData;
use icu_properties::props::{EastAsianWidth, GeneralCategory};

use crate::core::text::is_invisible;
use crate::core::time::Timestamp;

/// The seconds in a minute.
const MINUTE: u64 = 60;
/// The seconds in an hour.
const HOUR: u64 = 3600;
/// The seconds in a day.
const DAY: u64 = 86_400;

/// Returns the number of columns that a text takes on a terminal: two for Chinese characters and emoji (UAX 11), none for marks on the
/// character before.
pub(super) fn width(text: &str) -> usize {
    let (mut columns, mut last, mut joined) = (0, 0, false);
    for c in text.chars() {
        // A variation selector that makes an emoji of a narrow character, and a joiner, are invisible alone.
        if c == '\u{fe0f}' && last == 1 {
            columns += 1;
        }
        last = if joined || is_skin_tone(c) && last == 2 { 0 } else { columns_of(c) };
        joined = c == '\u{200d}' && columns > 0;
        columns += last;
    }
    columns
}

/// Returns whether `c` colours the emoji before it.
fn is_skin_tone(c: char) -> bool {
    matches!(c, '\u{1f3fb}'..='\u{1f3ff}')
}

/// Returns the columns of one character.
fn columns_of(c: char) -> usize {
    if c.is_ascii() {
        return 1;
    }
    let category = CodePointMapData::<GeneralCategory>::new().get(c);
    if is_invisible(c) || matches!(category, GeneralCategory::NonspacingMark | GeneralCategory::EnclosingMark) {
        return 0;
    }
    match CodePointMapData::<EastAsianWidth>::new().get(c) {
        EastAsianWidth::Wide | EastAsianWidth::Fullwidth => 2,
        _ => 1,
    }
}

/// Adds blanks to a text, up to `columns`.
pub(super) fn padded(text: &str, columns: usize) -> String {
    format!("{text}{}", " ".repeat(columns.saturating_sub(width(text))))
}

/// Returns the distance of a time from `now`: `3 min ago`, `in 2 h`; its date, where it is more than a month away.
pub(super) fn distance(time: Timestamp, now: Timestamp) -> String {
    let seconds = time.unix_seconds() - now.unix_seconds();
    let away = seconds.unsigned_abs();
    let amount = match away {
        0..5 => return "just now".into(),
        5..MINUTE => format!("{away} s"),
        MINUTE..HOUR => format!("{} min", away / MINUTE),
        HOUR..172_800 => format!("{} h", away / HOUR),
        172_800..2_592_000 => format!("{} days", away / DAY),
        _ => return date(time),
    };
    if seconds < 0 { format!("{amount} ago") } else { format!("in {amount}") }
}

/// Returns the date of a time, in UTC.
fn date(time: Timestamp) -> String {
    time.with_text(|text| text.split('T').next().unwrap_or(text).to_owned())
}

/// Returns a time with its distance from `now`: `2026-01-31 12:00:00 UTC (3 min ago)`.
pub(super) fn whole_time(time: Timestamp, now: Timestamp) -> String {
    let whole = time.with_text(|text| text.split('.').next().unwrap_or(text).replace('T', " "));
    let (distance, date) = (distance(time, now), date(time));
    if distance == date { format!("{whole} UTC") } else { format!("{whole} UTC ({distance})") }
}

/// Returns a duration: `45 s`, `3 h 20 min`, `5 days 2 h`.
pub(super) fn duration(seconds: u64) -> String {
    let with = |whole: u64, unit: &str, rest: u64, small: &str| match rest {
        0 => format!("{whole} {unit}"),
        rest => format!("{whole} {unit} {rest} {small}"),
    };
    match seconds {
        0..MINUTE => format!("{seconds} s"),
        MINUTE..HOUR => with(seconds / MINUTE, "min", seconds % MINUTE, "s"),
        HOUR..172_800 => with(seconds / HOUR, "h", seconds % HOUR / MINUTE, "min"),
        _ => with(seconds / DAY, "days", seconds % DAY / HOUR, "h"),
    }
}

/// Formats a number of bytes.
pub(super) fn bytes(count: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut size = count as f64;
    let mut unit = 0;
    while size >= 1024.0 && unit + 1 < units.len() {
        size /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{size:.1} {}", units[unit]) }
}

/// Formats a number of things: `1 message`, `2 messages`.
pub(super) fn count(number: u64, thing: &str) -> String {
    let plural = match thing.strip_suffix('x') {
        Some(_) if number != 1 => "es",
        _ if number != 1 => "s",
        _ => "",
    };
    format!("{} {thing}{plural}", grouped(number))
}

/// Formats a number with commas between its thousands.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn width_is_the_number_of_columns_on_a_terminal() {
        for (text, columns) in [
            ("", 0),
            ("lamp", 4),
            ("灯", 2),
            ("客厅的灯", 8),
            ("ｌ１", 4),
            ("한글", 4),
            ("カナ", 4),
            ("ｶﾅ", 2),
            ("e\u{301}", 1),
            ("é", 1),
            ("😀", 2),
            ("👍🏽", 2),
            ("👩\u{200d}💻", 2),
            ("❤\u{fe0f}", 2),
            ("🇨🇳", 2),
            ("1\u{fe0f}\u{20e3}", 2),
            ("“灯”", 4),
        ] {
            assert_eq!(width(text), columns, "{text}");
        }
        assert_eq!((padded("灯", 4), padded("toolong", 3)), ("灯  ".into(), "toolong".into()));
    }

    #[test]
    fn times_are_distances_and_dates() {
        let now: Timestamp = "2026-01-31T12:00:00Z".parse().unwrap();
        let ago = |seconds: u64| distance(now.minus(std::time::Duration::from_secs(seconds)), now);
        for (seconds, text) in [
            (0, "just now"),
            (4, "just now"),
            (5, "5 s ago"),
            (59, "59 s ago"),
            (60, "1 min ago"),
            (3599, "59 min ago"),
            (3600, "1 h ago"),
            (172_799, "47 h ago"),
            (172_800, "2 days ago"),
            (2_591_999, "29 days ago"),
            (2_592_000, "2026-01-01"),
        ] {
            assert_eq!(ago(seconds), text, "{seconds}");
        }
        assert_eq!(distance(now.plus_seconds(7200), now), "in 2 h");
        assert_eq!(distance(now.plus_seconds(400 * 86_400), now), "2027-03-07");
        assert_eq!(whole_time(now, now.plus_seconds(180)), "2026-01-31 12:00:00 UTC (3 min ago)");
        assert_eq!(whole_time(now, now.plus_seconds(86_400 * 100)), "2026-01-31 12:00:00 UTC");
    }

    #[test]
    fn numbers_are_formatted() {
        assert_eq!((bytes(5), bytes(1536), bytes(3 << 30)), ("5 B".into(), "1.5 KiB".into(), "3.0 GiB".into()));
        assert_eq!((count(0, "lamp"), count(1, "lamp"), count(2, "lamp")), ("0 lamps".into(), "1 lamp".into(), "2 lamps".into()));
        assert_eq!((count(1, "mailbox"), count(1234, "mailbox")), ("1 mailbox".into(), "1,234 mailboxes".into()));
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        for (seconds, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (61, "1 min 1 s"),
            (12_000, "3 h 20 min"),
            (86_400, "24 h"),
            (439_200, "5 days 2 h"),
        ] {
            assert_eq!(duration(seconds), text);
        }
    }
}
