//! The catalogue of REST errors: code, HTTP status, text. The one place where other modules' errors become replies.

use std::time::Duration;

use salvo::http::header::{ACCEPT_ENCODING, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use salvo::http::{Response, StatusCode};
use serde::Serialize;

use super::spelling;
use crate::accounts::AccountsError;
use crate::accounts::policy::Denied;
use crate::auth::{AuthError, PasswordError};
use crate::change::PairingError;
use crate::core::text::TextError;
use crate::health::Health;
use crate::mailbox::MailboxError;
use crate::store::{Scopes, StoreError};
use crate::telemetry::metrics::Refused;

/// Errors of REST calls.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// 400: the body is no JSON object.
    #[error("{0}")]
    InvalidJson(String),
    /// The body broke off, or is not framed as it says: where the next request begins is not known.
    #[error("body could not be read: {0}")]
    BrokenBody(String),
    /// 400: a field is wrong; the text names it.
    #[error("{0}")]
    Invalid(String),
    /// 400: one of the guide's three parameters is missing (the guide's words, section 5.1); the reply names it in `data.field`.
    #[error("缺少必要参数")]
    MissingParameter(&'static str),
    /// 400: a message type that only the server sends.
    #[error("type \"{0}\" is reserved for the server")]
    ReservedType(String),
    /// 401: no, wrong, expired or revoked credential.
    #[error("authentication required")]
    Unauthorized,
    /// 401: wrong name or password, or a disabled account.
    #[error("wrong username or password")]
    WrongPassword,
    /// 401: a one-time link that was used, has expired, or never was.
    #[error(transparent)]
    WrongLink(AuthError),
    /// 403: the code of a one-time link came from elsewhere without encryption.
    #[error(transparent)]
    ExposedLink(AuthError),
    /// 403: authenticated, but not allowed.
    #[error("not allowed")]
    Forbidden,
    /// 403: a service token without the scope that the route needs; the text names it.
    #[error("this token lacks the scope {0}; create one that has it")]
    ScopeMissing(Scopes),
    /// 403: a browser's session that must be elevated.
    #[error("show your password again: this log-in is not fresh enough; POST /api/auth/elevate, then repeat the request")]
    ElevationRequired,
    /// 403: accounts are created by administrators only.
    #[error("registration is closed")]
    RegistrationClosed,
    /// 403: a web page of a foreign origin; the text names it.
    #[error("origin not allowed: {0}")]
    ForeignOrigin(String),
    /// 421: a web page that names this server by an unknown name.
    #[error("\"{0}\" is not known as a name of this server; use its address, or list the name in server.hosts")]
    UnknownHost(String),
    /// 403: a cookie without its second secret.
    #[error("X-CSRF-Token is missing or wrong")]
    Csrf,
    /// 410: a pairing that has ended, or never was.
    #[error("this pairing has ended; begin a new one")]
    PairingOver,
    /// 404.
    #[error("no such {0}")]
    NotFound(&'static str),
    /// 405; Salvo adds `Allow`.
    #[error("method not allowed")]
    MethodNotAllowed,
    /// 409: unique and taken.
    #[error("{0} is taken; choose another")]
    Taken(&'static str),
    /// 409: can be mistaken for the name of another user.
    #[error("{0} looks like the name of another user; choose one that differs in more than similar characters")]
    Alike(&'static str),
    /// 409: one more than the limit.
    #[error("too many {0}")]
    Full(&'static str),
    /// 409: would leave the server without an administrator.
    #[error("the last administrator can't be removed, disabled or demoted")]
    LastAdmin,
    /// 408: the body did not arrive in time.
    #[error("the body did not arrive in time")]
    BodyTooSlow,
    /// 413.
    #[error("body larger than {0} bytes")]
    TooLarge(usize),
    /// 415.
    #[error("content type must be application/json")]
    NotJson,
    /// 415: a body that is compressed; the text names the coding.
    #[error("content encoding \"{0}\" is not supported; send the body as it is, without Content-Encoding")]
    ContentCoding(String),
    /// 417: something else than `100-continue` is expected; the text names it.
    #[error("expectation \"{0}\" is not supported; leave the header Expect out")]
    Expectation(String),
    /// 501: a body that is transferred otherwise than whole or in chunks (RFC 9112 section 6.1); the text names the coding.
    #[error("transfer encoding \"{0}\" is not supported; send the body with Content-Length, or chunked")]
    TransferCoding(String),
    /// 426: an ordinary request to a WebSocket route.
    #[error("this is a WebSocket endpoint")]
    UpgradeRequired,
    /// 429: refused by that rate limit; retry after that time.
    #[error("too many requests")]
    TooMany(Refused, Duration),
    /// 500: the cause is in the log, under this id.
    #[error("internal server error (log id {0})")]
    Internal(String),
    /// 409: the idempotency key was used for another request.
    #[error("this Idempotency-Key was used for another request")]
    KeyReused,
    /// 409: a message that was received can't be taken back.
    #[error("the message has been received")]
    AlreadyReceived,
    /// 409: a message whose life has ended otherwise can't be taken back.
    #[error("the message is {0}")]
    AlreadyEnded(&'static str),
    /// 409: another backup is being made.
    #[error("another backup is being made; wait until it has ended")]
    BackupRunning,
    /// 507: the recipient's quota of queued messages is used up.
    #[error("the recipient's mailbox is full")]
    MailboxFull,
    /// 507: as much as one sender may cause to wait does.
    #[error("too much of what you have sent waits to be received (mailbox.sender_bytes)")]
    SenderFull,
    /// 507: the disk has too little free space.
    #[error("the server's disk is nearly full")]
    DiskLow,
    /// 507: the messages that are queued take as much memory as they may.
    #[error("the queued messages use up their share of the server's storage.memory_budget")]
    MemoryLow,
    /// 503: not able to serve; the reply has the checks in `data`.
    #[error("not ready: {0}")]
    NotReady(&'static str, Health),
    /// 503: refused because of that shortage; retry in a moment.
    #[error("busy, try again")]
    Busy(Refused),
    /// 503: refused because of that shortage; retry after that time.
    #[error("busy, try again")]
    BusyFor(Refused, Duration),
}

impl ApiError {
    /// There is no room for the answer: see [`answers`](crate::admission::answers).
    pub const NO_ROOM: Self = Self::Busy(Refused::AnswerRoom);

    /// Logs `cause` under a fresh id; the reply carries the id, never the cause.
    pub fn internal(cause: impl std::fmt::Display) -> Self {
        let id = format!("{:08x}", rand::random::<u32>());
        tracing::error!(%id, %cause, "request failed");
        Self::Internal(id)
    }

    /// Returns the HTTP status and the machine-readable code.
    pub fn status(&self) -> (StatusCode, &'static str) {
        match self {
            Self::InvalidJson(_) | Self::BrokenBody(_) => (StatusCode::BAD_REQUEST, "invalid_json"),
            Self::Invalid(_) => (StatusCode::BAD_REQUEST, "invalid"),
            Self::MissingParameter(_) => (StatusCode::BAD_REQUEST, "missing_parameter"),
            Self::ReservedType(_) => (StatusCode::BAD_REQUEST, "reserved_type"),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "unauthorized"),
            Self::WrongPassword => (StatusCode::UNAUTHORIZED, "wrong_password"),
            Self::WrongLink(_) => (StatusCode::UNAUTHORIZED, "wrong_link"),
            Self::ExposedLink(_) => (StatusCode::FORBIDDEN, "exposed_link"),
            Self::Forbidden => (StatusCode::FORBIDDEN, "forbidden"),
            Self::ScopeMissing(_) => (StatusCode::FORBIDDEN, "scope_missing"),
            Self::ElevationRequired => (StatusCode::FORBIDDEN, "elevation_required"),
            Self::RegistrationClosed => (StatusCode::FORBIDDEN, "registration_closed"),
            Self::ForeignOrigin(_) => (StatusCode::FORBIDDEN, "foreign_origin"),
            Self::UnknownHost(_) => (StatusCode::MISDIRECTED_REQUEST, "unknown_host"),
            Self::Csrf => (StatusCode::FORBIDDEN, "csrf"),
            Self::PairingOver => (StatusCode::GONE, "pairing_over"),
            Self::NotFound(_) => (StatusCode::NOT_FOUND, "not_found"),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::Taken(_) | Self::Alike(_) => (StatusCode::CONFLICT, "taken"),
            Self::Full(_) => (StatusCode::CONFLICT, "limit_reached"),
            Self::LastAdmin => (StatusCode::CONFLICT, "last_admin"),
            Self::BodyTooSlow => (StatusCode::REQUEST_TIMEOUT, "too_slow"),
            Self::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
            Self::NotJson => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type"),
            Self::ContentCoding(_) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_encoding"),
            Self::Expectation(_) => (StatusCode::EXPECTATION_FAILED, "expectation_failed"),
            Self::TransferCoding(_) => (StatusCode::NOT_IMPLEMENTED, "unsupported_transfer_encoding"),
            Self::UpgradeRequired => (StatusCode::UPGRADE_REQUIRED, "upgrade_required"),
            Self::TooMany(..) => (StatusCode::TOO_MANY_REQUESTS, "too_many_requests"),
            Self::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
            Self::KeyReused => (StatusCode::CONFLICT, "idempotency_key_reused"),
            Self::AlreadyReceived => (StatusCode::CONFLICT, "already_received"),
            Self::AlreadyEnded(_) => (StatusCode::CONFLICT, "already_ended"),
            Self::BackupRunning => (StatusCode::CONFLICT, "backup_running"),
            Self::MailboxFull => (StatusCode::INSUFFICIENT_STORAGE, "mailbox_full"),
            Self::SenderFull => (StatusCode::INSUFFICIENT_STORAGE, "sender_full"),
            Self::DiskLow => (StatusCode::INSUFFICIENT_STORAGE, "disk_low"),
            Self::MemoryLow => (StatusCode::INSUFFICIENT_STORAGE, "memory_low"),
            Self::NotReady(..) => (StatusCode::SERVICE_UNAVAILABLE, "not_ready"),
            Self::Busy(_) | Self::BusyFor(..) => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
        }
    }

    /// Returns the limit, rule or shortage that refused the call; `None` where the request itself is at fault, something failed, or it
    /// has been counted where it occurred.
    pub fn refused(&self) -> Option<Refused> {
        match self {
            Self::Unauthorized => Some(Refused::Unauthorized),
            Self::Forbidden | Self::ScopeMissing(_) => Some(Refused::Forbidden),
            Self::RegistrationClosed => Some(Refused::RegistrationClosed),
            Self::ForeignOrigin(_) => Some(Refused::Origin),
            Self::UnknownHost(_) => Some(Refused::Host),
            Self::Csrf => Some(Refused::Csrf),
            Self::Full(_) => Some(Refused::Quota),
            Self::BodyTooSlow => Some(Refused::BodyTooSlow),
            Self::TooLarge(_) => Some(Refused::BodyTooLarge),
            Self::TooMany(why, _) | Self::Busy(why) | Self::BusyFor(why, _) => Some(*why),
            // Counted by the mailbox, which refuses sessions, too; and among log-ins.
            Self::MailboxFull
            | Self::SenderFull
            | Self::DiskLow
            | Self::MemoryLow
            | Self::WrongPassword
            | Self::WrongLink(_)
            | Self::ExposedLink(_) => None,
            Self::InvalidJson(_)
            | Self::BrokenBody(_)
            | Self::Invalid(_)
            | Self::MissingParameter(_)
            | Self::ReservedType(_)
            | Self::ElevationRequired
            | Self::PairingOver
            | Self::NotFound(_)
            | Self::MethodNotAllowed
            | Self::Taken(_)
            | Self::Alike(_)
            | Self::LastAdmin
            | Self::NotJson
            | Self::ContentCoding(_)
            | Self::Expectation(_)
            | Self::TransferCoding(_)
            | Self::UpgradeRequired
            | Self::Internal(_)
            | Self::KeyReused
            | Self::AlreadyReceived
            | Self::AlreadyEnded(_)
            | Self::BackupRunning
            | Self::NotReady(..) => None,
        }
    }

    /// Writes the response.
    pub fn render(&self, res: &mut Response) {
        #[derive(Serialize)]
        #[serde(untagged)]
        enum Data {
            Field { field: &'static str },
            Health(Health),
        }
        #[derive(Serialize)]
        struct Body<'a> {
            status: &'static str,
            message: &'a str,
            code: &'static str,
            #[serde(skip_serializing_if = "Option::is_none")]
            data: Option<Data>,
            #[serde(skip_serializing_if = "Option::is_none")]
            retry_after: Option<u64>,
        }
        let (status, code) = self.status();
        let retry_after = match self {
            Self::TooMany(_, wait) | Self::BusyFor(_, wait) => Some(whole_seconds(*wait)),
            Self::Busy(_) => Some(1),
            _ => None,
        };
        let data = match self {
            Self::MissingParameter(field) => Some(Data::Field { field }),
            Self::NotReady(_, health) => Some(Data::Health(*health)),
            _ => None,
        };
        let headers = res.headers_mut();
        if let Some(seconds) = retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        match self {
            Self::Unauthorized | Self::WrongPassword | Self::WrongLink(_) => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Token"));
                spelling::apply(res);
            }
            // RFC 9110 section 15.5.16.
            Self::ContentCoding(_) => {
                headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            }
            Self::BrokenBody(_) => {
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Self::UpgradeRequired => {
                // RFC 9110 section 7.8: `Upgrade` goes with `Connection`.
                headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
                headers.insert("upgrade", HeaderValue::from_static("websocket"));
                headers.insert("sec-websocket-version", HeaderValue::from_static("13"));
                spelling::apply(res);
            }
            _ => {}
        }
        let message = self.to_string();
        write_json(res, status, &Body { status: "error", message: &message, code, data, retry_after });
    }
}

/// Returns `wait` in seconds, rounded up so that a client that waits so long is not early; at least 1.
fn whole_seconds(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

/// The media type of JSON replies.
pub const JSON: &str = "application/json; charset=utf-8";

/// Writes `body` as JSON.
fn write_json(res: &mut Response, status: StatusCode, body: &impl Serialize) {
    match serde_json::to_vec(body) {
        Ok(bytes) => {
            res.status_code(status);
            res.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
            res.replace_body(bytes.into());
        }
        Err(error) => {
            tracing::error!(%error, "a reply could not be encoded");
            res.status_code(StatusCode::INTERNAL_SERVER_ERROR);
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Missing(what) => Self::NotFound(what),
            StoreError::Taken(what) => Self::Taken(what),
            StoreError::Alike(what) => Self::Alike(what),
            StoreError::Full(what) => Self::Full(what),
            StoreError::LastAdmin => Self::LastAdmin,
            StoreError::Revoked => Self::Unauthorized,
            StoreError::LogFull => Self::DiskLow,
            StoreError::Unavailable => Self::Busy(Refused::Busy),
            other => Self::internal(other),
        }
    }
}

impl From<MailboxError> for ApiError {
    fn from(error: MailboxError) -> Self {
        match error {
            MailboxError::Full => Self::MailboxFull,
            MailboxError::SenderFull => Self::SenderFull,
            MailboxError::DiskLow => Self::DiskLow,
            MailboxError::MemoryLow => Self::MemoryLow,
            MailboxError::KeyReused => Self::KeyReused,
            MailboxError::Store(error) => error.into(),
        }
    }
}

impl From<PairingError> for ApiError {
    fn from(error: PairingError) -> Self {
        match error {
            PairingError::Full => Self::Busy(Refused::Busy),
            PairingError::NoRandom => Self::internal(error),
            PairingError::Unknown => Self::PairingOver,
            PairingError::TooMany(wait) => Self::TooMany(Refused::PairingCodes, wait),
            PairingError::Store(error) => error.into(),
        }
    }
}

impl From<Denied> for ApiError {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Unauthenticated => Self::Unauthorized,
            Denied::Forbidden => Self::Forbidden,
            Denied::Hidden(what) => Self::NotFound(what),
        }
    }
}

impl From<AccountsError> for ApiError {
    fn from(error: AccountsError) -> Self {
        match error {
            AccountsError::Denied(denied) => denied.into(),
            AccountsError::Auth(error) => error.into(),
            AccountsError::Pairing(error) => error.into(),
            AccountsError::RateLimited(limit, wait) => Self::TooMany(limit, wait),
            AccountsError::Field(error) => Self::Invalid(error.to_string()),
            AccountsError::Import(error) => Self::Invalid(error.to_string()),
            AccountsError::RegistrationClosed => Self::RegistrationClosed,
            AccountsError::Store(error) => error.into(),
        }
    }
}

impl From<TextError> for ApiError {
    fn from(error: TextError) -> Self {
        Self::Invalid(error.to_string())
    }
}

/// The times after which clients may try again who were refused while passwords are hashed, spread so that they don't come all at once.
const BUSY_MILLISECONDS: std::ops::RangeInclusive<u64> = 1..=8000;

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Refused => Self::Unauthorized,
            AuthError::WrongPassword => Self::WrongPassword,
            AuthError::WrongLink => Self::WrongLink(error),
            AuthError::ExposedLink => Self::ExposedLink(error),
            AuthError::Throttled(wait) => Self::TooMany(Refused::LoginsRate, wait),
            AuthError::Busy => Self::BusyFor(Refused::Busy, Duration::from_millis(rand::random_range(BUSY_MILLISECONDS))),
            AuthError::Password(why @ (PasswordError::TooShort | PasswordError::TooLong)) => Self::Invalid(why.to_string()),
            AuthError::Store(error) => error.into(),
            other => Self::internal(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_is_rounded_up_to_whole_seconds() {
        assert_eq!(whole_seconds(Duration::from_millis(1)), 1);
        assert_eq!(whole_seconds(Duration::from_millis(1500)), 2);
        assert_eq!(whole_seconds(Duration::from_secs(2)), 2);
        assert_eq!(whole_seconds(Duration::ZERO), 1);
    }

    #[test]
    fn internal_error_hides_its_cause() {
        let answer = ApiError::internal("secret path").to_string();
        assert!(!answer.contains("secret"), "{answer}");
    }
}
