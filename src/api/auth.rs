//! `/api/auth`: log in, log out, one's own credentials.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::users::{UserResponse, user_path};
use crate::accounts::policy::Action;
use crate::accounts::{Issued, LogInKind, TokenOptions};
use crate::auth::{Caller, cookies};
use crate::change::TICKET_SECONDS;
use crate::core::ids::{DeviceId, TokenId, UserId};
use crate::core::lifetime::Present;
use crate::core::time::Timestamp;
use crate::http::error::ApiError;
use crate::http::list::{List, Place};
use crate::http::pages::cookie_of_another;
use crate::http::reply::Reply;
use crate::http::request::{Call, RequestBody, parse, parse_or_default};
use crate::store::{Role, Scope, Scopes, Token, TokenKind, User};

/// Body of `POST /api/auth/login`. Unknown fields are ignored, as in the guide.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LoginRequest {
    username: String,
    password: String,
    /// Put the token into a cookie, which no script can read, instead of the reply.
    #[serde(default)]
    cookie: bool,
}

impl RequestBody for LoginRequest {}

/// Body of `POST /api/auth/link`.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct LinkRequest {
    code: String,
}

impl RequestBody for LinkRequest {}

/// Body of `POST /api/auth/register`.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RegisterRequest {
    username: String,
    password: String,
}

impl RequestBody for RegisterRequest {}

fn check_credentials(username: &str, password: &str) -> Result<(), ApiError> {
    match (username.is_empty(), password.is_empty()) {
        (true, _) => Err(ApiError::Invalid("username must not be empty".into())),
        (_, true) => Err(ApiError::Invalid("password must not be empty".into())),
        _ => Ok(()),
    }
}

/// See [`fuzz_body`](super::fuzz_body).
pub fn fuzz_body(body: &[u8]) {
    let _ = parse::<LoginRequest>(body);
    let _ = parse::<LinkRequest>(body);
    let _ = parse::<CreateTokenRequest>(body);
}

/// A log-in: its token, or for a browser the secret that goes with its cookie, and the user.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LoginResponse {
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    csrf: Option<String>,
    user: LoginUser,
}

/// The user of a log-in.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LoginUser {
    id: UserId,
    username: String,
    role: Role,
}

/// Returns a fresh token in the reply, or in a cookie with the second secret in the reply.
fn logged_in(call: &Call, message: &str, (user, issued): (User, Issued), kind: LogInKind) -> Reply<LoginResponse> {
    let secret = issued.secret.reveal();
    let user = LoginUser { id: user.id, username: user.username, role: user.role };
    match kind {
        LogInKind::Browser => {
            let data = LoginResponse { token: None, csrf: Some(cookies::csrf(secret)), user };
            Reply::ok(message, data).with_cookie(cookies::set(Some(secret), call.encrypted))
        }
        LogInKind::Program => {
            let data = LoginResponse { token: Some(secret.to_owned()), csrf: None, user };
            Reply::ok(message, data).with_token(secret)
        }
    }
}

/// `POST /api/auth/login`, also as `POST /api/auth/token`.
pub async fn login(call: Call, body: LoginRequest) -> Result<Reply<LoginResponse>, ApiError> {
    let LoginRequest { username, password, cookie } = body;
    check_credentials(&username, &password)?;
    if let Some(page) = call.foreign_page.as_ref().filter(|_| cookie) {
        return Err(cookie_of_another(page)); // no other page logs a browser in
    }
    let kind = if cookie { LogInKind::Browser } else { LogInKind::Program };
    let made = call.app.accounts().log_in(&call.by(), &username, &password, kind).await?;
    Ok(logged_in(&call, "logged in", made, kind))
}

/// `POST /api/auth/link`: logs a browser in with the code of a one-time link; it gets its token in a cookie.
pub async fn link(call: Call, body: LinkRequest) -> Result<Reply<LoginResponse>, ApiError> {
    if body.code.is_empty() {
        return Err(ApiError::Invalid("code must not be empty".into()));
    }
    if let Some(page) = &call.foreign_page {
        return Err(cookie_of_another(page)); // no other page logs a browser in
    }
    let made = call.app.accounts().log_in_by_link(&call.by(), &body.code, call.is_private()).await?;
    Ok(logged_in(&call, "logged in", made, LogInKind::Browser))
}

/// `POST /api/auth/register`, where the configuration allows it.
pub async fn register(call: Call, body: Result<RegisterRequest, ApiError>) -> Result<Reply<LoginResponse>, ApiError> {
    call.app.accounts().registration_open()?;
    let RegisterRequest { username, password } = body?;
    check_credentials(&username, &password)?;
    let made = call.app.accounts().register(&call.by(), &username, &password).await?;
    let location = user_path(made.0.id);
    Ok(logged_in(&call, "registered", made, LogInKind::Program).into_created(location))
}

