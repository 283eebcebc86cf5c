//! People whom a plan asks: whether they are there, and can log in.

use super::{Access, AskFacts, Facts, Finding, Severity};
use crate::plan::Silence;

/// Whether enough of those can answer whom a step asks.
pub(super) fn asked(ask: &AskFacts, facts: &Facts) -> Finding {
    let AskFacts { name, need, within, .. } = ask;
    let roles = ask.roles.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    let lacks: Vec<String> = ask.people.iter().filter_map(|person| lacks(person, facts)).collect();
    let able = ask.people.len() - lacks.len();
    let what = format!("{name} asks {need} of {roles}, and {able} of {} people can answer", ask.people.len());
    if lacks.is_empty() {
        return Finding::ok("people", name, what);
    }
    let what = format!("{what}: {}", lacks.join("; "));
    let next = "switchback token create --name NAME --role operator; a token's role does not change: name another one in the plan's `roles`.".to_owned();
    let (severity, means) = match (able < *need, ask.silence) {
        (false, _) => (Severity::Warning, "The others have to be there.".to_owned()),
        (true, Silence::Fail) => (Severity::Critical, format!("Nobody can say yes: the plan waits there for {within}, and then the step has failed.")),
        (true, Silence::GoOn) => (Severity::Critical, format!("Nobody can say yes or no: the plan waits there for {within}, and then goes on.")),
    };
    Finding::bad(severity, "people", name, [what, means, next])
}

/// Why somebody can't answer.
fn lacks(person: &str, facts: &Facts) -> Option<String> {
    match facts.people.get(person) {
        Some(Access::Operates | Access::Host) => None,
        Some(Access::Looks) => Some(format!("the token of {person} only lets look")),
        None => Some(format!("{person} has no token")),
    }
}
