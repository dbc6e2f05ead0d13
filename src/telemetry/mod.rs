//! Records of the server's work: metrics and the audit trail.

pub mod audit;
pub mod metrics;
