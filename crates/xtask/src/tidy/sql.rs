//! Rules for SQL: it lives in `crates/store` and `migrations` alone, one query a file, each with a header.

use super::source::Source;
use super::{Finding, Place};

/// The third strikes databases from outside the product, and reads them as a judge who does not trust it.
const HOMES: [&str; 3] = ["crates/store/", "migrations/", "tests/chaos/src/"];

/// How a statement begins, and a word that must follow somewhere for it not to be an English sentence.
const STATEMENTS: [(&str, &str); 9] = [
    ("select ", ""),
    ("insert into ", ""),
    ("update ", " set "),
    ("delete from ", ""),
    ("create table ", ""),
    ("create schema ", ""),
    ("alter table ", ""),
    ("drop table ", ""),
    ("with ", " as ("),
];

/// A `.sql` file.
pub(crate) fn check_file(place: &Place<'_>, text: &str, found: &mut Vec<Finding>) {
    if !HOMES.iter().any(|home| place.path.starts_with(home)) {
        found.push(place.at(1, "SQL lives in crates/store and migrations alone"));
    }
    if !text.starts_with("--") {
        found.push(place.at(1, "opens without its header (`--`)"));
    }
}

/// A Rust file: statements in its literals.
pub(crate) fn check_literals(place: &Place<'_>, text: &str, found: &mut Vec<Finding>) {
    if HOMES.iter().any(|home| place.path.starts_with(home)) || place.path == "crates/xtask/src/tidy/sql.rs" {
        return;
    }
    for (line, literal) in Source::read(text, place.is_test()).literals {
        if is_statement(&literal) {
            found.push(place.at(line, "holds SQL, which lives in crates/store and migrations alone"));
        }
    }
}

fn is_statement(literal: &str) -> bool {
    let text = literal.trim_start().to_lowercase().replace(['\n', '\t'], " ");
    STATEMENTS.iter().any(|(start, then)| text.starts_with(start) && text[start.len()..].contains(then))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_told_from_sentences() {
        for statement in ["select 1", " INSERT INTO a", "update a set b = 1", "with x as (select 1) table x", "update a\nset b"] {
            assert!(is_statement(statement), "{statement}");
        }
        for sentence in ["update the plan", "with care", "selected", "delete the point"] {
            assert!(!is_statement(sentence), "{sentence}");
        }
    }

    #[test]
    fn a_query_outside_its_home_is_found() {
        let mut found = Vec::new();
        check_file(&Place { path: "crates/server/a.sql" }, "select 1", &mut found);
        assert_eq!(found.len(), 2);
    }
}
