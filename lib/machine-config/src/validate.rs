//! Compares a document with the schema of its kind: unknown fields, types, choices, ranges, formats, required fields.
//!
//! Collects every problem, and builds on the way the JSON value that `serde` turns into types, without what is wrong.
//! It knows the words of the schema, but no field of the config: rules about meaning are in `check`.

use crate::format;
use crate::load::Placeholders;
use crate::problem::{Problem, Problems};
use crate::schema::{self, Kind, UNSUPPORTED};
use crate::secret::REDACTED;
use crate::tree::{Key, Node, Place, Value as Written};
use serde_json::{Map, Number, Value};
use std::collections::HashMap;

/// What comparing one document with its schema gave.
pub(crate) struct Validated {
    /// The document without what is wrong.
    pub(crate) value: Value,
    pub(crate) problems: Problems,
    /// Where each path was written, for problems found later.
    pub(crate) places: HashMap<String, Place>,
    /// Where the secrets are.
    pub(crate) secrets: Vec<Place>,
}

/// Compares `root` with the schema of `kind`.
pub(crate) fn validate(
    kind: Kind,
    document: u32,
    root: &Node,
    placeholders: Placeholders,
) -> Validated {
    let mut validator = Validator {
        root: kind.schema(),
        document,
        placeholders,
        problems: Problems::default(),
        places: HashMap::new(),
        secrets: Vec::new(),
    };
    let value = validator.value(kind.schema(), root, "").unwrap_or(Value::Null);
    let Validator { problems, places, secrets, .. } = validator;
    Validated { value, problems, places, secrets }
}

struct Validator {
    root: &'static Value,
    document: u32,
    placeholders: Placeholders,
    problems: Problems,
    places: HashMap<String, Place>,
    secrets: Vec<Place>,
}

impl Validator {
    /// The value as JSON, or a problem and nothing.
    fn value(&mut self, schema: &'static Value, node: &Node, path: &str) -> Option<Value> {
        self.places.insert(path.to_owned(), node.place);
        let outer = schema;
        let schema = schema::resolve(self.root, schema);
        // A Pod's text does not know which fields may be null; whoever asks for a value has filtered those out.
        if schema::allows(schema, "object") {
            return self.object(schema, node, path);
        }
        if schema::allows(schema, "array") {
            return self.array(schema, node, path);
        }
        let Written::Scalar { text, plain } = &node.value else {
            self.problem(
                node.place,
                path,
                format!("is {}, but must be {}", is_a(node), must_be(schema)),
                example(schema),
            );
            return None;
        };
        if schema.get("writeOnly").or(outer.get("writeOnly")) == Some(&Value::Bool(true)) {
            self.secrets.push(node.place);
            if text == REDACTED {
                if self.placeholders == Placeholders::Accepted {
                    return Some(Value::String(text.clone()));
                }
                let hint = "write the secret itself, from where you keep the config";
                self.problem(
                    node.place,
                    path,
                    format!("holds the placeholder \"{REDACTED}\""),
                    hint.to_owned(),
                );
                return None;
            }
        }
        if schema::allows(schema, "string")
            || schema.get("oneOf").is_some()
            || schema.get("const").is_some()
        {
            self.text(schema, node, text, *plain, path)
        } else if schema::allows(schema, "boolean") {
            self.boolean(node, text, *plain, path)
        } else {
            self.integer(schema, node, text, *plain, path)
        }
    }

