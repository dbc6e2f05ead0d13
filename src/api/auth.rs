//! `/api/auth`: getting in, getting out, one's own credentials.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::users::{UserView, check_username};
use crate::accounts::revocation::close_stale;
use crate::app::App;
use crate::auth::cookies::{self, BROWSER_SECONDS};
use crate::auth::{AuthError, Caller, Issued, TICKET_SECONDS};
use crate::config::Registration;
use crate::core::ids::{DeviceId, TokenId, UserId};
use crate::core::text::is_plain;
use crate::core::time::Timestamp;
use crate::http::error::ApiError;
use crate::http::reply::Reply;
use crate::http::request::{Call, parse};
use crate::store::{Authority, NewToken, Role, StoreError, Token, TokenKind, User, UserChange};
use crate::telemetry::audit::{self, AuditEvent};
use crate::telemetry::metrics::{LogIn, Operation};

/// The longest label, in characters.
const MAX_LABEL_CHARS: usize = 100;
/// The longest life that can be asked for, in seconds: ten years.
const MAX_LIFE_SECONDS: u64 = 10 * 366 * 86_400;

#[derive(Deserialize)]
struct Credentials {
    username: String,
    password: String,
    /// Give the token to the browser in a cookie, where no script sees it, instead of in the answer.
    #[serde(default)]
    cookie: bool,
}

impl Credentials {
    fn read(call: &Call) -> Result<Self, ApiError> {
        let this: Self = call.json()?;
        match (this.username.is_empty(), this.password.is_empty()) {
            (true, _) => Err(ApiError::Invalid("username must not be empty".into())),
            (_, true) => Err(ApiError::Invalid("password must not be empty".into())),
            _ => Ok(this),
        }
    }
}

/// See [`rest::fuzz_body`](super::fuzz_body).
pub fn fuzz_body(body: &[u8]) {
    let _ = parse::<Credentials>(body);
    let _ = parse::<NewTokenBody>(body);
}

/// What a log-in answers in `data`.
#[derive(Serialize)]
struct LoggedIn<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
    /// What goes with the cookie.
    #[serde(skip_serializing_if = "Option::is_none")]
    csrf: Option<String>,
    user: LoggedInUser<'a>,
}

#[derive(Serialize)]
struct LoggedInUser<'a> {
    id: UserId,
    username: &'a str,
    role: Role,
}

/// Hands out a fresh token: in the answer, or in a `cookie` with the second secret in the answer.
fn logged_in(call: &Call, message: &str, user: &User, issued: &Issued, cookie: bool) -> Result<Reply, ApiError> {
    let secret = issued.secret.reveal();
    let user = LoggedInUser { id: user.id, username: &user.username, role: user.role };
    if cookie {
        let data = LoggedIn { token: None, csrf: Some(cookies::csrf(secret)), user };
        return Ok(Reply::data(message, &data)?.with_cookie(cookies::set(Some(secret), call.encrypted)));
    }
    Ok(Reply::data(message, &LoggedIn { token: Some(secret), csrf: None, user })?.with_token(secret))
}

/// Makes the token that a log-in gives.
///
/// # Errors
/// [`ApiError::WrongPassword`] when the password has been changed since it was checked; else as for any token.
async fn new_login(app: &App, user: &User, cookie: bool) -> Result<Issued, ApiError> {
    let because = Authority::Password(user.password_hash.clone());
    let new = |hash| match cookie {
        true => NewToken { because, ..NewToken::browser(user.id, hash, BROWSER_SECONDS) },
        false => NewToken { because, ..NewToken::login(user.id, hash) },
    };
    app.auth.issue(new).await.map_err(|error| match error {
        AuthError::Store(StoreError::Revoked) => ApiError::WrongPassword,
        other => other.into(),
    })
}

/// Whose name this is: all that the audit trail says of it.
fn named(call: &Call, username: &str) -> Option<UserId> {
    call.app.store.user_by_name(username).ok().flatten().map(|user| user.id)
}

/// Ends the connections of a token that had to go for a new one.
fn retire(call: &Call, issued: &Issued) -> Result<(), ApiError> {
    let Some(retired) = issued.retired else { return Ok(()) };
    audit::record(AuditEvent::TokenRevoked(retired), Some(issued.token.user_id), Some(call.address));
    close_stale(&call.app, issued.token.user_id)
}

/// Notes what a log-in came to.
fn count(app: &App, outcome: &Result<User, AuthError>, began: Instant) {
    let result = match outcome {
        Ok(_) => LogIn::Ok,
        Err(AuthError::WrongPassword) => LogIn::Wrong,
        Err(AuthError::Throttled(_)) => LogIn::Throttled,
        Err(AuthError::Busy) => LogIn::Busy,
        Err(_) => LogIn::Failed,
    };
    app.metrics.logins.inc(result);
    app.metrics.timed(Operation::LogIn).record(began.elapsed(), outcome.is_ok(), Timestamp::now());
}

