//! The smallest number of faults with which a case still fails: the first fault that matters is the last of them.

use crate::case::{Case, carried_out};

/// More than chance wants in any case.
const MOST_FAULTS: u64 = 1 << 14;

/// The same failure with as few faults as possible, and what it says then.
///
/// Chance is asked before the number of faults is, so a case with fewer faults is the same case up to the first that is missing.
#[must_use]
pub fn shrunk(case: &Case, why: &str) -> (Case, String) {
    let (mut holds, mut fails) = (0, case.faults.unwrap_or(MOST_FAULTS));
    let mut said = why.to_owned();
    let with = |faults| Case { faults: Some(faults), ..*case };
    if let Err(why) = carried_out(&with(0)) {
        return (with(0), why);
    }
    // Not every number beyond the one that matters fails, but each that is tried and fails is a smaller case.
    while holds + 1 < fails {
        let middle = holds + (fails - holds) / 2;
        match carried_out(&with(middle)) {
            Ok(_) => holds = middle,
            Err(why) => (fails, said) = (middle, why),
        }
    }
    (with(fails), said)
}