    fn object(&mut self, schema: &'static Value, node: &Node, path: &str) -> Option<Value> {
        let Written::Map(fields) = &node.value else {
            let hint = "write its fields below it, indented".to_owned();
            self.problem(
                node.place,
                path,
                format!("is {}, but must be a map of fields", is_a(node)),
                hint,
            );
            return None;
        };
        let properties = schema.get("properties").and_then(Value::as_object);
        let required: Vec<&str> = schema
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let mut object = Map::new();
        for (key, child) in fields {
            let at = join(path, &key.text);
            let known = properties.and_then(|properties| properties.get(&key.text));
            let free = schema.get("additionalProperties").filter(|free| free.is_object());
            let Some(field) = known.or(free) else {
                self.unknown(schema, key, path);
                continue;
            };
            if known.is_none() {
                self.key_format(schema, key, &at);
            }
            // An empty value is a field that was not given: people leave `network:` behind with all below commented out.
            if child.is_null() && known.is_some() {
                self.places.insert(at.clone(), key.place);
                if required.contains(&key.text.as_str()) {
                    let hint = self.missing(&key.text, field);
                    self.problem(key.place, &at, "is empty, but is required".to_owned(), hint);
                }
                continue;
            }
            if let Some(value) = self.value(field, child, &at) {
                object.insert(key.text.clone(), value);
            }
        }
        // A field that is not supported yet may well stand for the one that is missing: its own problem says enough.
        let foreign = fields.iter().any(|(key, _)| is_unsupported(schema, &key.text));
        for name in required {
            if node.get(name).is_none() && !foreign {
                let field = properties.and_then(|properties| properties.get(name));
                let hint = field.map_or_else(String::new, |field| self.missing(name, field));
                self.problem(
                    node.place,
                    path,
                    format!("has no \"{name}\", which is required"),
                    hint,
                );
            }
        }
        Some(Value::Object(object))
    }

