//! The command line.

mod drill;
mod evidence;
mod group;
mod installation;
mod items;
mod plan;
mod policies;
mod simulate;
mod store;
mod trigger;
pub(crate) mod schedule;

use std::path::PathBuf;

use api::access::Role;
use clap::{Args, Parser, Subcommand, ValueEnum};
use recovery::{ItemName, PlanName, Profile, SiteName};
use sdk::RunId;

pub(crate) use drill::{Drill, DrillOptions};
pub(crate) use evidence::{EvidenceCommand, Export, Place, Replay, Report};
pub(crate) use group::{GroupCommand, GroupNumbers};
pub(crate) use installation::{Server, StateDirArgument, Up, Worker};
pub(crate) use items::{
    ChangePoint, ChangePolicy, Discarding, Failback, Failover, ForgetItem, HoldPoint, Holds, ItemOperation, Location, PlannedFailover, Protect, ReleasePoint, Reprotect,
    ResolveItem, ShuttingDown, Sync, TestFailover, Waiting,
};
pub(crate) use plan::{PlanCommand, PlanFailback, PlanFailover, PlanOnly, PlanReprotect, PlanShutDown, PlanTest, PlanUndo, PlanWork};
pub(crate) use store::{SettleRun, StoreCommand};
pub(crate) use simulate::{Simulate, SimulatedWork};
pub(crate) use policies::{Approve, KillSwitchCommand, PolicyCommand};
pub(crate) use trigger::{CreateSource, SourceCommand, TriggerCommand};
#[cfg(test)]
pub(crate) use trigger::MAPPING_EXAMPLE;
pub(crate) use schedule::{CalendarRules, Create, Preview, ScheduleCommand, Starts};

/// Disaster recovery as durable workflows on Postgres.
///
/// Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 precondition or conflict, 5 not allowed, 6 degraded (what was looked at or
/// judged is not as it should be, although the command did its work; lists end with 0 whatever stands in them), 124 waited in vain,
/// 130 interrupted (what was begun goes on).
///
/// Over the network: --server https://HOST:PORT, --ca with the server's STATE_DIR/pki/ca.crt, and in SWITCHBACK_TOKEN what
/// `switchback token create` printed.
#[derive(Debug, Parser)]
#[command(name = "switchback", version, about)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Where the server is: unix:PATH or https://HOST:PORT [default: the socket in the state directory]
    #[arg(long, global = true, env = "SWITCHBACK_SERVER", value_name = "ADDRESS")]
    pub(crate) server: Option<String>,
    /// Form of answers.
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
    /// Bearer token, for servers on the network.
    #[arg(long, global = true, env = "SWITCHBACK_TOKEN", hide_env_values = true, hide = true)]
    pub(crate) token: Option<String>,
    /// File of the CA by which the server is known, for servers on the network.
    #[arg(long, global = true, env = "SWITCHBACK_CA", value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
}

