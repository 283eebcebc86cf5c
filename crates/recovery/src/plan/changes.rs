//! What differs between two versions of a plan, in the words of the plan.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::spec::Plan;

/// Something that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Where, such as `groups.data.items.db1.needs`.
    pub path: String,
    /// As it was; nothing if it is new.
    pub before: Option<Value>,
    /// As it is; nothing if it is gone.
    pub after: Option<Value>,
}

/// What differs, by place.
#[must_use]
pub fn changes(before: &Plan, after: &Plan) -> Vec<Change> {
    let tree = |plan: &Plan| serde_json::to_value(plan).unwrap_or_default();
    let mut found = vec![];
    compare("", &tree(before), &tree(after), &mut found);
    found
}

/// What a list's elements are known by, so that one that moved or came is not taken for another.
fn known_by(value: &Value) -> Option<&str> {
    value.get("name").or_else(|| value.get("item")).and_then(Value::as_str)
}

fn compare(path: &str, before: &Value, after: &Value, found: &mut Vec<Change>) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match (before, after) {
        (Value::Object(old), Value::Object(new)) => {
            let keys: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            keys.into_iter().for_each(|key| one(&below(key), old.get(key), new.get(key), found));
        }
        (Value::Array(old), Value::Array(new)) if old.iter().chain(new).all(|element| known_by(element).is_some()) => {
            let of = |list: &[Value], name: &str| list.iter().find(|element| known_by(element) == Some(name)).cloned();
            let names = |list: &[Value]| -> Vec<String> { list.iter().filter_map(known_by).map(str::to_owned).collect() };
            let (were, are) = (names(old), names(new));
            for name in were.iter().chain(are.iter().filter(|name| !were.contains(name))) {
                one(&below(name), of(old, name).as_ref(), of(new, name).as_ref(), found);
            }
            let stayed = |list: &[String], others: &[String]| -> Vec<String> { list.iter().filter(|name| others.contains(name)).cloned().collect() };
            if stayed(&were, &are) != stayed(&are, &were) {
                let order = |names: Vec<String>| Some(Value::from(names));
                found.push(Change { path: below("order"), before: order(were), after: order(are) });
            }
        }
        (old, new) if old != new => found.push(Change { path: path.to_owned(), before: Some(old.clone()), after: Some(new.clone()) }),
        _ => {}
    }
}

fn one(path: &str, before: Option<&Value>, after: Option<&Value>, found: &mut Vec<Change>) {
    match (before, after) {
        (Some(old), Some(new)) => compare(path, old, new, found),
        (None, None) => {}
        (old, new) => found.push(Change { path: path.to_owned(), before: old.cloned(), after: new.cloned() }),
    }
}
