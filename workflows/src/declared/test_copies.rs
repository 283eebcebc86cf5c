//! What is asked of a site for a test failover.

use chrono::{DateTime, Utc};
use recovery::{Check, Generation, ItemName, PointId, TestNetwork};
use serde::{Deserialize, Serialize};

use super::{CALL, UNDO, asking, declare, machines::{Recovered, Served}};

/// A copy that runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StartedTest {
    /// By the site's clock.
    pub since: DateTime<Utc>,
    /// How its network was seen to be isolated before it was powered on.
    pub isolation: String,
}

/// What test failovers made at a site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenInventory {
    /// Sorted.
    pub objects: Vec<TestObject>,
}

/// Something that a test failover made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TestObject {
    /// Machine, disk, network, record, …
    pub kind: String,
    /// Path or name on the platform.
    pub name: String,
}

declare! {
    /// Lists what exists at a site because of test failovers of an item, or of one that can't be told.
    TakeInventory {
        /// Which.
        item: ItemName,
    } is "take-inventory", Idempotent, Read, CALL => TakenInventory
}

declare! {
    /// Makes throw-away disks on a point, an isolated network, and a machine that uses them. Starts nothing.
    RecoverTest {
        /// Which.
        item: ItemName,
        /// Names what is made.
        generation: Generation,
        /// From this.
        point: PointId,
        /// Shared with the other copies of a plan.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        network: Option<TestNetwork>,
    } is "recover-test", Probeable, Isolated, CALL => Recovered
}

declare! {
    /// Proves that the copy's network is isolated, then powers it on.
    StartTest {
        /// Which.
        item: ItemName,
        /// Whose objects.
        generation: Generation,
    } is "start-test", Probeable, Isolated, CALL => StartedTest
}

declare! {
    /// Asks the copy from within its network until it serves.
    CheckTest {
        /// Which.
        item: ItemName,
        /// Whose objects.
        generation: Generation,
        /// All of them must hold; none: it must run.
        checks: Vec<Check>,
    } is "check-test", Idempotent, Read, asking(500, 550) => Served
}

declare! {
    /// Removes the copy with everything that was made for it.
    CleanTest {
        /// Which.
        item: ItemName,
        /// Of this generation or an older one.
        generation: Generation,
    } is "clean-test", Idempotent, Isolated, UNDO => ()
}
