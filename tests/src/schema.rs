//! Whether a value is what a JSON Schema says: the words of it that our own schemas use, and no others.

use serde_json::Value;

/// What does not fit, by its path.
///
/// # Panics
/// The schema uses a word that is not known here: then nothing was checked by it.
#[must_use]
pub fn misfits(schema: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    check(schema, schema, value, "", &mut found);
    found
}

const TOLD: [&str; 5] = ["$schema", "$id", "title", "description", "$defs"];

fn check(root: &Value, schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    for (word, says) in schema.as_object().into_iter().flatten().filter(|(word, _)| !TOLD.contains(&word.as_str())) {
        let fits = match word.as_str() {
            "$ref" => {
                let name = says.as_str().unwrap_or_default().trim_start_matches('#');
                let meant = root.pointer(name).unwrap_or_else(|| panic!("{name} is not defined"));
                check(root, meant, value, path, found);
                true
            }
            "type" => is_of(says, value),
            "const" => says == value,
            "enum" => says.as_array().is_some_and(|known| known.contains(value)),
            "anyOf" => says.as_array().is_some_and(|ways| ways.iter().any(|way| fits(root, way, value))),
            "minimum" => value.as_i64().is_none_or(|number| Some(number) >= says.as_i64()),
            "pattern" => value.as_str().is_none_or(|text| is_hex(says.as_str().unwrap_or_default(), text)),
            "format" => value.as_str().is_none_or(|text| has_format(says.as_str().unwrap_or_default(), text)),
            "required" => {
                let missing = says.as_array().into_iter().flatten().filter(|name| value.get(name.as_str().unwrap_or_default()).is_none());
                found.extend(missing.map(|name| format!("{path}.{name} is missing")));
                true
            }
            "properties" => {
                for (name, schema) in says.as_object().into_iter().flatten() {
                    value.get(name).into_iter().for_each(|value| check(root, schema, value, &format!("{path}.{name}"), found));
                }
                true
            }
            "additionalProperties" => {
                assert_eq!(says, &Value::Bool(false), "only that is used");
                let known = |name: &String| schema["properties"].get(name).is_some();
                value.as_object().is_none_or(|fields| fields.keys().all(known))
            }
            "items" => {
                for (at, value) in value.as_array().into_iter().flatten().enumerate() {
                    check(root, says, value, &format!("{path}[{at}]"), found);
                }
                true
            }
            other => panic!("the word {other} is not known here"),
        };
        if !fits {
            found.push(format!("{path}: {word} {says} does not hold for {value}"));
        }
    }
}

fn fits(root: &Value, schema: &Value, value: &Value) -> bool {
    let mut found = Vec::new();
    check(root, schema, value, "", &mut found);
    found.is_empty()
}

fn is_of(says: &Value, value: &Value) -> bool {
    let is = |name: &str| match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("the type {other} is not known here"),
    };
    says.as_str().map_or_else(|| says.as_array().into_iter().flatten().filter_map(Value::as_str).any(is), is)
}

/// The only patterns that are used: so many hexadecimal digits.
fn is_hex(pattern: &str, text: &str) -> bool {
    let count = pattern.strip_prefix("^[0-9a-f]{").and_then(|rest| rest.strip_suffix("}$")).and_then(|count| count.parse::<usize>().ok());
    let count = count.unwrap_or_else(|| panic!("the pattern {pattern} is not known here"));
    text.len() == count && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn has_format(format: &str, text: &str) -> bool {
    match format {
        "date-time" => chrono::DateTime::parse_from_rfc3339(text).is_ok(),
        "uuid" => text.parse::<uuid::Uuid>().is_ok(),
        other => panic!("the format {other} is not known here"),
    }
}
