//! Common parts of all upstreams: errors, limits on time and size, and a circuit breaker.

use std::future::Future;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use reqwest::{RequestBuilder, Response};

pub(super) use super::upstream_client::UpstreamClient;
use crate::core::awake::timeout;
use crate::telemetry::metrics::{Metrics, Upstream, UpstreamOutcome};

/// The number of consecutive failures that opens the circuit breaker.
const MAX_CONSECUTIVE_FAILURES: u32 = 5;
/// The time after which an open circuit breaker lets one call through.
const RETRY_INTERVAL: Duration = Duration::from_secs(30);

/// A failed upstream call. Displays as a phrase that contains neither an address nor a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum UpstreamError {
    /// The connection failed.
    #[error("the source can't be reached")]
    Unreachable,
    /// The answer did not arrive in time.
    #[error("the source did not answer in time")]
    TooSlow,
    /// The answer has an HTTP status other than success.
    #[error("the source answered {0}")]
    Status(u16),
    /// The answer exceeds the size limit.
    #[error("the source's answer is too large")]
    TooLarge,
    /// The answer ended early.
    #[error("the source's answer broke off")]
    Interrupted,
    /// The answer does not have the documented form.
    #[error("the source's answer can't be read")]
    Unreadable,
    /// The answer reports an error, without an HTTP status.
    #[error("the source reported an error")]
    Reported,
    /// The model came to no answer.
    #[error("the model stopped before its answer began; raise its limit of tokens")]
    OnlyReasoning,
    /// The circuit breaker is open after repeated failures.
    #[error("the source is unavailable after repeated failures")]
    CircuitOpen,
    /// Too many calls are in flight.
    #[error("the source is busy")]
    Busy,
    /// The client did not read the parts of the answer in time.
    #[error("the client did not read the answer in time")]
    ClientTooSlow,
    /// The configured address or key can't be part of a request.
    #[error("the address or the key of the source is invalid")]
    Misconfigured,
}

impl UpstreamError {
    fn outcome(&self) -> UpstreamOutcome {
        match self {
            Self::Unreachable => UpstreamOutcome::Unreachable,
            Self::TooSlow => UpstreamOutcome::TooSlow,
            Self::Status(_) | Self::Reported => UpstreamOutcome::Status,
            Self::TooLarge => UpstreamOutcome::TooLarge,
            Self::Interrupted => UpstreamOutcome::Interrupted,
            Self::Unreadable | Self::OnlyReasoning => UpstreamOutcome::Unreadable,
            Self::CircuitOpen => UpstreamOutcome::CircuitOpen,
            Self::Busy => UpstreamOutcome::Busy,
            Self::ClientTooSlow => UpstreamOutcome::ClientTooSlow,
            Self::Misconfigured => UpstreamOutcome::Misconfigured,
        }
    }
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
            Self::Interrupted
        }
    }
}

/// Records a call when dropped, so that a call is also counted when the client disconnects first. Otherwise a source that never
/// answers would not show in the metrics.
struct CallRecorder<'a> {
    metrics: &'a Metrics,
    upstream: Upstream,
    outcome: UpstreamOutcome,
    began: Instant,
}

impl Drop for CallRecorder<'_> {
    fn drop(&mut self) {
        self.metrics.record_upstream_call(self.upstream, self.outcome, self.began);
    }
}

/// Runs `call`, a call of `upstream`, and records its outcome.
pub(super) async fn recorded<T>(
    metrics: &Metrics,
    upstream: Upstream,
    call: impl Future<Output = Result<T, UpstreamError>>,
) -> Result<T, UpstreamError> {
    let mut recorder = CallRecorder { metrics, upstream, outcome: UpstreamOutcome::Abandoned, began: Instant::now() };
    let answer = call.await;
    recorder.outcome = answer.as_ref().map_or_else(UpstreamError::outcome, |_| UpstreamOutcome::Ok);
    answer
}

