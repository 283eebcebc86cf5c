//! Rules for one Rust file.

use super::source::{Source, declared};
use super::{Finding, Place};

const MOST_LINES: usize = 500;
const MOST_FUNCTION_LINES: usize = 70;
const MOST_TRAIT_METHODS: usize = 12;

/// Words that say nothing about what a thing is. A name may neither be one of these nor end in one.
const EMPTY_WORDS: [&str; 10] =
    ["manager", "helper", "helpers", "util", "utils", "common", "info", "data", "process", "impl"];
const EMPTY_STARTS: [&str; 2] = ["handle_", "do_"];
const DECLARING: [&str; 6] = ["fn", "struct", "enum", "trait", "mod", "type"];

/// Spelled in halves, because this file is checked like any other.
const LEFT_OPEN: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
const LEFT_OPEN_CODE: [&str; 2] = [concat!("todo", "!("), concat!("unimplemented", "!(")];

/// Crates that are programs, or speak to people; all others log.
const SPEAKING: [&str; 4] = ["crates/cli/", "crates/agent/", "crates/xtask/", "tests/"];

/// The engine that the simulator runs is the one that ships: threads, tasks and clocks are its adapters' business.
const ENGINE: &str = "crates/engine/src/";
const ADAPTERS: &str = "crates/engine/src/adapters";
const RUNTIME: [&str; 5] = ["select!", "tokio::spawn", "tokio::time", "tokio::task", "thread::spawn"];

pub(crate) fn check(place: &Place<'_>, text: &str, found: &mut Vec<Finding>) {
    let source = Source::read(text, place.is_test());
    let rules = [story, size, names, left_open, sleeping_tests, printing, runtime_in_the_engine];
    for rule in rules {
        rule(place, text, &source, found);
    }
}

fn story(place: &Place<'_>, text: &str, _: &Source, found: &mut Vec<Finding>) {
    if !text.starts_with("//!") {
        found.push(place.at(1, "opens without its story (`//!`)"));
    }
}

fn size(place: &Place<'_>, _: &str, source: &Source, found: &mut Vec<Finding>) {
    let lines = source.length();
    if lines > MOST_LINES {
        found.push(place.at(1, &format!("has {lines} lines without its tests, at most {MOST_LINES}")));
    }
    for function in source.functions.iter().filter(|function| function.length() > MOST_FUNCTION_LINES) {
        let (name, lines) = (&function.name, function.length());
        found.push(place.at(*function.lines.start(), &format!("fn {name} has {lines} lines, at most {MOST_FUNCTION_LINES}")));
    }
    let suite = place.path.contains("/contract"); // its traits are what a suite asks of an adapter's tests, no ports
    for port in source.traits.iter().filter(|port| !suite && !source.is_test(*port.lines.start())) {
        let inside = |line: &(usize, &str)| port.lines.contains(&line.0);
        let methods: usize = source.numbered().filter(inside).map(|(_, line)| declared(line, "fn").len()).sum();
        if methods > MOST_TRAIT_METHODS {
            let name = &port.name;
            let said = format!("trait {name} has {methods} methods, at most {MOST_TRAIT_METHODS}");
            found.push(place.at(*port.lines.start(), &said));
        }
    }
}

fn names(place: &Place<'_>, _: &str, source: &Source, found: &mut Vec<Finding>) {
    if let Some(word) = empty_word(place.stem()) {
        found.push(place.at(1, &format!("the file's name has the empty word `{word}`")));
    }
    // The name of a test is a sentence, in which every word is welcome.
    for (number, line) in source.numbered().filter(|(number, line)| !source.is_test(*number) && !answers_a_trait(line)) {
        for (_, name) in DECLARING.iter().flat_map(|keyword| declared(line, keyword)) {
            if let Some(word) = empty_word(&name) {
                found.push(place.at(number, &format!("the name {name} has the empty word `{word}`")));
            }
        }
    }
}

/// An associated type that is given its meaning: its name was chosen where the trait stands.
fn answers_a_trait(line: &str) -> bool {
    line.starts_with(' ') && line.trim_start().starts_with("type ") && line.contains('=')
}

/// The empty word in a name, of either spelling (`PointInfo`, `point_info`).
fn empty_word(name: &str) -> Option<String> {
    let lower = name.to_lowercase();
    if let Some(start) = EMPTY_STARTS.iter().find(|start| lower.starts_with(**start)) {
        return Some((*start).to_owned());
    }
    words(name).pop().filter(|last| EMPTY_WORDS.contains(&last.as_str()))
}

fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before_was_lower = false;
    for character in name.chars() {
        if character == '_' || character == '-' || (character.is_uppercase() && before_was_lower) {
            words.push(String::new());
        }
        before_was_lower = character.is_lowercase();
        if let Some(word) = words.last_mut().filter(|_| character.is_alphanumeric()) {
            word.extend(character.to_lowercase());
        }
    }
    words
}

fn left_open(place: &Place<'_>, _: &str, source: &Source, found: &mut Vec<Finding>) {
    for (number, comment) in &source.comments {
        let mut words = comment.split(|c: char| !c.is_alphanumeric());
        if words.any(|word| LEFT_OPEN.contains(&word)) {
            found.push(place.at(*number, "is left open; finish it or write an issue"));
        }
    }
    for (number, line) in source.numbered() {
        if LEFT_OPEN_CODE.iter().any(|open| line.contains(open)) {
            found.push(place.at(number, "is left open; finish it or write an issue"));
        }
    }
}

