//! Log filters, as the configuration and `RUST_LOG` hold them.

use tracing_subscriber::filter::Targets;

use crate::core::text::nearest;

/// The levels, from the least verbose.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// An invalid log filter. Displays as a phrase that follows the setting's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogFilterError {
    /// A directive is neither a level nor `target=level`.
    #[error("must be a level such as \"info\" or a list such as \"warn,qy_lty=debug\"; \"{directive}\" is invalid{}", hint(.nearest))]
    InvalidDirective {
        /// The directive.
        directive: String,
        /// The nearest level, if any.
        nearest: Option<&'static str>,
    },
}

fn hint(nearest: &Option<&'static str>) -> String {
    nearest.map(|level| format!("; did you mean \"{level}\"?")).unwrap_or_default()
}

/// Parses a filter such as `warn,qy_lty=debug`. Stricter than [`Targets`] itself, which takes an unknown word for a target, so
/// that `inof` would switch off the log of all other targets.
///
/// # Errors
/// [`LogFilterError`].
pub fn log_filter(text: &str) -> Result<Targets, LogFilterError> {
    let invalid = |directive: &str, nearest| Err(LogFilterError::InvalidDirective { directive: directive.to_owned(), nearest });
    for directive in text.split(',') {
        let level = match directive.split_once('=') {
            Some((target, level)) if !target.is_empty() && !target.contains(char::is_whitespace) => level,
            Some(_) => return invalid(directive, None),
            None => directive,
        };
        let number = matches!(level.as_bytes(), [b'0'..=b'5']);
        if !number && !LEVELS.iter().any(|known| known.eq_ignore_ascii_case(level)) {
            return invalid(directive, nearest(&level.trim().to_ascii_lowercase(), LEVELS));
        }
    }
    text.parse().or_else(|_| invalid(text, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_filter_with_unknown_level_is_refused() {
        let suggestion = |text: &str| match log_filter(text) {
            Err(LogFilterError::InvalidDirective { nearest, .. }) => nearest,
            Ok(targets) => panic!("{text} is {targets}"),
        };
        for (text, meant) in [("inof", "info"), ("warn,qy_lty=debgu", "debug"), ("WARNING", "warn"), (" info", "info")] {
            assert_eq!(suggestion(text), Some(meant), "{text}");
        }
        for text in ["nonsense", "qy_lty", "", "warn,", "=info", "warn, qy_lty=debug", "info=", "6"] {
            assert_eq!(suggestion(text), None, "{text}");
        }
        for text in ["info", "WARN", "off", "3", "warn,qy_lty=info,audit=info", "qy_lty::net=trace", "qy_lty=0"] {
            assert!(log_filter(text).is_ok(), "{text}");
        }
        let message = log_filter("warn,inof").unwrap_err().to_string();
        assert!(message.ends_with("; \"inof\" is invalid; did you mean \"info\"?"), "{message}");
    }
}
