//! Triggers: when alerts may start a failover. An alert proposes, the policy decides.
//!
//! ```text
//!   policy (YAML, versioned) ┐
//!   alerts, as last heard    ├─▶ judge ─▶ quiet | wait until | blocked | ask | would act | act      with a line for each rule
//!   item, switches, votes    ┘
//! ```
//!
//! Invariants: 1. A judgement is a function of policy, evidence and votes; time is the evidence's. 2. Every rule says what it saw,
//! whether it held or not. 3. What was heard is measured by our clock: no sender's clock decides. 4. The default is to ask a person.

mod evidence;
mod judge;
mod matcher;
mod policy;
mod window;

pub use evidence::{AlertKey, AlertSeen, AlertState, Evidence, ItemSeen, KillSwitch, LastFailover, SwitchScope};
pub use judge::{Judgement, Ruled, Verdict, judge};
pub use matcher::{InvalidMatcher, Matcher};
pub use policy::{Approval, Flap, InvalidTriggerPolicy, Mode, Proposal, Silence, TriggerName, TriggerPolicy, Veto};
pub use window::{Daily, InvalidWindow, Window};
