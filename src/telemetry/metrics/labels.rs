//! The labels and their values.

use super::instruments::Label;

macro_rules! labels {
    ($($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident $text:literal,)* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl Label for $name {
            const ALL: &'static [Self] = &[$(Self::$variant,)*];

            fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }

            fn index(self) -> usize {
                self as usize
            }
        }
    )*};
}

labels! {
    /// The end of a WebSocket session: the close code sent, or the client.
    SessionEnd {
        /// The client closed it or vanished.
        Client "client",
        /// Close code 1001; see [`CloseCode`](crate::wire::CloseCode).
        GoingAway "1001",
        /// Close code 1002.
        Protocol "1002",
        /// Close code 1007.
        InvalidData "1007",
        /// Close code 1009.
        TooBig "1009",
        /// Close code 4000.
        Internal "4000",
        /// Close code 4001.
        Unauthorized "4001",
        /// Close code 4002.
        NoDevice "4002",
        /// Close code 4003.
        WrongUser "4003",
        /// Close code 4008.
        RateLimited "4008",
        /// Close code 4100.
        TooSlow "4100",
        /// Close code 4101.
        ConnectionLimit "4101",
        /// Close code 4102.
        NoPong "4102",
        /// Close code 4104.
        TooManyClients "4104",
    }

    /// The type of a message from a client.
    Received {
        /// `chat_message`.
        Chat "chat_message",
        /// `chat_reset`.
        ChatReset "chat_reset",
        /// `chat_cancel`.
        ChatCancel "chat_cancel",
        /// `weather`.
        Weather "weather",
        /// `sing`.
        Sing "sing",
        /// `dance`.
        Dance "dance",
        /// Any custom message type.
        Custom "own",
        /// `ping`.
        Ping "ping",
        /// `ack`.
        Ack "ack",
        /// A message that was rejected with an error.
        Rejected "rejected",
    }

    /// The type of a message to a client.
    Sent {
        /// `connection_status`.
        ConnectionStatus "connection_status",
        /// `chat_response`.
        ChatResponse "chat_response",
        /// `chat_delta`.
        ChatDelta "chat_delta",
        /// `chat_reset`.
        ChatReset "chat_reset",
        /// `chat_cancel`.
        ChatCancel "chat_cancel",
        /// `chat_cancelled`.
        ChatCancelled "chat_cancelled",
        /// `weather_response`.
        WeatherResponse "weather_response",
        /// `sing_response`.
        SingResponse "sing_response",
        /// `dance_response`.
        DanceResponse "dance_response",
        /// The answer to any custom message type.
        Custom "own_response",
        /// `delivery_status`.
        DeliveryStatus "delivery_status",
        /// `missed`.
        Missed "missed",
        /// `pong`.
        Pong "pong",
        /// `error`.
        Error "error",
        /// `disconnect`.
        Disconnect "disconnect",
        /// A live message of another sender.
        Live "push_live",
        /// A queued message.
        Queued "push_queued",
    }

    /// The code of an `error` event.
    SentError {
        /// The text is not JSON; see [`ErrorCode`](crate::wire::ErrorCode).
        InvalidJson "INVALID_JSON",
        /// A field is missing or invalid.
        ValidationError "VALIDATION_ERROR",
        /// The type is unknown.
        UnsupportedType "UNSUPPORTED_TYPE",
        /// The message has too many characters.
        MessageTooLarge "MESSAGE_TOO_LARGE",
        /// The rate limit is exceeded.
        RateLimited "RATE_LIMITED",
        /// An upstream failed.
        UpstreamError "UPSTREAM_ERROR",
        /// The target does not belong to the user.
        Forbidden "FORBIDDEN",
        /// The mailbox of the target, or the disk, is full.
        MailboxFull "MAILBOX_FULL",
        /// The server failed.
        InternalError "INTERNAL_ERROR",
    }

    /// The reason of a refusal: a limit, a rule or a shortage. Invalid requests (a field, a path) are not counted.
    Refused {
        /// Too many HTTP connections of one address.
        SocketsOfAddress "sockets_address",
        /// Too many HTTP connections in total: one without a whole request was closed.
        Sockets "sockets_total",
        /// The server is shutting down.
        Stopping "stopping",
        /// A web page of an origin that is not allowed.
        Origin "origin",
        /// A web page of a host name that is not known to be this server's.
        Host "host",
        /// Too many handshakes of one address, or of one user.
        ConnectsRate "connects_rate",
        /// Too many WebSockets in total.
        Connections "connections_total",
        /// Too many WebSockets of one address.
        ConnectionsOfAddress "connections_address",
        /// Too many WebSockets of one user.
        ConnectionsOfUser "connections_user",
        /// Too many WebSockets of consoles.
        Consoles "consoles",
        /// Too many clients (readers) of one user.
        ClientsOfUser "clients_user",
        /// A missing, invalid, expired or revoked credential.
        Unauthorized "unauthorized",
        /// Too many refused credentials of one address.
        RefusalsRate "refusals_rate",
        /// The user in the path is not the user of the credential.
        WrongUser "wrong_user",
        /// A user without a primary device, although one is required.
        NoDevice "no_device",
        /// Too many messages on one connection.
        MessagesRate "messages_rate",
        /// Too many messages of one user.
        UserMessagesRate "user_messages_rate",
        /// Too many frames or bytes on one connection.
        Flood "flood",
        /// A frame over the hard limit in bytes.
        FrameTooLarge "frame_too_large",
        /// A message with too many characters.
        MessageTooLarge "message_too_large",
        /// Too many REST calls of one user.
        RequestsRate "requests_rate",
        /// Too many attempts to log in.
        LoginsRate "logins_rate",
        /// Too many pairings started at one address.
        PairingsRate "pairings_rate",
        /// Too many invalid pairing codes, or a device that polls too often.
        PairingCodes "pairing_codes",
        /// A route that this kind of caller may not use.
        Forbidden "forbidden",
        /// A session cookie without its CSRF token.
        Csrf "csrf",
        /// Registration, although only administrators create accounts.
        RegistrationClosed "registration_closed",
        /// A REST body that is too large.
        BodyTooLarge "body_too_large",
        /// A REST body that did not arrive in time.
        BodyTooSlow "body_too_slow",
        /// A token, device or other object over its quota.
        Quota "quota",
        /// The recipient's mailbox is full.
        MailboxFull "mailbox_full",
        /// Too much of what the sender has sent waits.
        SenderFull "sender_full",
        /// The disk has too little free space.
        DiskLow "disk_low",
        /// The queued messages take as much memory as they may.
        MemoryLow "memory_low",
        /// Too many pending answers on one connection.
        Answers "answers",
        /// No room for a long answer to a REST call.
        AnswerRoom "answer_room",
        /// A long answer to a REST call that is read too slowly while others wait for room.
        AnswerTooSlow "answer_too_slow",
        /// Too many questions of one user to the chat model.
        ChatRate "chat_rate",
        /// Too many passwords being verified, or pairings or tickets pending.
        Busy "busy",
    }

    /// The result of a log-in with a password or a one-time link.
    LogIn {
        /// Accepted.
        Ok "ok",
        /// A wrong name, password or link, or a disabled account.
        Wrong "wrong_password",
        /// Too many attempts.
        Throttled "throttled",
        /// Too many passwords being verified.
        Busy "busy",
        /// The server failed.
        Failed "failed",
    }

    /// An external source of answers.
    Upstream {
        /// The language model.
        Chat "chat",
        /// QWeather.
        Weather "weather",
        /// The program behind any custom message type.
        Custom "own",
    }

    /// The outcome of an upstream call.
    UpstreamOutcome {
        /// An answer.
        Ok "ok",
        /// No connection to the upstream.
        Unreachable "unreachable",
        /// No answer in time.
        TooSlow "too_slow",
        /// An HTTP status other than success.
        Status "status",
        /// An answer over the size limit.
        TooLarge "too_large",
        /// An incomplete answer.
        Interrupted "broke_off",
        /// An invalid answer.
        Unreadable "unreadable",
        /// Not called, because the circuit breaker is open after repeated failures.
        CircuitOpen "out_of_order",
        /// Not called, because too many calls are in flight.
        Busy "busy",
        /// The client did not read the answer in time.
        ClientTooSlow "not_taken",
        /// The configured address or key is invalid.
        Misconfigured "misconfigured",
        /// Cancelled, because the client disconnected or stopped it.
        Abandoned "abandoned",
    }

    /// An operation whose duration is measured; see [`OperationStats`](super::OperationStats).
    Operation {
        /// `chat_message`.
        Chat "chat_message",
        /// `chat_reset`.
        ChatReset "chat_reset",
        /// `chat_cancel`.
        ChatCancel "chat_cancel",
        /// `weather`.
        Weather "weather",
        /// `sing`.
        Sing "sing",
        /// `dance`.
        Dance "dance",
        /// Any custom message type.
        Custom "own",
        /// `ping`.
        Ping "ping",
        /// A send over REST, until the message is durable and announced.
        Send "send",
        /// A commit of the store's writer.
        Commit "commit",
        /// A call of the language model.
        UpstreamChat "upstream_chat",
        /// A call of QWeather.
        UpstreamWeather "upstream_weather",
        /// A call of the program behind a custom message type.
        UpstreamCustom "upstream_own",
        /// A password log-in.
        LogIn "login",
    }

    /// The subject of an HTTP request.
    Route {
        /// `/api/auth`.
        Auth "auth",
        /// `/api/users`.
        Users "users",
        /// `/api/devices`.
        Devices "devices",
        /// `/api/messages`.
        Messages "messages",
        /// `/api/queue`.
        Queue "queue",
        /// `/api/weather`, `/api/catalog`.
        Companion "companion",
        /// `/api/monitor`, `/metrics`, `/healthz`, `/readyz`.
        Monitor "monitor",
        /// WebSocket handshakes.
        WebSocket "websocket",
        /// The web pages, and unknown paths.
        Other "other",
    }

    /// The class of an HTTP status.
    StatusClass {
        /// 101, the handshake.
        Informational "1xx",
        /// 200 to 299.
        Success "2xx",
        /// 300 to 399.
        Redirection "3xx",
        /// 400 to 499.
        ClientError "4xx",
        /// 500 and above.
        ServerError "5xx",
    }
}
