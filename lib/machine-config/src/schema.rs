//! The JSON schema of each kind of document, as `schemars` derives it from the types, for `validate` and `reference`.
//!
//! Beside JSON Schema's own words it uses `writeOnly` for secrets and `x-ingot-unsupported` for the fields that upstream
//! has and Ingot does not support yet.

use crate::v1::data::{ConfigMap, SecretData};
use crate::v1::machine::Machine;
use crate::v1::pod::Pod;
use schemars::generate::SchemaSettings;
use serde_json::Value;
use std::sync::LazyLock;

/// The list of upstream's fields that Ingot does not support yet.
pub(crate) const UNSUPPORTED: &str = "x-ingot-unsupported";

/// The kinds of documents a config may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Machine,
    Pod,
    ConfigMap,
    Secret,
}

impl Kind {
    /// All kinds, in the order the manual describes them.
    pub(crate) const ALL: [Self; 4] = [Self::Machine, Self::Pod, Self::ConfigMap, Self::Secret];

    /// The text of the field `kind`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Machine => "Machine",
            Self::Pod => "Pod",
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
        }
    }

    /// The text of the field `apiVersion`.
    pub(crate) fn api_version(self) -> &'static str {
        match self {
            Self::Machine => "ingot/v1",
            Self::Pod | Self::ConfigMap | Self::Secret => "v1",
        }
    }

    /// The schema of such a document; parts it refers to are below `$defs`.
    pub(crate) fn schema(self) -> &'static Value {
        static MACHINE: LazyLock<Value> = LazyLock::new(generate::<Machine>);
        static POD: LazyLock<Value> = LazyLock::new(generate::<Pod>);
        static CONFIG_MAP: LazyLock<Value> = LazyLock::new(generate::<ConfigMap>);
        static SECRET: LazyLock<Value> = LazyLock::new(generate::<SecretData>);
        match self {
            Self::Machine => &MACHINE,
            Self::Pod => &POD,
            Self::ConfigMap => &CONFIG_MAP,
            Self::Secret => &SECRET,
        }
    }
}

fn generate<T: schemars::JsonSchema>() -> Value {
    SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>().to_value()
}

/// Follows `$ref` and takes the part of an `anyOf` that is not null. A schema of ours has no other alternatives.
pub(crate) fn resolve<'a>(root: &'a Value, mut schema: &'a Value) -> &'a Value {
    loop {
        if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
            let target =
                name.strip_prefix("#/$defs/").and_then(|name| root.get("$defs")?.get(name));
            let Some(target) = target else { return schema };
            schema = target;
        } else if let Some(Value::Array(any)) = schema.get("anyOf") {
            let some =
                any.iter().find(|part| part.get("type").and_then(Value::as_str) != Some("null"));
            let Some(some) = some else { return schema };
            schema = some;
        } else {
            return schema;
        }
    }
}

/// True when the schema allows this JSON type.
pub(crate) fn allows(schema: &Value, name: &str) -> bool {
    match schema.get("type") {
        Some(Value::String(only)) => only == name,
        Some(Value::Array(any)) => any.iter().any(|one| one == name),
        _ => false,
    }
}

/// The texts a schema allows with the description of each; empty when it does not list them.
pub(crate) fn choices(schema: &Value) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    if let Some(only) = schema.get("const").and_then(Value::as_str) {
        found.push((only, described(schema)));
    }
    for text in schema.get("enum").and_then(Value::as_array).into_iter().flatten() {
        found.extend(text.as_str().map(|text| (text, "")));
    }
    for part in schema.get("oneOf").and_then(Value::as_array).into_iter().flatten() {
        found.extend(
            choices(part)
                .into_iter()
                .map(|(text, own)| (text, if own.is_empty() { described(part) } else { own })),
        );
    }
    found
}

/// The description of a schema, or nothing.
pub(crate) fn described(schema: &Value) -> &str {
    schema.get("description").and_then(Value::as_str).unwrap_or_default()
}
