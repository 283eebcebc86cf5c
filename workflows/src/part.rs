//! An item's failover as a part of a plan: it tells what it can be recovered from, and waits until it may be powered on.
//!
//! ```text
//!   sealed ──points──▶ plan: what do all have in common? ──point──▶ pin, recover ──ready──▶ plan: everybody is ──power on──▶ start
//! ```
//!
//! Invariant: until it is told to power on, everything can be put back, and is if the plan stops.

use recovery::{Check, ItemName, PointChoice, PointId, RecoveryPoint, TestNetwork};
use sdk::{Context, Failure};
use serde::{Deserialize, Serialize};

/// Ends the wait for the others.
pub(crate) const POWER_ON: &str = "power-on";
/// Says which point is meant.
pub(crate) const POINT: &str = "point";

/// How a failover takes part in a plan.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// It tells the plan what it could be recovered from, and is told from what.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub asks: bool,
    /// The plan says when to power on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gate: bool,
    /// Asked beside the item's own checks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<Check>,
    /// Longest wait for it to serve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serve_within_ms: Option<u64>,
    /// Of a copy for a test: the isolated network that it shares with the others of the plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<TestNetwork>,
}

impl Part {
    /// Whether it is that of no plan.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// Everything is there but power.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prepared {
    /// From this point.
    pub point: PointId,
}

/// What an item tells of its points.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToChooseFrom {
    /// By number.
    pub points: Vec<RecoveryPoint>,
}

pub(crate) fn sealed_word(item: &ItemName) -> String {
    format!("sealed:{item}")
}

pub(crate) fn ready_word(item: &ItemName) -> String {
    format!("ready:{item}")
}

/// What a choice means for one item: that of a moment which many share is made by the plan, from the points of all.
pub(crate) async fn meant(ctx: &Context, item: &ItemName, choice: PointChoice, points: &[RecoveryPoint], part: &Part) -> Result<PointChoice, Failure> {
    if !part.asks || ctx.parent().is_none() {
        return Ok(choice);
    }
    ctx.tell_parent(&sealed_word(item), &ToChooseFrom { points: points.to_vec() })?;
    ctx.word(POINT).await
}

/// Waits for the others of the plan.
pub(crate) async fn gate(ctx: &Context, item: &ItemName, part: &Part, point: PointId) -> Result<(), Failure> {
    if !part.gate || ctx.parent().is_none() {
        return Ok(());
    }
    ctx.tell_parent(&ready_word(item), &Prepared { point })?;
    ctx.word::<()>(POWER_ON).await
}
