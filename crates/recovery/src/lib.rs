//! Disaster recovery as data: names, policies, points and the item's state machine. Pure: no I/O, no clock, no engine.

pub mod ids;
pub mod policy;

pub use ids::*;
pub use policy::*;
