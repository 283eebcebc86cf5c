//! The JSON Schema of plans, for editors: completion, and a line under what is wrong while it is written.

use serde_json::{Value, json};

use super::spec::Plan;

/// The schema, of draft 2020-12.
#[must_use]
pub fn schema() -> Value {
    let mut schema = schemars::schema_for!(Plan).to_value();
    if let Value::Object(fields) = &mut schema {
        fields.insert("title".to_owned(), json!("Switchback recovery plan"));
    }
    schema
}
