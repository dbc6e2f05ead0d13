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
#[cfg(feature = "cluster")]
mod applier;
#[cfg(test)]
mod arbitrary;
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
#[cfg(feature = "cluster")]
mod proposals;
mod readers;
#[cfg(test)]
mod replay;
mod samples;
#[cfg(test)]
pub mod simulated;
mod stage;
#[cfg(test)]
mod testing;

#[cfg(feature = "cluster")]
use crate::store::{Result, Trees};
#[cfg(feature = "cluster")]
pub use applier::{Applier, Delta};
#[cfg(feature = "cluster")]
pub use clock::{ClockState, Moment, clock_of};
#[cfg(feature = "cluster")]
pub use proposals::{Proposal, ProposalQueue, Proposed};

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
use passes::ForgetPasses;
pub use passes::{LINK_SECONDS, OpenPass, RedeemPass, TICKET_SECONDS};
pub use probe::Probe;
pub use readers::{ForgetReader, JoinError, JoinReader, TouchReaders};
pub use samples::RecordSample;

/// Lists the operations: the number, and the type, whose name is that of the encoded form; `local` where it concerns one node alone,
/// `awaited` where its caller waits for all nodes.
macro_rules! operations {
    ($($number:literal $name:ident $($word:ident)?;)*) => {
        $(impl machine::Named for $name {
            const NAME: &'static str = stringify!($name);
            const IS_LOCAL: bool = operations!(@is_local $($word)?);
            const IS_AWAITED: bool = operations!(@is_awaited $($word)?);
        })*

        /// Any operation, for encoding, decoding and replay.
        #[cfg(feature = "cluster")]
        #[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
        pub enum Change {
            $(#[doc = concat!("Number ", $number, ".")] $name($name),)*
        }

        #[cfg(feature = "cluster")]
        impl Change {
            /// Every operation's number and name.
            pub const LIST: &[(u32, &str)] = &[$(($number, stringify!($name))),*];

            /// Makes the change, and returns its result as text.
            pub fn apply(self, machine: &mut machine::Machine<'_>, moment: clock::Moment) -> String {
                match self {
                    $(Self::$name(operation) => format!("{:?}", machine::Operation::apply(operation, machine, moment)),)*
                }
            }

            /// Returns whether it concerns one node alone.
            pub fn is_local(&self) -> bool {
                match self {
                    $(Self::$name(_) => <$name as machine::Named>::IS_LOCAL,)*
                }
            }

            /// Makes the change by way of `changes`, and returns its result as text.
            pub async fn run(self, changes: &Changes) -> String {
                match self {
                    $(Self::$name(operation) => format!("{:?}", changes.run(operation).await),)*
                }
            }

            /// Makes a change whose result nobody waits for.
            ///
            /// # Errors
            /// If the disk fails.
            fn apply_unasked(self, shared: &changes::Shared, trees: &Trees, moment: Moment) -> Result<()> {
                match self {
                    $(Self::$name(operation) => shared.apply_unasked(trees, operation, moment),)*
                }
            }
        }
    };
    (@is_local local) => { true };
    (@is_local $($other:ident)?) => { false };
    (@is_awaited awaited) => { true };
    (@is_awaited $($other:ident)?) => { false };
}

operations! {
     1 CreateUser awaited;
     2 ChangeUser awaited;
     3 DeleteUser awaited;
     4 CreateToken awaited;
     5 DeleteToken awaited;
     7 CreateDevice awaited;
     8 ChangeDevice awaited;
     9 SetPrimary awaited;
    10 UnbindDevice awaited;
    11 DeleteDevice awaited;
    12 Seen;
    13 Observe awaited;
    14 SetCatalog awaited;
    15 Append;
    16 Acknowledge;
    17 Expire;
    18 Tick;
    19 Clear awaited;
    20 Settings;
    21 Probe local;
    22 JoinReader;
    23 ForgetReader awaited;
    24 TouchReaders;
    25 Cancel awaited;
    26 Rehash;
    27 BeginImport;
    28 Import;
    29 RecordAudit local;
    30 RecordSample local;
    31 OpenPass awaited;
    32 RedeemPass awaited;
    33 ForgetPasses local;
    34 BeginPairing awaited;
    35 ClaimPairing awaited;
    36 CollectPairing awaited;
}
