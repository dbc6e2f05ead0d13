//! What a machine can take, derived from what was measured on it.

use serde::Serialize;

use super::report::{Report, amount};

/// The share of the processors that is planned with: the rest is for bursts, other programs, and what else the server does.
const PROCESSOR_SHARE: f64 = 0.5;
/// The share of the memory that is planned with: the rest is for the system, its caches, and the program beside the connections.
const MEMORY_SHARE: f64 = 0.5;
/// The share of the processors from which on they were what bounded a rate.
const BUSY_SHARE: f64 = 0.6;
/// Both, for people.
pub const RESERVE_TEXT: &str = "half of the processors and half of the memory are left in reserve";
/// The default of `limits.connections`.
const DEFAULT_CONNECTIONS: f64 = 20_000.0;

/// A row of the table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// A name for programs.
    pub name: String,
    /// The figure.
    pub value: f64,
    /// Its unit.
    pub unit: String,
    /// What the figure is for.
    pub what: String,
    /// The figure for people.
    pub text: String,
    /// What was measured, and what is computed from it.
    pub basis: String,
}

/// Returns the table of a run; a row needs its workloads.
pub fn rows(report: &Report) -> Vec<Row> {
    let (cores, memory) = (report.machine.cores as f64, report.machine.memory as f64);
    let cpu = |name: &str| report.outcome(name).and_then(|outcome| outcome.cpu_seconds_per_million).filter(|cpu| *cpu > 0.0);
    let figure = |name: &str, figure: &str| report.outcome(name).and_then(|outcome| outcome.figure(figure));
    // Messages a second that the planned share of the processors pays for.
    let affordable = |cpu: f64| cores * PROCESSOR_SHARE * 1e6 / cpu;
    let mut rows = Vec::new();
    let mut row = |name: &str, value: f64, unit: &str, what: &str, text: String, basis: String| {
        let [name, unit, what] = [name, unit, what].map(str::to_owned);
        rows.push(Row { name, value, unit, what, text, basis });
    };
    let bytes = figure("idle", "bytes_per_connection").filter(|bytes| *bytes > 0.0);
    if let Some(bytes) = bytes {
        let fit = memory * MEMORY_SHARE / bytes;
        let text = format!("{} in {}", rounded(fit), size(memory * MEMORY_SHARE));
        let limit = if fit > DEFAULT_CONNECTIONS { "; above 20,000 raise limits.connections" } else { "" };
        let parameter = |name: &str| report.outcome("idle").and_then(|outcome| outcome.parameters.get(name)).copied();
        let accounts = match (parameter("connections"), parameter("accounts")) {
            (Some(connections), Some(accounts)) if accounts > 0.0 => format!(", {} an account", amount(connections / accounts)),
            _ => String::new(),
        };
        let basis = format!("computed: {} bytes each measured{accounts}{limit}", amount(bytes));
        row("idle_connections", fit, "connections", "idle connections", text, basis);
        let each = bytes * 10_000.0;
        row("memory_per_10000", each, "bytes", "memory of 10,000 connections", size(each), "computed: from the same".into());
    }
    let mut queued = None;
    for (name, workload, what) in [
        ("live_messages", "push live max", "live messages a second"),
        ("queued_messages", "push queued max", "queued messages a second, each on disk"),
    ] {
        if let (Some(cost), Some(outcome)) = (cpu(workload), report.outcome(workload)) {
            let spent = (cost + outcome.load_cpu_seconds_per_million.unwrap_or(0.0)) * outcome.rate / 1e6;
            // Where the processors were not busy, something else was the bound, such as a disk that syncs slowly.
            let other = if spent < cores * BUSY_SHARE { outcome.rate * PROCESSOR_SHARE } else { f64::MAX };
            let value = affordable(cost).min(other);
            let basis = format!(
                "computed: {cost:.1} CPU s a million measured; {} a second were reached beside the load",
                amount(outcome.rate)
            );
            row(name, value, "1/s", what, rounded(value), basis);
            queued = Some(value).filter(|_| name == "queued_messages");
        }
    }
    if let Some(cost) = cpu("push queued rate").or_else(|| cpu("push queued max")) {
        let by_cpu = affordable(cost) * 60.0;
        let by_memory = bytes.map_or(f64::MAX, |bytes| memory * MEMORY_SHARE / bytes);
        let by_rate = queued.map_or(f64::MAX, |queued: f64| queued * 60.0);
        let bounds = [(by_cpu, "the processors are"), (by_memory, "the memory is"), (by_rate, "the rate of queued messages is")];
        let least = |a: (f64, &'static str), b: (f64, &'static str)| if b.0 < a.0 { b } else { a };
        let (value, bound) = bounds.into_iter().fold((f64::MAX, ""), least);
        let basis = format!("computed: a queued message a minute each; {bound} the bound");
        row("devices_with_a_message_a_minute", value, "devices", "devices with a message every minute", rounded(value), basis);
    }
    if let Some(each) = figure("offline queue", "disk_bytes_per_message") {
        let basis = format!("computed: {} bytes each measured, of messages of {} bytes", amount(each), report.sizes.size);
        row("disk_per_million", each * 1e6, "bytes", "disk of a million waiting messages", size(each * 1e6), basis);
    }
    if let Some(rate) = figure("storm", "connects_per_second").filter(|rate| *rate > 0.0) {
        let basis = format!("computed: {} a second measured, beside the load", amount(rate));
        let seconds = 10_000.0 / rate;
        row("reconnect_10000", seconds, "s", "until 10,000 connections are back", format!("{} s", amount(seconds)), basis);
    }
    rows
}