/// `POST /api/auth/login {username, password, cookie?}`.
pub async fn login(call: Call) -> Result<Reply, ApiError> {
    let given = Credentials::read(&call)?;
    if given.cookie && !call.own_origin {
        return Err(ApiError::ForeignOrigin); // nobody else's page logs a browser in
    }
    let began = Instant::now();
    let outcome = call.app.auth.login(&given.username, &given.password, call.address).await;
    count(&call.app, &outcome, began);
    let user = outcome.inspect_err(|error| match error {
        AuthError::WrongPassword => call.audit_refusal(AuditEvent::LogInFailed(named(&call, &given.username))),
        AuthError::Throttled(_) => call.audit_refusal(AuditEvent::LogInThrottled(named(&call, &given.username))),
        _ => {}
    })?;
    let issued = new_login(&call.app, &user, given.cookie).await?;
    retire(&call, &issued)?;
    audit::record(AuditEvent::LoggedIn(issued.token.id), Some(user.id), Some(call.address));
    logged_in(&call, "logged in", &user, &issued, given.cookie)
}

/// `POST /api/auth/register {username, password}`, where the configuration allows it.
pub async fn register(call: Call) -> Result<Reply, ApiError> {
    if call.app.config().auth.registration == Registration::Closed {
        return Err(ApiError::RegistrationClosed);
    }
    let given = Credentials::read(&call)?;
    check_username(&given.username)?;
    // Counted like a log-in: an account costs a password hash, and strangers make it.
    let throttled = call.app.auth.throttle(&given.username, call.address);
    throttled.inspect_err(|_| call.audit_refusal(AuditEvent::LogInThrottled(None)))?;
    let user = call.app.auth.create_user(&given.username, &given.password, Role::User, Authority::System).await?;
    let issued = new_login(&call.app, &user, false).await?;
    audit::record(AuditEvent::Registered, Some(user.id), Some(call.address));
    Ok(logged_in(&call, "registered", &user, &issued, false)?.into_created())
}

/// `POST /api/auth/logout`: the token of this call is gone.
pub async fn logout(call: Call) -> Result<Reply, ApiError> {
    let caller = call.caller()?;
    call.app.store.delete_token(caller.user.id, caller.token.id).await?;
    close_stale(&call.app, caller.user.id)?;
    call.audit(AuditEvent::LoggedOut(caller.token.id));
    let reply = Reply::done("logged out");
    Ok(if call.cookie.is_some() { reply.with_cookie(cookies::set(None, call.encrypted)) } else { reply })
}

/// `GET /api/auth/me`: who one is, and with which token.
pub async fn me(call: Call) -> Result<Reply, ApiError> {
    #[derive(Serialize)]
    struct Me<'a> {
        #[serde(flatten)]
        user: UserView<'a>,
        primary_device_id: Option<DeviceId>,
        token: TokenView<'a>,
        /// For a page that was loaded anew and has only its cookie.
        #[serde(skip_serializing_if = "Option::is_none")]
        csrf: Option<String>,
    }
    let Caller { user, token, .. } = call.caller()?;
    let primary_device_id = call.app.store.primary_device(user.id)?;
    let csrf = call.cookie.as_deref().map(cookies::csrf);
    Reply::data("ok", &Me { user: user.into(), primary_device_id, token: token.into(), csrf })
}

/// `POST /api/auth/ticket`: what stands in a URL instead of the token, once and briefly.
pub async fn ticket(call: Call) -> Result<Reply, ApiError> {
    #[derive(Serialize)]
    struct Ticket<'a> {
        ticket: &'a str,
        expires_in: u64,
    }
    let secret = call.app.auth.ticket(call.caller()?)?;
    Reply::created("ticket made", &Ticket { ticket: secret.reveal(), expires_in: TICKET_SECONDS })
}

/// `PUT /api/auth/password {current_password, new_password}`: ends every log-in, this one included, and gives a new token.
/// Tokens of devices and services stay: they do not come from the password.
pub async fn change_password(call: Call) -> Result<Reply, ApiError> {
    #[derive(Deserialize)]
    struct Body {
        #[serde(alias = "old_password")]
        current_password: String,
        new_password: String,
    }
    let body: Body = call.json()?;
    let (auth, user) = (&call.app.auth, &call.caller()?.user);
    let confirmed = auth.confirm(user, &body.current_password, call.address).await;
    let confirmed = confirmed.inspect_err(|error| {
        if matches!(error, AuthError::Throttled(_)) {
            call.audit_refusal(AuditEvent::LogInThrottled(Some(user.id)));
        }
    });
    if !confirmed? {
        call.audit_refusal(AuditEvent::LogInFailed(Some(user.id)));
        return Err(ApiError::WrongPassword);
    }
    let password_hash = Some(auth.hash_password(&body.new_password).await?);
    // While it was being hashed, somebody else may have changed it, or removed the account: then the one shown is wrong now.
    let (change, shown) =
        (UserChange { password_hash, ..UserChange::default() }, Authority::Password(user.password_hash.clone()));
    let user = &call.app.store.change_user(user.id, change, shown).await.map_err(|error| match error {
        StoreError::Missing(_) | StoreError::Revoked => ApiError::WrongPassword,
        other => other.into(),
    })?;
    close_stale(&call.app, user.id)?;
    call.audit(AuditEvent::PasswordChanged);
    let issued = new_login(&call.app, user, call.cookie.is_some()).await?;
    logged_in(&call, "password changed", user, &issued, call.cookie.is_some())
}

