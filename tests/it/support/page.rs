//! Prometheus' text format, read as its specification has it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::{Server, http};

/// A page, taken apart as the format's specification has it: anything else on it is a failure.
#[derive(Debug, Default)]
pub struct Page {
    pub kinds: BTreeMap<String, String>,
    /// By the whole name with its labels.
    pub samples: BTreeMap<String, f64>,
}

impl Page {
    pub fn read(text: &str) -> Self {
        let mut page = Self::default();
        assert!(text.ends_with('\n'), "the last line must end, too");
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap();
                assert!(name.starts_with("qy_lty_") && help.ends_with('.') | help.ends_with(')'), "{line}");
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
                assert!(page.kinds.insert(name.into(), kind.into()).is_none(), "twice: {name}");
            } else {
                let (name, value) = line.rsplit_once(' ').unwrap();
                let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
                assert!(value.is_finite() && value >= 0.0, "{line}");
                assert!(page.kinds.contains_key(family(name, &page.kinds)), "no TYPE before {line}");
                assert!(page.samples.insert(name.into(), value).is_none(), "twice: {name}");
            }
        }
        page.check_histograms();
        page
    }

    fn check_histograms(&self) {
        for (name, _) in self.kinds.iter().filter(|(_, kind)| *kind == "histogram") {
            let counts = self.samples.iter().filter(|(sample, _)| sample.starts_with(&format!("{name}_count")));
            for (sample, &count) in counts {
                let labels = sample.strip_prefix(&format!("{name}_count")).unwrap().trim_end_matches('}');
                let begins = if labels.is_empty() { format!("{name}_bucket{{le=") } else { format!("{name}_bucket{labels},le=") };
                let mut buckets: Vec<(f64, f64)> = self
                    .samples
                    .iter()
                    .filter(|(bucket, _)| bucket.starts_with(&begins))
                    .map(|(bucket, &n)| {
                        let bound = bucket[begins.len()..].trim_matches(['"', '}']);
                        (if bound == "+Inf" { f64::INFINITY } else { bound.parse().unwrap() }, n)
                    })
                    .collect();
                buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
                assert!(buckets.len() > 5 && buckets.is_sorted_by(|a, b| a.1 <= b.1), "{sample}: {buckets:?}");
                assert_eq!(buckets.last(), Some(&(f64::INFINITY, count)), "{sample}");
                assert!(self.samples.contains_key(&sample.replace("_count", "_sum")), "{sample}");
            }
        }
    }

    #[track_caller]
    pub fn get(&self, sample: &str) -> f64 {
        let name = format!("qy_lty_{sample}");
        *self.samples.get(&name).unwrap_or_else(|| panic!("no {name}"))
    }
}

/// The family of a sample.
pub fn family<'a>(sample: &'a str, kinds: &BTreeMap<String, String>) -> &'a str {
    let name = sample.split('{').next().unwrap();
    let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
    base.filter(|base| kinds.get(*base).is_some_and(|kind| kind == "histogram")).unwrap_or(name)
}

/// Reads the metrics of a server.
pub async fn page(server: &Server, token: &str) -> Page {
    page_of(server.address, token).await
}

/// Reads the metrics of the server at an address.
pub async fn page_of(address: SocketAddr, token: &str) -> Page {
    let answer = http::call(address, "GET", "/metrics", token, "").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    Page::read(&answer.text)
}
