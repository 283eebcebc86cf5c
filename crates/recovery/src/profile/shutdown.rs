//! What becomes of the source when an item moves, and whether the move goes on if that fails.
//!
//! ```text
//!   test       never touched
//!   planned    must shut down and send the rest          else it stops
//!   unplanned  is asked to, if that was wished           whatever comes of it, it goes on
//!   failback   is always shut down, and sends the rest   else it stops
//! ```

use crate::{PointChoice, plan::Mode};

/// What is asked of the source's machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Nothing: production does not notice.
    Untouched,
    /// To shut down and to send what is missing.
    MustShutDown,
    /// The same as well as it can, if somebody wished it.
    MayBeAsked,
}

/// What came of asking it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nobody asked.
    NotAsked,
    /// It is off, and what it had not sent is at the target.
    ShutDownAndSent,
    /// It is off, and the rest could not be sent.
    ShutDownOnly,
    /// It stayed, or nobody at its site answers.
    Failed,
}

/// What a way to run asks of the source.
#[must_use]
pub fn source(mode: Mode) -> Source {
    match mode {
        Mode::Test => Source::Untouched,
        Mode::Planned | Mode::Failback => Source::MustShutDown,
        Mode::Unplanned => Source::MayBeAsked,
    }
}

/// Whether it goes on after what came of it.
#[must_use]
pub fn goes_on(mode: Mode, outcome: Outcome) -> bool {
    match source(mode) {
        Source::Untouched | Source::MayBeAsked => true,
        Source::MustShutDown => outcome == Outcome::ShutDownAndSent,
    }
}

/// Which point is looked for, once the source has answered or not, where `requested` was asked for.
///
/// `latest` means all that was sent: after a shutdown that came through that is the point made then; otherwise the last one that the target
/// has. A point that somebody named, or a kind of point, stays what was asked for: it is never exchanged for another one silently.
#[must_use]
pub fn effective(requested: PointChoice, outcome: Outcome) -> (PointChoice, &'static str) {
    match (requested, outcome) {
        (PointChoice::Latest, Outcome::ShutDownAndSent) => (PointChoice::LatestProcessed, "the point that was sent after the source had shut down"),
        (PointChoice::Latest, Outcome::NotAsked) => (PointChoice::LatestProcessed, "the last point that was received; a shutdown was not asked for"),
        (PointChoice::Latest, Outcome::ShutDownOnly | Outcome::Failed) => {
            (PointChoice::LatestProcessed, "the last point that was received; the source could not be shut down and send the rest")
        }
        (
            PointChoice::LatestProcessed
            | PointChoice::LatestAppConsistent
            | PointChoice::LatestMultiVmProcessed
            | PointChoice::LatestMultiVmAppConsistent
            | PointChoice::Exact(_),
            _,
        ) => (requested, "as asked for"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PointId;

    const OUTCOMES: [Outcome; 4] = [Outcome::NotAsked, Outcome::ShutDownAndSent, Outcome::ShutDownOnly, Outcome::Failed];

    fn continues(mode: Mode) -> [bool; 4] {
        OUTCOMES.map(|outcome| goes_on(mode, outcome))
    }

    #[test]
    fn rule_19_a_test_never_touches_its_source() {
        assert_eq!((source(Mode::Test), continues(Mode::Test)), (Source::Untouched, [true; 4]));
    }

    #[test]
    fn rule_20_a_planned_failover_does_not_run_unless_its_source_has_shut_down_and_sent_the_rest() {
        assert_eq!((source(Mode::Planned), continues(Mode::Planned)), (Source::MustShutDown, [false, true, false, false]));
    }

    #[test]
    fn rule_21_an_unplanned_failover_goes_on_though_its_source_can_not_be_shut_down() {
        assert_eq!((source(Mode::Unplanned), continues(Mode::Unplanned)), (Source::MayBeAsked, [true; 4]));
        let looked_for = OUTCOMES.map(|outcome| effective(PointChoice::Latest, outcome).0);
        assert_eq!(looked_for, [PointChoice::LatestProcessed; 4], "the latest point there is");
    }

    #[test]
    fn rule_24_the_source_in_each_way_to_run() {
        let table = Mode::ALL.map(|mode| (mode.as_str(), source(mode), continues(mode)));
        let expected = [
            ("test", Source::Untouched, [true; 4]),
            ("planned", Source::MustShutDown, [false, true, false, false]),
            ("unplanned", Source::MayBeAsked, [true; 4]),
            ("failback", Source::MustShutDown, [false, true, false, false]),
        ];
        assert_eq!(table, expected);
    }

    #[test]
    fn rule_38_a_failback_shuts_the_machine_down_that_goes_home() {
        assert_eq!(source(Mode::Failback), Source::MustShutDown);
    }

    #[test]
    fn decision_c_what_is_looked_for_is_told_beside_what_was_asked_for_and_a_named_point_stays() {
        let (choice, why) = effective(PointChoice::Latest, Outcome::Failed);
        assert_eq!((choice, why), (PointChoice::LatestProcessed, "the last point that was received; the source could not be shut down and send the rest"));
        for named in [PointChoice::Exact(PointId(3)), PointChoice::LatestAppConsistent, PointChoice::LatestProcessed] {
            assert!(OUTCOMES.iter().all(|outcome| effective(named, *outcome).0 == named), "{named}");
        }
    }
}
