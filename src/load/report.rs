//! The result of a run: as JSON, whose form `docs/performance.md` documents, and as tables.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use super::latency::Percentiles;
use super::ledger::Verdict;
use super::process::Machine;
use super::receivers::Refusals;
use super::sizing::{self, Row};

/// The version of the JSON. It rises when a field changes its meaning or goes; new fields don't change it.
pub const SCHEMA: u32 = 1;

/// A whole run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The version of the program that loaded the server.
    pub version: String,
    /// When it began: RFC 3339, UTC.
    pub started: String,
    /// The machine of the load.
    pub machine: Machine,
    /// The server.
    pub server: ServerInfo,
    /// The sizes of the load.
    pub sizes: super::work::Sizes,
    /// The outcome of each workload, in order.
    pub workloads: Vec<Outcome>,
    /// What the server can take on this machine; empty where it is another one.
    pub sizing: Vec<Row>,
    /// Whether each message arrived once, in order, and where it should.
    pub clean: bool,
}

/// The server of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServerInfo {
    /// Its URL; null for one of the load's own.
    pub url: Option<String>,
    /// Whether its processor time and memory could be read.
    pub visible: bool,
    /// Whether it had processors of its own.
    pub pinned: bool,
}

/// The outcome of one workload.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Outcome {
    /// Its name, such as `echo 16`.
    pub name: String,
    /// Its sizes, such as `connections`.
    pub parameters: BTreeMap<String, f64>,
    /// The time from the first message to the last, in seconds.
    pub seconds: f64,
    /// Messages received, or connections made where it sends none.
    pub messages: u64,
    /// Those a second.
    pub rate: f64,
    /// Latencies in microseconds: from sending, or at a fixed rate from the moment a message was due.
    pub latency_us: Option<Percentiles>,
    /// Loss, duplicates, order, misdelivery.
    pub verdict: Verdict,
    /// Sends and connections refused by limits, by the settings to change.
    pub refused: Refusals,
    /// The server's processor time, in seconds for a million of `messages`.
    pub cpu_seconds_per_million: Option<f64>,
    /// That of the load.
    pub load_cpu_seconds_per_million: Option<f64>,
    /// The server's resident memory at the end, in bytes.
    pub memory_bytes: Option<u64>,
    /// Further figures, by name.
    pub figures: BTreeMap<String, f64>,
    /// What else there is to know, such as why connections ended.
    pub note: Option<String>,
}

impl Outcome {
    /// Returns a further figure.
    pub fn figure(&self, name: &str) -> Option<f64> {
        self.figures.get(name).copied()
    }
}

impl Report {
    /// Returns the outcome of a workload.
    pub fn outcome(&self, name: &str) -> Option<&Outcome> {
        self.workloads.iter().find(|outcome| outcome.name == name)
    }

    /// Adds the sizing table, and whether all is clean.
    pub fn finish(&mut self) {
        self.clean = self.workloads.iter().all(|outcome| outcome.verdict.is_clean());
        self.sizing = if self.server.visible { sizing::rows(self) } else { Vec::new() };
    }

    /// Returns what was lost, duplicated, out of order or misdelivered, as a sentence; `None` where nothing was.
    pub fn complaint(&self) -> Option<String> {
        let mut all = Verdict::default();
        self.workloads.iter().for_each(|outcome| all.add(&outcome.verdict));
        let Verdict { lost, duplicates, disordered, misdelivered, .. } = all;
        let counts = [(lost, "lost"), (duplicates, "duplicated"), (disordered, "out of order"), (misdelivered, "misdelivered")];
        let parts: Vec<_> = counts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
        (!parts.is_empty()).then(|| format!("messages did not arrive as they should: {}", parts.join(", ")))
    }

