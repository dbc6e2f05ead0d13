//! The surroundings of a command: its origin, and the channel for parts of its answer.

use futures_util::future::BoxFuture;

use crate::core::ids::{DeviceId, UserId};

/// The origin of a command.
#[derive(Debug, Clone)]
pub struct CommandContext {
    /// The user of the connection.
    pub user: UserId,
    /// The device that the connection represents.
    pub device: Option<DeviceId>,
    /// The client's `ref`, which is copied into the reply.
    pub reference: Option<String>,
}

/// Receives the parts of a streamed answer.
pub type ChunkSink<'a> = &'a (dyn Fn(&str) -> BoxFuture<'static, ()> + Send + Sync);
