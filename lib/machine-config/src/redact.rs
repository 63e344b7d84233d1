//! Configs for the eyes of people: as written, with every secret replaced by [`REDACTED`].
//!
//! What is a secret is said by the types alone (`writeOnly` in the schema). When in doubt nothing is shown.

use crate::emit;
use crate::load::{self, Placeholders};
use crate::schema::{self, Kind};
use crate::secret::REDACTED;
use crate::{Config, Machine, Pod};
use serde_json::Value;

/// Shown in the place of a text that is no sound config: a secret may stand anywhere in it.
const NOT_SHOWN: &str =
    "# This config is not shown: it has problems, so its secrets cannot be told apart.\n";

/// A config as it was written, comments included, without its secrets.
///
/// A text that is no sound config gives a comment that says so.
#[must_use]
pub fn redact(text: &str) -> String {
    let (Some(places), Some(config)) = (load::secrets(text), load::load(text).config) else {
        return NOT_SHOWN.to_owned();
    };
    let mut spans: Vec<_> = places.iter().map(|place| (place.start, place.end)).collect();
    spans.sort_unstable();
    spans.dedup();
    let spliced = splice(text, &spans);
    let redacted = config.redacted();
    // Splicing keeps comments, but rests on what the parser says about places. So it is only used when reading the
    // result gives exactly the config without its secrets, and no line of a secret is left, not even in a comment.
    let reread = load::load_with(&spliced, Placeholders::Accepted).config;
    let clean = !secret_lines(&config).iter().any(|line| spliced.contains(line.as_str()));
    if clean && reread.is_some_and(|reread| reread.redacted() == redacted) {
        return spliced;
    }
    redacted
}

/// The text with each span of characters replaced.
fn splice(text: &str, spans: &[(usize, usize)]) -> String {
    let offset = |at: usize| text.char_indices().nth(at).map_or(text.len(), |(offset, _)| offset);
    let mut out = String::new();
    let mut done = 0;
    for (start, end) in spans {
        let (start, end) = (offset(*start), offset(*end));
        let (Some(before), Some(secret)) = (text.get(done..start), text.get(start..end)) else {
            continue;
        };
        out.push_str(before_block(before));
        out.push('"');
        out.push_str(REDACTED);
        out.push('"');
        // A block reaches up to the next field: its line break, and the next line's indentation, are not its own.
        let tail = secret.trim_end_matches([' ', '\n', '\r']).len();
        out.push_str(secret.get(tail..).unwrap_or_default());
        done = end;
    }
    out.push_str(text.get(done..).unwrap_or_default());
    out
}

/// What comes before a secret, without the `|` or `>` on the line above that made it a block.
///
/// The parser gives a block's lines only, not its header.
fn before_block(before: &str) -> &str {
    let header = before.trim_end_matches([' ', '\n', '\r']);
    if !before.get(header.len()..).is_some_and(|gap| gap.contains('\n')) {
        return before;
    }
    let line = header.rfind('\n').map_or(0, |at| at + 1);
    let indicator = header.get(line..).and_then(|header| header.find(" |").or(header.find(" >")));
    indicator.and_then(|indicator| before.get(..=line + indicator)).unwrap_or(before)
}

/// The lines of all secrets that are long enough to tell something.
fn secret_lines(config: &Config) -> Vec<String> {
    const MIN: usize = 8;
    let mut found = Vec::new();
    for (kind, mut value) in config.values() {
        visit(kind.schema(), kind.schema(), &mut value, &mut |secret| {
            found.push(secret.to_string())
        });
    }
    let lines = found.iter().flat_map(|secret| secret.trim_matches('"').split("\\n"));
    lines
        .filter(|line| line.len() >= MIN && !line.starts_with("-----"))
        .map(str::to_owned)
        .collect()
}

/// Calls `act` for every secret in a value.
fn visit(root: &Value, schema: &Value, value: &mut Value, act: &mut dyn FnMut(&mut Value)) {
    let schema = schema::resolve(root, schema);
    if schema.get("writeOnly") == Some(&Value::Bool(true)) {
        act(value);
        return;
    }
    match value {
        Value::Object(fields) => {
            for (name, child) in fields {
                let known = schema.get("properties").and_then(|properties| properties.get(name));
                if let Some(field) = known.or_else(|| schema.get("additionalProperties")) {
                    visit(root, field, child, act);
                }
            }
        }
        Value::Array(items) => {
            if let Some(item_schema) = schema.get("items") {
                items.iter_mut().for_each(|item| visit(root, item_schema, item, act));
            }
        }
        _ => {}
    }
}

impl Config {
    /// The config as YAML, secrets included: loading it gives the same config. For the disk, not for people.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        stream(self.values())
    }

    /// The config as YAML without its secrets. Comments and order of the original text are not in a config.
    #[must_use]
    pub fn redacted(&self) -> String {
        stream(self.redacted_values())
    }

    /// Each document as JSON, without secrets.
    pub(crate) fn redacted_values(&self) -> Vec<(Kind, Value)> {
        let mut values = self.values();
        for (kind, value) in &mut values {
            visit(kind.schema(), kind.schema(), value, &mut |secret| *secret = REDACTED.into());
        }
        values
    }

    /// Each document as JSON.
    pub(crate) fn values(&self) -> Vec<(Kind, Value)> {
        let pods = self.pods.iter().map(|pod| (Kind::Pod, pod.to_value()));
        let maps = self.config_maps.iter().map(|map| (Kind::ConfigMap, to_value(map)));
        let secrets = self.secrets.iter().map(|secret| (Kind::Secret, to_value(secret)));
        let machine = std::iter::once((Kind::Machine, self.machine.to_value()));
        machine.chain(pods).chain(maps).chain(secrets).collect()
    }
}

fn to_value(value: &impl serde::Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

impl Machine {
    fn to_value(&self) -> Value {
        to_value(self)
    }
}

impl Pod {
    fn to_value(&self) -> Value {
        to_value(self)
    }

    /// The pod as one YAML document. Pods hold no secrets.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        emit::document(&self.to_value())
    }
}

fn stream(values: Vec<(Kind, Value)>) -> String {
    values.iter().map(|(_, value)| emit::document(value)).collect::<Vec<_>>().join("---\n")
}