/// A token without its secret.
#[derive(Serialize)]
pub struct TokenView<'a> {
    id: TokenId,
    kind: TokenKind,
    device_id: Option<DeviceId>,
    label: &'a str,
    created_at: Timestamp,
    last_used_at: Option<Timestamp>,
    expires_at: Option<Timestamp>,
}

impl<'a> From<&'a Token> for TokenView<'a> {
    fn from(t: &'a Token) -> Self {
        Self {
            id: t.id,
            kind: t.kind,
            device_id: t.device_id,
            label: &t.label,
            created_at: t.created_at,
            last_used_at: t.last_used_at,
            expires_at: t.expires_at,
        }
    }
}

/// `GET /api/auth/tokens`: one's own.
pub async fn list_tokens(call: Call) -> Result<Reply, ApiError> {
    let (after, limit) = call.page()?;
    let user = call.caller()?.user.id;
    let page = call.blocking(move |app| Ok(app.store.tokens(user, TokenId(after), limit)?)).await?;
    let views: Vec<TokenView<'_>> = page.items.iter().map(Into::into).collect();
    Reply::page(&views, page.items.last().map(|t| t.id.0), page.more)
}

/// What can be said of a new token.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewTokenBody {
    label: Option<String>,
    kind: Option<TokenKind>,
    /// Seconds from now.
    expires_in: Option<u64>,
}

/// Makes the token that `body` asks for, of kind `device` for `device` of `owner`, else `user` where it does not say, and
/// shows its secret this once.
pub async fn issue(call: &Call, body: NewTokenBody, owner: UserId, device_id: Option<DeviceId>) -> Result<Reply, ApiError> {
    #[derive(Serialize)]
    struct Issued<'a> {
        id: TokenId,
        token: &'a str,
        kind: TokenKind,
        label: &'a str,
        device_id: Option<DeviceId>,
        expires_at: Option<Timestamp>,
    }
    let kind = body.kind.unwrap_or(if device_id.is_some() { TokenKind::Device } else { TokenKind::User });
    match (kind, device_id) {
        (TokenKind::Device, None) => {
            return Err(ApiError::Invalid("kind: make a device's token with POST /api/devices/{id}/token".into()));
        }
        (TokenKind::User | TokenKind::Service, Some(_)) => {
            return Err(ApiError::Invalid("kind must be \"device\" here".into()));
        }
        // It would be refused: it ends with its owner's office.
        (TokenKind::Service, _) if !call.app.store.user(owner)?.is_some_and(|owner| owner.role == Role::Admin) => {
            return Err(ApiError::Forbidden);
        }
        _ => {}
    }
    let label = body.label.unwrap_or_default();
    if label.chars().count() > MAX_LABEL_CHARS || !is_plain(&label) {
        return Err(ApiError::Invalid(format!(
            "label must have at most {MAX_LABEL_CHARS} characters, no control or invisible ones"
        )));
    }
    if body.expires_in.is_some_and(|n| n == 0 || n > MAX_LIFE_SECONDS) {
        return Err(ApiError::Invalid(format!("expires_in must be 1 to {MAX_LIFE_SECONDS} seconds")));
    }
    let expires_at = body.expires_in.map(|n| Timestamp::now().plus_seconds(n));
    let because = call.caller()?.right();
    let made = call
        .app
        .auth
        .issue(|hash| NewToken { user_id: owner, device_id, kind, label, expires_at, hash, make_room: false, because })
        .await?;
    call.audit(AuditEvent::TokenMade(made.token.id));
    let Token { id, kind, label, device_id, expires_at, .. } = &made.token;
    let view =
        Issued { id: *id, token: made.secret.reveal(), kind: *kind, label, device_id: *device_id, expires_at: *expires_at };
    Reply::created("token made", &view)
}

/// `POST /api/auth/tokens {label?, kind?, expires_in?}`; `service` is for administrators.
pub async fn create_token(call: Call) -> Result<Reply, ApiError> {
    let body = call.json_or_empty()?;
    issue(&call, body, call.caller()?.user.id, None).await
}

/// `DELETE /api/auth/tokens/{id}`: one of one's own; its connections end at once.
pub async fn delete_token(call: Call) -> Result<Reply, ApiError> {
    let (user, id) = (call.caller()?.user.id, call.id(TokenId, "token")?);
    call.app.store.delete_token(user, id).await?;
    close_stale(&call.app, user)?;
    call.audit(AuditEvent::TokenRevoked(id));
    Ok(Reply::done("token revoked"))
}
