//! What all upstreams share: one HTTP client, bounds on time and size, and a circuit breaker.
//!
//! Only what the configuration names is ever called: no proxy of the environment, and no redirect to another host.

use std::future::Future;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, RequestBuilder, Response};
use tokio::time::timeout;

use crate::net::tls;
use crate::telemetry::metrics::{Metrics, Outcome, Upstream};

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(5);
/// Redirects that are followed, on the same host.
const REDIRECTS: usize = 3;
/// Failures in a row after which an upstream is left alone, and for how long.
const FAILURES: u32 = 5;
const PAUSE: Duration = Duration::from_secs(30);

/// Why an upstream gave no answer. Prints for people, without address or secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum UpstreamError {
    /// No connection.
    #[error("the source can't be reached")]
    Unreachable,
    /// No answer in time.
    #[error("the source did not answer in time")]
    TooSlow,
    /// An answer that says no.
    #[error("the source answered {0}")]
    Status(u16),
    /// An answer longer than allowed.
    #[error("the source's answer is too large")]
    TooLarge,
    /// The answer ended in the middle.
    #[error("the source's answer broke off")]
    BrokeOff,
    /// An answer that is not what its documentation says.
    #[error("the source's answer can't be read")]
    Unreadable,
    /// It has failed several times in a row, and is left alone for a while.
    #[error("the source is out of order")]
    OutOfOrder,
    /// As many calls as allowed are under way.
    #[error("the source is busy")]
    Busy,
    /// The asker did not take the answer's pieces.
    #[error("the answer was not taken in time")]
    NotTaken,
    /// The request can't be made: an address or a key that no request can hold.
    #[error("the source is wrongly configured")]
    Misconfigured,
}

impl UpstreamError {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Unreachable => Outcome::Unreachable,
            Self::TooSlow => Outcome::TooSlow,
            Self::Status(_) => Outcome::Status,
            Self::TooLarge => Outcome::TooLarge,
            Self::BrokeOff => Outcome::BrokeOff,
            Self::Unreadable => Outcome::Unreadable,
            Self::OutOfOrder => Outcome::OutOfOrder,
            Self::Busy => Outcome::Busy,
            Self::NotTaken => Outcome::NotTaken,
            Self::Misconfigured => Outcome::Misconfigured,
        }
    }
}

/// Counts a call however it ends, also when its asker goes first: else a source that hangs would never show.
struct Calling<'a> {
    metrics: &'a Metrics,
    upstream: Upstream,
    outcome: Outcome,
    began: Instant,
}

impl Drop for Calling<'_> {
    fn drop(&mut self) {
        self.metrics.called(self.upstream, self.outcome, self.began);
    }
}

/// Runs `call`, a call of `upstream`, and counts it.
pub(super) async fn counted<T>(
    metrics: &Metrics,
    upstream: Upstream,
    call: impl Future<Output = Result<T, UpstreamError>>,
) -> Result<T, UpstreamError> {
    let mut calling = Calling { metrics, upstream, outcome: Outcome::Abandoned, began: Instant::now() };
    let answer = call.await;
    calling.outcome = answer.as_ref().map_or_else(UpstreamError::outcome, |_| Outcome::Ok);
    answer
}

impl From<reqwest::Error> for UpstreamError {
    fn from(error: reqwest::Error) -> Self {
        if error.is_builder() {
            Self::Misconfigured
        } else if error.is_timeout() {
            Self::TooSlow
        } else if error.is_connect() || error.is_redirect() {
            Self::Unreachable
        } else {
            Self::BrokeOff
        }
    }
}

/// The client for all upstreams.
///
/// # Errors
/// When TLS can't be set up.
pub(super) fn client() -> Result<Client, reqwest::Error> {
    tls::provide();
    let same_host = |attempt: Attempt<'_>| {
        let first =
            attempt.previous().first().map(|url| (url.scheme().to_owned(), url.host_str().map(str::to_owned), url.port()));
        let to = (attempt.url().scheme().to_owned(), attempt.url().host_str().map(str::to_owned), attempt.url().port());
        if first == Some(to) && attempt.previous().len() <= REDIRECTS { attempt.follow() } else { attempt.stop() }
    };
    let agent = concat!("qy-lty/", env!("CARGO_PKG_VERSION"));
    Client::builder().connect_timeout(CONNECT).redirect(Policy::custom(same_host)).no_proxy().user_agent(agent).build()
}

