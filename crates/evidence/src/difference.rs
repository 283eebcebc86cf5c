//! Where two values differ first, by the path of a field.

use serde_json::Value;

/// A field that two values do not agree on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    /// Such as `input.policy.interval_s` or `disks[0].name`; empty for the whole.
    pub(crate) path: String,
    /// What the first one says, if it has the field.
    pub(crate) left: Option<Value>,
    /// What the second one says, if it has the field.
    pub(crate) right: Option<Value>,
}

/// The first field, in the order of names and positions, on which the two do not agree.
pub(crate) fn first(left: &Value, right: &Value) -> Option<Difference> {
    at(String::new(), Some(left), Some(right))
}

fn at(path: String, left: Option<&Value>, right: Option<&Value>) -> Option<Difference> {
    if left == right {
        return None;
    }
    match (left, right) {
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            let mut names: Vec<&String> = a.keys().chain(b.keys()).collect();
            names.sort_unstable();
            names.dedup();
            names.into_iter().find_map(|name| at(if path.is_empty() { name.clone() } else { format!("{path}.{name}") }, a.get(name), b.get(name)))
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) => {
            (0..a.len().max(b.len())).find_map(|place| at(format!("{path}[{place}]"), a.get(place), b.get(place)))
        }
        _ => Some(Difference { path, left: left.cloned(), right: right.cloned() }),
    }
}

/// A value in one line, cut where it gets long: what follows is in the file.
pub(crate) fn shown(value: Option<&Value>) -> String {
    const LONGEST: usize = 160;
    let text = value.map_or_else(|| "nothing".to_owned(), ToString::to_string);
    if text.chars().count() <= LONGEST { text } else { format!("{}…", text.chars().take(LONGEST).collect::<String>()) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_first_field_that_differs_is_named_by_its_path() {
        let found = |a: Value, b: Value| first(&a, &b).map(|d| (d.path, d.left, d.right));
        assert_eq!(found(json!({"a": 1}), json!({"a": 1})), None);
        let (left, right) = (json!({"a": {"b": [1, 2]}, "z": 0}), json!({"a": {"b": [1, 3]}, "z": 1}));
        assert_eq!(found(left, right), Some(("a.b[1]".into(), Some(json!(2)), Some(json!(3)))));
        assert_eq!(found(json!([1]), json!([1, {}])), Some(("[1]".into(), None, Some(json!({})))));
        assert_eq!(found(json!(null), json!("x")), Some((String::new(), Some(json!(null)), Some(json!("x")))));
    }
}