/// Form of answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs database, server and workers until it is stopped.
    Up(Up),
    /// Runs a server alone.
    Server(Server),
    /// Runs a worker alone.
    Worker(Worker),
    /// Begins replication of a machine to another site.
    Protect(Protect),
    /// Lists an item's recovery points.
    Points {
        /// Which item.
        item: ItemName,
    },
    /// Runs an item at its other site, from a recovery point.
    Failover(Failover),
    /// Moves an item to its recovery site without loss: shuts it down, sends the rest, starts it there. Stops at the first error.
    PlannedFailover(PlannedFailover),
    /// Recovers a failed-over item again from another point; what it has written since is discarded.
    ChangePoint(ChangePoint),
    /// Gives a failover up: what the failed-over machine has written is discarded, and the source runs again.
    Undo(Discarding),
    /// Accepts a failover; its points go.
    Commit(ItemOperation),
    /// Replicates a committed item in the other direction, onto its old machine's disks.
    Reprotect(Reprotect),
    /// Moves an item back to its primary site without loss. Stops at the first error.
    Failback(Failback),
    /// Starts a copy of an item on a network of its own; production and replication do not notice.
    TestFailover(TestFailover),
    /// Removes the copy of a test failover.
    CleanTestFailover(ItemOperation),
    /// Rehearses a failover: a test failover with checks and a clock, its clean-up, and the proof that nothing is left.
    Drill(Drill),
    /// Recovers many machines in order: plans as code, carried out, followed, answered.
    Plan {
        #[command(subcommand)]
        command: PlanCommand,
    },
    /// Says whether a recovery would work now, check by check: of one item or plan, or in short of everything.
    ///
    /// Exit codes: 0 all is well or not known, 6 a warning or worse.
    Check {
        /// Which item; everything, if none is named.
        item: Option<ItemName>,
        /// Of this plan.
        #[arg(long, conflicts_with = "item")]
        plan: Option<PlanName>,
        /// Also what is well.
        #[arg(long)]
        all: bool,
    },
    /// Replication groups: items whose points are also taken at moments at which all their machines stand still.
    Group {
        #[command(subcommand)]
        command: GroupCommand,
    },
    /// Starts drills by a calendar.
    Schedule {
        #[command(subcommand)]
        command: ScheduleCommand,
    },
    /// Keeps a recovery point: nothing that would remove it, a commit above all, is begun until it is released.
    Hold(HoldPoint),
    /// Lets a held recovery point go.
    Release(ReleasePoint),
    /// Compares both sides of a replicated item whole, and sends what differs; it runs on meanwhile.
    Resync(ItemOperation),
    /// Changes how an item is replicated. Nothing is copied anew.
    ChangePolicy(ChangePolicy),
    /// Compares what is recorded of an item with what its sites see; with --as says which of the two holds.
    Resolve(ResolveItem),
    /// Shows what a platform's machines can and can't do, and what people do and look at in each way to run.
    Profile {
        /// Which platform: kvm, vmware, hyperv or physical.
        profile: Profile,
    },
    /// Ends replication of an item and removes its replica.
    Unprotect(ItemOperation),
    /// Takes an item off the list that was never protected, or is not any more: its row goes, with what sites and drills have said of it.
    ///
    /// Nothing at a site is touched, and histories stay. What still names it, such as a plan, is told.
    Forget(ForgetItem),
    /// Asks a run to stop and to put back what it did.
    Cancel {
        /// Which run.
        #[arg(value_parser = run_id)]
        run: RunId,
        /// Kept in the history.
        #[arg(long)]
        reason: Option<String>,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Shows what a run did, an event a line, with the epoch that wrote it.
    History {
        /// Which run.
        #[arg(value_parser = run_id)]
        run: RunId,
    },
    /// Writes the histories of a run and of its family into a signed file.
    Export(Export),
    /// Tells what the histories of a run show, or writes it into a signed file.
    Report(Report),
    /// Checks signed files, and shows the key for it.
    Evidence {
        #[command(subcommand)]
        command: EvidenceCommand,
    },
    /// Replays a file of histories with the workflows of this build: the same commands? Then tells what happened.
    Replay(Replay),
    /// Says in one line what a run waits for.
    Why {
        /// Which run.
        #[arg(value_parser = run_id)]
        run: RunId,
    },
    /// Lists runs, newest first.
    Runs {
        /// Of this item only.
        #[arg(long)]
        item: Option<ItemName>,
        /// Only those that have not ended.
        #[arg(long)]
        open: bool,
    },
    /// Shows the task queues, and deals with tasks that nobody can run.
    Queue {
        #[command(subcommand)]
        command: Option<QueueCommand>,
    },
    /// Lists what there is, or one of it.
    Get {
        /// Of which kind.
        kind: Kind,
        /// Which one.
        name: Option<String>,
    },
    /// Shows all that is known of one thing.
    Describe {
        /// Of which kind.
        kind: Described,
        /// Which one.
        name: String,
    },
    /// Rebuilds the projection from the histories and compares.
    Verify,
    /// Lets a run that was set aside go on.
    Resume {
        /// Which run.
        #[arg(value_parser = run_id)]
        run: RunId,
        /// Kept in the log.
        #[arg(long)]
        reason: Option<String>,
    },
    /// What the database has lost of what it had answered for, and what becomes of it.
    Store {
        #[command(subcommand)]
        command: StoreCommand,
    },
    /// Lets agents in, and lists them.
    Agent {
        #[command(subcommand)]
        command: AgentCommand,
    },
    /// Which builds have worked here, and which one carries the runs on.
    Build {
        #[command(subcommand)]
        command: BuildCommand,
    },
    /// Lets programs and people in.
    Token {
        #[command(subcommand)]
        command: TokenCommand,
    },
    /// Says yes, or no, to a failover that alerts propose, or to the only approval that a plan's run asks for. Without a name it lists
    /// all that people are asked now, by alerts and by plans.
    Approve(Approve),
    /// Stops alerts from starting anything, until it is turned off again.
    KillSwitch {
        #[command(subcommand)]
        command: KillSwitchCommand,
    },
    /// Alerts from monitoring: who may send them, what was delivered, how they stand.
    Trigger {
        #[command(subcommand)]
        command: TriggerCommand,
    },
    /// Shows the versions of this program and of the server.
    Version,
}

