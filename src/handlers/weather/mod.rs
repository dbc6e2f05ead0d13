//! `weather`: answered by the first source that knows the city: an own weather station, QWeather, or the simulated climate.

mod qweather;
mod simulated;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use tokio::sync::OnceCell;

use super::upstream::UpstreamClient;
use super::upstream::UpstreamError;
use crate::config::WeatherConfig;
use crate::core::boot::BootInstant;
use crate::core::time::Timestamp;
use crate::store::{Observation, Store};
use crate::telemetry::metrics::Metrics;
use crate::wire::outbound::{City, Weather, WeatherNow, WeatherReport};
use crate::wire::{ErrorCode, Event};
use qweather::{LookUp, QWeather};
pub(crate) use simulated::canonical_city;

/// The time that QWeather's answer for a city is cached.
const WEATHER_TTL: Duration = Duration::from_secs(600);
/// The time for which it is cached that QWeather does not know a city.
const UNKNOWN_CITY_TTL: Duration = Duration::from_secs(60);
/// The maximum number of cached cities.
const MAX_CACHED_CITIES: usize = 1000;

/// A look-up, finished or in progress, shared by all requests for the city.
struct CacheEntry {
    created: BootInstant,
    cell: Arc<OnceCell<LookUp>>,
}

/// The weather sources.
pub(super) struct Sources {
    store: Store,
    stale: Duration,
    qweather: Option<QWeather>,
    simulated: bool,
    cache: Mutex<HashMap<String, CacheEntry>>,
}

impl Sources {
    /// Creates the sources for a configuration; `client` calls QWeather.
    pub(super) fn new(config: &WeatherConfig, store: Store, client: Option<&UpstreamClient>, metrics: &Arc<Metrics>) -> Self {
        let qweather =
            config.qweather.as_ref().zip(client).map(|(config, client)| QWeather::new(config, client.clone(), metrics.clone()));
        let stale = Duration::from_secs(config.stale_seconds);
        Self { store, stale, qweather, simulated: config.simulated, cache: Mutex::default() }
    }

    /// Answers without waiting, if an observation is available or QWeather is not configured.
    pub(super) fn answer_immediately(&self, city: &str, now: Timestamp) -> Option<Event> {
        let fallback = || self.qweather.is_none().then(|| self.fallback(city, now, None));
        self.observed(city, now).or_else(fallback)
    }

    /// Returns the observation of a station, unless it is stale.
    fn observed(&self, city: &str, now: Timestamp) -> Option<Event> {
        let observation = self.store.observation(&canonical_city(city)).unwrap_or_else(|error| {
            tracing::error!(%error, "failed to read a weather observation");
            None
        });
        let fresh = |observation: &Observation| observation.at > now.minus(self.stale);
        observation.filter(fresh).map(|Observation { temp, text, icon, at, .. }| {
            report(city, Weather { now: WeatherNow { temp, text, icon }, update_time: at }, "observation")
        })
    }

    /// Answers from QWeather, or else from the fallback.
    pub(super) async fn answer(&self, city: &str, now: Timestamp) -> Event {
        match self.look_up(city).await {
            Ok(Some(weather)) => report(city, weather, "qweather"),
            Ok(None) => self.fallback(city, now, None),
            Err(error) => {
                tracing::warn!(%error, "QWeather failed");
                self.fallback(city, now, Some(error))
            }
        }
    }

    /// Returns the simulated weather if enabled, else an error.
    fn fallback(&self, city: &str, now: Timestamp, error: Option<UpstreamError>) -> Event {
        if self.simulated {
            return simulated::answer(city.to_owned(), now);
        }
        let reason = error.map_or_else(|| "no source knows this city".to_owned(), |error| error.to_string());
        Event::Error { message: format!("Weather query failed: {reason}"), code: ErrorCode::UpstreamError }
    }

    /// Returns QWeather's answer, possibly cached. Concurrent requests for a city share one call.
    async fn look_up(&self, city: &str) -> LookUp {
        let Some(source) = &self.qweather else { return Ok(None) };
        let name = canonical_city(city);
        let cell = self.cached(&name);
        let result = cell.get_or_init(|| source.now(&name)).await.clone();
        if result.is_err() {
            // Failures are not cached; the circuit breaker limits repeated calls.
            let mut cache = self.cache.lock();
            if cache.get(&name).is_some_and(|entry| Arc::ptr_eq(&entry.cell, &cell)) {
                cache.remove(&name);
            }
        }
        result
    }

    /// Returns the cached look-up of a city, or inserts a new one.
    fn cached(&self, name: &str) -> Arc<OnceCell<LookUp>> {
        let now = BootInstant::now();
        let valid = |entry: &CacheEntry| now.since(entry.created) < entry.ttl();
        let mut cache = self.cache.lock();
        if let Some(entry) = cache.get(name).filter(|entry| valid(entry)) {
            return entry.cell.clone();
        }
        if cache.len() >= MAX_CACHED_CITIES {
            cache.retain(|_, entry| valid(entry));
            // Unknown cities are evicted first, so that invented names do not displace real ones.
            let eviction_order = |entry: &CacheEntry| (!entry.is_unknown(), entry.created);
            if cache.len() >= MAX_CACHED_CITIES
                && let Some(oldest) = cache.iter().min_by_key(|(_, entry)| eviction_order(entry)).map(|(name, _)| name.clone())
            {
                cache.remove(&oldest);
            }
        }
        let cell = Arc::new(OnceCell::new());
        cache.insert(name.to_owned(), CacheEntry { created: now, cell: cell.clone() });
        cell
    }
}

impl CacheEntry {
    /// Returns whether the look-up found that the city is unknown.
    fn is_unknown(&self) -> bool {
        matches!(self.cell.get(), Some(Ok(None)))
    }

    fn ttl(&self) -> Duration {
        if self.is_unknown() { UNKNOWN_CITY_TTL } else { WEATHER_TTL }
    }
}

fn report(city: &str, weather: Weather, source: &'static str) -> Event {
    Event::WeatherResponse { data: WeatherReport { city: City { name: city.to_owned() }, weather, source } }
}