/// Sends a request as [`send_any`] does. Returns a response with a success status.
pub(super) async fn send(
    client: &UpstreamClient,
    request: RequestBuilder,
    deadline: Duration,
) -> Result<Response, UpstreamError> {
    let response = send_any(client, request, deadline).await?;
    if response.status().is_success() { Ok(response) } else { Err(UpstreamError::Status(response.status().as_u16())) }
}

/// Sends a request, and once more where the connection could not be made, or an earlier one was used that its server had closed.
/// Returns a response with any status.
pub(super) async fn send_any(
    client: &UpstreamClient,
    request: RequestBuilder,
    deadline: Duration,
) -> Result<Response, UpstreamError> {
    let request = request.build()?;
    Ok(timeout(deadline, client.execute(request)).await.map_err(|_| UpstreamError::TooSlow)??)
}

/// Reads a body of at most `max_bytes` bytes.
pub(super) async fn read(mut response: Response, max_bytes: usize, deadline: Duration) -> Result<Vec<u8>, UpstreamError> {
    let reading = async {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            if body.len() + chunk.len() > max_bytes {
                return Err(UpstreamError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    };
    timeout(deadline, reading).await.map_err(|_| UpstreamError::TooSlow)?
}

/// A circuit breaker: opens after consecutive failures, and then lets one call through per [`RETRY_INTERVAL`].
#[derive(Debug, Default)]
pub(super) struct CircuitBreaker(Mutex<Failures>);

#[derive(Debug, Default)]
struct Failures {
    consecutive: u32,
    /// The time of the next call; `None` while closed.
    retry_at: Option<Instant>,
}

impl CircuitBreaker {
    /// Permits a call now, or fails with [`UpstreamError::CircuitOpen`].
    pub(super) fn check(&self, now: Instant) -> Result<(), UpstreamError> {
        let mut failures = self.0.lock();
        match failures.retry_at {
            Some(at) if now < at => Err(UpstreamError::CircuitOpen),
            Some(_) => {
                failures.retry_at = Some(now + RETRY_INTERVAL); // this call is the retry; concurrent ones are refused
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Records the result of a call.
    pub(super) fn record<T>(&self, result: &Result<T, UpstreamError>, now: Instant) {
        let mut failures = self.0.lock();
        match result {
            // The upstream works, even if it refused this call.
            Ok(_) | Err(UpstreamError::OnlyReasoning | UpstreamError::Status(400..=428 | 430..=499)) => {
                *failures = Failures::default()
            }
            // These do not depend on the state of the upstream.
            Err(UpstreamError::Busy | UpstreamError::ClientTooSlow | UpstreamError::CircuitOpen) => {}
            Err(_) => {
                failures.consecutive += 1;
                if failures.consecutive >= MAX_CONSECUTIVE_FAILURES {
                    failures.retry_at = Some(now + RETRY_INTERVAL);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn circuit_breaker_opens_retries_and_closes() {
        let (breaker, now) = (CircuitBreaker::default(), Instant::now());
        let failure: Result<(), _> = Err(UpstreamError::TooSlow);
        for _ in 0..MAX_CONSECUTIVE_FAILURES {
            assert!(breaker.check(now).is_ok());
            breaker.record(&failure, now);
        }
        assert_eq!(breaker.check(now), Err(UpstreamError::CircuitOpen));
        let later = now + RETRY_INTERVAL;
        assert!(breaker.check(later).is_ok(), "one call is the retry");
        assert_eq!(breaker.check(later), Err(UpstreamError::CircuitOpen), "other calls are refused");
        breaker.record(&failure, later);
        assert!(breaker.check(later + RETRY_INTERVAL).is_ok());
        breaker.record(&Ok(()), later + RETRY_INTERVAL);
        assert!(breaker.check(later + RETRY_INTERVAL).is_ok() && breaker.check(later + RETRY_INTERVAL).is_ok());
    }

    #[test]
    fn circuit_breaker_ignores_calls_that_the_upstream_refuses() {
        let (breaker, now) = (CircuitBreaker::default(), Instant::now());
        for _ in 0..2 * MAX_CONSECUTIVE_FAILURES {
            breaker.record::<()>(&Err(UpstreamError::Status(404)), now);
        }
        assert!(breaker.check(now).is_ok());
    }
}
