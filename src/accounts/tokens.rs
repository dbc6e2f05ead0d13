//! Tokens: issue and revoke.

use super::limits::MAX_LIFETIME_SECONDS;
use super::policy::{Action, Relation};
use super::{Accounts, AccountsError, By, FieldError};
use crate::auth::{AuthError, Caller, Secret};
use crate::change::{CreateToken, DeleteToken};
use crate::core::ids::{DeviceId, TokenId, UserId};
use crate::core::text::check_text;
use crate::store::{NewToken, Role, Scope, Scopes, StoreError, Token, TokenHash, TokenKind};
use crate::telemetry::audit::AuditEvent;

/// A freshly issued token: the only moment at which its secret is known.
#[derive(Debug)]
pub struct Issued {
    /// The secret, for its holder.
    pub secret: Secret,
    /// The stored record.
    pub token: Token,
    /// The token that was retired to make room, if any.
    pub retired: Option<TokenId>,
}

/// The chosen properties of a new token.
#[derive(Debug, Clone, Default)]
pub struct TokenOptions {
    /// For people.
    pub label: Option<String>,
    /// `user` where none is given, or `device` for a device.
    pub kind: Option<TokenKind>,
    /// What a service token may do; everything that service tokens may where it is not given.
    pub scopes: Option<Vec<Scope>>,
    /// Seconds from now.
    pub expires_in: Option<u64>,
}

impl TokenOptions {
    /// Returns the kind.
    fn kind(&self, device: Option<DeviceId>) -> Result<TokenKind, FieldError> {
        let kind = self.kind.unwrap_or(if device.is_some() { TokenKind::Device } else { TokenKind::User });
        match (kind, device) {
            (TokenKind::Device, None) => Err(FieldError::DeviceTokenWithoutDevice),
            (TokenKind::User | TokenKind::Service, Some(_)) => Err(FieldError::OnlyDeviceTokens),
            _ => Ok(kind),
        }
    }

    /// Returns the scopes of a token of that kind.
    fn scopes(&self, kind: TokenKind) -> Result<Option<Scopes>, FieldError> {
        match &self.scopes {
            Some(_) if kind != TokenKind::Service => Err(FieldError::OnlyServicesHaveScopes),
            Some(scopes) if scopes.is_empty() => Err(FieldError::NoScopes),
            scopes => Ok(scopes.as_ref().map(|scopes| scopes.iter().copied().collect())),
        }
    }

    /// Returns the label and the life in seconds.
    fn label_and_life(self) -> Result<(String, Option<u64>), FieldError> {
        let label = self.label.unwrap_or_default();
        check_text("label", Some(&label), 0)?;
        if self.expires_in.is_some_and(|n| n == 0 || n > MAX_LIFETIME_SECONDS) {
            return Err(FieldError::Lifetime);
        }
        Ok((label, self.expires_in))
    }
}

impl Accounts<'_> {
    /// Issues a user or service token for `owner`: the caller itself, or, at the command line, any account.
    ///
    /// # Errors
    /// [`AccountsError`]: denied, a field, too many tokens, the store.
    pub async fn create_token(&self, by: &By<'_>, owner: UserId, options: TokenOptions) -> Result<Issued, AccountsError> {
        let relation = by.requester().to_user(owner);
        self.permit(by, Action::CreateToken, relation, "user")?;
        let kind = options.kind(None)?;
        if kind == TokenKind::Service {
            self.permit(by, Action::CreateServiceToken, relation, "user")?;
            // Useless for anyone else: a service token is accepted for as long as its owner is an administrator.
            if !self.app.store.user(owner)?.is_some_and(|owner| owner.role == Role::Admin) {
                return Err(super::Denied::Forbidden.into());
            }
        }
        self.create(by, owner, None, kind, options).await
    }

    /// Issues a token that reaches only `device`'s WebSocket. It belongs to the caller, or, where an administrator does not have
    /// the device, to the first user who has.
    ///
    /// # Errors
    /// [`AccountsError`]: denied, a field, too many tokens, the store.
    pub async fn create_device_token(
        &self,
        by: &By<'_>,
        device: DeviceId,
        options: TokenOptions,
    ) -> Result<Issued, AccountsError> {
        self.device(by, Action::ManageDevice, device)?;
        let (users, caller) = (self.app.store.device_users(device)?, by.caller()?.user.id);
        let owner = users.iter().copied().find(|&user| user == caller).or(users.first().copied());
        let (owner, kind) = (owner.ok_or(StoreError::Missing("device"))?, options.kind(Some(device))?);
        self.create(by, owner, Some(device), kind, options).await
    }

    async fn create(
        &self,
        by: &By<'_>,
        user_id: UserId,
        device_id: Option<DeviceId>,
        kind: TokenKind,
        options: TokenOptions,
    ) -> Result<Issued, AccountsError> {
        let scopes = options.scopes(kind)?;
        let (label, life_seconds) = options.label_and_life()?;
        let (because, make_room) = (by.authority()?, false);
        let new = |hash| NewToken { user_id, device_id, kind, scopes, label, life_seconds, hash, make_room, because };
        let issued = self.issue(new).await?;
        by.audit(AuditEvent::TokenMade(issued.token.id));
        Ok(issued)
    }

    /// Stores a token with a fresh secret; `new` makes its record from the secret's hash.
    pub(super) async fn issue(&self, new: impl FnOnce(TokenHash) -> NewToken) -> Result<Issued, AuthError> {
        let limit = self.app.config().limits.tokens_per_user;
        let secret = Secret::token().ok_or(AuthError::NoRandom)?;
        let (token, retired) = self.app.changes.run(CreateToken { new: new(secret.hash()), limit }).await?;
        Ok(Issued { secret, token, retired })
    }

    /// Revokes the token that the request came with, and closes its connections.
    ///
    /// # Errors
    /// [`AccountsError`]: denied, revoked meanwhile, the store.
    pub async fn log_out(&self, by: &By<'_>) -> Result<(), AccountsError> {
        self.permit(by, Action::LogOut, Relation::Itself, "token")?;
        let Caller { user, token, .. } = by.caller()?;
        self.revoke(by, user.id, token.id, AuditEvent::LoggedOut(token.id)).await
    }

    /// Revokes a token, and closes its connections. Users revoke their own tokens; administrators revoke any.
    ///
    /// # Errors
    /// [`AccountsError`]: denied, no such token, the store.
    pub async fn revoke_token(&self, by: &By<'_>, id: TokenId) -> Result<(), AccountsError> {
        let token = self.app.store.token_by_id(id)?;
        let relation = match &token {
            Some(token) if token.user_id == by.requester().user => Relation::Own,
            _ => Relation::Other,
        };
        self.permit(by, Action::ManageTokens, relation, "token")?;
        let owner = token.ok_or(StoreError::Missing("token"))?.user_id;
        self.revoke(by, owner, id, AuditEvent::TokenRevoked(id)).await
    }

    async fn revoke(&self, by: &By<'_>, owner: UserId, id: TokenId, event: AuditEvent<'_>) -> Result<(), AccountsError> {
        self.app.changes.run(DeleteToken { user: owner, id }).await?;
        by.audit(event);
        Ok(())
    }
}
