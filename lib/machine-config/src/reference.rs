//! The manual and the JSON schema of the config language, made from the types and their doc comments.
//!
//! Only makes the texts; a test compares them with `docs/reference/` and writes them there when asked to.

use crate::format;
use crate::schema::{self, Kind, UNSUPPORTED};
use crate::tree::MAX_BYTES;
use crate::v1::data::{ConfigMap, SecretData};
use crate::v1::machine::Machine;
use crate::v1::pod::Pod;
use crate::validate::{bounds, join};
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// The JSON schema of one document of a config, for editors. Ends with a line break.
///
/// Formats are Ingot's own names: editors pass over them, [`crate::load`] does not.
#[must_use]
pub fn json_schema() -> String {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let documents = [
        generator.subschema_for::<Machine>(),
        generator.subschema_for::<Pod>(),
        generator.subschema_for::<ConfigMap>(),
        generator.subschema_for::<SecretData>(),
    ];
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Ingot machine config",
        "description": "One document of the YAML stream.",
        "oneOf": documents,
        "$defs": generator.take_definitions(true),
    });
    // Nothing in a schema can fail to print.
    serde_json::to_string_pretty(&schema).unwrap_or_default() + "\n"
}

/// The manual in Markdown.
#[must_use]
pub fn manual() -> String {
    let mut out = format!(
        "<!-- Generated from lib/machine-config. To change it, change the doc comments there and run \
         `UPDATE=1 cargo test -p ingot-machine-config`. -->\n\n\
         # Machine config\n\n\
         A config is one stream of YAML documents, parted by lines of `---`: exactly one `kind: Machine`, and any number of \
         `kind: Pod`, `kind: ConfigMap` and `kind: Secret`. It holds at most {} MiB. Unknown fields are errors, and a wrong config is refused as a whole, with all \
         problems at once. `ingotctl validate` checks one without a node; `config.schema.json` beside this file is for \
         editors. Examples are in `configs/machine/`.\n\n\
         An empty value counts as a field that was not given. Anchors and aliases work; tags and merge keys (`<<`) do not.\n\n\
         Where a quantity is wanted, the suffixes are those of Kubernetes: `m`, `k`, `M`, `G`, `T` by thousands, `Ki`, `Mi`, \
         `Gi`, `Ti` by 1024.\n",
        MAX_BYTES >> 20,
    );
    for kind in Kind::ALL {
        let root = kind.schema();
        // Writing to a String cannot fail, here and below.
        let _ = write!(out, "\n## kind: {}\n\n{}\n", kind.name(), schema::described(root));
        section(&mut out, root, root, "");
    }
    out
}

/// The table of a map's fields, then the maps inside.
fn section(out: &mut String, root: &Value, map: &Value, path: &str) {
    let _ = write!(out, "\n| Field | Value | Default | Meaning |\n|---|---|---|---|\n");
    let required: Vec<_> =
        map.get("required").and_then(Value::as_array).into_iter().flatten().collect();
    let mut inner = Vec::new();
    for (name, field) in map.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let target = schema::resolve(root, field);
        let text = if schema::described(field).is_empty() {
            schema::described(target)
        } else {
            schema::described(field)
        };
        let is_required = required.iter().any(|required| *required == name);
        let mut meaning = text.replace('\n', " ").replace('|', "\\|");
        let choices = schema::choices(target);
        let several = choices.len() > 1;
        for (choice, about) in choices.into_iter().filter(|(_, about)| several && !about.is_empty())
        {
            let _ = write!(meaning, " `{choice:?}`: {}", about.replace('\n', " "));
        }
        let default = if is_required { "required".to_owned() } else { default(field) };
        let _ = writeln!(out, "| `{name}` | {} | {default} | {meaning} |", value(root, target));
        let (part, at) = match target.get("items") {
            Some(item) => (schema::resolve(root, item), format!("{}[]", join(path, name))),
            None => (target, join(path, name)),
        };
        if part.get("properties").is_some() {
            inner.push((part, at));
        }
    }
    let unsupported = map.get(UNSUPPORTED).and_then(Value::as_array).into_iter().flatten();
    let unsupported: Vec<_> =
        unsupported.filter_map(Value::as_str).map(|name| format!("`{name}`")).collect();
    if !unsupported.is_empty() {
        let _ = write!(out, "\nNot supported by Ingot yet: {}.\n", unsupported.join(", "));
    }
    for (part, at) in inner {
        let _ = write!(out, "\n### `{at}`\n\n{}\n", schema::described(part));
        section(out, root, part, &at);
    }
}

/// What may be written, in words.
fn value(root: &Value, schema: &Value) -> String {
    let schema = schema::resolve(root, schema);
    let choices = schema::choices(schema);
    if !choices.is_empty() {
        let shown: Vec<_> = choices.iter().map(|(choice, _)| format!("`{choice:?}`")).collect();
        return shown.join(", ");
    }
    if let Some(items) = schema.get("items") {
        return format!("list of {}", value(root, items));
    }
    if schema::allows(schema, "object") {
        let free = schema.get("additionalProperties").filter(|free| free.is_object());
        return free.map_or_else(
            || "map".to_owned(),
            |free| format!("map of names to {}", value(root, free)),
        );
    }
    if schema::allows(schema, "boolean") {
        return "true or false".to_owned();
    }
    if schema::allows(schema, "integer") {
        let (min, max) = bounds(schema);
        return format!("{min} to {max}");
    }
    let format = schema.get("format").and_then(Value::as_str).and_then(format::find);
    let secret = schema.get("writeOnly") == Some(&Value::Bool(true));
    format!(
        "{}{}",
        format.map_or("text", |format| format.noun),
        if secret { " (secret)" } else { "" }
    )
}

/// The default of a field, where the schema tells one that says something.
fn default(field: &Value) -> String {
    match field.get("default") {
        None | Some(Value::Null | Value::Object(_)) => String::new(),
        Some(Value::Array(items)) if items.is_empty() => String::new(),
        Some(Value::String(text)) if text.is_empty() => String::new(),
        Some(value) => format!("`{value}`"),
    }
}
