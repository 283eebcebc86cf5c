//! Waiting until a check holds.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Check, span::Span};

/// A check that is asked until it holds.
///
/// In a test of an item it is asked in the isolated network of the item's copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct WaitFor {
    /// What must hold.
    #[schemars(with = "String")]
    pub check: Check,
    /// For how long it is asked.
    #[serde(default = "five_minutes")]
    #[schemars(with = "String")]
    pub within: Span,
}

fn five_minutes() -> Span {
    Span::seconds(300)
}
