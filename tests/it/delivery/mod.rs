//! Messages: live, queued, acknowledged, and what survives crashes, power cuts and full disks.

mod cancel;
mod client_list;
mod clients;
mod crash;
mod epoch;
mod faults;
mod history;
mod lagging;
mod life;
mod mailbox;
mod passed_over;
mod peek;
mod power_cut;
mod push;
mod queue;
mod queue_peek;
mod window;
