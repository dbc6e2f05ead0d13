//! Changes of durable state as values.
//!
//! Every write is an [`Operation`](machine::Operation): a value that holds all that it depends on, so that the same operations at the same moments,
//! in the same order, give the same store. Time comes in with the [`Moment`](clock::Moment); randomness and hashes are made by the sender.
//! Operations run one at a time on the store's writer thread, on a [`Machine`](machine::Machine): the trees, the index of the
//! mailboxes in memory, and the changes of the log that wait for the commit. [`Changes`] is the only way to it.
//!
//! All of them stand in the list below, with their numbers, which are never used again for another one, and their names, which
//! are those of the encoded form.

mod accounts;
mod audit;
mod changes;
mod clock;
mod companion;
mod import;
mod index;
mod keys;
mod load;
mod log;
mod machine;
mod memory;
mod outcomes;
mod pairings;
mod passes;
mod probe;
mod readers;
#[cfg(test)]
mod replay;
mod samples;
mod stage;
#[cfg(test)]
mod testing;

pub use accounts::{
    ChangeDevice, ChangeUser, CreateDevice, CreateToken, CreateUser, DeleteDevice, DeleteToken, DeleteUser, Rehash, Seen,
    SetPrimary, UnbindDevice,
};
pub use audit::RecordAudit;
pub use changes::{Changes, Found, Riders};
pub use companion::{Observe, SetCatalog};
pub use import::{BeginImport, Import, ImportError, MAX_IMPORT_ROWS};
pub use index::{Ack, DeliveryState, Listed, MAX_OPERATION_MESSAGES, Queued, ReaderState, Size, Waiting};
pub use log::{Acknowledge, Append, AppendError, Appended, Cancel, CancelError, Clear, Expire, IdempotencyKey, Settings, Tick};
pub use machine::Touched;
pub use outcomes::{Outcome, OutcomeSender};
pub use pairings::{BeginPairing, ClaimPairing, CollectPairing, PAIRING_SECONDS, PairingError, PairingState};
#[cfg(test)]
use passes::ForgetPasses;
pub use passes::{LINK_SECONDS, OpenPass, RedeemPass, TICKET_SECONDS};
pub use probe::Probe;
pub use readers::{ForgetReader, JoinError, JoinReader, TouchReaders};
pub use samples::RecordSample;

/// Lists the operations: the number, and the type, whose name is that of the encoded form.
macro_rules! operations {
    ($($number:literal $name:ident;)*) => {
        /// Any operation, for encoding, decoding and replay.
        #[cfg(test)]
        #[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
        pub enum Change {
            $(#[doc = concat!("Number ", $number, ".")] $name($name),)*
        }

        #[cfg(test)]
        impl Change {
            /// Every operation's number and name.
            pub const LIST: &[(u32, &str)] = &[$(($number, stringify!($name))),*];

            /// Makes the change, and returns its result as text.
            pub fn apply(self, machine: &mut machine::Machine<'_>, moment: clock::Moment) -> String {
                match self {
                    $(Self::$name(operation) => format!("{:?}", machine::Operation::apply(operation, machine, moment)),)*
                }
            }
        }
    };
}

operations! {
     1 CreateUser;
     2 ChangeUser;
     3 DeleteUser;
     4 CreateToken;
     5 DeleteToken;
     7 CreateDevice;
     8 ChangeDevice;
     9 SetPrimary;
    10 UnbindDevice;
    11 DeleteDevice;
    12 Seen;
    13 Observe;
    14 SetCatalog;
    15 Append;
    16 Acknowledge;
    17 Expire;
    18 Tick;
    19 Clear;
    20 Settings;
    21 Probe;
    22 JoinReader;
    23 ForgetReader;
    24 TouchReaders;
    25 Cancel;
    26 Rehash;
    27 BeginImport;
    28 Import;
    29 RecordAudit;
    30 RecordSample;
    31 OpenPass;
    32 RedeemPass;
    33 ForgetPasses;
    34 BeginPairing;
    35 ClaimPairing;
    36 CollectPairing;
}
