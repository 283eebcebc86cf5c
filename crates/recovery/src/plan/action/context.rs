//! Which step of which plan an action is: what scripts, commands and receivers are told.
//!
//! | environment                  | HTTP header          | what                                                          |
//! |------------------------------|----------------------|---------------------------------------------------------------|
//! | `SWITCHBACK_PLAN`            | `Switchback-Plan`    | name of the plan                                              |
//! | `SWITCHBACK_RUN`             | `Switchback-Run`     | the plan's run                                                |
//! | `SWITCHBACK_MODE`            | `Switchback-Mode`    | test, planned, unplanned or failback                          |
//! | `SWITCHBACK_GROUP`           | `Switchback-Group`   | the group it belongs to; empty: the plan as a whole           |
//! | `SWITCHBACK_ITEM`            | `Switchback-Item`    | the item it belongs to; empty: the group as a whole           |
//! | `SWITCHBACK_STEP`            | `Switchback-Step`    | name of the action                                            |
//! | `SWITCHBACK_SITE`            | `Switchback-Site`    | whose agent carries it out                                    |
//! | `SWITCHBACK_ATTEMPT`         | `Switchback-Attempt` | which time the plan asks for it, from 1                       |
//! | `SWITCHBACK_IDEMPOTENCY_KEY` | `Idempotency-Key`    | the same at each attempt of the same step of the same run     |
//!
//! Invariant: two steps of a run, and two runs, never have the same key.

use serde::{Deserialize, Serialize};

use super::super::Mode;
use crate::{ItemName, PlanName, SiteName};

/// Longest name of a group or a step.
const LONGEST_NAME: usize = 63;

/// Which step of which plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ActionContext {
    /// Name of the plan.
    pub plan: PlanName,
    /// Id of the plan's run.
    pub run: String,
    /// How the plan is run.
    pub mode: Mode,
    /// The group it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The item it belongs to: a test then stays in the network of its copy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<ItemName>,
    /// Name of the action, unique where it belongs.
    pub step: String,
    /// Whose agent carries it out.
    pub site: SiteName,
    /// Which time the plan asks for it, from 1.
    pub attempt: u32,
}

/// A name that can't be told in a header or an environment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {text:?} must have 1 to {LONGEST_NAME} letters, digits, `.`, `_` and `-`")]
pub struct InvalidContext {
    /// Which.
    pub field: &'static str,
    /// What was given.
    pub text: String,
}

impl ActionContext {
    /// Whether its texts are names.
    ///
    /// # Errors
    /// The first one that is not.
    pub fn check(&self) -> Result<(), InvalidContext> {
        let group = self.group.as_ref().map(|group| ("group", group));
        for (field, text) in group.into_iter().chain([("run", &self.run), ("step", &self.step)]) {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
            if text.is_empty() || text.len() > LONGEST_NAME || !text.chars().all(plain) {
                return Err(InvalidContext { field, text: text.clone() });
            }
        }
        Ok(())
    }

    /// The same at each attempt of the same step of the same run: `RUN/GROUP/ITEM/STEP`, where what is missing is empty.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}/{}/{}/{}", self.run, self.group(), self.item(), self.step)
    }

    /// What a script or a command finds in its environment, by name.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("SWITCHBACK_PLAN", self.plan.to_string()),
            ("SWITCHBACK_RUN", self.run.clone()),
            ("SWITCHBACK_MODE", self.mode.to_string()),
            ("SWITCHBACK_GROUP", self.group().to_owned()),
            ("SWITCHBACK_ITEM", self.item().to_owned()),
            ("SWITCHBACK_STEP", self.step.clone()),
            ("SWITCHBACK_SITE", self.site.to_string()),
            ("SWITCHBACK_ATTEMPT", self.attempt.to_string()),
            ("SWITCHBACK_IDEMPOTENCY_KEY", self.key()),
        ]
    }

    /// What a receiver finds in the headers, by name; what is empty is left out.
    #[must_use]
    pub fn headers(&self) -> Vec<(&'static str, String)> {
        let all = [
            ("switchback-plan", self.plan.to_string()),
            ("switchback-run", self.run.clone()),
            ("switchback-mode", self.mode.to_string()),
            ("switchback-group", self.group().to_owned()),
            ("switchback-item", self.item().to_owned()),
            ("switchback-step", self.step.clone()),
            ("switchback-site", self.site.to_string()),
            ("switchback-attempt", self.attempt.to_string()),
            // A string of RFC 8941; the key has no character that would have to be escaped.
            ("idempotency-key", format!("\"{}\"", self.key())),
        ];
        all.into_iter().filter(|(_, value)| !value.is_empty()).collect()
    }

    fn group(&self) -> &str {
        self.group.as_deref().unwrap_or_default()
    }

    fn item(&self) -> &str {
        self.item.as_ref().map(ItemName::as_str).unwrap_or_default()
    }
}