/// Tests wait for a named condition; the one place that may pause between looks is a function called `wait_until…`.
fn sleeping_tests(place: &Place<'_>, _: &str, source: &Source, found: &mut Vec<Finding>) {
    for (number, line) in source.numbered().filter(|(number, _)| source.is_test(*number)) {
        if line.contains("#[ignore") {
            found.push(place.at(number, "a test is ignored"));
        }
        let waits = || source.function_at(number).is_some_and(|function| function.name.starts_with("wait_until"));
        if sleeps(line) && !waits() {
            found.push(place.at(number, "a test sleeps; wait for a named condition in a `wait_until…` function"));
        }
    }
}

/// A call of a function that sleeps; the method of that name on a workflow's context costs no time in a test.
fn sleeps(line: &str) -> bool {
    line.match_indices("sleep(").any(|(at, _)| !line[..at].ends_with(|before: char| before == '.' || before == '_' || before.is_alphanumeric()))
}

fn printing(place: &Place<'_>, _: &str, source: &Source, found: &mut Vec<Finding>) {
    // A build script speaks to cargo.
    if SPEAKING.iter().any(|start| place.path.starts_with(start)) || place.path.ends_with("/build.rs") {
        return;
    }
    for (number, line) in source.numbered().filter(|(number, _)| !source.is_test(*number)) {
        if line.contains("println!(") || line.contains("dbg!(") {
            found.push(place.at(number, "a library prints; use `tracing`"));
        }
    }
}

fn runtime_in_the_engine(place: &Place<'_>, _: &str, source: &Source, found: &mut Vec<Finding>) {
    if !place.path.starts_with(ENGINE) || place.path.starts_with(ADAPTERS) {
        return;
    }
    for (number, line) in source.numbered().filter(|(number, _)| !source.is_test(*number)) {
        for word in RUNTIME.iter().filter(|word| line.contains(**word)) {
            found.push(place.at(number, &format!("`{word}` in the engine belongs in its adapters: the simulator must run the same code")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> Vec<String> {
        let mut found = Vec::new();
        check(&Place { path }, text, &mut found);
        found.into_iter().map(|finding| finding.to_string()).collect()
    }

    #[test]
    fn a_clean_file_has_no_findings() {
        assert_eq!(findings("crates/x/src/a.rs", "//! Story.\n\nfn point() {}\n"), Vec::<String>::new());
    }

    #[test]
    fn a_file_without_its_story_is_found() {
        assert_eq!(findings("crates/x/src/a.rs", "fn a() {}\n"), ["crates/x/src/a.rs:1: opens without its story (`//!`)"]);
    }

    #[test]
    fn long_files_and_functions_are_found() {
        let long = format!("//! S.\nfn a() {{\n{}}}\n", "    b();\n".repeat(500));
        let found = findings("crates/x/src/a.rs", &long);
        assert!(found[0].contains("has 503 lines") && found[1].contains("fn a has 502 lines"), "{found:?}");
    }

    #[test]
    fn empty_words_are_found_in_either_spelling() {
        for (name, word) in [("PointInfo", "info"), ("run_helper", "helper"), ("handle_it", "handle_"), ("data", "data")] {
            assert_eq!(empty_word(name).as_deref(), Some(word));
        }
        assert_eq!(empty_word("database_information_implementation"), None);
    }

    #[test]
    fn what_is_left_open_is_found() {
        let text = format!("//! S.\n// {}: later\nfn a() {{ {}) }}\n", LEFT_OPEN[0], LEFT_OPEN_CODE[0]);
        assert_eq!(findings("crates/x/src/a.rs", &text).len(), 2);
    }

    #[test]
    fn a_sleeping_test_is_found_and_a_bounded_wait_is_not() {
        let text = "//! S.\n#[cfg(test)]\nmod tests {\n fn wait_until_up() { sleep(x) }\n fn t() { sleep(x) }\n}\n";
        let found = findings("crates/x/src/a.rs", text);
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("crates/x/src/a.rs:5:"), "{found:?}");
    }

    #[test]
    fn a_printing_library_is_found_and_a_program_is_not() {
        let text = "//! S.\nfn a() { println!(\"\") }\n";
        assert_eq!(findings("crates/x/src/a.rs", text).len(), 1);
        assert_eq!(findings("crates/cli/src/a.rs", text).len(), 0);
    }

    #[test]
    fn a_task_in_the_engine_is_found_unless_an_adapter_starts_it() {
        let text = "//! S.\nfn a() { tokio::spawn(b); tokio::select! {} }\n";
        assert_eq!(findings("crates/engine/src/turns.rs", text).len(), 2);
        assert_eq!(findings("crates/engine/src/adapters/drive.rs", text).len(), 0);
    }

    #[test]
    fn a_port_with_too_many_methods_is_found() {
        let text = format!("//! S.\ntrait Port {{\n{}}}\n", "    fn a();\n".repeat(13));
        assert!(findings("crates/x/src/a.rs", &text)[0].contains("trait Port has 13 methods"));
    }
}
