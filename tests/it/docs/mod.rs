//! The documentation: both languages have the same content, links lead somewhere, Chinese is set as Chinese.

mod languages;
mod page;
mod typography;
