//! A case: a system that must hold, or one that lacks a rule and must be caught.

use crate::{
    search::{Found, Verdict, search},
    system::System,
};

/// Looks at all states of one system.
pub type Look = Box<dyn Fn() -> Verdict + Send + Sync>;

/// When a case is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Size {
    /// At each run of the tests.
    Each,
    /// By the command.
    Usual,
    /// By the command, if all is wanted.
    Full,
}

/// The protocol in one case; it must hold.
pub struct Protocol {
    /// Which model.
    pub part: &'static str,
    /// What there is, and what goes wrong.
    pub name: String,
    /// When it is looked at.
    pub size: Size,
    /// How many states it has. Another number means that the model has changed.
    pub states: usize,
    /// Looks at it.
    pub look: Look,
}

/// The protocol without a rule; one of its cases must show what the rule is for.
pub struct Variant {
    /// Which model.
    pub part: &'static str,
    /// The rule that is left out.
    pub name: &'static str,
    /// It is a second line of defence: without it nothing happens as long as the first one holds.
    pub second_line: bool,
    /// Cases, the smallest first.
    pub looks: Vec<Look>,
}

impl Variant {
    /// What the first case says in which something goes wrong, or the last one if nothing does.
    #[must_use]
    pub fn caught(&self) -> Option<Verdict> {
        let mut states = 0;
        let mut last = None;
        for look in &self.looks {
            let mut verdict = look();
            states += verdict.states;
            verdict.states = states;
            let done = verdict.found != Found::Holds;
            last = Some(verdict);
            if done {
                break;
            }
        }
        last
    }
}

/// A look at this system.
pub(crate) fn look<M: System + Send + 'static>(system: M) -> Look {
    Box::new(move || search(&system))
}
