//! Messages: live, queued, acknowledged, and what survives crashes, power cuts and full disks.

mod crash;
mod faults;
mod mailbox;
mod power_cut;
mod push;
mod queue;
mod window;
