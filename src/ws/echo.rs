//! An echo of every message, for testers of RFC 6455 such as the Autobahn suite. Built with the feature `echo` only, and made of
//! the same parts as a connection, so that it represents one.

use std::sync::Arc;

use salvo::http::{Request, Response};
use salvo::rt::tokio::TokioIo;
use salvo::{Depot, FlowCtrl, async_trait};

use super::socket::{Incoming, Socket};
use super::upgrade::{accept_key, switch};
use crate::app::App;
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
        let (app, upgrade) = (self.0.clone(), switch(req, res, accept)?);
        self.0.sessions.spawn(async move {
            let Ok(upgraded) = upgrade.await else { return };
            let mut socket = Socket::new(TokioIo::new(upgraded), &app.config().limits).await;
            let end = loop {
                let mut frame = Vec::new();
                match socket.read().await {
                    Ok(Incoming::Text(text)) => frame::append(&mut frame, frame::TEXT, text.as_bytes()),
                    Ok(Incoming::Binary(bytes)) => frame::append(&mut frame, frame::BINARY, &bytes),
                    Ok(Incoming::Ping | Incoming::Pong(_)) => continue,
                    Err(end) => break end,
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
