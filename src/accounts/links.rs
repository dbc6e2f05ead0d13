//! One-time links: made by the owner of the data directory, used by a browser to log in. The codes are in [`change`](crate::change).

use super::policy::Action;
use super::{Accounts, AccountsError, By, FieldError, Issued, LogInKind};
use crate::auth::{AuthError, Secret};
use crate::core::ids::UserId;
use crate::store::User;
use crate::telemetry::audit::AuditEvent;
use crate::telemetry::metrics::LogIn;

impl Accounts<'_> {
    /// Makes a code that logs a browser in as the user `id`, once.
    ///
    /// # Errors
    /// [`AccountsError`]: denied, no such user, a disabled one, no random numbers, the store.
    pub async fn make_link(&self, by: &By<'_>, id: UserId) -> Result<Secret, AccountsError> {
        let user = self.user(by, Action::CreateToken, id)?; // whoever has the link acts as the user
        if user.disabled {
            return Err(FieldError::UserDisabled.into());
        }
        let code = self.app.auth.link(&user).await?;
        by.audit(AuditEvent::LinkMade(id));
        Ok(code)
    }

    /// Logs a browser in with the code of a one-time link. `private`: nobody between the client and this server could read the code; one
    /// that came otherwise is used up, too.
    ///
    /// # Errors
    /// [`AuthError::WrongLink`], [`AuthError::ExposedLink`], [`AuthError::Throttled`], or when the store fails.
    pub async fn log_in_by_link(&self, by: &By<'_>, code: &str, private: bool) -> Result<(User, Issued), AccountsError> {
        let outcome = match self.app.auth.redeem_link(code, private, by.limited_address()).await {
            Ok(user) => match self.issue_log_in(&user, LogInKind::Browser).await {
                // The password was changed, or the account disabled, in this moment.
                Err(AuthError::WrongPassword) => Err(AuthError::WrongLink),
                issued => issued.map(|issued| (user, issued)),
            },
            Err(error) => Err(error),
        };
        self.app.metrics.logins.inc(match &outcome {
            Ok(_) => LogIn::Ok,
            Err(AuthError::WrongLink | AuthError::ExposedLink) => LogIn::Wrong,
            Err(AuthError::Throttled(_)) => LogIn::Throttled,
            Err(_) => LogIn::Failed,
        });
        let (user, issued) = outcome.inspect_err(|error| match error {
            AuthError::WrongLink | AuthError::ExposedLink => self.audit_refusal(by, AuditEvent::LinkRefused),
            AuthError::Throttled(_) => self.audit_refusal(by, AuditEvent::LogInThrottled(None)),
            _ => {}
        })?;
        self.finish_log_in(by, &user, &issued, AuditEvent::LinkUsed(issued.token.id));
        Ok((user, issued))
    }
}