#[derive(Debug, Subcommand)]
pub(crate) enum QueueCommand {
    /// Depth, oldest age and attempts of each queue.
    List,
    /// Tasks that nobody can run.
    Dead,
    /// Tries one of them again.
    Retry {
        /// Of which run.
        #[arg(value_parser = run_id)]
        run: RunId,
        /// Which task.
        seq: i32,
    },
    /// Gives one of them up; its run hears that it failed.
    Discard {
        /// Of which run.
        #[arg(value_parser = run_id)]
        run: RunId,
        /// Which task.
        seq: i32,
    },
}

/// What there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    #[value(alias = "item")]
    Items,
    #[value(alias = "site")]
    Sites,
    #[value(alias = "agent")]
    Agents,
    #[value(alias = "run")]
    Runs,
    #[value(alias = "plan")]
    Plans,
    #[value(alias = "group")]
    Groups,
}

/// What can be described.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Described {
    Item,
    Run,
    Plan,
    Group,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AgentCommand {
    /// Makes a one-time token with which an agent of a site is enrolled.
    Token {
        /// Which site; it exists from then on.
        #[arg(long)]
        site: SiteName,
    },
    /// Lists enrolled agents.
    List,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BuildCommand {
    /// Lists builds, the newest first. New runs are the newest one's, and it carries on those of all others; an older one goes on with its own alone.
    List,
    /// Makes a build the newest, to go back to it. Runs that the others have begun are carried on by it where they decide alike, and set aside where not.
    Prefer {
        /// As `build list` names it.
        build: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Makes a bearer token; it is shown once.
    Create {
        /// Who will use it; goes into histories.
        #[arg(long)]
        name: String,
        /// What it allows: viewer, operator or admin.
        #[arg(long)]
        role: Role,
    },
    /// Lists bearer tokens: names and what they allow, never the secrets. They do not expire.
    List,
}

fn run_id(text: &str) -> Result<RunId, String> {
    text.parse().map_err(|error| format!("that is no id of a run ({error}); `switchback runs` lists them"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_holds_together() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }

    #[test]
    fn to_go_on_unfenced_needs_a_reason() {
        let parsed = |arguments: &[&str]| Arguments::try_parse_from([&["switchback", "failover", "db9"], arguments].concat());
        assert!(parsed(&["--accept-unfenced"]).is_err());
        assert!(parsed(&["--reason", "site burns"]).is_err());
        assert!(parsed(&["--accept-unfenced", "--reason", "site burns", "--wait"]).is_ok());
        assert!(parsed(&["--timeout", "5s"]).is_err(), "a limit without a wait is a mistake");
    }
}
