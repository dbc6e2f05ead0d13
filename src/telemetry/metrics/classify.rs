//! The label values of wire types, paths and statuses. The matches are exhaustive: a new type on the wire can't be left uncounted.

use super::labels::{Operation, Received, Route, Sent, SentError, SessionEnd, StatusClass, Upstream};
use crate::wire::{CloseCode, Command, ErrorCode, Event};

impl From<CloseCode> for SessionEnd {
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
            CloseCode::TooManyClients => Self::TooManyClients,
        }
    }
}

/// Returns the labels of a command: as a received message and as a measured operation.
fn command_labels(command: &Command) -> (Received, Operation) {
    match command {
        Command::Chat { .. } => (Received::Chat, Operation::Chat),
        Command::ChatReset => (Received::ChatReset, Operation::ChatReset),
        Command::ChatCancel { .. } => (Received::ChatCancel, Operation::ChatCancel),
        Command::Weather { .. } => (Received::Weather, Operation::Weather),
        Command::Sing { .. } => (Received::Sing, Operation::Sing),
        Command::Dance { .. } => (Received::Dance, Operation::Dance),
        Command::Custom { .. } => (Received::Custom, Operation::Custom),
        Command::Ping => (Received::Ping, Operation::Ping),
    }
}

impl From<&Command> for Received {
    fn from(command: &Command) -> Self {
        command_labels(command).0
    }
}

impl From<&Command> for Operation {
    fn from(command: &Command) -> Self {
        command_labels(command).1
    }
}

impl From<Upstream> for Operation {
    fn from(upstream: Upstream) -> Self {
        match upstream {
            Upstream::Chat => Self::UpstreamChat,
            Upstream::Weather => Self::UpstreamWeather,
            Upstream::Custom => Self::UpstreamCustom,
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
            Event::ChatCancel { .. } => Self::ChatCancel,
            Event::ChatCancelled {} => Self::ChatCancelled,
            Event::WeatherResponse { .. } => Self::WeatherResponse,
            Event::SingResponse { .. } => Self::SingResponse,
            Event::DanceResponse { .. } => Self::DanceResponse,
            Event::Custom { .. } => Self::Custom,
            Event::DeliveryStatus { .. } => Self::DeliveryStatus,
            Event::Missed { .. } => Self::Missed,
            Event::Pong => Self::Pong,
            Event::Error { .. } => Self::Error,
            Event::Disconnect { .. } => Self::Disconnect,
        }
    }
}

impl From<ErrorCode> for SentError {
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
    /// Returns the label of a request for `path`.
    pub fn of(path: &str) -> Self {
        let mut parts = path.split('/').filter(|part| !part.is_empty());
        match (parts.next(), parts.next()) {
            (Some("api"), Some("auth")) => Self::Auth,
            (Some("api"), Some("users")) => Self::Users,
            (Some("api"), Some("devices")) => Self::Devices,
            (Some("api"), Some("messages")) => Self::Messages,
            (Some("api"), Some("queue" | "clients")) => Self::Queue,
            (Some("api"), Some("weather" | "catalog")) => Self::Companion,
            (Some("api"), Some("monitor")) | (Some("metrics" | "healthz" | "readyz"), None) => Self::Monitor,
            (Some("ws"), _) => Self::WebSocket,
            _ => Self::Other,
        }
    }
}

impl StatusClass {
    /// Returns the class of an HTTP status.
    pub fn of(status: u16) -> Self {
        match status {
            ..200 => Self::Informational,
            200..300 => Self::Success,
            300..400 => Self::Redirection,
            400..500 => Self::ClientError,
            500.. => Self::ServerError,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::Label;

    #[test]
    fn session_end_label_is_the_number_of_the_close_code() {
        for code in CloseCode::ALL {
            assert_eq!(SessionEnd::from(code).name(), code.code().to_string());
        }
        assert_eq!(SessionEnd::ALL.len(), CloseCode::ALL.len() + 1);
    }

    #[test]
    fn sent_error_label_is_the_code_on_the_wire() {
        for code in [ErrorCode::InvalidJson, ErrorCode::UnsupportedType, ErrorCode::MailboxFull, ErrorCode::InternalError] {
            assert_eq!(format!("\"{}\"", SentError::from(code).name()), serde_json::to_string(&code).unwrap());
        }
    }

    #[test]
    fn route_of_path_ignores_slashes_and_parameters() {
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