/// Rounds down to two significant digits.
fn rounded(value: f64) -> String {
    if value < 1.0 {
        return "0".into();
    }
    let unit = 10_f64.powf(value.log10().floor() - 1.0);
    amount(((value / unit).floor() * unit).max(1.0)).trim_end_matches(".00").trim_end_matches(".0").to_owned()
}

/// Formats bytes.
fn size(bytes: f64) -> String {
    if bytes < 1e9 { format!("{} MB", amount(bytes / 1e6)) } else { format!("{} GB", amount(bytes / 1e9)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::compare::tests::report;

    #[test]
    fn table_follows_from_what_was_measured() {
        let mut report = report();
        report.machine.cores = 4;
        report.machine.memory = 8 << 30;
        report.finish();
        let value = |name: &str| report.sizing.iter().find(|row| row.name == name).map(|row| row.value);
        assert_eq!(value("idle_connections"), Some((4_u64 << 30) as f64 / 4000.0));
        assert_eq!(value("memory_per_10000"), Some(40e6));
        assert_eq!(value("live_messages"), Some(2e6 / 40.0));
        assert!(value("queued_messages").is_none(), "not measured");

        // A disk that syncs slowly leaves the processors idle, and is the bound of everything that is queued.
        let mut queued = report.outcome("push live max").unwrap().clone();
        (queued.name, queued.rate, queued.load_cpu_seconds_per_million) = ("push queued max".into(), 100.0, Some(40.0));
        report.workloads.push(queued);
        report.finish();
        let value = |name: &str| report.sizing.iter().find(|row| row.name == name).map(|row| row.value);
        assert_eq!((value("queued_messages"), value("devices_with_a_message_a_minute")), (Some(50.0), Some(3000.0)));

        report.server.visible = false;
        report.finish();
        assert!(report.sizing.is_empty(), "the machine of the server is another one");
    }

    #[test]
    fn figures_are_rounded_down() {
        assert_eq!([0.4, 7.0, 123.0, 98_765.0, 1_234_567.0].map(rounded), ["0", "7", "120", "98,000", "1,200,000"]);
        assert_eq!([12e6, 3.5e9].map(size), ["12.0 MB", "3.50 GB"]);
    }
}
