//! The Prometheus text exposition format, version 0.0.4 (prometheus.io/docs/instrumenting/exposition_formats).

use std::fmt::{Display, Write};

use super::instruments::Histogram;

/// The content type of the page.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// The prefix of every metric name.
const PREFIX: &str = "qy_lty_";

/// A page under construction: metric families, each followed by its samples.
#[derive(Debug, Default)]
pub(super) struct Page(String);

impl Page {
    /// Returns the complete text.
    pub(super) fn finish(self) -> String {
        self.0
    }

    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String never fails, here and below.
        let _ = writeln!(self.0, "# HELP {PREFIX}{name} {help}\n# TYPE {PREFIX}{name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let _ = write!(self.0, "{PREFIX}{name}");
        for (n, (label, text)) in labels.iter().enumerate() {
            let _ = write!(self.0, "{}{label}=\"{}\"", if n == 0 { '{' } else { ',' }, Escaped(text));
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    /// Adds a gauge: a value that can increase and decrease.
    pub(super) fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "gauge", help);
        self.sample(name, &[], value);
    }

    /// Adds a gauge for each value of a label.
    pub(super) fn gauges<'a, V: Display>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        values: impl IntoIterator<Item = (&'a str, V)>,
    ) {
        self.family(name, "gauge", help);
        for (text, value) in values {
            self.sample(name, &[(label, text)], value);
        }
    }

    /// Adds a counter: a number that only increases.
    pub(super) fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "counter", help);
        self.sample(name, &[], value);
    }

    /// Adds a counter for each value of a label.
    pub(super) fn counters<'a>(&mut self, name: &str, help: &str, label: &str, values: impl IntoIterator<Item = (&'a str, u64)>) {
        self.family(name, "counter", help);
        for (text, value) in values {
            self.sample(name, &[(label, text)], value);
        }
    }

    /// Adds a counter for each pair of values of two labels.
    pub(super) fn counter_matrix<'a>(
        &mut self,
        name: &str,
        help: &str,
        labels: [&str; 2],
        values: impl IntoIterator<Item = ([&'a str; 2], u64)>,
    ) {
        self.family(name, "counter", help);
        for (texts, value) in values {
            self.sample(name, &[(labels[0], texts[0]), (labels[1], texts[1])], value);
        }
    }

    /// Adds a histogram, or several with different labels.
    pub(super) fn histograms<'a>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (&'a [(&'a str, &'a str)], &'a Histogram)>,
    ) {
        self.family(name, "histogram", help);
        let (bucket, sum, count) = (format!("{name}_bucket"), format!("{name}_sum"), format!("{name}_count"));
        for (labels, histogram) in values {
            let mut line = |bound: &str, count: u64| {
                let all: Vec<_> = labels.iter().copied().chain([("le", bound)]).collect();
                self.sample(&bucket, &all, count);
            };
            let mut last = 0;
            for (bound, cumulative) in histogram.cumulative() {
                last = cumulative;
                line(&bound.to_string(), cumulative);
            }
            // Computed from the same reads as the buckets: collectors refuse a count that is below a bucket.
            let total = last + histogram.beyond();
            line("+Inf", total);
            self.sample(&sum, labels, histogram.sum());
            self.sample(&count, labels, total);
        }
    }
}

/// A label value, with backslashes, quotes and line feeds escaped.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for c in self.0.chars() {
            match c {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_escapes_labels_and_accumulates_buckets() {
        let mut page = Page::default();
        page.gauge("a", "Help.", 1.5);
        page.counters("b_total", "Help.", "x", [("\"\\\n", 2)]);
        let sizes = Histogram::of_sizes();
        sizes.observe(3);
        sizes.observe(1000);
        page.histograms("c", "Help.", [(&[("x", "y")][..], &sizes)]);
        let text = page.finish();
        for line in [
            "# HELP qy_lty_a Help.\n# TYPE qy_lty_a gauge\nqy_lty_a 1.5\n",
            "qy_lty_b_total{x=\"\\\"\\\\\\n\"} 2\n",
            "qy_lty_c_bucket{x=\"y\",le=\"2\"} 0\nqy_lty_c_bucket{x=\"y\",le=\"4\"} 1\n",
            "qy_lty_c_bucket{x=\"y\",le=\"+Inf\"} 2\nqy_lty_c_sum{x=\"y\"} 1003\nqy_lty_c_count{x=\"y\"} 2\n",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
