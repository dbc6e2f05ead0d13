//! Users: log in, register, create, change, delete.

use std::time::Instant;

use super::policy::{Action, Relation};
use super::{Accounts, AccountsError, By, FieldError, Issued};
use crate::auth::cookies::BROWSER_SECONDS;
use crate::auth::{AuthError, Caller, Pbkdf2};
use crate::change::{ChangeUser, CreateUser, DeleteUser};
use crate::config::Registration;
use crate::core::ids::UserId;
use crate::core::names::prepare_username;
use crate::core::time::Timestamp;
use crate::store::{Authority, NewToken, NewUser, Role, StoreError, User, UserChange};
use crate::telemetry::audit::{AuditEvent, UserChanges};
use crate::telemetry::metrics::{LogIn, Operation};

/// The data of a new account.
#[derive(Debug, Clone)]
pub struct NewAccount {
    /// Prepared and compared as [`names`](crate::core::names) defines.
    pub username: String,
    /// In the clear.
    pub password: String,
    /// The account's rights.
    pub role: Role,
}

/// A change of an account; `None` leaves a field as it is.
#[derive(Debug, Clone, Default)]
pub struct PatchAccount {
    /// Refuse or accept its credentials.
    pub disabled: Option<bool>,
    /// The account's rights.
    pub role: Option<Role>,
    /// A new password, in the clear; it also revokes every token that came from a log-in.
    pub password: Option<String>,
}

/// The holder of a log-in's token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogInKind {
    /// A program: the token does not expire.
    Program,
    /// A browser, in its cookie: the token expires after [`BROWSER_SECONDS`].
    Browser,
}

