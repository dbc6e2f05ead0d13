//! `weather`: from the first source that knows the city: a station of one's own, QWeather, or the simulated climate.

mod qweather;
mod simulated;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use reqwest::Client;
use tokio::sync::OnceCell;

use super::upstream::UpstreamError;
use crate::config::WeatherConfig;
use crate::core::time::Timestamp;
use crate::store::{Observation, Store};
use crate::telemetry::metrics::Metrics;
use crate::wire::outbound::{City, Weather, WeatherNow, WeatherReport};
use crate::wire::{ErrorCode, Event};
use qweather::QWeather;
pub(crate) use simulated::canonical;

/// How long a source's answer is good for, and its not knowing a city.
const FRESH: Duration = Duration::from_secs(600);
const UNKNOWN: Duration = Duration::from_secs(60);
/// How many cities' answers are kept.
const MOST_CITIES: usize = 1000;

/// What a source said of a city; `None`: it does not know it.
type Found = Result<Option<Weather>, UpstreamError>;

/// One look-up, shared by all who ask meanwhile.
struct Kept {
    made: Instant,
    cell: Arc<OnceCell<Found>>,
}

/// The sources.
pub(super) struct Sources {
    store: Store,
    stale: Duration,
    qweather: Option<QWeather>,
    simulated: bool,
    kept: Mutex<HashMap<String, Kept>>,
}

impl Sources {
    /// As configured; `client` for QWeather.
    pub(super) fn new(config: &WeatherConfig, store: Store, client: Option<&Client>, metrics: &Arc<Metrics>) -> Self {
        let qweather =
            config.qweather.as_ref().zip(client).map(|(config, client)| QWeather::new(config, client.clone(), metrics.clone()));
        let stale = Duration::from_secs(config.stale_seconds);
        Self { store, stale, qweather, simulated: config.simulated, kept: Mutex::default() }
    }

    /// The answer, where it takes no time.
    pub(super) fn quick(&self, city: &str, now: Timestamp) -> Option<Event> {
        let observed = self.observed(city, now);
        let simulated = || (self.qweather.is_none()).then(|| self.last_resort(city, now, None));
        observed.or_else(simulated)
    }

    /// What a station has said lately.
    fn observed(&self, city: &str, now: Timestamp) -> Option<Event> {
        let found = self.store.observation(&canonical(city)).unwrap_or_else(|error| {
            tracing::error!(%error, "observations can't be read");
            None
        });
        let fresh = |seen: &Observation| seen.at > now.minus(self.stale);
        found.filter(fresh).map(|Observation { temp, text, icon, at }| {
            report(city, Weather { now: WeatherNow { temp, text, icon }, update_time: at }, "observation")
        })
    }

    /// Asks those that take time, in turn.
    pub(super) async fn answer(&self, city: &str, now: Timestamp) -> Event {
        match self.look_up(city).await {
            Ok(Some(weather)) => report(city, weather, "qweather"),
            Ok(None) => self.last_resort(city, now, None),
            Err(why) => {
                tracing::warn!(%why, "QWeather gave no answer");
                self.last_resort(city, now, Some(why))
            }
        }
    }

    fn last_resort(&self, city: &str, now: Timestamp, why: Option<UpstreamError>) -> Event {
        if self.simulated {
            return simulated::answer(city.to_owned(), now);
        }
        let why = why.map_or_else(|| "no source knows this city".to_owned(), |why| why.to_string());
        Event::Error { message: format!("Weather query failed: {why}"), code: ErrorCode::UpstreamError }
    }

    /// QWeather's answer, or the one it gave a while ago; who asks while it is asked waits for the same answer.
    async fn look_up(&self, city: &str) -> Found {
        let Some(source) = &self.qweather else { return Ok(None) };
        let name = canonical(city);
        let cell = self.cell(&name);
        let found = cell.get_or_init(|| source.now(&name)).await.clone();
        if found.is_err() {
            // A failure is not kept: the breaker sees to it that the source is left in peace.
            let mut kept = self.kept.lock();
            if kept.get(&name).is_some_and(|k| Arc::ptr_eq(&k.cell, &cell)) {
                kept.remove(&name);
            }
        }
        found
    }

    fn cell(&self, name: &str) -> Arc<OnceCell<Found>> {
        let now = Instant::now();
        let good = |kept: &Kept| {
            let life = if unknown(kept) { UNKNOWN } else { FRESH };
            now.saturating_duration_since(kept.made) < life
        };
        let mut all = self.kept.lock();
        if let Some(kept) = all.get(name).filter(|kept| good(kept)) {
            return kept.cell.clone();
        }
        if all.len() >= MOST_CITIES {
            all.retain(|_, kept| good(kept));
            if all.len() >= MOST_CITIES
                // Those that nobody knows first: made-up names must not push out the real ones.
                && let Some(oldest) =
                    all.iter().min_by_key(|(_, kept)| (!unknown(kept), kept.made)).map(|(name, _)| name.clone())
            {
                all.remove(&oldest);
            }
        }
        let cell = Arc::new(OnceCell::new());
        all.insert(name.to_owned(), Kept { made: now, cell: cell.clone() });
        cell
    }
}

fn unknown(kept: &Kept) -> bool {
    matches!(kept.cell.get(), Some(Ok(None)))
}

fn report(city: &str, weather: Weather, source: &'static str) -> Event {
    Event::WeatherResponse { data: WeatherReport { city: City { name: city.to_owned() }, weather, source } }
}
