//! QWeather: the city look-up (dev.qweather.com/en/docs/api/geoapi/city-lookup), then the current weather
//! (dev.qweather.com/en/docs/api/weather/weather-now). Answers contain a `code` of their own: `200` is success, `204` and `404`
//! mean that the city is unknown.

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::header::HeaderValue;
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::config::{QWeatherConfig, Secret};
use crate::core::time::Timestamp;
use crate::handlers::upstream::{CircuitBreaker, UpstreamClient, UpstreamError, read, recorded, send_any};
use crate::telemetry::metrics::{Metrics, Upstream};
use crate::wire::outbound::{Weather, WeatherNow};

/// Timeout for one request, and again for its body.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(8);
/// The maximum number of concurrent look-ups.
const MAX_CONCURRENT_LOOK_UPS: usize = 16;
/// The maximum size of an answer, decompressed.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// The result of a look-up; `None` when the source does not know the city.
pub(super) type LookUp = Result<Option<Weather>, UpstreamError>;

/// Reads a text, or a number as text: proxies for this service turn one into the other.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::String(text) => Ok(text),
        Value::Number(number) => Ok(number.to_string()),
        other => Err(D::Error::custom(format_args!("{other} is neither a text nor a number"))),
    }
}

#[derive(Deserialize)]
struct CityLookUp {
    #[serde(deserialize_with = "text")]
    code: String,
    #[serde(default)]
    location: Vec<Location>,
}

#[derive(Deserialize)]
struct Location {
    #[serde(deserialize_with = "text")]
    id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CurrentWeather {
    #[serde(deserialize_with = "text")]
    code: String,
    #[serde(default)]
    update_time: String,
    now: Option<Values>,
}

#[derive(Deserialize)]
struct Values {
    #[serde(deserialize_with = "text")]
    temp: String,
    #[serde(deserialize_with = "text")]
    text: String,
    #[serde(deserialize_with = "text")]
    icon: String,
}

/// A client of the QWeather service.
pub(super) struct QWeather {
    base: String,
    key: Secret,
    client: UpstreamClient,
    breaker: CircuitBreaker,
    permits: Semaphore,
    metrics: Arc<Metrics>,
}

impl QWeather {
    pub(super) fn new(config: &QWeatherConfig, client: UpstreamClient, metrics: Arc<Metrics>) -> Self {
        let base = if config.host.contains("://") { config.host.clone() } else { format!("https://{}", config.host) };
        Self {
            base: base.trim_end_matches('/').to_owned(),
            key: config.key.clone(),
            client,
            breaker: CircuitBreaker::default(),
            permits: Semaphore::new(MAX_CONCURRENT_LOOK_UPS),
            metrics,
        }
    }

    /// Returns the current weather in `city`.
    pub(super) async fn now(&self, city: &str) -> LookUp {
        recorded(&self.metrics, Upstream::Weather, self.call(city)).await
    }

    async fn call(&self, city: &str) -> LookUp {
        self.breaker.check(Instant::now())?;
        let _permit = self.permits.try_acquire().map_err(|_| UpstreamError::Busy)?;
        let result = self.request(city).await;
        self.breaker.record(&result, Instant::now());
        result
    }

    async fn request(&self, city: &str) -> LookUp {
        let cities: CityLookUp = self.get("/geo/v2/city/lookup", city).await?;
        let location = match cities.code.as_str() {
            "200" => cities.location.into_iter().next(),
            "204" | "404" => None,
            code => return Err(status(code)),
        };
        let Some(location) = location else { return Ok(None) };
        let answer: CurrentWeather = self.get("/v7/weather/now", &location.id).await?;
        match (answer.code.as_str(), answer.now) {
            ("200", Some(Values { temp, text, icon })) => {
                let update_time: Timestamp = answer.update_time.parse().map_err(|_| UpstreamError::Unreadable)?;
                Ok(Some(Weather { now: WeatherNow { temp, text, icon }, update_time }))
            }
            ("204" | "404", _) => Ok(None),
            ("200", None) => Err(UpstreamError::Unreadable),
            (code, _) => Err(status(code)),
        }
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, location: &str) -> Result<T, UpstreamError> {
        let request = self.client.get(&format!("{}{path}", self.base)).query(&[("location", location)]);
        let mut key = HeaderValue::from_str(self.key.reveal()).map_err(|_| UpstreamError::Misconfigured)?;
        key.set_sensitive(true);
        let response = send_any(&self.client, request.header("X-QW-Api-Key", key), REQUEST_TIMEOUT).await?;
        let status = response.status().as_u16();
        let body = match status {
            200..300 | 400 | 404 => read(response, MAX_ANSWER_BYTES, REQUEST_TIMEOUT).await?,
            other => return Err(UpstreamError::Status(other)),
        };
        let body = match status {
            200..300 => body,
            // Newer hosts report an unknown city as an HTTP status with an error object.
            _ if is_unknown_location(&body) => br#"{"code":"404"}"#.to_vec(),
            other => return Err(UpstreamError::Status(other)),
        };
        serde_json::from_slice(&body).map_err(|_| UpstreamError::Unreadable)
    }
}

/// Returns whether an error body reports an unknown location (dev.qweather.com/en/docs/resource/error-code).
fn is_unknown_location(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct ErrorBody {
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
    let Ok(ErrorBody { code, error }) = serde_json::from_slice(body) else { return false };
    let text = error.map(|e| format!("{} {}", e.title, e.kind).to_lowercase().replace(['-', '_'], " ")).unwrap_or_default();
    code == "404" || text.contains("no such location") || text.contains("not found")
}

/// Converts a `code` of an answer; its values are those of HTTP statuses.
fn status(code: &str) -> UpstreamError {
    code.parse().map_or(UpstreamError::Unreadable, UpstreamError::Status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_texts() {
        let cities: CityLookUp = serde_json::from_str(r#"{"code":200,"location":[{"id":101210101,"lat":30.25}]}"#).unwrap();
        assert_eq!((cities.code.as_str(), cities.location[0].id.as_str()), ("200", "101210101"));
        let answer: CurrentWeather =
            serde_json::from_str(r#"{"code":"200","now":{"temp":-3.4,"text":"晴","icon":100}}"#).unwrap();
        let now = answer.now.unwrap();
        assert_eq!((now.temp.as_str(), now.text.as_str(), now.icon.as_str()), ("-3.4", "晴", "100"));
        assert!(serde_json::from_str::<CurrentWeather>(r#"{"code":"200","now":{"temp":null,"text":"","icon":""}}"#).is_err());
    }
}
