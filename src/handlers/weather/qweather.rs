//! QWeather: the city look-up (dev.qweather.com/en/docs/api/geoapi/city-lookup), then the weather now
//! (dev.qweather.com/en/docs/api/weather/weather-now). Its answers carry a `code` of their own: `200` is good, `204` and `404`
//! mean that there is no such city.

use std::time::{Duration, Instant};

use reqwest::Client;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::Found;
use crate::config::{QWeatherConfig, Secret};
use crate::handlers::upstream::{Breaker, UpstreamError, read, send};
use crate::wire::Timestamp;
use crate::wire::outbound::{Weather, WeatherNow};

/// How long one call may take.
const WITHIN: Duration = Duration::from_secs(8);
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
}

impl QWeather {
    pub(super) fn new(config: &QWeatherConfig, client: Client) -> Self {
        let base = if config.host.contains("://") { config.host.clone() } else { format!("https://{}", config.host) };
        Self { base: base.trim_end_matches('/').to_owned(), key: config.key.clone(), client, breaker: Breaker::default() }
    }

    /// The weather in `city`.
    pub(super) async fn now(&self, city: &str) -> Found {
        self.breaker.check(Instant::now())?;
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
                let update_time = answer.update_time.parse().unwrap_or_else(|_| Timestamp::now());
                Ok(Some(Weather { now: WeatherNow { temp, text, icon }, update_time }))
            }
            ("204" | "404", _) => Ok(None),
            ("200", None) => Err(UpstreamError::Unreadable),
            (code, _) => Err(status(code)),
        }
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, location: &str) -> Result<T, UpstreamError> {
        let request = self.client.get(format!("{}{path}", self.base)).query(&[("location", location)]);
        // A city that is unknown is answered 404 by newer hosts, with an object that says the same.
        let response = send(request.header("X-QW-Api-Key", self.key.reveal()), WITHIN).await;
        let body = match response {
            Ok(response) => read(response, MOST_BYTES, WITHIN).await?,
            Err(UpstreamError::Status(404)) => br#"{"code":"404"}"#.to_vec(),
            Err(other) => return Err(other),
        };
        serde_json::from_slice(&body).map_err(|_| UpstreamError::Unreadable)
    }
}

/// Its codes are HTTP's.
fn status(code: &str) -> UpstreamError {
    code.parse().map_or(UpstreamError::Unreadable, UpstreamError::Status)
}
