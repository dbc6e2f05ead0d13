//! The comparison of two runs.

use serde::Serialize;
use serde_json::Value;

use super::report::{SCHEMA, amount, table};

/// How much a figure may differ between two runs of the same program on an otherwise idle machine, as a share of it.
#[derive(Debug, Clone, Copy)]
pub struct Noise {
    /// Processor time and memory.
    pub cost: f64,
    /// Rates and latencies, which depend on everything else that runs.
    pub time: f64,
}

impl Default for Noise {
    fn default() -> Self {
        Self { cost: 0.10, time: 0.30 }
    }
}

/// A figure of two runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// The workload.
    pub workload: String,
    /// The figure, such as `cpu_seconds_per_million`.
    pub figure: String,
    /// Its value in the first run.
    pub first: f64,
    /// Its value in the second run.
    pub second: f64,
    /// The second divided by the first.
    pub ratio: f64,
    /// `worse`, `better`, or `same` within the noise.
    pub verdict: &'static str,
}

/// A comparison.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// The version of this form: that of reports.
    pub schema: u32,
    /// Every figure that both runs have.
    pub rows: Vec<Row>,
    /// Workloads that are in one run only, or had other sizes.
    pub skipped: Vec<String>,
    /// What else makes the runs differ, such as another machine.
    pub remarks: Vec<String>,
}

/// A figure: its name, its place in an outcome, whether more is better, whether it is a cost.
type Figure = (&'static str, &'static str, bool, bool);

/// The figures that are compared.
const FIGURES: [Figure; 8] = [
    ("rate", "/rate", true, false),
    ("p50", "/latency_us/p50", false, false),
    ("p99", "/latency_us/p99", false, false),
    ("p99.9", "/latency_us/p999", false, false),
    ("cpu_seconds_per_million", "/cpu_seconds_per_million", false, true),
    ("memory_bytes", "/memory_bytes", false, true),
    ("bytes_per_connection", "/figures/bytes_per_connection", false, true),
    ("cpu_us_per_connect", "/figures/cpu_us_per_connect", false, true),
];

/// A run that was read from its JSON; what is missing in it is not compared.
#[derive(Debug)]
pub struct Run(Value);

impl Run {
    /// Parses what `--json` has printed.
    ///
    /// # Errors
    /// The reason for which it is none, as a sentence.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let run: Value = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        match run["schema"].as_u64() {
            Some(schema) if schema == u64::from(SCHEMA) => {}
            Some(schema) => return Err(format!("its form has the version {schema}, and this program reads {SCHEMA}")),
            None => return Err("it has no schema".into()),
        }
        if run["workloads"].as_array().is_none_or(|all| all.iter().any(|one| !one["name"].is_string())) {
            return Err("it has no workloads".into());
        }
        Ok(Self(run))
    }

    fn outcomes(&self) -> impl Iterator<Item = &Value> {
        self.0["workloads"].as_array().into_iter().flatten()
    }

    fn outcome(&self, name: &Value) -> Option<&Value> {
        self.outcomes().find(|outcome| outcome["name"] == *name)
    }
}

/// Compares two runs: the ratio of each figure of a workload with the same sizes.
pub fn compare(first: &Run, second: &Run, noise: Noise) -> Comparison {
    let (mut rows, mut skipped, mut remarks) = (Vec::new(), Vec::new(), Vec::new());
    if first.0["machine"] != second.0["machine"] {
        remarks.push("the runs are of different machines".to_owned());
    }
    if first.0["server"]["pinned"] != second.0["server"]["pinned"] {
        remarks.push("one of the runs had processors of its own for the server, the other had not".to_owned());
    }
    for (name, run) in [("first", first), ("second", second)] {
        if run.0["clean"] == false {
            remarks.push(format!("in the {name} run, messages did not arrive as they should"));
        }
    }
    let name = |outcome: &Value| outcome["name"].as_str().unwrap_or_default().to_owned();
    for one in first.outcomes() {
        let Some(other) = second.outcome(&one["name"]).filter(|other| other["parameters"] == one["parameters"]) else {
            skipped.push(name(one));
            continue;
        };
        for (figure, place, more_is_better, is_cost) in FIGURES {
            let value = |outcome: &Value| outcome.pointer(place).and_then(Value::as_f64).filter(|value| *value > 0.0);
            let (Some(first), Some(second)) = (value(one), value(other)) else { continue };
            // A given rate is kept, or not; it is no result.
            if figure == "rate" && one["parameters"].get("rate").is_some() {
                continue;
            }
            let ratio = second / first;
            let bound = 1.0 + if is_cost { noise.cost } else { noise.time };
            let gain = if more_is_better { ratio } else { 1.0 / ratio };
            let verdict = if gain * bound < 1.0 {
                "worse"
            } else if gain > bound {
                "better"
            } else {
                "same"
            };
            rows.push(Row { workload: name(one), figure: figure.to_owned(), first, second, ratio, verdict });
        }
    }
    skipped.extend(second.outcomes().filter(|outcome| first.outcome(&outcome["name"]).is_none()).map(name));
    Comparison { schema: SCHEMA, rows, skipped, remarks }
}

