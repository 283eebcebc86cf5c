//! Runs executions: a step machine over ports. See [`ports`].

pub mod ports;
pub use ports::*;
