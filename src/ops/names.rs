//! The warning at the start of names that today's rules refuse.

use std::sync::Arc;

use crate::app::App;

/// The most ids in the warning.
const MAX_LOGGED_IDS: usize = 20;

/// Logs the ids of users and devices, and of tokens, whose names or texts today's rules refuse; never the names themselves. They go
/// on working.
pub async fn report(app: Arc<App>) {
    let found = match tokio::task::spawn_blocking(move || app.store.old_names()).await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => {
            tracing::warn!(%error, "failed to look for names that are no longer valid");
            return;
        }
        Err(_) => return, // the server is stopping
    };
    if found.total == 0 {
        return;
    }
    let ids = |of: &str| {
        let mut ids: Vec<u64> = found.listed.iter().filter(|name| name.of == of).map(|name| name.id).collect();
        ids.dedup();
        ids.iter().take(MAX_LOGGED_IDS).map(u64::to_string).collect::<Vec<_>>().join(",")
    };
    let (users, devices, tokens) = (ids("user"), ids("device"), ids("token"));
    tracing::warn!(
        count = found.total,
        %users,
        %devices,
        %tokens,
        "names that would be refused today are in use, or look like others; `qy-lty check` lists them"
    );
}
