//! A program beside the agent, which its configuration allows by name.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{InvalidAction, invalid};
use crate::{CommandName, span::Span};

/// A command by its name. At most once, unless it says that doing it again is harmless.
///
/// Which program that is, as which user and in which directory it is run, and which arguments it may be given stands in the
/// configuration of the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Command {
    /// As the agent's configuration has it.
    #[schemars(with = "String")]
    pub name: CommandName,
    /// Behind those that the configuration fixes; no shell looks at them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<String>,
    /// Doing it again is harmless.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub repeatable: bool,
    /// Longest single attempt; the agent's configuration may have a shorter one.
    #[serde(default = "five_minutes")]
    #[schemars(with = "String")]
    pub within: Span,
}

fn five_minutes() -> Span {
    Span::seconds(300)
}

impl Command {
    pub(super) fn check(&self) -> Result<(), InvalidAction> {
        invalid::arguments(&self.arguments)
    }
}
