//! `GET /api/audit`: the audit trail, as far as it is kept in the store.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;
use serde_json::Value;

use crate::app::App;
use crate::core::ids::{AuditId, UserId};
use crate::core::time::Timestamp;
use crate::http::error::ApiError;
use crate::http::list::{List, Place};
use crate::http::reply::Reply;
use crate::http::request::Call;
use crate::store::{AuditRecord, AuditSubject, StoreError};

/// The length of a page where none is asked for.
const DEFAULT_PAGE: usize = 100;

/// An entry of the audit trail.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct AuditResponse {
    id: AuditId,
    at: Timestamp,
    event: String,
    /// The acting user; 0 for the command line; `null` where nobody was logged in.
    user_id: Option<UserId>,
    /// The acting user's name, as long as the account exists.
    username: Option<String>,
    /// `user`, `device` or `token`: what the event is about.
    subject_kind: Option<&'static str>,
    subject_id: Option<u64>,
    /// The name of the subject, of a token its label.
    subject: Option<String>,
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    address: Option<IpAddr>,
    /// The other parts of the event, by name.
    details: BTreeMap<String, Value>,
}

impl AuditResponse {
    fn new(app: &App, id: AuditId, record: AuditRecord) -> Result<Self, StoreError> {
        let AuditRecord { at, event, user, subject, name, address, details } = record;
        let username = |id| Ok::<_, StoreError>(app.store.user(id)?.map(|user| user.username.clone()));
        let (subject_kind, subject_id, found) = match subject {
            Some(AuditSubject::User(id)) => (Some("user"), Some(id.0), username(id)?),
            Some(AuditSubject::Device(id)) => (Some("device"), Some(id.0), app.store.device(id)?.map(|device| device.name)),
            Some(AuditSubject::Token(id)) => {
                let label = app.store.token_by_id(id)?.map(|token| token.label.clone());
                (Some("token"), Some(id.0), label.filter(|label| !label.is_empty()))
            }
            None => (None, None, None),
        };
        let username = user.map_or(Ok(None), username)?;
        let subject = name.or(found);
        Ok(Self { id, at, event, user_id: user, username, subject_kind, subject_id, subject, address, details })
    }
}

/// `GET /api/audit?before=&event=&user_id=`: the entries, the newest first; with `event`, of that name; with `user_id`, those that
/// the user caused or that are about the user.
pub async fn list(call: Call) -> Result<Reply<List<AuditResponse>>, ApiError> {
    let id = |name: &'static str| {
        let wrong = move |_| ApiError::Invalid(format!("{name} must be an id"));
        call.parameter(name).map(|text| text.parse::<u64>().map_err(wrong)).transpose()
    };
    let (before, user) = (id("before")?.map(AuditId), id("user_id")?.map(UserId));
    let event = call.parameter("event").map(str::to_owned);
    let limit = call.limit(DEFAULT_PAGE)?;
    call.list(limit, move |app, page| {
        let wanted = |record: &AuditRecord| {
            event.as_ref().is_none_or(|event| record.event == *event)
                && user.is_none_or(|user| record.user == Some(user) || record.subject == Some(AuditSubject::User(user)))
        };
        let entries = app.store.audit(before).filter(|entry| entry.as_ref().map_or(true, |(_, record)| wanted(record)));
        page.fill(entries.map(|entry| {
            let (id, record) = entry?;
            Ok((Place::Id(id.0), AuditResponse::new(app, id, record)?))
        }))
    })
    .await
}
