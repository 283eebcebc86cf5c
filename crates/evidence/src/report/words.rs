//! Sentences and figures of a report, the same in every place and at every time.

use recovery::ItemName;

use super::{Judgement, Kind, PointShown, Recovery, RunShown};

/// A span at the precision that matters: `950 ms`, `4.2 s`, `3 min 20 s`, `2 h 5 min`.
pub(crate) fn span(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        60_000..3_600_000 => format!("{} min {} s", ms / 60_000, ms % 60_000 / 1_000),
        3_600_000..172_800_000 => format!("{} h {} min", ms / 3_600_000, ms % 3_600_000 / 60_000),
        _ => format!("{} d {} h", ms / 86_400_000, ms % 86_400_000 / 3_600_000),
    }
}

pub(super) fn data_loss(kind: Kind, item: &ItemName, point: &PointShown, started: bool) -> String {
    let (Some(used), Some(taken), Some(age)) = (point.used, point.taken_at, point.age_ms) else {
        return "No point was chosen; nothing was recovered and nothing was lost by it.".into();
    };
    let taken = taken.format("%Y-%m-%d %H:%M:%S UTC");
    match kind {
        Kind::Test => format!(
            "None: production went on and was not touched. The copy held what {item} had written until point {used}, {taken}, {} before the request.",
            span(age)
        ),
        Kind::Planned => format!(
            "None: point {used} was taken after the machine of {item} had been shut down and shown to be off, so it holds everything that was written."
        ),
        Kind::Unplanned | Kind::Operation if started => format!(
            "What {item} wrote after point {used}, {taken}, is not in the recovered machine: that is what was written in the {} before the \
             request and in whatever time the source went on writing until it was fenced or lost.",
            span(age)
        ),
        Kind::Unplanned | Kind::Operation => format!("None by this: no machine was started from point {used}."),
    }
}

pub(super) fn sentence(result: Judgement, runs: &[RunShown], recoveries: &[Recovery]) -> String {
    let ways = recoveries.first().map(|recovery| format!(" from {} to {}", recovery.from, recovery.to)).unwrap_or_default();
    let what = format!("{}{ways}", subject(runs, recoveries));
    match result {
        Judgement::Passed | Judgement::PassedWithDeviations | Judgement::Incomplete => {
            let served = recoveries.iter().find(|recovery| recovery.serves == Some(true));
            match served.and_then(|recovery| recovery.rto.actual_ms.map(|ms| (recovery, ms))) {
                Some((recovery, ms)) => format!("{what}: the machine served {} after the request, from point {}.", span(ms), recovery.point.used.map_or_else(String::new, |point| point.to_string())),
                None => format!("{what}: done."),
            }
        }
        Judgement::Failed => format!("{what}: it did not come about as it should."),
        Judgement::Running => format!("{what}: it goes on; this is how it stood at the last event."),
    }
}

/// What it is about, in a few words: what set a failover off is not it.
pub(crate) fn subject(runs: &[RunShown], recoveries: &[Recovery]) -> String {
    let Some(first) = runs.first() else { return String::new() };
    let Some(recovery) = recoveries.first() else {
        let (_, about) = first.workflow_id.split_once(':').unwrap_or(("", &first.workflow_id));
        return format!("{} of {about}", capital(&first.workflow.replace('-', " ")));
    };
    let made = runs.iter().find(|run| run.run == recovery.run).filter(|_| first.workflow == "trigger").unwrap_or(first);
    format!("{} of {}", capital(&made.workflow.replace('-', " ")), recovery.item)
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_told_at_the_precision_that_matters() {
        let told: Vec<String> = [0, 999, 4_250, 59_999, 60_000, 3_599_000, 7_500_000, 180_000_000].into_iter().map(span).collect();
        assert_eq!(told, ["0 ms", "999 ms", "4.2 s", "59.9 s", "1 min 0 s", "59 min 59 s", "2 h 5 min", "2 d 2 h"]);
    }
}