/// `POST /api/auth/logout`: revokes the token of this call.
pub async fn logout(call: Call) -> Result<Reply<()>, ApiError> {
    call.app.accounts().log_out(&call.by()).await?;
    let reply = Reply::done("logged out");
    Ok(if call.cookie.is_some() { reply.with_cookie(cookies::set(None, call.encrypted)) } else { reply })
}

/// Body of `POST /api/auth/elevate`.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ElevateRequest {
    password: String,
}

impl RequestBody for ElevateRequest {}

/// An elevated session.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ElevateResponse {
    /// `null` where nothing asks for it: for tokens that are not in a cookie, and where the setting is off.
    elevated_until: Option<Timestamp>,
}

/// Returns the end of the elevation of the call's session, for people; `None` where it is no browser's, is not elevated, or needs no
/// elevation.
fn elevated_until(call: &Call) -> Result<Option<Timestamp>, ApiError> {
    let caller = call.caller()?;
    let left = call.cookie.as_ref().and_then(|_| call.app.elevated_for(caller));
    Ok(left.map(|left| Timestamp::now().plus_seconds(left.as_secs())))
}

/// `POST /api/auth/elevate`: shows the password again, for what a browser's session may do only just after that.
pub async fn elevate(call: Call, body: ElevateRequest) -> Result<Reply<ElevateResponse>, ApiError> {
    call.app.accounts().elevate(&call.by(), &body.password, call.cookie.is_some()).await?;
    Ok(Reply::ok("elevated", ElevateResponse { elevated_until: elevated_until(&call)? }))
}

/// The caller: its user and its token.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct MeResponse {
    #[serde(flatten)]
    user: UserResponse,
    primary_device_id: Option<DeviceId>,
    token: TokenResponse,
    /// For a page that was reloaded and has only its cookie.
    #[serde(skip_serializing_if = "Option::is_none")]
    csrf: Option<String>,
    /// The end of the elevation of a browser's session; `null` where it is not elevated, or nothing asks for it.
    elevated_until: Option<Timestamp>,
    /// Set where some calls would be refused until the session is elevated.
    elevation_needed: bool,
}

/// `GET /api/auth/me`.
pub async fn me(call: Call) -> Result<Reply<MeResponse>, ApiError> {
    let elevated_until = elevated_until(&call)?;
    let elevation_needed = call.cookie.is_some() && !call.app.is_elevated(call.caller()?);
    let Caller { user, token, hash } = call.caller()?.clone();
    let primary_device_id = call.app.store.primary_device(user.id)?;
    let csrf = call.cookie.as_deref().map(cookies::csrf);
    let last_used_at = call.app.auth.token_used(&hash, &token);
    let token = TokenResponse::new(Arc::unwrap_or_clone(token), last_used_at, &call.app.changes.clock().present());
    let user = Arc::unwrap_or_clone(user).into();
    Ok(Reply::ok("ok", MeResponse { user, primary_device_id, token, csrf, elevated_until, elevation_needed }))
}

/// A ticket, which stands in a URL instead of the token, once and for a short time.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TicketResponse {
    ticket: String,
    /// In seconds.
    expires_in: u64,
}

/// `POST /api/auth/ticket`.
pub async fn ticket(call: Call) -> Result<Reply<TicketResponse>, ApiError> {
    let secret = call.app.auth.ticket(call.caller()?).await?;
    let data = TicketResponse { ticket: secret.reveal().to_owned(), expires_in: TICKET_SECONDS };
    // Nothing but its secret tells it from others, and that stays out of headers, which proxies log.
    Ok(Reply::created("ticket made", data, "/api/auth/ticket"))
}

/// Body of `PUT /api/auth/password`.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ChangePasswordRequest {
    #[serde(alias = "old_password")]
    current_password: String,
    new_password: String,
}

impl RequestBody for ChangePasswordRequest {}

/// `PUT /api/auth/password`: revokes every log-in, this one included, and issues a new token. Tokens of devices and services stay.
pub async fn change_password(call: Call, body: ChangePasswordRequest) -> Result<Reply<LoginResponse>, ApiError> {
    let kind = if call.cookie.is_some() { LogInKind::Browser } else { LogInKind::Program };
    let accounts = call.app.accounts();
    let made = accounts.change_password(&call.by(), &body.current_password, &body.new_password, kind).await?;
    Ok(logged_in(&call, "password changed", made, kind))
}

