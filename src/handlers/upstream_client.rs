//! The HTTP client for all upstreams.
//!
//! Only configured hosts are ever called: proxies of the environment are not used, and redirects to another host are not followed.
//!
//! Connections are kept for later requests. A server may close one at the moment at which the next request is sent on it (RFC 9112,
//! section 9.3.1): such a request is sent once more, on a new connection. That is decided by whether a connection was made for the
//! request: on one of its own, a request that fails has reached its server, and is not repeated.

use std::cell::Cell;
use std::error::Error;
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, ClientBuilder, Request, RequestBuilder, Response};
use tower_layer::layer_fn;
use tower_service::Service;

use crate::net::tls;

/// Timeout for connecting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The maximum number of redirects, all of them on the same host.
const MAX_REDIRECTS: usize = 3;

tokio::task_local! {
    /// Set once a connection is being made for the request of this task.
    static CONNECTING: Cell<bool>;
}

/// The client for all upstreams.
#[derive(Debug, Clone)]
pub(super) struct UpstreamClient {
    /// Keeps connections.
    keeping: Client,
    /// Makes a connection for each request.
    fresh: Client,
}

impl UpstreamClient {
    /// Creates the client.
    ///
    /// # Errors
    /// A failure to set up TLS.
    pub(super) fn new() -> Result<Self, reqwest::Error> {
        tls::install_provider();
        let keeping = builder().connector_layer(layer_fn(|inner| NotedConnector { inner })).build()?;
        Ok(Self { keeping, fresh: builder().pool_max_idle_per_host(0).build()? })
    }

    /// Begins a `GET` request.
    pub(super) fn get(&self, url: &str) -> RequestBuilder {
        self.keeping.get(url)
    }

    /// Begins a `POST` request.
    pub(super) fn post(&self, url: &str) -> RequestBuilder {
        self.keeping.post(url)
    }

    /// Sends a request, and once more where it certainly was not answered: the connection could not be made, or it was one from
    /// before, and ended without an answer.
    pub(super) async fn execute(&self, request: Request) -> Result<Response, reqwest::Error> {
        let again = request.try_clone();
        let sending = async {
            let result = self.keeping.execute(request).await;
            (result, CONNECTING.with(Cell::get))
        };
        let (result, connected) = CONNECTING.scope(Cell::new(false), sending).await;
        match (result, again) {
            (Err(error), Some(again)) if error.is_connect() || (!connected && was_closed(&error)) => {
                tracing::debug!(%connected, "sending the request to an upstream again");
                self.fresh.execute(again).await
            }
            (result, _) => result,
        }
    }
}

fn builder() -> ClientBuilder {
    let same_host = |attempt: Attempt<'_>| {
        let first =
            attempt.previous().first().map(|url| (url.scheme().to_owned(), url.host_str().map(str::to_owned), url.port()));
        let to = (attempt.url().scheme().to_owned(), attempt.url().host_str().map(str::to_owned), attempt.url().port());
        if first == Some(to) && attempt.previous().len() <= MAX_REDIRECTS { attempt.follow() } else { attempt.stop() }
    };
    let agent = concat!("qy-lty/", env!("CARGO_PKG_VERSION"));
    Client::builder().connect_timeout(CONNECT_TIMEOUT).redirect(Policy::custom(same_host)).no_proxy().user_agent(agent)
}

/// Returns whether the connection ended before there was an answer.
fn was_closed(error: &reqwest::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof};
    let closed = |cause: &(dyn Error + 'static)| {
        let of_hyper =
            cause.downcast_ref::<hyper::Error>().is_some_and(|error| error.is_incomplete_message() || error.is_closed());
        let kind = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        of_hyper || matches!(kind, Some(BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected | UnexpectedEof))
    };
    error.is_request() && !error.is_timeout() && std::iter::successors(error.source(), |&cause| cause.source()).any(closed)
}

/// A connector that notes that it was called.
#[derive(Debug, Clone)]
struct NotedConnector<S> {
    inner: S,
}

impl<S: Service<R>, R> Service<R> for NotedConnector<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, target: R) -> S::Future {
        let _ = CONNECTING.try_with(|connecting| connecting.set(true)); // outside of a request there is none to note it for
        self.inner.call(target)
    }
}