/// Sends a request; once more where no connection came about. The answer's status is a good one.
pub(super) async fn send(request: RequestBuilder, within: Duration) -> Result<Response, UpstreamError> {
    let response = send_any(request, within).await?;
    if response.status().is_success() { Ok(response) } else { Err(UpstreamError::Status(response.status().as_u16())) }
}

/// The same, whatever the answer's status.
pub(super) async fn send_any(request: RequestBuilder, within: Duration) -> Result<Response, UpstreamError> {
    let again = request.try_clone();
    let answered = async {
        match request.send().await {
            Err(error) if error.is_connect() => match again {
                Some(again) => again.send().await,
                None => Err(error),
            },
            other => other,
        }
    };
    Ok(timeout(within, answered).await.map_err(|_| UpstreamError::TooSlow)??)
}

/// Reads an answer of at most `most` bytes.
pub(super) async fn read(mut response: Response, most: usize, within: Duration) -> Result<Vec<u8>, UpstreamError> {
    let reading = async {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            if body.len() + chunk.len() > most {
                return Err(UpstreamError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    };
    timeout(within, reading).await.map_err(|_| UpstreamError::TooSlow)?
}

/// Leaves an upstream alone that fails again and again, and tries it with one call after a pause.
#[derive(Debug, Default)]
pub(super) struct Breaker(Mutex<Failures>);

#[derive(Debug, Default)]
struct Failures {
    in_a_row: u32,
    again_at: Option<Instant>,
}

impl Breaker {
    /// Whether to call now.
    pub(super) fn check(&self, now: Instant) -> Result<(), UpstreamError> {
        let mut failures = self.0.lock();
        match failures.again_at {
            Some(at) if now < at => Err(UpstreamError::OutOfOrder),
            Some(_) => {
                failures.again_at = Some(now + PAUSE); // this call tries; the others wait for it
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Notes how a call went.
    pub(super) fn note<T>(&self, outcome: &Result<T, UpstreamError>, now: Instant) {
        let mut failures = self.0.lock();
        match outcome {
            // It lives, even where it did not like this one call.
            Ok(_) | Err(UpstreamError::Status(400..=428 | 430..=499)) => *failures = Failures::default(),
            Err(UpstreamError::Busy | UpstreamError::NotTaken | UpstreamError::OutOfOrder) => {} // says nothing of it
            Err(_) => {
                failures.in_a_row += 1;
                if failures.in_a_row >= FAILURES {
                    failures.again_at = Some(now + PAUSE);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_breaker_opens_tries_and_closes() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        let bad: Result<(), _> = Err(UpstreamError::TooSlow);
        for _ in 0..FAILURES {
            assert!(breaker.check(now).is_ok());
            breaker.note(&bad, now);
        }
        assert_eq!(breaker.check(now), Err(UpstreamError::OutOfOrder));
        let later = now + PAUSE;
        assert!(breaker.check(later).is_ok(), "one tries");
        assert_eq!(breaker.check(later), Err(UpstreamError::OutOfOrder), "the others wait");
        breaker.note(&bad, later);
        assert!(breaker.check(later + PAUSE).is_ok());
        breaker.note(&Ok(()), later + PAUSE);
        assert!(breaker.check(later + PAUSE).is_ok() && breaker.check(later + PAUSE).is_ok());
    }

    #[test]
    fn a_refused_call_is_no_failure_of_the_source() {
        let (breaker, now) = (Breaker::default(), Instant::now());
        for _ in 0..2 * FAILURES {
            breaker.note::<()>(&Err(UpstreamError::Status(404)), now);
        }
        assert!(breaker.check(now).is_ok());
    }
}
