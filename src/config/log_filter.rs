//! What is logged, as the configuration and `RUST_LOG` say it.

use tracing_subscriber::filter::Targets;

use super::explain::nearest;

/// The levels, from the quietest.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Why a filter can't be used. Prints as what follows the setting's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// A part is neither a level nor `part=level`.
    #[error("must be levels such as \"info\" or \"warn,qy_lty=debug\"; \"{part}\" is none{}", hint(.near))]
    NoLevel {
        /// What stands there.
        part: String,
        /// The level that was perhaps meant.
        near: Option<&'static str>,
    },
}

fn hint(near: &Option<&'static str>) -> String {
    near.map(|level| format!("; did you mean \"{level}\"?")).unwrap_or_default()
}

/// Reads a filter such as `warn,qy_lty=debug`. Stricter than [`Targets`] itself, to which a word that it does not know is a part of
/// the program, so that `inof` would log nothing of all others.
///
/// # Errors
/// [`FilterError`].
pub fn log_filter(text: &str) -> Result<Targets, FilterError> {
    for part in text.split(',') {
        let level = match part.split_once('=') {
            Some((target, level)) if !target.is_empty() && !target.contains(char::is_whitespace) => level,
            Some(_) => return Err(FilterError::NoLevel { part: part.into(), near: None }),
            None => part,
        };
        let number = matches!(level.as_bytes(), [b'0'..=b'5']);
        if !number && !LEVELS.iter().any(|known| known.eq_ignore_ascii_case(level)) {
            let near = nearest(&level.trim().to_ascii_lowercase(), LEVELS);
            return Err(FilterError::NoLevel { part: part.into(), near });
        }
    }
    text.parse().map_err(|_| FilterError::NoLevel { part: text.into(), near: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_is_no_level_is_refused() {
        let near = |text: &str| match log_filter(text) {
            Err(FilterError::NoLevel { near, .. }) => near,
            Ok(targets) => panic!("{text} is {targets}"),
        };
        for (text, meant) in [("inof", "info"), ("warn,qy_lty=debgu", "debug"), ("WARNING", "warn"), (" info", "info")] {
            assert_eq!(near(text), Some(meant), "{text}");
        }
        for text in ["nonsense", "qy_lty", "", "warn,", "=info", "warn, qy_lty=debug", "info=", "6"] {
            assert_eq!(near(text), None, "{text}");
        }
        for text in ["info", "WARN", "off", "3", "warn,qy_lty=info,audit=info", "qy_lty::door=trace", "qy_lty=0"] {
            assert!(log_filter(text).is_ok(), "{text}");
        }
        let said = log_filter("warn,inof").unwrap_err().to_string();
        assert!(said.ends_with("; \"inof\" is none; did you mean \"info\"?"), "{said}");
    }
}
