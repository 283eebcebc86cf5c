//! What steps answered in the histories, to be answered again when they are asked again.
//!
//! A step is the same if its name, its queue and its input are, but for the generation in it: that is new with each grant.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use sdk::{Command, EventBody, Inbound, Outcome, TaskQueue};
use serde_json::Value;

use crate::Bundle;

/// A recorded answer, and how long it took.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) outcome: Outcome,
    pub(super) took: TimeDelta,
}

/// Recorded answers of each step, in the order of the asking.
#[derive(Default)]
pub(super) struct Answers {
    recorded: BTreeMap<String, Vec<Answer>>,
    asked: BTreeMap<String, usize>,
}

impl Answers {
    pub(super) fn of(bundle: &Bundle) -> Self {
        let mut answers = Self::default();
        for history in bundle.runs() {
            for stored in &history.events {
                let EventBody::Command(Command::ActivityScheduled { activity, queue, input, .. }) = &stored.event.body else { continue };
                let seq = stored.event.seq;
                let end = history.events.iter().find_map(|end| match &end.event.body {
                    EventBody::Inbound(Inbound::ActivityFinished { of, outcome }) if *of == seq => Some((end.event.at, outcome.clone())),
                    EventBody::Inbound(_) | EventBody::Command(_) => None,
                });
                let Some((at, outcome)) = end else { continue };
                let answer = Answer { outcome, took: (at - stored.event.at).max(TimeDelta::zero()) };
                answers.recorded.entry(key(activity, queue, input)).or_default().push(answer);
            }
        }
        answers
    }

    /// The next recorded answer of this step; the last one again where there are no more.
    pub(super) fn next(&mut self, activity: &str, queue: &TaskQueue, input: &Value) -> Option<Answer> {
        let key = key(activity, queue, input);
        let recorded = self.recorded.get(&key)?;
        let asked = self.asked.entry(key).or_default();
        let answer = recorded.get(*asked).or_else(|| recorded.last()).cloned();
        *asked += 1;
        answer
    }
}

fn key(activity: &str, queue: &TaskQueue, input: &Value) -> String {
    without_generations(&format!("{activity} {queue} {input}"))
}

/// `e1-g23` becomes `e-g`, wherever it stands.
fn without_generations(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('e') {
        let (before, found) = rest.split_at(at);
        kept.push_str(before);
        match generation(found) {
            Some(length) => {
                kept.push_str("e-g");
                rest = found.get(length..).unwrap_or_default();
            }
            None => {
                kept.push('e');
                rest = found.get(1..).unwrap_or_default();
            }
        }
    }
    kept + rest
}

/// The length of a generation that a text begins with.
fn generation(text: &str) -> Option<usize> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let era = digits(text.get(1..)?);
    let rest = text.get(1 + era..)?.strip_prefix("-g")?;
    let epoch = digits(rest);
    (era > 0 && epoch > 0).then_some(1 + era + 2 + epoch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_makes_no_difference_and_everything_else_does() {
        assert_eq!(without_generations(r#"recover {"generation":"e1-g23","pin":"test-e1-g3"}"#), r#"recover {"generation":"e-g","pin":"test-e-g"}"#);
        assert_eq!(without_generations("e1-x e-g1 be1-g e12-g0e"), "e1-x e-g1 be1-g e-ge");
    }
}
