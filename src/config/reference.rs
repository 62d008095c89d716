//! `--print-config`: every key, its default and what it does, made from the settings' own types.

use std::fmt::Write as _;

use schemars::{JsonSchema, generate::SchemaSettings};
use serde::Serialize;
use serde_json::{Map, Value};

/// The reference of some settings, as TOML with comments: keys with a default are set to it, keys without are commented
/// out.
pub(crate) fn of<T: JsonSchema + Serialize + Default>(out: &mut String) {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let schema = settings.into_generator().into_root_schema_for::<T>();
    let defaults = serde_json::to_value(T::default()).unwrap_or_default();
    walk(&mut Vec::new(), schema.as_value(), &defaults, out);
}

fn walk(path: &mut Vec<String>, schema: &Value, default: &Value, out: &mut String) {
    let schema = unwrap(schema);
    let properties = schema.get("properties").and_then(Value::as_object);
    let names = schema.get("additionalProperties").filter(|inner| inner.is_object());
    if properties.is_none() && names.is_none() {
        return;
    }
    for (key, inner) in properties.into_iter().flatten() {
        path.push(key.clone());
        let value = default.get(key).unwrap_or(&Value::Null);
        if is_section(inner) {
            walk(path, inner, value, out);
        } else {
            entry(path, inner, value, out);
        }
        path.pop();
    }
    if let Some(inner) = names {
        path.push("\"<name>\"".to_owned());
        let defaults = Map::new();
        let inner_defaults = inner.get("default").cloned().unwrap_or(Value::Object(defaults));
        walk(path, inner, &inner_defaults, out);
        path.pop();
    }
}

fn is_section(schema: &Value) -> bool {
    let schema = unwrap(schema);
    schema.get("properties").is_some() || schema.get("additionalProperties").is_some_and(Value::is_object)
}

/// What an optional schema is about.
fn unwrap(schema: &Value) -> &Value {
    let options = schema.get("anyOf").and_then(Value::as_array);
    options
        .and_then(|options| options.iter().find(|option| option.get("type") != Some(&"null".into())))
        .unwrap_or(schema)
}

fn entry(path: &[String], schema: &Value, default: &Value, out: &mut String) {
    let text = schema.get("description").and_then(Value::as_str).unwrap_or_default();
    for line in text.lines() {
        let _ = writeln!(out, "# {line}");
    }
    let named = path.iter().any(|part| part.starts_with('"'));
    let value = match default {
        Value::Null => schema.get("default").cloned().unwrap_or(Value::Null),
        value => value.clone(),
    };
    let key = path.join(".");
    let _ = match toml(&value) {
        Some(value) if !named => writeln!(out, "{key} = {value}\n"),
        Some(value) => writeln!(out, "# {key} = {value}\n"),
        None => writeln!(out, "# {key} =\n"),
    };
}

fn toml(value: &Value) -> Option<String> {
    match value {
        Value::Null | Value::Object(_) => None,
        // JSON's strings, numbers, booleans and arrays of them are TOML's.
        value => Some(value.to_string()),
    }
}