impl Accounts<'_> {
    /// Logs a user in.
    ///
    /// # Errors
    /// [`AuthError::WrongPassword`], [`AuthError::Throttled`], [`AuthError::Busy`], or when the store fails.
    pub async fn log_in(
        &self,
        by: &By<'_>,
        username: &str,
        password: &str,
        kind: LogInKind,
    ) -> Result<(User, Issued), AccountsError> {
        let began = Instant::now();
        let outcome = self.app.auth.login(username, password, by.limited_address()).await;
        self.count_log_in(&outcome, began);
        // Names as they were typed are never logged: people type their password into the wrong field.
        let subject = || self.app.store.user_by_name(username).ok().flatten().map(|user| user.id);
        let user = outcome.inspect_err(|error| match error {
            AuthError::WrongPassword => self.audit_refusal(by, AuditEvent::LogInFailed(subject())),
            AuthError::Throttled(_) => self.audit_refusal(by, AuditEvent::LogInThrottled(subject())),
            _ => {}
        })?;
        let (user, issued) = match self.issue_log_in(&user, kind).await {
            // Another log-in of the user has hashed the password that came from Django anew since.
            Err(AuthError::WrongPassword) if Pbkdf2::parse(&user.password_hash).is_ok() => {
                let user = self.app.auth.verified(username, password).await?;
                let issued = self.issue_log_in(&user, kind).await?;
                (user, issued)
            }
            issued => (user, issued?),
        };
        self.finish_log_in(by, &user, &issued, AuditEvent::LoggedIn(issued.token.id));
        Ok((user, issued))
    }

    /// Records a log-in as `event`, and the end of the token that gave way to it, if one did.
    pub(super) fn finish_log_in(&self, by: &By<'_>, user: &User, issued: &Issued, event: AuditEvent<'_>) {
        if let Some(retired) = issued.retired {
            by.audit_for(AuditEvent::TokenRevoked(retired), Some(user.id));
        }
        by.audit_for(event, Some(user.id));
    }

    /// Counts a log-in by its outcome, and times it.
    fn count_log_in(&self, outcome: &Result<User, AuthError>, began: Instant) {
        let result = match outcome {
            Ok(_) => LogIn::Ok,
            Err(AuthError::WrongPassword) => LogIn::Wrong,
            Err(AuthError::Throttled(_)) => LogIn::Throttled,
            Err(AuthError::Busy) => LogIn::Busy,
            Err(_) => LogIn::Failed,
        };
        let metrics = &self.app.metrics;
        metrics.logins.inc(result);
        metrics.timed(Operation::LogIn).record(began.elapsed(), outcome.is_ok(), Timestamp::now());
    }

    /// Issues the token of a log-in.
    ///
    /// # Errors
    /// [`AuthError::WrongPassword`] when the password has been changed since it was checked; else as for any token.
    pub(super) async fn issue_log_in(&self, user: &User, kind: LogInKind) -> Result<Issued, AuthError> {
        let because = Authority::Password(user.password_hash.clone());
        let new = |hash| match kind {
            LogInKind::Browser => NewToken { because, ..NewToken::browser(user.id, hash, BROWSER_SECONDS) },
            LogInKind::Program => NewToken { because, ..NewToken::login(user.id, hash) },
        };
        self.issue(new).await.map_err(|error| match error {
            AuthError::Store(StoreError::Revoked) => AuthError::WrongPassword,
            other => other,
        })
    }

    /// Checks whether anyone may register an account.
    ///
    /// # Errors
    /// [`AccountsError::RegistrationClosed`].
    pub fn registration_open(&self) -> Result<(), AccountsError> {
        match self.app.config().auth.registration {
            Registration::Closed => Err(AccountsError::RegistrationClosed),
            Registration::Open => Ok(()),
        }
    }

    /// Registers an account of the caller's own, where the configuration allows it, and logs it in.
    ///
    /// # Errors
    /// [`AccountsError`]: closed, a field, throttled, the name is taken, the store.
    pub async fn register(&self, by: &By<'_>, username: &str, password: &str) -> Result<(User, Issued), AccountsError> {
        self.registration_open()?;
        let username = &prepare_username(username).map_err(FieldError::from)?;
        // Counted like a log-in: an account costs a password hash, and anyone can ask for one.
        let throttled = self.app.auth.throttle(username, by.limited_address());
        throttled.inspect_err(|_| self.audit_refusal(by, AuditEvent::LogInThrottled(None)))?;
        let user = self.store_user(username, password, Role::User, Authority::System).await?;
        let issued = self.issue_log_in(&user, LogInKind::Program).await?;
        by.audit_for(AuditEvent::Registered, Some(user.id));
        Ok((user, issued))
    }

    /// Creates an account.
    ///
    /// # Errors
    /// [`AccountsError`]: denied, a field, the name is taken, the store.
    pub async fn create_user(&self, by: &By<'_>, new: NewAccount) -> Result<User, AccountsError> {
        self.permit(by, Action::ManageAccounts, Relation::Everyone, "user")?;
        let username = prepare_username(&new.username).map_err(FieldError::from)?;
        let user = self.store_user(&username, &new.password, new.role, by.admin_authority()?).await?;
        by.audit(AuditEvent::UserCreated(user.id, new.role.name()));
        Ok(user)
    }

    /// Creates the first administrator, on the program's own authority.
    ///
    /// # Errors
    /// [`AuthError::Password`], [`AuthError::Busy`], [`StoreError::Taken`], or when the store fails.
    pub async fn create_first_admin(&self, username: &str, password: &str) -> Result<User, AuthError> {
        let admin = self.store_user(username, password, Role::Admin, Authority::System).await?;
        self.app.audit.record(AuditEvent::UserCreated(admin.id, Role::Admin.name()), None, None);
        Ok(admin)
    }

    async fn store_user(&self, username: &str, password: &str, role: Role, because: Authority) -> Result<User, AuthError> {
        self.app.store.username_is_free(username)?; // before the costly hash; decided for good when it is written
        let password_hash = self.app.auth.hash_password(password).await?;
        let new = NewUser { username: username.into(), role, password_hash };
        Ok(self.app.changes.run(CreateUser { new, authority: because }).await?)
    }

    /// Changes role, password or state of an account, also for its live connections.
    ///
    /// # Errors
    /// [`AccountsError`]: denied, no such user, the last administrator, the password, the store.
    pub async fn change_user(&self, by: &By<'_>, id: UserId, patch: PatchAccount) -> Result<User, AccountsError> {
        self.user(by, Action::ManageAccounts, id)?;
        let PatchAccount { disabled, role, password } = patch;
        let new_password = password.is_some();
        let password_hash = match password {
            Some(password) => Some(self.app.auth.hash_password(&password).await?),
            None => None,
        };
        let change = UserChange { disabled, role, password_hash };
        let user = self.app.changes.run(ChangeUser { id, change, authority: by.admin_authority()? }).await?;
        let role = role.map(|_| user.role.name());
        by.audit(AuditEvent::UserChanged(id, UserChanges { role, disabled, password: new_password }));
        Ok(user)
    }

    /// Deletes an account with its tokens and bindings. Devices that nobody else has are deleted with it, and so are the
    /// mailboxes.
    ///
    /// # Errors
    /// [`AccountsError`]: denied, no such user, the last administrator, the store.
    pub async fn delete_user(&self, by: &By<'_>, id: UserId) -> Result<(), AccountsError> {
        self.permit(by, Action::ManageAccounts, by.requester().to_user(id), "user")?;
        let user = self.app.store.user(id)?.ok_or(StoreError::Missing("user"))?;
        self.app.changes.run(DeleteUser { id }).await?;
        by.audit(AuditEvent::UserDeleted(id, &user.username));
        Ok(())
    }

    /// Changes the caller's password: revokes every token that came from a log-in, this one included, and issues a new one. Tokens
    /// of devices and services stay: they do not come from the password.
    ///
    /// # Errors
    /// [`AuthError::WrongPassword`], also where somebody else changed the password or deleted the account meanwhile;
    /// [`AuthError::Throttled`], [`AuthError::Password`], [`AuthError::Busy`], or when the store fails.
    pub async fn change_password(
        &self,
        by: &By<'_>,
        current: &str,
        new: &str,
        kind: LogInKind,
    ) -> Result<(User, Issued), AccountsError> {
        self.permit(by, Action::ChangePassword, Relation::Itself, "user")?;
        let (auth, Caller { user, .. }) = (&self.app.auth, by.caller()?);
        self.confirm(by, user, current).await?;
        let change = UserChange { password_hash: Some(auth.hash_password(new).await?), ..UserChange::default() };
        // The password that was shown must still be the stored one when the new one is written.
        let authority = Authority::Password(user.password_hash.clone());
        let changed = self.app.changes.run(ChangeUser { id: user.id, change, authority }).await;
        let user = changed.map_err(|error| match error {
            StoreError::Missing(_) | StoreError::Revoked => AuthError::WrongPassword.into(),
            other => AccountsError::from(other),
        })?;
        by.audit(AuditEvent::PasswordChanged);
        let issued = self.issue_log_in(&user, kind).await?;
        Ok((user, issued))
    }

    /// Elevates the caller's session, after `password` has shown that its user is there. Only a browser's (`browser`) has anything to gain:
    /// others are never asked for more.
    ///
    /// # Errors
    /// [`AuthError::WrongPassword`], [`AuthError::Throttled`], [`AuthError::Busy`], or when the store fails.
    pub async fn elevate(&self, by: &By<'_>, password: &str, browser: bool) -> Result<(), AccountsError> {
        self.permit(by, Action::Elevate, Relation::Itself, "user")?;
        let caller = by.caller()?;
        self.confirm(by, &caller.user, password).await?;
        if browser {
            self.app.auth.elevate(caller);
            by.audit(AuditEvent::Elevated(caller.token.id));
        }
        Ok(())
    }

    /// Checks that `password` is that of `user`, who is logged in; counts as a log-in attempt.
    ///
    /// # Errors
    /// As for [`elevate`](Self::elevate).
    async fn confirm(&self, by: &By<'_>, user: &User, password: &str) -> Result<(), AccountsError> {
        let confirmed = self.app.auth.confirm(user, password, by.limited_address()).await.inspect_err(|error| {
            if matches!(error, AuthError::Throttled(_)) {
                self.audit_refusal(by, AuditEvent::LogInThrottled(Some(user.id)));
            }
        });
        if confirmed? {
            return Ok(());
        }
        self.audit_refusal(by, AuditEvent::LogInFailed(Some(user.id)));
        Err(AuthError::WrongPassword.into())
    }
}
