//! A script on a machine that the agent reaches by SSH.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{InvalidAction, MOST_TEXT, invalid};
use crate::{SecretName, span::Span};

/// Longest name of a user.
const LONGEST_USER: usize = 64;

/// A script for the shell of a machine. At most once, unless it says that doing it again is harmless.
///
/// The server's key must be known to the agent beforehand. What stands on the script's standard input is nothing; which plan asks
/// stands in its environment. If its time runs out, whether it still runs there is unknown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Ssh {
    /// Name or address. In a test of an item it is asked in the isolated network of the item's copy, where only addresses are known.
    pub host: String,
    /// 22 unless it is said.
    #[serde(default = "ssh_port")]
    pub port: u16,
    /// Who logs in.
    pub user: String,
    /// For `sh`; exit code 0 means that it was done.
    pub script: String,
    /// The name of a private key that the agent has; the agent's only one, if it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub key: Option<SecretName>,
    /// Doing it again is harmless.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub repeatable: bool,
    /// Longest single attempt.
    #[serde(default = "five_minutes")]
    #[schemars(with = "String")]
    pub within: Span,
}

fn ssh_port() -> u16 {
    22
}

fn five_minutes() -> Span {
    Span::seconds(300)
}

impl Ssh {
    pub(super) fn check(&self) -> Result<(), InvalidAction> {
        invalid::host(&self.host)?;
        if self.port == 0 {
            return Err(InvalidAction::Text { field: "port", text: "0".to_owned(), rule: "is no port" });
        }
        invalid::length("user", &self.user, LONGEST_USER)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if !self.user.chars().all(plain) || self.user.starts_with('-') {
            let rule = "may contain only letters, digits, `.`, `_` and `-`, and does not begin with `-`";
            return Err(InvalidAction::Text { field: "user", text: self.user.clone(), rule });
        }
        invalid::argument("script", &self.script, MOST_TEXT)
    }
}
