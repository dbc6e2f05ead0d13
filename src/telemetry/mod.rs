//! Records of the server's work: counters and timings, and the audit trail.

pub mod audit;
pub mod metrics;
