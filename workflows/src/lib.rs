//! The product's workflows and the activities that they declare.
//!
//!   protect ─▶ failover ─▶ commit        unprotect
//!
//! Invariants: 1. Nothing here knows a platform, a store or a clock. 2. A workflow changes the item's record only by facts,
//! recorded in the transaction of the events that cause them. 3. The machine of an item is powered on with its network only
//! after its source is fenced, or after a named person accepted that it is not.

pub mod commit;
pub mod declared;
pub mod failover;
pub mod protect;
mod tracked;
pub mod unprotect;

pub use commit::{Commit, CommitInput, Committed};
pub use failover::{Acceptance, Failover, FailoverInput, FailedOver};
pub use protect::{Protect, ProtectInput, Protected};
pub use tracked::{ITEM_PROJECTION, ItemChange, item_workflow_id, site_queue};
pub use unprotect::{Unprotect, UnprotectInput, Unprotected};

/// All workflows of the product.
#[must_use]
pub fn registry() -> sdk::Registry {
    sdk::Registry::default().with::<Protect>().with::<Failover>().with::<Commit>().with::<Unprotect>()
}
