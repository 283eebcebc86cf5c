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
        table.add_row(row.map(|cell| visible(&cell)));
    }
    if any { table.trim_fmt() } else { none.to_owned() }
}

/// Names and values, one a line.
pub(crate) fn facts(facts: &[(&str, String)]) -> String {
    let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 2;
    facts.iter().map(|(name, value)| format!("{name:<width$}{}\n", visible(value))).collect()
}

/// What others wrote, on one line and without power over the terminal: no colours, no forged lines, no turned direction.
pub(crate) fn visible(text: &str) -> String {
    let turns = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || turns(c) { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

/// What is there, or a dash.
pub(crate) fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_forges_no_line_and_paints_nothing() {
        assert_eq!(visible("a\u{1b}[31mb\n  12  run_completed\u{202e}"), "a\\u{1b}[31mb\\n  12  run_completed\\u{202e}");
        assert_eq!(visible("Brand im Süden — café ☕"), "Brand im Süden — café ☕");
    }
}