/// A token without its secret.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TokenResponse {
    id: TokenId,
    kind: TokenKind,
    /// Of a service token: what it may do.
    #[serde(skip_serializing_if = "Option::is_none")]
    scopes: Option<Vec<Scope>>,
    device_id: Option<DeviceId>,
    label: String,
    created_at: Timestamp,
    last_used_at: Option<Timestamp>,
    expires_at: Option<Timestamp>,
}

impl TokenResponse {
    /// The token `now`; `last_used_at` may not be in its record yet.
    fn new(token: Token, last_used_at: Option<Timestamp>, now: &Present) -> Self {
        let expires_at = token.shown_end(now);
        let scopes = shown_scopes(&token);
        let Token { id, kind, device_id, label, created_at, .. } = token;
        Self { id, kind, scopes, device_id, label, created_at, last_used_at, expires_at }
    }
}

/// Returns the scopes of a service token; `None` for others.
fn shown_scopes(token: &Token) -> Option<Vec<Scope>> {
    (token.kind == TokenKind::Service).then(|| token.scopes.unwrap_or(Scopes::ALL).iter().collect())
}

/// Returns a page of the tokens of `user`.
pub async fn tokens_of(call: &Call, user: UserId) -> Result<Reply<List<TokenResponse>>, ApiError> {
    let (after, limit) = call.page()?;
    call.list(limit, move |app, page| {
        let now = app.changes.clock().present();
        page.fill(app.store.hashed_tokens(user, TokenId(after)).map(|entry| {
            let (hash, token) = entry?;
            let last_used_at = app.auth.token_used(&hash, &token);
            Ok((Place::Id(token.id.0), TokenResponse::new(token, last_used_at, &now)))
        }))
    })
    .await
}

/// `GET /api/auth/tokens`: one's own, or for administrators those of `?user_id=`.
pub async fn list_tokens(call: Call) -> Result<Reply<List<TokenResponse>>, ApiError> {
    let user = match call.asked_user()? {
        Some(asked) => call.app.accounts().user(&call.by(), Action::ManageTokens, asked)?.id,
        None => call.caller()?.user.id,
    };
    tokens_of(&call, user).await
}

/// Body of `POST /api/auth/tokens` and `POST /api/devices/{id}/token`; may be empty.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateTokenRequest {
    label: Option<String>,
    kind: Option<TokenKind>,
    /// For kind `service`: what the token may do, where that is not everything.
    scopes: Option<Vec<Scope>>,
    /// In seconds from now.
    expires_in: Option<u64>,
}

impl RequestBody for CreateTokenRequest {
    fn read(body: &[u8]) -> Result<Self, ApiError> {
        parse_or_default(body)
    }
}

impl From<CreateTokenRequest> for TokenOptions {
    fn from(body: CreateTokenRequest) -> Self {
        let CreateTokenRequest { label, kind, scopes, expires_in } = body;
        Self { label, kind, scopes, expires_in }
    }
}

/// A new token with its secret, which is shown this once.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct CreatedTokenResponse {
    id: TokenId,
    token: String,
    kind: TokenKind,
    /// Of a service token: what it may do.
    #[serde(skip_serializing_if = "Option::is_none")]
    scopes: Option<Vec<Scope>>,
    label: String,
    device_id: Option<DeviceId>,
    expires_at: Option<Timestamp>,
}

impl From<Issued> for CreatedTokenResponse {
    fn from(issued: Issued) -> Self {
        let token = issued.secret.reveal().to_owned();
        let scopes = shown_scopes(&issued.token);
        let Token { id, kind, label, device_id, expires_at, .. } = issued.token;
        Self { id, token, kind, scopes, label, device_id, expires_at }
    }
}

impl CreatedTokenResponse {
    /// Returns the reply to a request that has made it.
    pub fn reply(self) -> Reply<Self> {
        let location = format!("/api/auth/tokens/{}", self.id);
        Reply::created("token made", self, location)
    }
}

/// `POST /api/auth/tokens`; kind `service` is for administrators.
pub async fn create_token(call: Call, body: CreateTokenRequest) -> Result<Reply<CreatedTokenResponse>, ApiError> {
    let issued = call.app.accounts().create_token(&call.by(), call.caller()?.user.id, body.into()).await?;
    Ok(CreatedTokenResponse::from(issued).reply())
}

/// `DELETE /api/auth/tokens/{id}`: one of one's own, or for administrators of anyone's; its connections are closed at once.
pub async fn delete_token(call: Call) -> Result<Reply<()>, ApiError> {
    call.app.accounts().revoke_token(&call.by(), call.id(TokenId, "token")?).await?;
    Ok(Reply::done("token revoked"))
}
