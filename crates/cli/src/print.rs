//! Answers on standard output: tables for people, JSON for programs.

use anyhow::Result;
use chrono::{DateTime, SecondsFormat, Utc};
use comfy_table::{Cell, ContentArrangement, Table, presets};
use serde::Serialize;
use serde_json::Value;

/// Prints any answer as JSON.
pub(crate) fn json(value: &impl Serialize) -> Result<()> {
    println!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}

/// Prints rows under headings.
pub(crate) fn table<const N: usize>(headings: [&str; N], rows: impl IntoIterator<Item = [String; N]>) {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(headings.map(Cell::new));
    let mut any = false;
    for row in rows {
        table.add_row(row.map(Cell::new));
        any = true;
    }
    if any {
        println!("{}", trimmed(&table.to_string()));
    } else {
        eprintln!("none");
    }
}

/// Prints names and values.
pub(crate) fn sheet(rows: &[(&str, String)]) {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in rows {
        println!("{:<width$}  {value}", format!("{name}:"), width = width + 1);
    }
}

fn trimmed(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.join("\n")
}

pub(crate) fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

pub(crate) fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "–".into(), |value| value.to_string())
}

pub(crate) fn bytes(count: u64) -> String {
    indicatif::BinaryBytes(count).to_string()
}

pub(crate) fn millis(ms: i64) -> String {
    match ms {
        ..=999 => format!("{ms} ms"),
        1_000..=119_999 => format!("{:.1} s", seconds(ms)),
        120_000..=7_199_999 => format!("{} min", ms / 60_000),
        _ => format!("{} h", ms / 3_600_000),
    }
}

#[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
fn seconds(ms: i64) -> f64 {
    ms as f64 / 1000.0
}

/// A JSON value on one line, without the braces of an object.
pub(crate) fn flat(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let words: Vec<String> = fields.iter().filter(|(_, v)| !v.is_null()).map(|(name, v)| format!("{name}={}", flat(v))).collect();
            words.join(" ")
        }
        Value::String(text) => text.clone(),
        Value::Array(values) => format!("[{}]", values.iter().map(flat).collect::<Vec<_>>().join(", ")),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}
