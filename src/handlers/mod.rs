//! What the companion answers: one file a message type, one match that calls them.
//!
//! Handlers turn a [`Command`] into an [`Event`]; they know nothing of sockets, groups or the store.

mod chat;
mod dance;
mod sing;
mod weather;

use crate::wire::{Command, Event, Timestamp};

/// Answers `command`, asked at `now`.
pub fn answer(command: Command, now: Timestamp) -> Event {
    match command {
        Command::Chat { text } => chat::answer(&text),
        Command::Weather { city } => weather::answer(city, now),
        Command::Sing { song, artist, stop } => sing::answer(song, artist, stop),
        Command::Dance { dance, style, duration, stop } => dance::answer(dance, style, duration, stop),
        Command::Ping => Event::Pong,
    }
}
