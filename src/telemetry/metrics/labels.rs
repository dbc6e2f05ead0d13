//! The values that labels can take.

use super::instrument::Label;

macro_rules! labels {
    ($($(#[$doc:meta])* $name:ident { $($(#[$what:meta])* $variant:ident $text:literal,)* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $($(#[$what])* $variant,)*
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
    /// Why a WebSocket ended.
    Ended {
        /// The client closed it or vanished.
        Client "client",
        /// See [`CloseCode`](crate::wire::CloseCode), here and below.
        GoingAway "1001",
        /// 1002.
        Protocol "1002",
        /// 1007.
        InvalidData "1007",
        /// 1009.
        TooBig "1009",
        /// 4000.
        Internal "4000",
        /// 4001.
        Unauthorized "4001",
        /// 4002.
        NoDevice "4002",
        /// 4003.
        WrongUser "4003",
        /// 4008.
        RateLimited "4008",
        /// 4100.
        TooSlow "4100",
        /// 4101.
        ConnectionLimit "4101",
        /// 4102.
        NoPong "4102",
    }

    /// What a client said.
    Received {
        /// `chat_message`.
        Chat "chat_message",
        /// `chat_reset`.
        ChatReset "chat_reset",
        /// `weather`.
        Weather "weather",
        /// `sing`.
        Sing "sing",
        /// `dance`.
        Dance "dance",
        /// Any type of the configuration.
        Own "own",
        /// `ping`.
        Ping "ping",
        /// `ack`.
        Ack "ack",
        /// What was answered with an error instead of being read.
        Rejected "rejected",
    }

    /// What was written to a client.
    Sent {
        /// `connection_status`.
        ConnectionStatus "connection_status",
        /// `chat_response`.
        ChatResponse "chat_response",
        /// `chat_delta`.
        ChatDelta "chat_delta",
        /// `chat_reset`.
        ChatReset "chat_reset",
        /// `weather_response`.
        WeatherResponse "weather_response",
        /// `sing_response`.
        SingResponse "sing_response",
        /// `dance_response`.
        DanceResponse "dance_response",
        /// The answer of any type of the configuration.
        Own "own_response",
        /// `delivery_status`.
        DeliveryStatus "delivery_status",
        /// `pong`.
        Pong "pong",
        /// `error`.
        Error "error",
        /// `disconnect`.
        Disconnect "disconnect",
        /// A message that somebody sent live.
        Live "push_live",
        /// A message out of the log.
        Queued "push_queued",
    }

    /// The codes of `error` events.
    Fault {
        /// See [`ErrorCode`](crate::wire::ErrorCode), here and below.
        InvalidJson "INVALID_JSON",
        /// A field is missing or wrong.
        ValidationError "VALIDATION_ERROR",
        /// No handler for the type.
        UnsupportedType "UNSUPPORTED_TYPE",
        /// Too many characters.
        MessageTooLarge "MESSAGE_TOO_LARGE",
        /// Too many messages.
        RateLimited "RATE_LIMITED",
        /// A source failed.
        UpstreamError "UPSTREAM_ERROR",
        /// A target that is not the user's.
        Forbidden "FORBIDDEN",
        /// A target that has too much waiting.
        MailboxFull "MAILBOX_FULL",
        /// Something failed on our side.
        InternalError "INTERNAL_ERROR",
    }

    /// Why something was refused: by a limit, a rule or a shortage. What is wrong in itself (a field, a path) does not count.
    Refused {
        /// An HTTP connection: too many of its address.
        SocketsOfAddress "sockets_address",
        /// The server stops.
        Stopping "stopping",
        /// A web page of a foreign origin.
        Origin "origin",
        /// Too many handshakes of one address.
        ConnectsRate "connects_rate",
        /// Too many WebSockets in all.
        Connections "connections_total",
        /// Too many WebSockets of one address.
        ConnectionsOfAddress "connections_address",
        /// Too many WebSockets of one user.
        ConnectionsOfUser "connections_user",
        /// No, a wrong, an expired or a revoked credential.
        Unauthorized "unauthorized",
        /// Too many refused credentials of one address.
        RefusalsRate "refusals_rate",
        /// The user in the path is not the credential's.
        WrongUser "wrong_user",
        /// A user without a primary device, where one is required.
        NoDevice "no_device",
        /// Too many messages on one connection.
        MessagesRate "messages_rate",
        /// Too many messages of one user.
        UserMessagesRate "user_messages_rate",
        /// Too many frames or bytes on one connection.
        Flood "flood",
        /// A frame over the hard limit.
        FrameTooLarge "frame_too_large",
        /// A message with too many characters.
        MessageTooLarge "message_too_large",
        /// Too many REST calls with one token.
        RequestsRate "requests_rate",
        /// Too many attempts to log in.
        LoginsRate "logins_rate",
        /// Too many pairings begun at one address.
        PairingsRate "pairings_rate",
        /// Too many wrong pairing codes, or a device that asks too often.
        PairingCodes "pairing_codes",
        /// A route that is not for this kind of caller.
        Forbidden "forbidden",
        /// A cookie without its second secret.
        Csrf "csrf",
        /// Accounts are made by administrators.
        RegistrationClosed "registration_closed",
        /// A REST body that is too long.
        BodyTooLarge "body_too_large",
        /// A REST body that did not come in time.
        BodyTooSlow "body_too_slow",
        /// One token, device or the like more than one may have.
        Quota "quota",
        /// The recipient's mailbox is full.
        MailboxFull "mailbox_full",
        /// The disk has too little room.
        DiskLow "disk_low",
        /// Too many answers under way on one connection.
        Answers "answers",
        /// Too many questions of one user to the chat model.
        ChatRate "chat_rate",
        /// Too many passwords being checked, or pairings or tickets open.
        Busy "busy",
    }

    /// What a log-in came to.
    LogIn {
        /// Let in.
        Ok "ok",
        /// Wrong name or password, or a disabled account.
        Wrong "wrong_password",
        /// Too many attempts.
        Throttled "throttled",
        /// Too many passwords are being checked.
        Busy "busy",
        /// Something failed on our side.
        Failed "failed",
    }

    /// A source of answers.
    Upstream {
        /// The language model.
        Chat "chat",
        /// QWeather.
        Weather "weather",
        /// Any program behind a type of the configuration.
        Own "own",
    }

    /// How a call of a source ended.
    Outcome {
        /// With an answer.
        Ok "ok",
        /// No connection.
        Unreachable "unreachable",
        /// No answer in time.
        TooSlow "too_slow",
        /// An HTTP status that says no.
        Status "status",
        /// An answer longer than allowed.
        TooLarge "too_large",
        /// An answer that ended in the middle.
        BrokeOff "broke_off",
        /// An answer that can't be read.
        Unreadable "unreadable",
        /// Not called: it has failed several times in a row.
        OutOfOrder "out_of_order",
        /// Not called: as many calls as allowed are under way.
        Busy "busy",
        /// The asker did not take the answer.
        NotTaken "not_taken",
        /// The request can't be made.
        Misconfigured "misconfigured",
        /// Nobody waited for the end: the asker had gone.
        Abandoned "abandoned",
    }

    /// What is measured: see [`Timed`](super::Timed).
    Operation {
        /// `chat_message`.
        Chat "chat_message",
        /// `chat_reset`.
        ChatReset "chat_reset",
        /// `weather`.
        Weather "weather",
        /// `sing`.
        Sing "sing",
        /// `dance`.
        Dance "dance",
        /// Any type of the configuration.
        Own "own",
        /// `ping`.
        Ping "ping",
        /// A message sent over REST, until it is on disk and announced.
        Send "send",
        /// A batch of changes made durable.
        Commit "commit",
        /// A call of the language model.
        UpstreamChat "upstream_chat",
        /// A call of QWeather.
        UpstreamWeather "upstream_weather",
        /// A call of a program behind a type of the configuration.
        UpstreamOwn "upstream_own",
        /// A name and a password checked.
        LogIn "login",
    }

    /// What a request is about.
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
        /// Handshakes of WebSockets.
        WebSocket "websocket",
        /// The page, and what does not exist.
        Other "other",
    }

    /// The hundreds of an HTTP status.
    Class {
        /// 101, the handshake.
        Switched "1xx",
        /// 200 to 299.
        Good "2xx",
        /// 300 to 399.
        Elsewhere "3xx",
        /// 400 to 499.
        Refused "4xx",
        /// 500 and above.
        Failed "5xx",
    }
}
