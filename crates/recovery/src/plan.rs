//! Recovery plans: which machines are recovered together, in which order, with what done before and after.

pub mod action;
mod mode;

pub use mode::{InvalidMode, Mode, OnError};
