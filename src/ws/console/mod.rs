//! The WebSocket of consoles: what happens on the server, for administrators, and for users what concerns them.
//!
//! A console subscribes to topics and gets what is new of each. `request` is what it may say, `run` is its one task, `connections` and
//! `events` make the frames of topics.
//!
//! # Invariants
//! - A console costs nobody else anything: it has permits of its own, is nobody's presence, and what it can't read in time is dropped and
//!   counted.
//! - It gets nothing after its credential has been revoked or has expired, or its user's role has changed.

mod connections;
mod events;
mod request;
mod run;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use salvo::http::header::{AUTHORIZATION, COOKIE, HOST};
use salvo::http::{Request, Response};
use salvo::{Depot, FlowCtrl, async_trait};

use super::admit::{Found, Query, check_rate, header, internal};
use super::socket::Socket;
use super::stream::ClientStream;
use super::upgrade::{UPGRADE_TIMEOUT, accept_key, switch};
use crate::admission::Permit;
use crate::app::App;
use crate::auth::credential::Places;
use crate::auth::{Actor, AuthError, Caller, Credential, cookies};
use crate::core::awake::timeout;
use crate::http::error::ApiError;
use crate::http::pages::{PageOrigin, cookie_of_another};
use crate::session::End;
use crate::telemetry::metrics::Refused;
use crate::wire::CloseCode;
use run::ConsoleTask;

/// The route of consoles.
pub const CONSOLE_PATH: &str = "/ws/console";

/// The subprotocol of consoles, which they need not offer.
const CONSOLE_SUBPROTOCOL: &str = "qy-lty.console.v1";

/// The handler of the route of consoles.
pub struct Console(pub Arc<App>);

#[async_trait]
impl salvo::Handler for Console {
    async fn handle(&self, req: &mut Request, _: &mut Depot, res: &mut Response, _: &mut FlowCtrl) {
        if let Err(error) = connect(&self.0, req, res).await {
            error.refused().inspect(|&why| self.0.metrics.refused.inc(why));
            error.render(res);
        }
    }
}

/// A console that has passed all checks.
struct Admitted {
    caller: Caller,
    /// Held until it has ended.
    permit: Permit<()>,
}

/// Answers one handshake; the console's task, if any, has been started when this returns.
async fn connect(app: &Arc<App>, req: &mut Request, res: &mut Response) -> Result<(), ApiError> {
    let accept = accept_key(req.headers())?;
    if app.stopping.is_cancelled() {
        return Err(ApiError::Busy(Refused::Stopping));
    }
    let address = app.admission.client(req);
    let mut found = identify(app, req)?;
    // Perhaps the credential was made at another node.
    if matches!(found, Err(CloseCode::Unauthorized)) && app.catch_up().await {
        found = identify(app, req)?;
    }
    check_rate(app, &found, address)?;
    if let Ok((caller, _)) = &found
        && !matches!(caller.actor(), Actor::User | Actor::Admin)
    {
        return Err(ApiError::Forbidden); // a program, which reads the status of the handshake
    }
    if found.is_err() {
        let too_many = |wait| ApiError::TooMany(Refused::RefusalsRate, wait);
        app.admission.refusals.check(&address.into(), Instant::now()).map_err(too_many)?;
    }
    let admitted = match found {
        Ok((caller, credential)) => admit(app, caller, &credential).await,
        Err(code) => Err(code),
    };
    let upgrade = switch(req, res, accept, CONSOLE_SUBPROTOCOL)?;
    let (app, address) = (app.clone(), address.ip);
    app.clone().sessions.spawn(async move {
        // The client may be gone before it has read the 101.
        if let Ok(Ok(upgraded)) = timeout(UPGRADE_TIMEOUT, upgrade).await {
            let (stream, begun) = ClientStream::new(upgraded);
            let socket = Socket::new(stream, &begun, &app.config().limits);
            run(app, socket, admitted, address).await;
        }
    });
    Ok(())
}

/// Returns the caller of a handshake: by its token, by a ticket, or by the cookie of this server's own page.
///
/// # Errors
/// [`ApiError::ForeignOrigin`] for a cookie that another page's request came with.
fn identify(app: &App, req: &Request) -> Result<Found, ApiError> {
    let query = Query::of(req);
    let places = Places { authorization: header(req, AUTHORIZATION), query_ticket: query.get("ticket"), ..Places::default() };
    let credential = match places.credential() {
        Some(credential) => credential,
        None => {
            let encrypted = app.admission.encrypted(req);
            let Some(secret) = header(req, COOKIE).and_then(|header| cookies::token(header, encrypted)) else {
                return Ok(Err(CloseCode::Unauthorized));
            };
            // The browser sends the cookie with any page's handshake: what a form is kept from by the second secret, this is by its
            // origin, which every browser names.
            let origin = PageOrigin::of(req.headers());
            let is_own = app.admission.origins().is_own(origin.text(), header(req, HOST), encrypted);
            if !matches!(origin, PageOrigin::One(_)) || !is_own {
                return Err(cookie_of_another(&origin.described()));
            }
            Credential::Token(secret)
        }
    };
    Ok(match app.auth.identify(&credential) {
        Ok(caller) => Ok((caller, credential)),
        Err(AuthError::Refused) => Err(CloseCode::Unauthorized),
        Err(error) => Err(internal(&error)),
    })
}

/// Takes the permit of a console, and uses up its ticket.
async fn admit(app: &App, caller: Caller, credential: &Credential) -> Result<Admitted, CloseCode> {
    let Some(permit) = app.admission.consoles.try_acquire(()) else {
        app.metrics.refused.inc(Refused::Consoles);
        return Err(CloseCode::ConnectionLimit);
    };
    match app.auth.use_up(credential).await {
        Ok(true) => Ok(Admitted { caller, permit }),
        Ok(false) => Err(CloseCode::Unauthorized),
        Err(error) => Err(internal(&error)),
    }
}

/// Runs a console, or closes it at once with the code of its refusal.
async fn run(app: Arc<App>, socket: Socket<ClientStream>, admitted: Result<Admitted, CloseCode>, address: IpAddr) {
    match admitted {
        Ok(Admitted { caller, permit }) => {
            ConsoleTask::start(app, socket, caller, address).run().await;
            drop(permit);
        }
        Err(code) => {
            let mut socket = socket;
            if code == CloseCode::Unauthorized {
                app.metrics.refused.inc(Refused::Unauthorized);
            }
            tracing::info!(%address, code = code.code(), "console refused");
            socket.finish(End::from(code), |_| ()).await;
        }
    }
}