    fn array(&mut self, schema: &'static Value, node: &Node, path: &str) -> Option<Value> {
        let Written::List(items) = &node.value else {
            let hint = "write each entry on a line of its own, after \"- \"".to_owned();
            self.problem(node.place, path, format!("is {}, but must be a list", is_a(node)), hint);
            return None;
        };
        let limit = |name: &str| schema.get(name).and_then(Value::as_u64);
        let count = u64::try_from(items.len()).unwrap_or(u64::MAX);
        if let Some(min) = limit("minItems").filter(|min| count < *min) {
            self.problem(
                node.place,
                path,
                format!("has {count} entries, but needs at least {min}"),
                String::new(),
            );
        }
        if let Some(max) = limit("maxItems").filter(|max| count > *max) {
            self.problem(
                node.place,
                path,
                format!("has {count} entries, but may have at most {max}"),
                String::new(),
            );
        }
        let item_schema = schema.get("items")?;
        let mut array = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let at = format!("{path}[{index}]");
            if item.is_null() {
                self.places.insert(at.clone(), item.place);
                self.problem(
                    item.place,
                    &at,
                    "is empty".to_owned(),
                    "remove the \"-\", or write a value after it".to_owned(),
                );
            } else {
                array.extend(self.value(item_schema, item, &at));
            }
        }
        Some(Value::Array(array))
    }

    fn text(
        &mut self,
        schema: &'static Value,
        node: &Node,
        text: &str,
        plain: bool,
        path: &str,
    ) -> Option<Value> {
        let choices = schema::choices(schema);
        if !choices.is_empty() && !choices.iter().any(|(choice, _)| *choice == text) {
            let shown: Vec<String> =
                choices.iter().map(|(choice, _)| format!("\"{choice}\"")).collect();
            let hint = match similar(text, choices.iter().map(|(choice, _)| *choice)) {
                Some(choice) if shown.len() > 1 => format!("did you mean \"{choice}\"?"),
                _ => format!("write {}", one_of(&shown)),
            };
            let message = format!("is \"{}\", but must be {}", clip(text), one_of(&shown));
            self.problem(node.place, path, message, hint);
            return None;
        }
        let format = schema.get("format").and_then(Value::as_str).and_then(format::find);
        let secret = schema.get("writeOnly") == Some(&Value::Bool(true));
        let looks = if plain { looks_like(text) } else { None };
        let number_is_fine = schema::allows(schema, "number") && looks == Some("a number");
        if let Some(looks) = looks.filter(|_| !number_is_fine && choices.is_empty()) {
            let hint = if secret {
                String::new()
            } else {
                format!("put it in quotes: \"{}\"", clip(text))
            };
            self.problem(node.place, path, format!("is {looks}, but must be a text"), hint);
            return None;
        }
        if let Some(format) = format.filter(|format| !(format.accepts)(text)) {
            // A key is easily pasted where its certificate belongs.
            let hidden = secret || format.name.ends_with("-pem");
            let message = if hidden || text.len() > 256 || text.contains('\n') {
                format!("is not {}", format.noun)
            } else {
                format!("\"{}\" is not {}", clip(text), format.noun)
            };
            self.problem(node.place, path, message, format.hint.to_owned());
            return None;
        }
        Some(Value::String(text.to_owned()))
    }

    fn boolean(&mut self, node: &Node, text: &str, plain: bool, path: &str) -> Option<Value> {
        match text {
            "true" | "True" | "TRUE" if plain => return Some(Value::Bool(true)),
            "false" | "False" | "FALSE" if plain => return Some(Value::Bool(false)),
            _ => {}
        }
        let hint = match text.to_ascii_lowercase().as_str() {
            "yes" | "on" | "true" | "1" | "y" => "write true",
            "no" | "off" | "false" | "0" | "n" => "write false",
            _ => "write true or false",
        };
        self.problem(
            node.place,
            path,
            format!("\"{}\" is neither true nor false", clip(text)),
            hint.to_owned(),
        );
        None
    }

    fn integer(
        &mut self,
        schema: &'static Value,
        node: &Node,
        text: &str,
        plain: bool,
        path: &str,
    ) -> Option<Value> {
        let parsed = if plain { text.parse::<i64>().ok() } else { None };
        let Some(number) = parsed else {
            let quoted = !plain && text.parse::<i64>().is_ok();
            let hint = if quoted { format!("remove the quotes: {text}") } else { example(schema) };
            self.problem(
                node.place,
                path,
                format!("\"{}\" is not a whole number", clip(text)),
                hint,
            );
            return None;
        };
        let (min, max) = bounds(schema);
        if number < min || number > max {
            let message = format!("is {number}, outside of the range {min} to {max}");
            self.problem(node.place, path, message, String::new());
            return None;
        }
        Some(Value::Number(Number::from(number)))
    }

    fn key_format(&mut self, schema: &'static Value, key: &Key, path: &str) {
        let format = schema
            .get("propertyNames")
            .and_then(|names| names.get("format"))
            .and_then(Value::as_str);
        if let Some(format) =
            format.and_then(format::find).filter(|format| !(format.accepts)(&key.text))
        {
            let message = format!("\"{}\" is not {}", clip(&key.text), format.noun);
            self.problem(key.place, path, message, format.hint.to_owned());
        }
    }

    /// A field the schema does not have: not supported yet, mistyped, or wrong.
    fn unknown(&mut self, schema: &'static Value, key: &Key, path: &str) {
        let name = clip(&key.text);
        let at = join(path, &key.text);
        if is_unsupported(schema, &key.text) {
            self.problem(
                key.place,
                &at,
                format!("\"{name}\" is not supported by Ingot yet"),
                "remove it".to_owned(),
            );
            return;
        }
        if self.problems.is_full() {
            self.problem(key.place, &at, String::new(), String::new());
            return;
        }
        let known = schema.get("properties").and_then(Value::as_object);
        let known = || known.into_iter().flat_map(|fields| fields.keys().map(String::as_str));
        let hint = match similar(&key.text, known()) {
            Some(field) => format!("did you mean \"{field}\"?"),
            None if key.text == "<<" => {
                "YAML's merge key is not used in a config; write the fields out".to_owned()
            }
            None => format!("fields here: {}", known().collect::<Vec<_>>().join(", ")),
        };
        self.problem(key.place, &at, format!("unknown field \"{name}\""), hint);
    }

    /// What to write for a field that is missing.
    fn missing(&self, name: &str, field: &'static Value) -> String {
        let schema = schema::resolve(self.root, field);
        let choices = schema::choices(schema);
        match choices.as_slice() {
            [(only, _)] => format!("write \"{name}: {only}\""),
            _ if schema::allows(schema, "object") && schema.get("required").is_none() => {
                format!("write \"{name}: {{}}\"")
            }
            _ if schema::allows(schema, "object") || schema::allows(schema, "array") => {
                format!("write \"{name}:\" with its fields below")
            }
            _ => format!("write \"{name}: ...\""),
        }
    }

    fn problem(&mut self, place: Place, path: &str, message: String, hint: String) {
        let path = path.to_owned();
        self.problems.push(Problem {
            document: self.document,
            line: place.line,
            column: place.column,
            path,
            message,
            hint,
        });
    }
}

