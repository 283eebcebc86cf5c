//! A program in a recovered machine, run by its guest's agent.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{InvalidAction, invalid};
use crate::{ItemName, span::Span};

/// Longest input: it is one message to the guest's agent, in base64.
const MOST_INPUT: usize = 16_384;

/// A program in a machine. At most once, unless it says that doing it again is harmless.
///
/// It is run in the machine that the item's recovery made, and in a test in the item's copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Guest {
    /// Whose machine.
    #[schemars(with = "String")]
    pub item: ItemName,
    /// Path in the guest, or a name that the guest finds.
    pub program: String,
    /// Given as they stand; no shell looks at them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<String>,
    /// Its standard input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// Doing it again is harmless.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub repeatable: bool,
    /// Longest single attempt.
    #[serde(default = "a_minute")]
    #[schemars(with = "String")]
    pub within: Span,
}

fn a_minute() -> Span {
    Span::seconds(60)
}

impl Guest {
    pub(super) fn check(&self) -> Result<(), InvalidAction> {
        invalid::argument("program", &self.program, invalid::LONGEST_ARGUMENT)?;
        invalid::arguments(&self.arguments)?;
        let input = self.input.as_ref().map_or(0, String::len);
        if input > MOST_INPUT {
            return Err(InvalidAction::Length { field: "input", length: input, limit: MOST_INPUT });
        }
        Ok(())
    }
}
