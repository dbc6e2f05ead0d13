//! Records of the server's work: metrics and the audit trail.

pub mod audit;
pub mod live;
pub mod metrics;
