//! Reactions to changes of rights: the only code that ends connections because of one.

use std::collections::HashSet;

use super::App;
use crate::auth;
use crate::change::Touched;
use crate::core::client::ClientName;
use crate::core::ids::{DeviceId, TokenId, UserId};
use crate::store::StoreError;
use crate::wire::CloseCode;

/// Closes the connections that lost their right through a change. Where the store fails, all those that may have lost it.
pub(super) fn react(app: &App, touched: &Touched) {
    let taken_from = touched.devices_taken.iter().map(|&(user, _)| user);
    let users: HashSet<UserId> = touched.users.iter().copied().chain(taken_from).collect();
    for user in users {
        close_unauthorized(app, user);
    }
    for &(user, device) in &touched.devices_taken {
        close_device(app, user, device);
    }
    for (user, client) in &touched.readers_forgotten {
        close_reader(app, *user, client);
    }
}

/// Closes, with 1001, the connections of a reader of `user` that was forgotten: one that returns is new.
fn close_reader(app: &App, user: UserId, client: &ClientName) {
    for connection in app.hub.presence().of_user(user).iter().filter(|c| c.reader.as_ref() == Some(client)) {
        tracing::debug!(conn = %connection.id, %user, %client, "closing a connection whose client was forgotten");
        connection.close(CloseCode::GoingAway);
    }
}

/// Closes, with 4001, each connection of `user` whose token would now be refused.
fn close_unauthorized(app: &App, user: UserId) {
    // The list first: a connection that is added after it checks itself against what is stored then.
    let mut connections = app.hub.presence().of_user(user);
    connections.extend(app.consoles.of_user(user));
    if connections.is_empty() {
        return;
    }
    let accepted = accepted(app, user).unwrap_or_else(|error| {
        tracing::error!(%error, %user, "failed to look up the tokens of a user, whose connections are closed");
        HashSet::new()
    });
    for connection in connections.iter().filter(|c| !accepted.contains(&c.identity.token_id)) {
        tracing::debug!(conn = %connection.id, %user, "closing a connection whose token is no longer accepted");
        connection.close(CloseCode::Unauthorized);
    }
}

/// Returns the tokens of `user` that are accepted.
fn accepted(app: &App, user: UserId) -> Result<HashSet<TokenId>, StoreError> {
    let Some(account) = app.store.user(user)? else { return Ok(HashSet::new()) };
    let now = app.changes.clock().present();
    let tokens = app.store.tokens(user, TokenId(0)).collect::<Result<Vec<_>, _>>()?.into_iter();
    Ok(tokens.filter(|token| auth::accepts(&account, token, &now)).map(|token| token.id).collect())
}

/// Closes, with 1001, the connections of `user` that stand for `device`: they are in the wrong groups, and clients reconnect. Those
/// with the device's own token have been refused with 4001 by then.
fn close_device(app: &App, user: UserId, device: DeviceId) {
    for connection in app.hub.presence().of_user(user).iter().filter(|c| c.identity.device_id == Some(device)) {
        tracing::debug!(conn = %connection.id, %user, %device, "closing a connection whose device was unbound");
        connection.close(CloseCode::GoingAway);
    }
}
