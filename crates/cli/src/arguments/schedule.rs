//! Arguments of schedules.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::{DrillOptions, Waiting};
use crate::span;

#[derive(Debug, Subcommand)]
pub(crate) enum ScheduleCommand {
    /// Makes a schedule.
    Create(Box<Create>),
    /// Lists schedules.
    List,
    /// Shows all that is known of a schedule.
    Describe {
        /// Which one.
        name: String,
    },
    /// Starts nothing until it is resumed; what comes meanwhile is recorded as missed because of it.
    Pause {
        /// Which one.
        name: String,
        /// Kept beside each time that is missed.
        #[arg(long)]
        reason: String,
    },
    /// Goes on. What came in the pause stays missed.
    Resume {
        /// Which one.
        name: String,
    },
    /// Forgets a schedule. What it started and missed stays in its history.
    Remove {
        /// Which one.
        name: String,
    },
    /// Lists what became of a schedule's times, newest first: runs, and what was missed and why.
    History {
        /// Which one; also one that was removed.
        name: String,
        /// How many.
        #[arg(short = 'n', long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
    },
    /// Lists the next times of a schedule, or of a calendar before anything is kept.
    Preview(Box<Preview>),
    /// Starts a run now; the schedule's times stay as they are.
    RunNow {
        /// Which one.
        name: String,
        #[command(flatten)]
        waiting: Waiting,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// Its name: lower-case letters, digits and dashes.
    pub(crate) name: String,
    /// Five fields: minute, hour, day, month, weekday; also L, W, # and names. If day and weekday are both given, either is enough.
    #[arg(long)]
    pub(crate) cron: String,
    /// IANA zone in whose wall clock time that is read, such as Europe/Berlin.
    #[arg(long)]
    pub(crate) zone: String,
    #[command(flatten)]
    pub(crate) rules: CalendarRules,
    #[command(subcommand)]
    pub(crate) starts: Starts,
}

#[derive(Debug, Args)]
pub(crate) struct Preview {
    /// Of this schedule.
    #[arg(required_unless_present = "cron", conflicts_with = "cron")]
    pub(crate) name: Option<String>,
    /// Of this calendar: five fields.
    #[arg(long, requires = "zone")]
    pub(crate) cron: Option<String>,
    /// In this IANA zone.
    #[arg(long, requires = "cron")]
    pub(crate) zone: Option<String>,
    #[command(flatten)]
    pub(crate) rules: CalendarRules,
    /// How many times.
    #[arg(short = 'n', long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) count: u32,
}

/// What happens where the calendar and the world disagree.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct CalendarRules {
    /// Starts each run up to this much later, at most a day; the same for the same time. Never past the next time.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = span::parse, requires = "cron")]
    pub(crate) jitter: Duration,
    /// What happens while the run before is open.
    #[arg(long, value_enum, default_value_t = Overlap::Skip, requires = "cron")]
    pub(crate) overlap: Overlap,
    /// How late a run may start when nobody was there at its time, at most seven days.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = span::parse, requires = "cron")]
    pub(crate) catch_up: Duration,
    /// Which of the times that are not too late are made up for.
    #[arg(long, value_enum, default_value_t = CatchUpRuns::Last, requires = "cron")]
    pub(crate) catch_up_runs: CatchUpRuns,
    /// What happens to a time of day that is left out when the clock goes forward.
    #[arg(long, value_enum, default_value_t = MissingHour::RunAfter, requires = "cron")]
    pub(crate) missing_hour: MissingHour,
    /// What happens to a time of day that comes twice when the clock goes back. A calendar of every hour wants both.
    #[arg(long, value_enum, default_value_t = RepeatedHour::First, requires = "cron")]
    pub(crate) repeated_hour: RepeatedHour,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Starts {
    /// A drill of an item.
    Drill(DrillOptions),
}

/// What happens while the run before is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Overlap {
    /// The time is missed.
    Skip,
    /// The time waits until that run has ended.
    Wait,
}

/// Which of the times that passed are made up for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CatchUpRuns {
    /// The last one.
    Last,
    /// Each, one after the other; needs --overlap wait.
    All,
    /// None.
    None,
}

/// What happens to a time of day that is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum MissingHour {
    /// It fires at the moment of the change.
    RunAfter,
    /// It does not fire on that day.
    Skip,
}

/// What happens to a time of day that comes twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RepeatedHour {
    /// It fires at the first.
    First,
    /// It fires at the second.
    Second,
    /// It fires at both.
    Both,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::arguments::Arguments;

    fn holds(line: &str) -> bool {
        Arguments::try_parse_from(["switchback", "schedule"].into_iter().chain(line.split(' '))).is_ok()
    }

    #[test]
    fn a_rule_without_its_calendar_is_a_mistake() {
        assert!(holds("create n --cron @daily --zone UTC --jitter 10m --overlap wait drill db9 --rto-target 15m --check tcp:10.0.0.1:22"));
        assert!(!holds("create n --cron @daily drill db9"), "a calendar has a zone");
        assert!(!holds("create n --cron @daily --zone UTC"), "it starts something");
        assert!(holds("preview n -n 3") && holds("preview --cron @daily --zone UTC --missing-hour skip"));
        assert!(!holds("preview") && !holds("preview n --cron @daily --zone UTC") && !holds("preview n --jitter 5m"));
        assert!(holds("pause n --reason holidays") && !holds("pause n"));
        assert!(holds("run-now n --wait") && holds("history n") && !holds("history n -n 0"));
    }
}
