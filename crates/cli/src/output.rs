//! Answers, for people or for programs.

use anyhow::Result;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use crate::arguments::Output;

/// Prints an answer in the form that was asked for.
pub(crate) fn answer<T: Serialize>(output: Output, answer: &T, people: impl FnOnce(&T) -> String) -> Result<()> {
    let text = match output {
        Output::Json => serde_json::to_string_pretty(answer)?,
        Output::Table => people(answer),
    };
    line(text.trim_end());
    Ok(())
}

/// Prints a line, unless nobody reads any more.
pub(crate) fn line(text: &str) {
    use std::io::Write;
    if writeln!(std::io::stdout(), "{text}").is_err() {
        std::process::exit(0);
    }
}

/// A table with its heads; a sentence instead of an empty one.
pub(crate) fn table<const N: usize>(heads: [&str; N], rows: impl IntoIterator<Item = [String; N]>, none: &str) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(heads);
    let mut any = false;
    for row in rows {
        any = true;
        table.add_row(row);
    }
    if any { table.trim_fmt() } else { none.to_owned() }
}

/// Names and values, one a line.
pub(crate) fn facts(facts: &[(&str, String)]) -> String {
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 2;
    facts.iter().map(|(name, value)| format!("{name:<width$}{value}\n")).collect()
}

/// What is there, or a dash.
pub(crate) fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}