    /// Returns the tables for people.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let Machine { processor, cores, memory, kernel } = &self.machine;
        let server = self.server.url.as_deref().unwrap_or("a server of its own");
        let pinned = if self.server.pinned { ", with processors of its own" } else { "" };
        let _ = writeln!(out, "qy-lty {}, {server}{pinned}", self.version);
        let _ = writeln!(out, "{processor}, {cores} cores, {:.1} GiB, Linux {kernel}\n", *memory as f64 / f64::from(1 << 30));
        out += &table(&self.workload_rows());
        for outcome in &self.workloads {
            let figures: Vec<_> =
                outcome.figures.iter().map(|(name, value)| format!("{} {}", amount(*value), name.replace('_', " "))).collect();
            if !figures.is_empty() {
                let _ = writeln!(out, "{}: {}", outcome.name, figures.join(", "));
            }
            for (setting, count) in &outcome.refused {
                let _ = writeln!(out, "{}: {count} refused by a limit; to measure more, raise {setting}", outcome.name);
            }
            if let Some(note) = &outcome.note {
                let _ = writeln!(out, "{}: {note}", outcome.name);
            }
        }
        if !self.sizing.is_empty() {
            let _ = writeln!(out, "\nSizing of this machine ({})\n", sizing::RESERVE_TEXT);
            let mut rows = vec![vec!["FOR".to_owned(), "ABOUT".into(), "FROM".into()]];
            rows.extend(self.sizing.iter().map(|row| vec![row.what.clone(), row.text.clone(), row.basis.clone()]));
            out += &table(&rows);
        }
        out
    }

    fn workload_rows(&self) -> Vec<Vec<String>> {
        let titles = ["WORKLOAD", "A SECOND", "P50", "P99", "P99.9", "LOST", "TWICE", "ORDER", "ASTRAY", "CPU S/M", "MEMORY"];
        let mut rows = vec![titles.map(str::to_owned).to_vec()];
        let none = || "n/a".to_owned();
        for outcome in &self.workloads {
            let time =
                |pick: fn(&Percentiles) -> f64| outcome.latency_us.as_ref().map_or_else(|| "-".to_owned(), |l| micros(pick(l)));
            let verdict = &outcome.verdict;
            rows.push(vec![
                outcome.name.clone(),
                amount(outcome.rate),
                time(|l| l.p50),
                time(|l| l.p99),
                time(|l| l.p999),
                verdict.lost.to_string(),
                verdict.duplicates.to_string(),
                verdict.disordered.to_string(),
                verdict.misdelivered.to_string(),
                outcome.cpu_seconds_per_million.map_or_else(none, |cpu| format!("{cpu:.1}")),
                outcome.memory_bytes.map_or_else(none, |bytes| format!("{:.1} MB", bytes as f64 / 1e6)),
            ]);
        }
        rows
    }
}

/// Lays out rows in columns: the first to the left, the others to the right where they are numbers.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let cell = |row: &Vec<String>, n: usize| row.get(n).cloned().unwrap_or_default();
    let mut out = String::new();
    let widths: Vec<usize> =
        (0..columns).map(|n| rows.iter().map(|row| cell(row, n).chars().count()).max().unwrap_or(0)).collect();
    for row in rows {
        let cells = (0..columns).map(|n| {
            let (text, blanks) = (cell(row, n), " ".repeat(widths[n] - cell(row, n).chars().count()));
            if n == 0 || (columns <= 4 && n + 1 == columns) { format!("{text}{blanks}") } else { format!("{blanks}{text}") }
        });
        let _ = writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    out
}

/// Formats a time in microseconds.
fn micros(value: f64) -> String {
    match value {
        value if value < 1000.0 => format!("{value:.0} µs"),
        value if value < 100_000.0 => format!("{:.1} ms", value / 1e3),
        value if value < 1e6 => format!("{:.0} ms", value / 1e3),
        value => format!("{:.1} s", value / 1e6),
    }
}

/// Formats a figure with three significant digits at least, and groups of thousands.
pub(super) fn amount(value: f64) -> String {
    if value < 10.0 {
        return format!("{value:.2}");
    }
    if value < 100.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_and_times_are_formatted_for_people() {
        assert_eq!([1.234, 12.34, 123.4, 1234.5, 1_234_567.0].map(amount), ["1.23", "12.3", "123", "1,234", "1,234,567"]);
        assert_eq!([5.0, 1500.0, 250_000.0, 2_500_000.0].map(micros), ["5 µs", "1.5 ms", "250 ms", "2.5 s"]);
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [["A", "B"], ["long", "1"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(table(&rows), "A     B\nlong  1\n");
    }
}
