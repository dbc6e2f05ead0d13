//! `/api/auth`: getting in, getting out, one's own credentials.

use serde::{Deserialize, Serialize};

use super::call::{Call, Reply};
use super::revoke::close_stale;
use super::users::{UserView, check_username};
use crate::app::App;
use crate::auth::{Caller, Issued, TICKET_SECONDS};
use crate::config::Registration;
use crate::error::ApiError;
use crate::ids::{DeviceId, TokenId, UserId};
use crate::store::{NewToken, Role, Token, TokenKind, User, UserChange};
use crate::wire::Timestamp;

/// The longest label, in characters.
const MAX_LABEL_CHARS: usize = 100;
/// The longest life that can be asked for, in seconds: ten years.
const MAX_LIFE_SECONDS: u64 = 10 * 366 * 86_400;

#[derive(Deserialize)]
struct Credentials {
    username: String,
    password: String,
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

/// What a log-in answers in `data`.
#[derive(Serialize)]
struct LoggedIn<'a> {
    token: &'a str,
    user: LoggedInUser<'a>,
}

#[derive(Serialize)]
struct LoggedInUser<'a> {
    id: UserId,
    username: &'a str,
    role: Role,
}

impl<'a> LoggedIn<'a> {
    fn new(user: &'a User, issued: &'a Issued) -> Self {
        Self { token: issued.secret.reveal(), user: LoggedInUser { id: user.id, username: &user.username, role: user.role } }
    }
}

/// Ends the connections of a token that had to go for a new one.
fn retire(app: &App, issued: &Issued) -> Result<(), ApiError> {
    if issued.retired.is_some() { close_stale(app, issued.token.user_id) } else { Ok(()) }
}

/// `POST /api/auth/login {username, password}`.
pub(super) async fn login(call: Call) -> Result<Reply, ApiError> {
    let given = Credentials::read(&call)?;
    let (user, issued) = call.app.auth.login(&given.username, &given.password, call.address).await?;
    retire(&call.app, &issued)?;
    Ok(Reply::data("logged in", &LoggedIn::new(&user, &issued))?.with_token(issued.secret.reveal()))
}

/// `POST /api/auth/register {username, password}`, where the configuration allows it.
pub(super) async fn register(call: Call) -> Result<Reply, ApiError> {
    if call.app.config.auth.registration == Registration::Closed {
        return Err(ApiError::RegistrationClosed);
    }
    let given = Credentials::read(&call)?;
    check_username(&given.username)?;
    // Counted like a log-in: an account costs a password hash, and strangers make it.
    call.app.auth.throttle(&given.username, call.address)?;
    let user = call.app.auth.create_user(&given.username, &given.password, Role::User).await?;
    let issued = call.app.auth.issue(|hash| NewToken::login(user.id, hash)).await?;
    Ok(Reply::created("registered", &LoggedIn::new(&user, &issued))?.with_token(issued.secret.reveal()))
}

/// `POST /api/auth/logout`: the token of this call is gone.
pub(super) async fn logout(call: Call) -> Result<Reply, ApiError> {
    let caller = call.caller()?;
    call.app.store.delete_token(caller.user.id, caller.token.id).await?;
    close_stale(&call.app, caller.user.id)?;
    Ok(Reply::done("logged out"))
}

/// `GET /api/auth/me`: who one is, and with which token.
pub(super) async fn me(call: Call) -> Result<Reply, ApiError> {
    #[derive(Serialize)]
    struct Me<'a> {
        #[serde(flatten)]
        user: UserView<'a>,
        primary_device_id: Option<DeviceId>,
        token: TokenView<'a>,
    }
    let Caller { user, token, .. } = call.caller()?;
    let primary_device_id = call.app.store.primary_device(user.id)?;
    Reply::data("ok", &Me { user: user.into(), primary_device_id, token: token.into() })
}

