//! How many deliveries of alerts this process was sent, by source and by what became of them.
//!
//! Invariant: few series. Names that are no source's are counted together, and reasons are words of ours.

use std::{collections::BTreeMap, fmt::Write, sync::Mutex};

/// Counts since the process began.
#[derive(Debug, Default)]
pub(crate) struct Tally(Mutex<BTreeMap<Series, u64>>);

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Series {
    source: String,
    verdict: &'static str,
    reason: &'static str,
}

impl Tally {
    /// One more; an empty source is none of ours.
    pub(crate) fn count(&self, source: &str, verdict: &'static str, reason: &'static str) {
        let series = Series { source: source.to_owned(), verdict, reason };
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).entry(series).or_default() += 1;
    }

    /// In Prometheus' text form.
    pub(crate) fn text(&self) -> String {
        let counts = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        counts.iter().fold(String::new(), |mut text, (Series { source, verdict, reason }, count)| {
            let line = format_args!("{{source=\"{source}\",verdict=\"{verdict}\",reason=\"{reason}\"}} {count}");
            writeln!(text, "switchback_trigger_deliveries_total{line}").expect("a text takes every line");
            text
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deliveries_are_counted_by_source_and_verdict() {
        let tally = Tally::default();
        tally.count("pager", "accepted", "");
        tally.count("pager", "refused", "stale");
        tally.count("pager", "accepted", "");
        let expected = "switchback_trigger_deliveries_total{source=\"pager\",verdict=\"accepted\",reason=\"\"} 2\n\
                        switchback_trigger_deliveries_total{source=\"pager\",verdict=\"refused\",reason=\"stale\"} 1\n";
        assert_eq!(tally.text(), expected);
    }
}
