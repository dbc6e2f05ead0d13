//! An echo of every message, for testers of RFC 6455 such as the Autobahn suite. Built with the feature `echo` only, and made of
//! the same parts as a connection, so that it represents one.

use std::sync::Arc;

use salvo::http::{Request, Response};
use salvo::{Depot, FlowCtrl, async_trait};

use super::reader::Incoming;
use super::socket::Socket;
use super::stream::ClientStream;
use super::upgrade::{accept_key, switch};
use crate::app::App;
use crate::auth::credential::SUBPROTOCOL;
use crate::http::error::ApiError;
use crate::wire::frame;

/// The route of the echo.
pub const ECHO_PATH: &str = "/ws/echo";

/// The handler of the echo.
pub struct Echo(pub Arc<App>);

#[async_trait]
impl salvo::Handler for Echo {
    async fn handle(&self, req: &mut Request, _: &mut Depot, res: &mut Response, _: &mut FlowCtrl) {
        if let Err(error) = self.echo(req, res) {
            error.render(res);
        }
    }
}

impl Echo {
    fn echo(&self, req: &mut Request, res: &mut Response) -> Result<(), ApiError> {
        let accept = accept_key(req.headers())?;
        let (app, upgrade) = (self.0.clone(), switch(req, res, accept, SUBPROTOCOL)?);
        self.0.sessions.spawn(async move {
            let Ok(upgraded) = upgrade.await else { return };
            let (stream, begun) = ClientStream::new(upgraded);
            let mut socket = Socket::new(stream, &begun, &app.config().limits);
            let end = loop {
                socket.readable().await;
                let mut frame = Vec::new();
                match socket.next() {
                    Some(Ok(Incoming::Text(text))) => frame::append(&mut frame, frame::TEXT, text.as_bytes()),
                    Some(Ok(Incoming::Binary(bytes))) => frame::append(&mut frame, frame::BINARY, &bytes),
                    Some(Ok(Incoming::Ping(payload))) => frame::append(&mut frame, frame::PONG, &payload),
                    Some(Ok(Incoming::Pong(_))) | None => continue,
                    Some(Err(end)) => break end,
                }
                if let Err(end) = socket.write(&frame, std::future::pending()).await {
                    break end;
                }
            };
            socket.finish(end, |_| ()).await;
        });
        Ok(())
    }
}
