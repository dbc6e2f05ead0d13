//! Which value of a label something counts for. Exhaustive: what is new on the wire finds no way around being counted.

use super::labels::{Class, Ended, Fault, Operation, Received, Route, Sent, Upstream};
use crate::wire::{CloseCode, Command, ErrorCode, Event};

impl From<CloseCode> for Ended {
    fn from(code: CloseCode) -> Self {
        match code {
            CloseCode::GoingAway => Self::GoingAway,
            CloseCode::Protocol => Self::Protocol,
            CloseCode::InvalidData => Self::InvalidData,
            CloseCode::TooBig => Self::TooBig,
            CloseCode::Internal => Self::Internal,
            CloseCode::Unauthorized => Self::Unauthorized,
            CloseCode::NoDevice => Self::NoDevice,
            CloseCode::WrongUser => Self::WrongUser,
            CloseCode::RateLimited => Self::RateLimited,
            CloseCode::TooSlow => Self::TooSlow,
            CloseCode::ConnectionLimit => Self::ConnectionLimit,
            CloseCode::NoPong => Self::NoPong,
        }
    }
}

impl From<&Command> for Received {
    fn from(command: &Command) -> Self {
        match command {
            Command::Chat { .. } => Self::Chat,
            Command::ChatReset => Self::ChatReset,
            Command::Weather { .. } => Self::Weather,
            Command::Sing { .. } => Self::Sing,
            Command::Dance { .. } => Self::Dance,
            Command::Own { .. } => Self::Own,
            Command::Ping => Self::Ping,
        }
    }
}

impl From<&Command> for Operation {
    fn from(command: &Command) -> Self {
        match command {
            Command::Chat { .. } => Self::Chat,
            Command::ChatReset => Self::ChatReset,
            Command::Weather { .. } => Self::Weather,
            Command::Sing { .. } => Self::Sing,
            Command::Dance { .. } => Self::Dance,
            Command::Own { .. } => Self::Own,
            Command::Ping => Self::Ping,
        }
    }
}

impl From<Upstream> for Operation {
    fn from(upstream: Upstream) -> Self {
        match upstream {
            Upstream::Chat => Self::UpstreamChat,
            Upstream::Weather => Self::UpstreamWeather,
            Upstream::Own => Self::UpstreamOwn,
        }
    }
}

impl From<&Event> for Sent {
    fn from(event: &Event) -> Self {
        match event {
            Event::ConnectionStatus { .. } => Self::ConnectionStatus,
            Event::ChatResponse { .. } => Self::ChatResponse,
            Event::ChatDelta { .. } => Self::ChatDelta,
            Event::ChatReset {} => Self::ChatReset,
            Event::WeatherResponse { .. } => Self::WeatherResponse,
            Event::SingResponse { .. } => Self::SingResponse,
            Event::DanceResponse { .. } => Self::DanceResponse,
            Event::Own { .. } => Self::Own,
            Event::DeliveryStatus { .. } => Self::DeliveryStatus,
            Event::Pong => Self::Pong,
            Event::Error { .. } => Self::Error,
            Event::Disconnect { .. } => Self::Disconnect,
        }
    }
}

impl From<ErrorCode> for Fault {
    fn from(code: ErrorCode) -> Self {
        match code {
            ErrorCode::InvalidJson => Self::InvalidJson,
            ErrorCode::ValidationError => Self::ValidationError,
            ErrorCode::UnsupportedType => Self::UnsupportedType,
            ErrorCode::MessageTooLarge => Self::MessageTooLarge,
            ErrorCode::RateLimited => Self::RateLimited,
            ErrorCode::UpstreamError => Self::UpstreamError,
            ErrorCode::Forbidden => Self::Forbidden,
            ErrorCode::MailboxFull => Self::MailboxFull,
            ErrorCode::InternalError => Self::InternalError,
        }
    }
}

impl Route {
    /// What a request for `path` is about.
    pub fn of(path: &str) -> Self {
        let mut parts = path.split('/').filter(|part| !part.is_empty());
        match (parts.next(), parts.next()) {
            (Some("api"), Some("auth")) => Self::Auth,
            (Some("api"), Some("users")) => Self::Users,
            (Some("api"), Some("devices")) => Self::Devices,
            (Some("api"), Some("messages")) => Self::Messages,
            (Some("api"), Some("queue")) => Self::Queue,
            (Some("api"), Some("weather" | "catalog")) => Self::Companion,
            (Some("api"), Some("monitor")) | (Some("metrics" | "healthz" | "readyz"), None) => Self::Monitor,
            (Some("ws"), _) => Self::WebSocket,
            _ => Self::Other,
        }
    }
}

impl Class {
    /// Of an HTTP status.
    pub fn of(status: u16) -> Self {
        match status {
            ..200 => Self::Switched,
            200..300 => Self::Good,
            300..400 => Self::Elsewhere,
            400..500 => Self::Refused,
            500.. => Self::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::Label;

    #[test]
    fn close_codes_bear_their_numbers() {
        for code in CloseCode::ALL {
            assert_eq!(Ended::from(code).name(), code.code().to_string());
        }
        assert_eq!(Ended::ALL.len(), CloseCode::ALL.len() + 1);
    }

    #[test]
    fn error_codes_bear_the_names_on_the_wire() {
        for code in [ErrorCode::InvalidJson, ErrorCode::UnsupportedType, ErrorCode::MailboxFull, ErrorCode::InternalError] {
            assert_eq!(format!("\"{}\"", Fault::from(code).name()), serde_json::to_string(&code).unwrap());
        }
    }

    #[test]
    fn paths_by_what_they_are_about() {
        for (path, route) in [
            ("/api/messages/user/7/", Route::Messages),
            ("/api/users", Route::Users),
            ("/metrics", Route::Monitor),
            ("/metrics/x", Route::Other),
            ("/ws/device/token/secret", Route::WebSocket),
            ("/", Route::Other),
            ("/api", Route::Other),
        ] {
            assert_eq!(Route::of(path), route, "{path}");
        }
    }
}
