//! JSON values carried as they were written.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// A JSON value that keeps its text: numbers keep their digits, keys their order. Equal when the text is.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Raw(Box<RawValue>);

impl Raw {
    /// The value.
    pub fn value(&self) -> &RawValue {
        &self.0
    }
}

impl From<&RawValue> for Raw {
    fn from(value: &RawValue) -> Self {
        Self(value.to_owned())
    }
}

impl PartialEq for Raw {
    fn eq(&self, other: &Self) -> bool {
        self.0.get() == other.0.get()
    }
}

impl Eq for Raw {}
