//! What the companion knows: `/api/weather`, `/api/catalog`.

use std::collections::HashSet;

use serde::Deserialize;
use serde_json::Value;

use super::devices::check_text;
use crate::core::time::Timestamp;
use crate::handlers::canonical_city;
use crate::http::error::ApiError;
use crate::http::reply::Reply;
use crate::http::request::Call;
use crate::store::{Catalog, CatalogEntry, Observation, fold_name};

/// The longest list.
const MAX_PIECES: usize = 1000;

/// `PUT /api/weather/{city} {temp, text?, icon?, at?}`: what a weather station sees.
pub async fn observe(call: Call) -> Result<Reply, ApiError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        temp: Value,
        text: Option<String>,
        icon: Option<String>,
        at: Option<Timestamp>,
    }
    let city = call.name.as_deref().unwrap_or_default().trim();
    check_text("the city", Some(city), 1)?;
    let body: Body = call.json()?;
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
    if at > now.plus_seconds(300) {
        return Err(ApiError::Invalid("at must not lie in the future".into()));
    }
    let whole = degrees.round() as i64; // -0.4 is 0, not -0
    let seen = Observation { temp: whole.to_string(), text, icon, at };
    call.app.store.observe(canonical_city(city), seen).await?;
    Ok(Reply::done("observed"))
}

/// `GET /api/catalog/songs`.
pub async fn songs(call: Call) -> Result<Reply, ApiError> {
    list(&call, Catalog::Songs)
}

/// `GET /api/catalog/dances`.
pub async fn dances(call: Call) -> Result<Reply, ApiError> {
    list(&call, Catalog::Dances)
}

fn list(call: &Call, which: Catalog) -> Result<Reply, ApiError> {
    Reply::data("ok", &*call.app.handlers().catalog().get(which))
}

/// `PUT /api/catalog/songs {items: [{name, artist?}]}`: all of them.
pub async fn set_songs(call: Call) -> Result<Reply, ApiError> {
    set(&call, Catalog::Songs).await
}

/// `PUT /api/catalog/dances {items: [{name, style?}]}`: all of them.
pub async fn set_dances(call: Call) -> Result<Reply, ApiError> {
    set(&call, Catalog::Dances).await
}

async fn set(call: &Call, which: Catalog) -> Result<Reply, ApiError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        items: Vec<CatalogEntry>,
    }
    let mut items = call.json::<Body>()?.items;
    if items.len() > MAX_PIECES {
        return Err(ApiError::Invalid(format!("items must be at most {MAX_PIECES}")));
    }
    let mut names = HashSet::new();
    for (n, piece) in items.iter_mut().enumerate() {
        piece.name = piece.name.trim().to_owned();
        if !names.insert(fold_name(&piece.name)) {
            return Err(ApiError::Invalid(format!("items[{n}].name stands there twice")));
        }
        check_text(&format!("items[{n}].name"), Some(&piece.name), 1)?;
        for (field, text) in [("artist", &piece.artist), ("style", &piece.style)] {
            check_text(&format!("items[{n}].{field}"), text.as_deref(), 0)?;
        }
    }
    call.app.handlers().catalog().set(which, items).await?;
    list(call, which)
}

/// `DELETE /api/catalog/songs`: everything is accepted again.
pub async fn clear_songs(call: Call) -> Result<Reply, ApiError> {
    call.app.handlers().catalog().set(Catalog::Songs, Vec::new()).await?;
    Ok(Reply::done("every song is accepted"))
}

/// `DELETE /api/catalog/dances`: everything is accepted again.
pub async fn clear_dances(call: Call) -> Result<Reply, ApiError> {
    call.app.handlers().catalog().set(Catalog::Dances, Vec::new()).await?;
    Ok(Reply::done("every dance is accepted"))
}