/// True for a field that upstream has and Ingot does not support yet.
fn is_unsupported(schema: &Value, name: &str) -> bool {
    let fields = schema.get(UNSUPPORTED).and_then(Value::as_array).into_iter().flatten();
    fields.filter_map(Value::as_str).any(|field| field == name)
}

/// `network` and `hostname` as `network.hostname`; names that would be ambiguous go into brackets.
pub(crate) fn join(path: &str, name: &str) -> String {
    if name.is_empty() || name.contains(['.', '[', ']', '"', '/', ' ']) {
        return format!("{path}[\"{}\"]", clip(name));
    }
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// The value of the text as people are shown it: bounded, one line, no control characters.
fn clip(text: &str) -> String {
    const MAX: usize = 80;
    let mut shown: String =
        text.chars().take(MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(MAX).is_some() {
        shown.push_str("...");
    }
    shown
}

/// The candidate that a mistyped name most likely stands for.
pub(crate) fn similar<'a>(
    name: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    if name.len() > 64 {
        return None;
    }
    let plain = |text: &str| text.to_ascii_lowercase().replace(['-', '_'], "");
    let wanted = plain(name);
    candidates
        .map(|candidate| (strsim::damerau_levenshtein(&wanted, &plain(candidate)), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.len().max(3) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

fn is_a(node: &Node) -> &'static str {
    match &node.value {
        Written::List(_) => "a list",
        Written::Map(_) => "a map",
        Written::Scalar { plain: true, text } => looks_like(text).unwrap_or("a text"),
        Written::Scalar { .. } => "a text",
    }
}

/// What YAML's core schema makes of a plain scalar, when it is no text.
pub(crate) fn looks_like(text: &str) -> Option<&'static str> {
    if crate::tree::is_null(text) {
        return Some("empty");
    }
    if matches!(text, "true" | "True" | "TRUE" | "false" | "False" | "FALSE") {
        return Some("true or false");
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let hex = text
        .strip_prefix("0x")
        .is_some_and(|hex| !hex.is_empty() && hex.bytes().all(|b| b.is_ascii_hexdigit()));
    let octal = text
        .strip_prefix("0o")
        .is_some_and(|octal| !octal.is_empty() && octal.bytes().all(|b| matches!(b, b'0'..=b'7')));
    let special =
        matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN");
    let decimal = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && unsigned.bytes().any(|b| b.is_ascii_digit())
        && unsigned.parse::<f64>().is_ok();
    (hex || octal || special || decimal).then_some("a number")
}

fn must_be(schema: &Value) -> &'static str {
    if schema::allows(schema, "boolean") {
        return "true or false";
    }
    if schema::allows(schema, "integer") {
        return "a whole number";
    }
    let format = schema.get("format").and_then(Value::as_str).and_then(format::find);
    format.map_or("a text", |format| format.noun)
}

/// Advice drawn from the schema alone.
fn example(schema: &Value) -> String {
    if schema::allows(schema, "boolean") {
        return "write true or false".to_owned();
    }
    if schema::allows(schema, "integer") {
        let (min, max) = bounds(schema);
        return format!("write a whole number from {min} to {max}");
    }
    let format = schema.get("format").and_then(Value::as_str).and_then(format::find);
    format.map_or_else(String::new, |format| format.hint.to_owned())
}

/// The smallest and the largest number a schema allows.
pub(crate) fn bounds(schema: &Value) -> (i64, i64) {
    let (min, max) = match schema.get("format").and_then(Value::as_str) {
        Some("uint8") => (0, i64::from(u8::MAX)),
        Some("uint16") => (0, i64::from(u16::MAX)),
        Some("uint32") => (0, i64::from(u32::MAX)),
        _ => (i64::MIN, i64::MAX),
    };
    let own = |name: &str| schema.get(name).and_then(Value::as_i64);
    (own("minimum").unwrap_or(min).max(min), own("maximum").unwrap_or(max).min(max))
}

fn one_of(shown: &[String]) -> String {
    match shown.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        Some((last, _)) => last.clone(),
        None => String::new(),
    }
}
