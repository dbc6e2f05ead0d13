//! The operation that keeps the figures of a minute.

use serde::{Deserialize, Serialize};

use super::clock::Moment;
use super::machine::{Machine, Operation};
use crate::store::samples::record;
use crate::store::{Minute, OnlineDevices, Result, Sample, Slot, StoreError};

/// Keeps the figures of a minute, and the devices that were online in a slot where they have changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecordSample {
    /// The minute.
    pub minute: Minute,
    /// Its figures.
    pub sample: Sample,
    /// The slot, and its devices.
    pub online: Option<(Slot, OnlineDevices)>,
}

impl Operation for RecordSample {
    type Output = ();
    type Error = StoreError;

    fn apply(self, machine: &mut Machine<'_>, _: Moment) -> Result<()> {
        record(machine.trees, self.minute, &self.sample, self.online.as_ref().map(|(slot, devices)| (*slot, devices)))
    }
}
