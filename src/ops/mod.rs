//! What looks on: the first start, periodic cleaning.

pub mod first_start;
pub mod sweep;
