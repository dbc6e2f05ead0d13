//! Ending the connections whose right to exist has gone.

use std::collections::HashSet;

use crate::app::App;
use crate::core::ids::{DeviceId, TokenId, UserId};
use crate::core::time::Timestamp;
use crate::http::error::ApiError;
use crate::store::{Role, TokenKind};
use crate::wire::CloseCode;

/// After a committed change to `user` or its tokens: closes, with 4001, each of its connections whose token would now be
/// refused.
pub fn close_stale(app: &App, user: UserId) -> Result<(), ApiError> {
    // The list first: a connection that comes after it has been looked at by itself, with what is stored now.
    let connections = app.hub.presence().of_user(user);
    let account = app.store.user(user)?.filter(|u| !u.disabled);
    let now = Timestamp::now();
    let good: HashSet<TokenId> = match account {
        None => HashSet::new(),
        Some(account) => {
            let tokens = app.store.tokens(user, TokenId(0), usize::MAX)?.items.into_iter();
            let service = account.role == Role::Admin;
            tokens.filter(|t| !t.expired(now) && (service || t.kind != TokenKind::Service)).map(|t| t.id).collect()
        }
    };
    for connection in connections.iter().filter(|c| !good.contains(&c.identity.token_id)) {
        connection.close(CloseCode::Unauthorized);
    }
    Ok(())
}

/// After `device` has been taken from `user`: its own connections are refused, and the user's connections that stood for it
/// are asked to come back, since they are in the wrong groups.
pub fn device_taken(app: &App, user: UserId, device: DeviceId) -> Result<(), ApiError> {
    close_stale(app, user)?;
    for connection in app.hub.presence().of_user(user).iter().filter(|c| c.identity.device_id == Some(device)) {
        connection.close(CloseCode::GoingAway);
    }
    Ok(())
}
