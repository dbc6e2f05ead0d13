//! Reactions to committed changes of rights: the only code that ends connections because of one.

use std::collections::HashSet;

use crate::app::App;
use crate::auth;
use crate::change::Touched;
use crate::core::ids::{DeviceId, TokenId, UserId};
use crate::store::StoreError;
use crate::wire::CloseCode;

/// Closes the connections that lost their right through a committed change. Does all of it, whatever fails.
///
/// # Errors
/// The first failure of the store.
pub fn react(app: &App, touched: &Touched) -> Result<(), StoreError> {
    let mut outcome = Ok(());
    let taken_from = touched.devices_taken.iter().map(|&(user, _)| user);
    let users: HashSet<UserId> = touched.users.iter().copied().chain(taken_from).collect();
    for user in users {
        outcome = outcome.and(close_unauthorized(app, user));
    }
    for &(user, device) in &touched.devices_taken {
        close_device(app, user, device);
    }
    outcome
}

/// Closes, with 4001, each connection of `user` whose token would now be refused.
fn close_unauthorized(app: &App, user: UserId) -> Result<(), StoreError> {
    // The list first: a connection that is added after it checks itself against what is stored then.
    let mut connections = app.hub.presence().of_user(user);
    connections.extend(app.consoles.of_user(user));
    let account = app.store.user(user)?;
    let now = app.changes.clock().present();
    let accepted: HashSet<TokenId> = match account {
        None => HashSet::new(),
        Some(account) => {
            let tokens = app.store.tokens(user, TokenId(0)).collect::<Result<Vec<_>, _>>()?.into_iter();
            tokens.filter(|token| auth::accepts(&account, token, &now)).map(|token| token.id).collect()
        }
    };
    for connection in connections.iter().filter(|c| !accepted.contains(&c.identity.token_id)) {
        tracing::debug!(conn = %connection.id, %user, "closing a connection whose token is no longer accepted");
        connection.close(CloseCode::Unauthorized);
    }
    Ok(())
}

/// Closes, with 1001, the connections of `user` that stand for `device`: they are in the wrong groups, and clients reconnect. Those
/// with the device's own token have been refused with 4001 by then.
fn close_device(app: &App, user: UserId, device: DeviceId) {
    for connection in app.hub.presence().of_user(user).iter().filter(|c| c.identity.device_id == Some(device)) {
        tracing::debug!(conn = %connection.id, %user, %device, "closing a connection whose device was unbound");
        connection.close(CloseCode::GoingAway);
    }
}
