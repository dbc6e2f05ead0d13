//! The WebSocket client.

use std::fmt::Display;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::DEADLINE;
use super::described::{self, Channel};

/// A WebSocket client.
pub struct Client {
    pub stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// The headers of the handshake's response.
    pub headers: tungstenite::http::HeaderMap,
    channel: Channel,
}

impl Client {
    /// Opens a WebSocket; `headers` go with the handshake, and a name may stand there twice.
    pub async fn open(address: impl Display, path: &str, headers: &[(&'static str, &str)]) -> Result<Self, tungstenite::Error> {
        let mut request = format!("ws://{address}{path}").into_client_request().unwrap();
        for (name, _) in headers {
            request.headers_mut().remove(*name); // replaces the client's own, such as the key
        }
        for (name, value) in headers {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        let connecting = tokio_tungstenite::connect_async(request);
        let (stream, response) = timeout(DEADLINE, connecting).await.expect("connects in time")?;
        Ok(Self { stream, headers: response.headers().clone(), channel: Channel::of(path) })
    }

    /// Opens a WebSocket with a token and receives the first event.
    pub async fn connect(address: impl Display, token: &str) -> Self {
        let mut client = Self::open(address, &format!("/ws/device/?token={token}"), &[]).await.unwrap();
        assert_eq!(client.json().await["type"], "connection_status");
        client
    }

    pub async fn send(&mut self, text: impl Into<String>) {
        self.stream.send(Message::text(text.into())).await.unwrap();
    }

    pub async fn say(&mut self, value: Value) {
        self.send(value.to_string()).await;
    }

    /// Returns the next message that is not a ping or pong. A text must be a frame that `docs/api/asyncapi.json` describes.
    pub async fn next(&mut self) -> Option<Result<Message, tungstenite::Error>> {
        loop {
            match timeout(DEADLINE, self.stream.next()).await.expect("something comes in time") {
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                other => {
                    if let Some(Ok(Message::Text(text))) = &other {
                        described::assert_frame(self.channel, text);
                    }
                    return other;
                }
            }
        }
    }

    /// Returns the next text message.
    pub async fn text(&mut self) -> String {
        match self.next().await {
            Some(Ok(Message::Text(text))) => text.to_string(),
            other => panic!("expected a text, got {other:?}"),
        }
    }

    pub async fn json(&mut self) -> Value {
        serde_json::from_str(&self.text().await).unwrap()
    }

    /// Sends a message and returns the next event.
    pub async fn ask(&mut self, value: Value) -> Value {
        self.say(value).await;
        self.json().await
    }

    /// Shows that nothing else was on its way: a ping's answer comes next.
    pub async fn fence(&mut self) {
        assert_eq!(self.ask(json!({"type": "ping"})).await["type"], "pong");
    }

    /// Expects the close frame next.
    pub async fn closed(&mut self) -> u16 {
        match self.next().await {
            Some(Ok(Message::Close(Some(frame)))) => frame.code.into(),
            other => panic!("expected a close frame, got {other:?}"),
        }
    }

    /// Expects the `disconnect` event and then the close frame with the same code and reason.
    pub async fn disconnected(&mut self) -> Value {
        let event = self.json().await;
        assert_eq!(event["type"], "disconnect", "{event}");
        match self.next().await {
            Some(Ok(Message::Close(Some(frame)))) => {
                assert_eq!(u64::from(u16::from(frame.code)), event["code"].as_u64().unwrap());
                assert_eq!(frame.reason.as_str(), event["reason"].as_str().unwrap());
            }
            other => panic!("expected a close frame, got {other:?}"),
        }
        event
    }
}
