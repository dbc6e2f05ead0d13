//! The dashboard, the alerts and their documentation: they name metrics that exist, and all of them.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::Server;
use crate::support::page::page;

const DASHBOARD: &str = include_str!("../../../../docs/monitoring/grafana.json");
const ALERTS: &str = include_str!("../../../../docs/monitoring/alerts.yml");
const EXPLAINED: &str = include_str!("../../../../docs/operations.md");

/// Every name of ours in `text`.
fn names(text: &str) -> BTreeSet<&str> {
    let part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.match_indices("qy_lty_")
        .map(|(at, _)| &text[at..])
        .map(|rest| &rest[..rest.find(|c| !part(c)).unwrap_or(rest.len())])
        .collect()
}

/// The names of the alerts.
fn alerts() -> Vec<&'static str> {
    ALERTS.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect()
}

#[tokio::test]
async fn dashboard_alerts_and_docs_name_existing_metrics() {
    let server = Server::start().await;
    let page = page(&server, &server.admin().await).await;
    let exists: BTreeSet<&str> = page.samples.keys().map(|sample| sample.split('{').next().unwrap()).collect();
    for (file, text) in [("grafana.json", DASHBOARD), ("alerts.yml", ALERTS)] {
        let used = names(text);
        assert!(used.len() > 10, "{file}");
        let unknown: Vec<_> = used.difference(&exists).collect();
        assert!(unknown.is_empty(), "{file} uses {unknown:?}");
    }
    let explained = names(EXPLAINED);
    let missing: Vec<_> = page.kinds.keys().filter(|name| !explained.contains(name.as_str())).collect();
    assert!(missing.is_empty(), "operations.md does not explain {missing:?}");
    let invented: Vec<_> = explained.iter().filter(|name| !exists.contains(*name) && !page.kinds.contains_key(**name)).collect();
    assert!(invented.is_empty(), "operations.md explains {invented:?}");
    // Labels in the rules and panels have values that exist.
    for text in [DASHBOARD.replace("\\\"", "\""), ALERTS.to_owned()] {
        for (label, values) in [("reason", 39), ("result", 5), ("outcome", 12)] {
            let known: BTreeSet<&str> = page.samples.keys().flat_map(|sample| value_of(sample, label, "=\"")).collect();
            assert_eq!(known.len(), values, "{label}");
            for operator in ["=\"", "=~\"", "!~\"", "!=\""] {
                for value in value_of(&text, label, operator).iter().flat_map(|values| values.split('|')) {
                    assert!(known.contains(value), "{label} is never {value}");
                }
            }
        }
    }
}

/// The texts behind `label` and `operator`.
fn value_of<'a>(text: &'a str, label: &str, operator: &str) -> Vec<&'a str> {
    let mark = format!("{label}{operator}");
    text.match_indices(&mark).filter_map(|(at, _)| text[at + mark.len()..].split('"').next()).collect()
}

#[test]
fn dashboard_is_importable_json() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let variable = &dashboard["templating"]["list"][0];
    assert_eq!((variable["type"].as_str(), variable["query"].as_str()), (Some("datasource"), Some("prometheus")));
    assert!(dashboard["id"].is_null() && dashboard["title"].is_string() && dashboard["schemaVersion"].is_u64());
    let panels = dashboard["panels"].as_array().unwrap();
    let mut ids = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "twice: {panel}");
        assert!(panel["gridPos"]["w"].as_u64().unwrap() + panel["gridPos"]["x"].as_u64().unwrap() <= 24, "{panel}");
        if panel["type"] == "row" {
            continue;
        }
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{panel}");
        assert!(
            panel["fieldConfig"]["defaults"]["unit"].is_string() && !panel["targets"].as_array().unwrap().is_empty(),
            "{panel}"
        );
    }
    // All but those that only explain others.
    let shown = names(DASHBOARD);
    assert!(shown.len() > 35, "{}", shown.len());
}

#[test]
fn alerts_are_explained_in_operations_docs() {
    let alerts = alerts();
    assert!(alerts.len() >= 12, "{alerts:?}");
    for alert in &alerts {
        assert!(EXPLAINED.contains(&format!("### {alert}\n")), "operations.md does not explain {alert}");
    }
    let explained = EXPLAINED.lines().filter_map(|line| line.strip_prefix("### ")).count();
    assert_eq!(explained, alerts.len(), "an alert that is no more");
    for (field, most) in
        [("expr:", alerts.len()), ("for:", alerts.len()), ("severity:", alerts.len()), ("summary:", alerts.len())]
    {
        assert_eq!(ALERTS.matches(field).count(), most, "{field}");
    }
}
