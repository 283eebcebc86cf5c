//! What of the models each run of the tests looks at: the cases below a million states, and every variant that lacks a rule.
//!
//! That takes about 40 s of one processor; `cargo xtask model` does the rest.

use switchback_model::{Found, Size, protocols, variants};

#[test]
fn the_protocol_holds_in_every_state() {
    let mut sum = 0;
    for case in protocols().iter().filter(|case| case.size == Size::Each) {
        let verdict = (case.look)();
        assert_eq!((&verdict.found, verdict.states), (&Found::Holds, case.states), "{} {}", case.part, case.name);
        sum += verdict.states;
    }
    println!("{sum} states");
}

#[test]
fn without_any_of_its_rules_it_does_not() {
    for variant in variants() {
        let verdict = variant.caught().expect("each variant has a case");
        assert_eq!(verdict.found == Found::Holds, variant.second_line, "{} {}: {:?}", variant.part, variant.name, verdict.found);
    }
}
