//! The variables of the environment that are ours: what looks like one and is none would do nothing, silently.

use super::layers::{FILE, PREFIX};
use super::render::documented;

/// What names of ours begin with, in whatever letters.
const OURS: &str = "QY_LTY_";
/// What names of handlers' secrets begin with.
const HANDLER: &str = "QY_LTY_HANDLER_";
/// Those that are no settings.
const KNOWN: [&str; 4] = [FILE, "QY_LTY_ADMIN_PASSWORD", "QY_LTY_CHAT_KEY", "QY_LTY_QWEATHER_KEY"];

/// Whether somebody who set `name` meant us.
pub(super) fn looks_like_ours(name: &str) -> bool {
    name.get(..OURS.len()).is_some_and(|start| start.eq_ignore_ascii_case(OURS))
}

/// Whether `name`, which is no setting's, is known.
///
/// # Errors
/// What is wrong, and the nearest right name.
pub(super) fn known(name: &str) -> Result<(), String> {
    if !looks_like_ours(name) || KNOWN.contains(&name) || (name.starts_with(HANDLER) && name.len() > HANDLER.len()) {
        return Ok(());
    }
    let settings = documented().into_iter().map(|key| format!("{PREFIX}{}", key.to_ascii_uppercase().replace('.', "__")));
    let names = settings.filter(|key| !key.contains("__HANDLER__")).chain(KNOWN.map(str::to_owned));
    // Mostly an underscore is missing, or the letters are small.
    let plain = |name: &str| name.to_ascii_uppercase().replace("__", "_");
    let given = plain(name);
    let far = |right: &str| (!plain(right).starts_with(&given), strsim::damerau_levenshtein(&given, &plain(right)));
    let near = names.map(|right| (far(&right), right)).min();
    let near = near.filter(|((_, distance), right)| *distance <= right.len().max(name.len()) / 2);
    Err(near
        .map_or_else(|| "is no variable of ours".into(), |(_, right)| format!("is no variable of ours; did you mean {right}?")))
}
