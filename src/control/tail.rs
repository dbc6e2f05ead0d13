//! `GET /control/tail`: messages as they are announced, a line of JSON each.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use salvo::http::ResBody;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::mpsc::channel;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::core::ids::{DeviceId, MessageId, Recipient, UserId};
use crate::http::error::ApiError;
use crate::http::reply::{Raw, Reply};
use crate::http::request::Call;
use crate::http::stream;
use crate::hub::Announcement;

/// The number of lines that wait for a client.
const MAX_PENDING_LINES: usize = 256;
/// The bytes of lines that wait for a client; one that is longer alone is left out only where others wait.
const MAX_PENDING_BYTES: u32 = 1 << 20;

/// `GET /control/tail?user=` or `?device=` or neither: announced messages from now on, for that recipient or for any. No mailbox is
/// affected.
pub(super) async fn tail(call: Call) -> Result<Reply<Raw>, ApiError> {
    let id = |name: &'static str| {
        let wrong = move |_| ApiError::Invalid(format!("{name} must be an id"));
        call.parameter(name).map(|text| text.parse::<u64>().map_err(wrong)).transpose()
    };
    let wanted = match (id("user")?.map(UserId), id("device")?.map(DeviceId)) {
        (Some(user), _) if call.app.store.user(user)?.is_none() => return Err(ApiError::NotFound("user")),
        (_, Some(device)) if call.app.store.device(device)?.is_none() => return Err(ApiError::NotFound("device")),
        (user, device) => user.map(Recipient::User).or(device.map(Recipient::Device)),
    };
    let (lines, taken) = channel::<(Bytes, OwnedSemaphorePermit)>(MAX_PENDING_LINES);
    let room = Arc::new(Semaphore::new(MAX_PENDING_BYTES as usize));
    let (mut tap, stopping) = (call.app.hub.tap(), call.app.stopping.clone());
    call.app.sessions.spawn(async move {
        let mut missed = false;
        loop {
            let next = tokio::select! {
                next = tap.next() => next,
                () = stopping.cancelled() => return,
                () = lines.closed() => return,
            };
            let Ok(announced) = next else {
                missed = true;
                continue;
            };
            if wanted.is_some_and(|wanted| !is_for(&announced, wanted)) {
                continue;
            }
            let Some(line) = line(&announced, missed) else { continue };
            let bytes = u32::try_from(line.len()).unwrap_or(u32::MAX).min(MAX_PENDING_BYTES);
            // A slow client learns it with the next line that fits.
            let Ok(permit) = room.clone().try_acquire_many_owned(bytes) else {
                missed = true;
                continue;
            };
            match lines.try_send((line, permit)) {
                Ok(()) => missed = false,
                Err(TrySendError::Full(_)) => missed = true,
                Err(TrySendError::Closed(_)) => return,
            }
        }
    });
    Ok(Reply::ok(
        "ok",
        Raw {
            media_type: "application/x-ndjson",
            body: ResBody::stream(stream::items(taken, |(line, _)| Ok::<_, Infallible>(line))),
        },
    ))
}

/// Returns whether `recipient` receives the message: one of its own, or a broadcast.
fn is_for(announced: &Announcement, recipient: Recipient) -> bool {
    announced.recipient == recipient || announced.recipient == Recipient::All
}

/// Returns the line of a message; `missed`: whether others before it were left out.
fn line(announced: &Announcement, missed: bool) -> Option<Bytes> {
    #[derive(Serialize)]
    struct Line<'a> {
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        missed: bool,
        recipient: String,
        id: Option<MessageId>,
        message: &'a RawValue,
    }
    let message = serde_json::from_slice(announced.payload()).ok()?;
    let mut line =
        serde_json::to_vec(&Line { missed, recipient: announced.recipient.to_string(), id: announced.id, message }).ok()?;
    line.push(b'\n');
    Some(line.into())
}