impl Comparison {
    /// Returns the table for people.
    pub fn text(&self, noise: Noise) -> String {
        let mut rows = vec![["WORKLOAD", "FIGURE", "FIRST", "SECOND", "RATIO", ""].map(str::to_owned).to_vec()];
        for row in &self.rows {
            let mark = if row.verdict == "same" { "" } else { row.verdict };
            let [first, second, ratio] = [row.first, row.second, row.ratio].map(amount);
            rows.push(vec![row.workload.clone(), row.figure.replace('_', " "), first, second, ratio, mark.to_owned()]);
        }
        let mut out = table(&rows);
        let percent = |share: f64| format!("{:.0} %", share * 100.0);
        out += &format!(
            "\nMarked is what differs by more than {} (processor time, memory) or {} (rates, latencies).\n",
            percent(noise.cost),
            percent(noise.time)
        );
        for name in &self.skipped {
            out += &format!("Not compared, since it is in one run only or had other sizes: {name}\n");
        }
        for remark in &self.remarks {
            out += &format!("Note: {remark}\n");
        }
        out
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::load::latency::Percentiles;
    use crate::load::process::Machine;
    use crate::load::report::{Outcome, Report, ServerInfo};

    /// A run of two workloads.
    pub fn report() -> Report {
        let latency = Percentiles { p50: 100.0, p99: 1000.0, p999: 2000.0, max: 3000.0 };
        let live = Outcome {
            name: "push live max".into(),
            rate: 100_000.0,
            messages: 5000,
            latency_us: Some(latency),
            cpu_seconds_per_million: Some(40.0),
            load_cpu_seconds_per_million: Some(1e5),
            ..Outcome::default()
        };
        let idle =
            Outcome { name: "idle".into(), figures: [("bytes_per_connection".to_owned(), 4000.0)].into(), ..Outcome::default() };
        let machine = Machine { processor: "x".into(), cores: 2, memory: 1 << 30, kernel: "6".into() };
        Report {
            schema: SCHEMA,
            version: "0".into(),
            started: "2026-01-01T00:00:00Z".into(),
            machine,
            server: ServerInfo { url: None, visible: true, pinned: false },
            sizes: crate::load::work::Sizes::quick(),
            workloads: vec![idle, live],
            sizing: Vec::new(),
            clean: true,
        }
    }

    /// As it is read.
    fn run(report: &Report) -> Run {
        Run::parse(&serde_json::to_vec(report).unwrap()).unwrap()
    }

    #[test]
    fn what_differs_beyond_the_noise_is_marked() {
        let (first, mut second) = (report(), report());
        let live = &mut second.workloads[1];
        live.rate = 70_000.0;
        live.cpu_seconds_per_million = Some(44.5);
        live.latency_us = Some(Percentiles { p50: 129.0, p99: 1301.0, p999: 1000.0, max: 1.0 });
        second.workloads[0].figures.insert("bytes_per_connection".into(), 3999.0);
        let (first, second) = (run(&first), run(&second));
        let comparison = compare(&first, &second, Noise::default());
        let verdict = |figure: &str| comparison.rows.iter().find(|row| row.figure == figure).unwrap().verdict;
        assert_eq!(
            ["rate", "p50", "p99", "p99.9", "cpu_seconds_per_million", "bytes_per_connection"].map(verdict),
            ["worse", "same", "worse", "better", "worse", "same"]
        );
        let text = comparison.text(Noise::default());
        assert!(text.contains("10 %") && text.contains("30 %"), "{text}");
        assert!(compare(&first, &first, Noise::default()).rows.iter().all(|row| row.ratio == 1.0 && row.verdict == "same"));
        assert!(compare(&first, &second, Noise { cost: 1.0, time: 1.0 }).rows.iter().all(|row| row.verdict == "same"));
    }

    #[test]
    fn workloads_of_other_sizes_and_given_rates_are_not_compared() {
        let (first, mut second) = (report(), report());
        second.workloads[1].parameters.insert("senders".into(), 3.0);
        second.workloads.push(Outcome { name: "storm".into(), ..Outcome::default() });
        second.machine.cores = 3;
        let (first, second) = (run(&first), run(&second));
        let comparison = compare(&first, &second, Noise::default());
        assert_eq!(comparison.skipped, ["push live max", "storm"]);
        assert_eq!((comparison.rows.len(), comparison.remarks.len()), (1, 1));
        let mut paced = report();
        paced.workloads[1].parameters.insert("rate".into(), 1000.0);
        let paced = run(&paced);
        assert!(compare(&paced, &paced, Noise::default()).rows.iter().all(|row| row.figure != "rate"));
    }
}
