//! Prometheus' text format, version 0.0.4 (prometheus.io/docs/instrumenting/exposition_formats).

use std::fmt::{Display, Write};

use super::instrument::Histogram;

/// What the answer says it is.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// What every name begins with.
const PREFIX: &str = "qy_lty_";

/// A page in the making: families, each with its samples behind it.
#[derive(Debug, Default)]
pub(super) struct Page(String);

impl Page {
    /// The whole text.
    pub(super) fn finish(self) -> String {
        self.0
    }

    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string never fails; so with every line of this page.
        let _ = writeln!(self.0, "# HELP {PREFIX}{name} {help}\n# TYPE {PREFIX}{name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let _ = write!(self.0, "{PREFIX}{name}");
        for (n, (label, text)) in labels.iter().enumerate() {
            let _ = write!(self.0, "{}{label}=\"{}\"", if n == 0 { '{' } else { ',' }, Escaped(text));
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    /// A value that rises and falls.
    pub(super) fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "gauge", help);
        self.sample(name, &[], value);
    }

    /// The same for each value of a label.
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

    /// A number that only rises.
    pub(super) fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "counter", help);
        self.sample(name, &[], value);
    }

    /// The same for each value of a label.
    pub(super) fn counters<'a>(&mut self, name: &str, help: &str, label: &str, values: impl IntoIterator<Item = (&'a str, u64)>) {
        self.family(name, "counter", help);
        for (text, value) in values {
            self.sample(name, &[(label, text)], value);
        }
    }

    /// The same for each pair of two labels' values.
    pub(super) fn pairs<'a>(
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

    /// A histogram, or several that a label tells apart.
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
            let mut below = 0;
            for (bound, cumulative) in histogram.cumulative() {
                below = cumulative;
                line(&bound.to_string(), cumulative);
            }
            // Out of the same look as the buckets: a count below one of them would be refused.
            let total = below + histogram.beyond();
            line("+Inf", total);
            self.sample(&sum, labels, histogram.sum());
            self.sample(&count, labels, total);
        }
    }
}

/// A label's value: backslashes, quotes and line ends are escaped.
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
    fn lines_as_the_format_has_them() {
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
