//! QWeather: the city look-up (dev.qweather.com/en/docs/api/geoapi/city-lookup), then the weather now
//! (dev.qweather.com/en/docs/api/weather/weather-now). Its answers carry a `code` of their own: `200` is good, `204` and `404`
//! mean that there is no such city.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::Client;
use reqwest::header::HeaderValue;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;

use super::Found;
use crate::config::{QWeatherConfig, Secret};
use crate::core::time::Timestamp;
use crate::handlers::upstream::{Breaker, UpstreamError, counted, read, send_any};
use crate::telemetry::metrics::{Metrics, Upstream};
use crate::wire::outbound::{Weather, WeatherNow};

/// How long one call may take.
const WITHIN: Duration = Duration::from_secs(8);
/// How many cities are asked for at once.
const AT_ONCE: usize = 16;
/// The longest answer, unpacked.
const MOST_BYTES: usize = 64 * 1024;

#[derive(Deserialize)]
struct Cities {
    code: String,
    #[serde(default)]
    location: Vec<Location>,
}

#[derive(Deserialize)]
struct Location {
    id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Now {
    code: String,
    #[serde(default)]
    update_time: String,
    now: Option<Figures>,
}

#[derive(Deserialize)]
struct Figures {
    temp: String,
    text: String,
    icon: String,
}

/// The service.
pub(super) struct QWeather {
    base: String,
    key: Secret,
    client: Client,
    breaker: Breaker,
    at_once: Semaphore,
    metrics: Arc<Metrics>,
}

impl QWeather {
    pub(super) fn new(config: &QWeatherConfig, client: Client, metrics: Arc<Metrics>) -> Self {
        let base = if config.host.contains("://") { config.host.clone() } else { format!("https://{}", config.host) };
        Self {
            base: base.trim_end_matches('/').to_owned(),
            key: config.key.clone(),
            client,
            breaker: Breaker::default(),
            at_once: Semaphore::new(AT_ONCE),
            metrics,
        }
    }

    /// The weather in `city`.
    pub(super) async fn now(&self, city: &str) -> Found {
        counted(&self.metrics, Upstream::Weather, self.call(city)).await
    }

    async fn call(&self, city: &str) -> Found {
        self.breaker.check(Instant::now())?;
        let _one = self.at_once.try_acquire().map_err(|_| UpstreamError::Busy)?;
        let found = self.ask(city).await;
        self.breaker.note(&found, Instant::now());
        found
    }

    async fn ask(&self, city: &str) -> Found {
        let cities: Cities = self.get("/geo/v2/city/lookup", city).await?;
        let place = match cities.code.as_str() {
            "200" => cities.location.into_iter().next(),
            "204" | "404" => None,
            code => return Err(status(code)),
        };
        let Some(place) = place else { return Ok(None) };
        let answer: Now = self.get("/v7/weather/now", &place.id).await?;
        match (answer.code.as_str(), answer.now) {
            ("200", Some(Figures { temp, text, icon })) => {
                let update_time: Timestamp = answer.update_time.parse().map_err(|_| UpstreamError::Unreadable)?;
                Ok(Some(Weather { now: WeatherNow { temp, text, icon }, update_time }))
            }
            ("204" | "404", _) => Ok(None),
            ("200", None) => Err(UpstreamError::Unreadable),
            (code, _) => Err(status(code)),
        }
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, location: &str) -> Result<T, UpstreamError> {
        let request = self.client.get(format!("{}{path}", self.base)).query(&[("location", location)]);
        let mut key = HeaderValue::from_str(self.key.reveal()).map_err(|_| UpstreamError::Misconfigured)?;
        key.set_sensitive(true);
        let response = send_any(request.header("X-QW-Api-Key", key), WITHIN).await?;
        let status = response.status().as_u16();
        let body = match status {
            200..300 | 400 | 404 => read(response, MOST_BYTES, WITHIN).await?,
            other => return Err(UpstreamError::Status(other)),
        };
        let body = match status {
            200..300 => body,
            // Newer hosts say so with a status of HTTP's, and an object that names what is missing.
            _ if names_no_place(&body) => br#"{"code":"404"}"#.to_vec(),
            other => return Err(UpstreamError::Status(other)),
        };
        serde_json::from_slice(&body).map_err(|_| UpstreamError::Unreadable)
    }
}

/// Whether an error says that there is no such place (dev.qweather.com/en/docs/resource/error-code).
fn names_no_place(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Body {
        #[serde(default)]
        code: String,
        error: Option<Details>,
    }
    #[derive(Deserialize)]
    struct Details {
        #[serde(default)]
        title: String,
        #[serde(default, rename = "type")]
        kind: String,
    }
    let Ok(Body { code, error }) = serde_json::from_slice(body) else { return false };
    let said = error.map(|e| format!("{} {}", e.title, e.kind).to_lowercase().replace(['-', '_'], " ")).unwrap_or_default();
    code == "404" || said.contains("no such location") || said.contains("not found")
}

/// Its codes are HTTP's.
fn status(code: &str) -> UpstreamError {
    code.parse().map_or(UpstreamError::Unreadable, UpstreamError::Status)
}
