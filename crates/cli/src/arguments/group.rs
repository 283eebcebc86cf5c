//! Arguments of replication groups.

use std::time::Duration;

use clap::{Args, Subcommand};
use recovery::{GroupName, ItemName};

use super::Waiting;
use crate::span;

#[derive(Debug, Subcommand)]
pub(crate) enum GroupCommand {
    /// Makes a group of protected items with the same sites and direction.
    Create {
        /// Its name.
        name: GroupName,
        /// Its members, 2 to 16, with commas between them.
        #[arg(long, required = true, value_delimiter = ',', value_name = "ITEM,ITEM")]
        items: Vec<ItemName>,
        #[command(flatten)]
        numbers: GroupNumbers,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Lists groups, each with its last common moment.
    List,
    /// Shows all that is known of a group. Exit code 6 if it has an alarm.
    Describe {
        /// Which one.
        name: GroupName,
    },
    /// Changes members or numbers. There are no common moments while it goes on; the items' own points do.
    Change {
        /// Which one.
        name: GroupName,
        /// Items that join.
        #[arg(long, value_delimiter = ',', value_name = "ITEM,ITEM")]
        add: Vec<ItemName>,
        /// Items that leave; they stay protected.
        #[arg(long, value_delimiter = ',', value_name = "ITEM,ITEM")]
        remove: Vec<ItemName>,
        /// Takes no app-consistent moments any more.
        #[arg(long, conflicts_with = "app_consistent_every")]
        no_app_consistent: bool,
        #[command(flatten)]
        numbers: GroupNumbers,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Removes a group. Its items stay protected and keep their points; those of common moments are pruned as any other.
    Remove {
        /// Which one.
        name: GroupName,
        #[command(flatten)]
        waiting: Waiting,
    },
}

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct GroupNumbers {
    /// From one common moment to the next [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = span::parse)]
    pub(crate) interval: Option<Duration>,
    /// At least so often a moment is app-consistent: the file systems of all guests are held still for it [default: never]
    #[arg(long, value_name = "TIME", value_parser = span::parse)]
    pub(crate) app_consistent_every: Option<Duration>,
    /// Longest time that a machine stands still for a moment; if it takes longer, all are let go and there is none [default: 200ms]
    #[arg(long, value_name = "TIME", value_parser = span::parse)]
    pub(crate) max_pause: Option<Duration>,
    /// How many common moments are kept, 1 to 8 [default: half of what the member with the fewest points keeps]
    #[arg(long, value_name = "NUMBER")]
    pub(crate) keep_moments: Option<u32>,
    /// Over how long they are spread [default: the shortest window of any member]
    #[arg(long, value_name = "TIME", value_parser = span::parse)]
    pub(crate) window: Option<Duration>,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::arguments::Arguments;

    #[test]
    fn a_group_has_items_and_times_with_units() {
        let holds = |line: &str| Arguments::try_parse_from(["switchback", "group"].into_iter().chain(line.split(' '))).is_ok();
        assert!(holds("create shop --items db1,db2 --interval 30s --app-consistent-every 1h --max-pause 200ms --wait"));
        assert!(!holds("create shop") && !holds("create shop --items db1,db2 --max-pause 200"));
        assert!(holds("change shop --add db3 --remove db1,db2 --no-app-consistent") && holds("remove shop") && holds("list"));
        assert!(!holds("change shop --no-app-consistent --app-consistent-every 1h"));
    }
}
