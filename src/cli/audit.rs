//! `qy-lty audit`.

use clap::Args;
use serde_json::{Value, json};

use super::control_client::ControlClient;
use super::lookup::encoded;
use super::output::{Column, Output};

/// The arguments of `audit`.
#[derive(Debug, Args)]
pub(super) struct Audit {
    /// Number of entries, the newest first
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    /// Show what a user did, or what was done to the user: a name, or id:NUMBER
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Show one kind of event, such as login_failed
    #[arg(long, value_name = "NAME")]
    event: Option<String>,
}

const COLUMNS: [Column; 6] = [
    ("TIME", "at"),
    ("EVENT", "event"),
    ("USER", "user"),
    ("SUBJECT", "subject"),
    ("ADDRESS", "address"),
    ("DETAILS", "details"),
];

impl Audit {
    /// Runs the command.
    pub(super) async fn run(self, client: &ControlClient, out: Output) -> anyhow::Result<()> {
        let mut query = Vec::new();
        if let Some(user) = &self.user {
            query.push(format!("user_id={}", client.user_id(user).await?));
        }
        if let Some(event) = &self.event {
            query.push(format!("event={}", encoded(event)));
        }
        let entries = client.newest(&format!("/api/audit?{}", query.join("&")), self.limit).await?;
        let rows: Vec<Value> = if out.is_json() { entries } else { entries.iter().map(row).collect() };
        out.table(&rows, &COLUMNS, "No entries")
    }
}

/// Returns an entry as people read it.
fn row(entry: &Value) -> Value {
    let named = |name: &Value, kind: &str, id: &Value| match (name.as_str(), id.as_u64()) {
        (Some(name), _) => json!(name),
        (None, Some(0)) => json!("command line"),
        (None, Some(id)) => json!(format!("{kind} {id}")),
        (None, None) => Value::Null,
    };
    let details = entry["details"].as_object().into_iter().flatten().map(|(name, value)| match value {
        Value::String(text) => format!("{name}={text}"),
        other => format!("{name}={other}"),
    });
    let details: Vec<String> = details.collect();
    let kind = entry["subject_kind"].as_str().unwrap_or_default();
    json!({
        "at": entry["at"],
        "event": entry["event"],
        "user": named(&entry["username"], "user", &entry["user_id"]),
        "subject": named(&entry["subject"], kind, &entry["subject_id"]),
        "address": entry["address"],
        "details": if details.is_empty() { Value::Null } else { json!(details.join(" ")) },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_names_who_and_what_as_far_as_that_is_known() {
        let entry = json!({"id": 5, "at": "t", "event": "user_changed", "user_id": 0, "username": null, "subject_kind": "user",
            "subject_id": 7, "subject": "ana", "address": null, "details": {"disabled": true, "role": "user"}});
        let shown = json!({"at": "t", "event": "user_changed", "user": "command line", "subject": "ana", "address": null,
            "details": "disabled=true role=user"});
        assert_eq!(row(&entry), shown);
        let entry = json!({"at": "t", "event": "login", "user_id": 3, "username": null, "subject_kind": "token", "subject_id": 9,
            "subject": null, "address": "192.0.2.1", "details": {}});
        assert_eq!((row(&entry)["user"].as_str(), row(&entry)["subject"].as_str()), (Some("user 3"), Some("token 9")));
        assert!(row(&entry)["details"].is_null());
    }
}