/// `POST /api/auth/ticket`: what stands in a URL instead of the token, once and briefly.
pub(super) async fn ticket(call: Call) -> Result<Reply, ApiError> {
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
pub(super) async fn change_password(call: Call) -> Result<Reply, ApiError> {
    #[derive(Deserialize)]
    struct Body {
        #[serde(alias = "old_password")]
        current_password: String,
        new_password: String,
    }
    let body: Body = call.json()?;
    let (auth, user) = (&call.app.auth, &call.caller()?.user);
    if !auth.confirm(user, &body.current_password, call.address).await? {
        return Err(ApiError::WrongPassword);
    }
    let password_hash = Some(auth.hash_password(&body.new_password).await?);
    call.app.store.change_user(user.id, UserChange { password_hash, ..UserChange::default() }).await?;
    close_stale(&call.app, user.id)?;
    let issued = auth.issue(|hash| NewToken::login(user.id, hash)).await?;
    Ok(Reply::data("password changed", &LoggedIn::new(user, &issued))?.with_token(issued.secret.reveal()))
}

/// A token without its secret.
#[derive(Serialize)]
struct TokenView<'a> {
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
pub(super) async fn list_tokens(call: Call) -> Result<Reply, ApiError> {
    let (after, limit) = call.page()?;
    let user = call.caller()?.user.id;
    let page = call.blocking(move |app| Ok(app.store.tokens(user, TokenId(after), limit)?)).await?;
    let views: Vec<TokenView<'_>> = page.items.iter().map(Into::into).collect();
    Reply::page(&views, page.items.last().map(|t| t.id.0), page.more)
}

/// What can be said of a new token.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewTokenBody {
    label: Option<String>,
    kind: Option<TokenKind>,
    /// Seconds from now.
    expires_in: Option<u64>,
}

/// Makes the token that `body` asks for, of kind `device` for `device` of `owner`, else `user` where it does not say, and
/// shows its secret this once.
pub(super) async fn issue(
    call: &Call,
    body: NewTokenBody,
    owner: UserId,
    device_id: Option<DeviceId>,
) -> Result<Reply, ApiError> {
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
    match (kind, device_id, call.caller()?.user.role) {
        (TokenKind::Device, None, _) => {
            return Err(ApiError::Invalid("kind: make a device's token with POST /api/devices/{id}/token".into()));
        }
        (TokenKind::User | TokenKind::Service, Some(_), _) => {
            return Err(ApiError::Invalid("kind must be \"device\" here".into()));
        }
        (TokenKind::Service, _, Role::User) => return Err(ApiError::Forbidden),
        _ => {}
    }
    let label = body.label.unwrap_or_default();
    if label.chars().count() > MAX_LABEL_CHARS || label.chars().any(char::is_control) {
        return Err(ApiError::Invalid(format!(
            "label must have at most {MAX_LABEL_CHARS} characters, none of them control characters"
        )));
    }
    if body.expires_in.is_some_and(|n| n == 0 || n > MAX_LIFE_SECONDS) {
        return Err(ApiError::Invalid(format!("expires_in must be 1 to {MAX_LIFE_SECONDS} seconds")));
    }
    let expires_at = body.expires_in.map(|n| Timestamp::now().plus_seconds(n));
    let made = call
        .app
        .auth
        .issue(|hash| NewToken { user_id: owner, device_id, kind, label, expires_at, hash, make_room: false })
        .await?;
    let Token { id, kind, label, device_id, expires_at, .. } = &made.token;
    let view =
        Issued { id: *id, token: made.secret.reveal(), kind: *kind, label, device_id: *device_id, expires_at: *expires_at };
    Reply::created("token made", &view)
}

/// `POST /api/auth/tokens {label?, kind?, expires_in?}`; `service` is for administrators.
pub(super) async fn create_token(call: Call) -> Result<Reply, ApiError> {
    let body = call.json_or_empty()?;
    issue(&call, body, call.caller()?.user.id, None).await
}

/// `DELETE /api/auth/tokens/{id}`: one of one's own; its connections end at once.
pub(super) async fn delete_token(call: Call) -> Result<Reply, ApiError> {
    let (user, id) = (call.caller()?.user.id, call.id(TokenId, "token")?);
    call.app.store.delete_token(user, id).await?;
    close_stale(&call.app, user)?;
    Ok(Reply::done("token revoked"))
}
