//! `/api/weather` and `/api/catalog`: observations of weather stations, and the songs and dances that devices know.

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::Value;

use crate::change::Observe;
use crate::core::names::fold;
use crate::core::text::check_text;
use crate::core::time::Timestamp;
use crate::handlers::canonical_city;
use crate::http::error::ApiError;
use crate::http::reply::Reply;
use crate::http::request::{Call, RequestBody};
use crate::store::{Catalog, CatalogEntry, Observation};

/// The largest number of songs, and of dances.
const MAX_CATALOG_ENTRIES: usize = 1000;
/// An observation may be that far in the future, in seconds: clocks differ.
const MAX_CLOCK_SKEW_SECONDS: u64 = 300;

/// Body of `PUT /api/weather/{name}`.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ObserveRequest {
    /// Degrees Celsius, a number or its decimal string.
    #[cfg_attr(test, schemars(with = "crate::describe::types::Degrees"))]
    temp: Value,
    text: Option<String>,
    /// QWeather's icon number.
    icon: Option<String>,
    at: Option<Timestamp>,
}

impl RequestBody for ObserveRequest {}

/// `PUT /api/weather/{city}`: an observation of a weather station.
pub async fn observe(call: Call, body: Result<ObserveRequest, ApiError>) -> Result<Reply<()>, ApiError> {
    let city = call.name.as_deref().unwrap_or_default().trim();
    check_text("the city", Some(city), 1)?;
    let body = body?;
    let degrees = match &body.temp {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    let degrees = degrees.filter(|d| (-100.0..=100.0).contains(d));
    let degrees = degrees.ok_or_else(|| ApiError::Invalid("temp must be degrees Celsius, -100 to 100".into()))?;
    let (text, icon) = (body.text.unwrap_or_default(), body.icon.unwrap_or_else(|| "999".into()));
    check_text("text", Some(&text), 0)?;
    check_text("icon", Some(&icon), 1)?;
    let now = Timestamp::now();
    let at = body.at.unwrap_or(now);
    if at > now.plus_seconds(MAX_CLOCK_SKEW_SECONDS) {
        return Err(ApiError::Invalid("at must not lie in the future".into()));
    }
    let observation = Observation { temp: decimal(degrees), text, icon, at, reporter: Some(call.caller()?.user.id) };
    call.app.changes.run(Observe { city: canonical_city(city), observation }).await?;
    Ok(Reply::done("observed"))
}

/// Returns a number of degrees as it is written, with at most six digits behind the point: what a station computes with `float`
/// is 23.4, not 23.399999618530273.
fn decimal(degrees: f64) -> String {
    let text = format!("{degrees:.6}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// `GET /api/catalog/songs`.
pub async fn songs(call: Call) -> Result<Reply<Vec<CatalogEntry>>, ApiError> {
    Ok(list(&call, Catalog::Songs))
}

/// `GET /api/catalog/dances`.
pub async fn dances(call: Call) -> Result<Reply<Vec<CatalogEntry>>, ApiError> {
    Ok(list(&call, Catalog::Dances))
}

fn list(call: &Call, which: Catalog) -> Reply<Vec<CatalogEntry>> {
    Reply::ok("ok", call.app.handlers().catalog().get(which).to_vec())
}

/// Body of `PUT /api/catalog/songs` and `PUT /api/catalog/dances`: the whole list.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SetCatalogRequest {
    items: Vec<CatalogEntry>,
}

impl RequestBody for SetCatalogRequest {}

/// `PUT /api/catalog/songs`.
pub async fn set_songs(call: Call, body: SetCatalogRequest) -> Result<Reply<Vec<CatalogEntry>>, ApiError> {
    set(&call, Catalog::Songs, body.items).await
}

/// `PUT /api/catalog/dances`.
pub async fn set_dances(call: Call, body: SetCatalogRequest) -> Result<Reply<Vec<CatalogEntry>>, ApiError> {
    set(&call, Catalog::Dances, body.items).await
}

async fn set(call: &Call, which: Catalog, mut items: Vec<CatalogEntry>) -> Result<Reply<Vec<CatalogEntry>>, ApiError> {
    if items.len() > MAX_CATALOG_ENTRIES {
        return Err(ApiError::Invalid(format!("items must be at most {MAX_CATALOG_ENTRIES}")));
    }
    let mut names = HashSet::new();
    for (n, entry) in items.iter_mut().enumerate() {
        entry.name = entry.name.trim().to_owned();
        if !names.insert(fold(&entry.name)) {
            return Err(ApiError::Invalid(format!("items[{n}].name is a duplicate")));
        }
        check_text(&format!("items[{n}].name"), Some(&entry.name), 1)?;
        for (field, text) in [("artist", &entry.artist), ("style", &entry.style)] {
            check_text(&format!("items[{n}].{field}"), text.as_deref(), 0)?;
        }
    }
    call.app.handlers().catalog().set(which, items).await?;
    Ok(list(call, which))
}

/// `DELETE /api/catalog/songs`: everything is accepted again.
pub async fn clear_songs(call: Call) -> Result<Reply<()>, ApiError> {
    call.app.handlers().catalog().set(Catalog::Songs, Vec::new()).await?;
    Ok(Reply::done("every song is accepted"))
}

/// `DELETE /api/catalog/dances`: everything is accepted again.
pub async fn clear_dances(call: Call) -> Result<Reply<()>, ApiError> {
    call.app.handlers().catalog().set(Catalog::Dances, Vec::new()).await?;
    Ok(Reply::done("every dance is accepted"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn degrees_are_kept_as_they_are_written() {
        for (degrees, text) in [
            (-3.4, "-3.4"),
            (0.0, "0"),
            (-0.0, "0"),
            (-0.4, "-0.4"),
            (-0.000_000_1, "0"),
            (20.0, "20"),
            (100.0, "100"),
            (-100.0, "-100"),
            (21.0625, "21.0625"),
            (f64::from(23.4_f32), "23.4"),
            (1e-300, "0"),
        ] {
            assert_eq!(decimal(degrees), text, "{degrees}");
        }
    }

    proptest! {
        #[test]
        fn degrees_of_a_station_keep_their_value(thousandths in -100_000i32..=100_000) {
            let degrees = f64::from(thousandths) / 1000.0;
            let text = decimal(degrees);
            prop_assert_eq!(text.parse::<f64>().unwrap(), degrees + 0.0);
            prop_assert!(text != "-0" && !text.ends_with('.') && text.len() <= 8, "{}", text);
        }
    }
}
