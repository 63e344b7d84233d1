//! The configs in `configs/machine/` are sound, and show every field of the language.

use ingot_machine_config::{Loaded, load, reference};
use serde_json::Value;
use std::collections::BTreeSet;

const MINIMAL: &str = include_str!("../../../configs/machine/minimal.yaml");
const TYPICAL: &str = include_str!("../../../configs/machine/typical.yaml");
const EVERY_FIELD: &str = include_str!("../../../configs/machine/every-field.yaml");

#[test]
fn every_example_is_sound() {
    for (name, text) in [("minimal", MINIMAL), ("typical", TYPICAL), ("every-field", EVERY_FIELD)] {
        let Loaded { config, problems } = load(text);
        let shown: Vec<_> = problems.iter().map(ToString::to_string).collect();
        assert!(config.is_some() && problems.is_empty(), "{name}.yaml:\n{}", shown.join("\n"));
    }
}

#[test]
fn every_field_yaml_mentions_every_field_of_the_schema() {
    let schema: Value =
        serde_json::from_str(&reference::json_schema()).expect("the schema is JSON");
    let mut fields = BTreeSet::new();
    collect(&schema, &mut fields);
    assert!(fields.len() > 50, "the walk over the schema found only {fields:?}");
    let mentions = |field: &str| {
        EVERY_FIELD.lines().any(|line| {
            line.trim_start_matches([' ', '-'])
                .split_once(':')
                .is_some_and(|(name, _)| name == field)
        })
    };
    let missing: Vec<_> = fields.iter().filter(|field| !mentions(field)).collect();
    assert!(missing.is_empty(), "configs/machine/every-field.yaml does not mention {missing:?}");
}

fn collect(schema: &Value, fields: &mut BTreeSet<String>) {
    match schema {
        Value::Object(map) => {
            if let Some(Value::Object(properties)) = map.get("properties") {
                fields.extend(properties.keys().cloned());
            }
            map.values().for_each(|part| collect(part, fields));
        }
        Value::Array(parts) => parts.iter().for_each(|part| collect(part, fields)),
        _ => {}
    }
}

#[test]
fn a_config_survives_being_written_and_read() {
    for text in [MINIMAL, TYPICAL, EVERY_FIELD] {
        let config = load(text).config.expect("the examples are sound");
        let written = config.to_yaml();
        assert_eq!(load(&written).config.as_ref(), Some(&config), "{written}");
    }
}
