//! Values into YAML: the block style people write, with quotes only where they are needed.

use crate::validate::looks_like;
use serde_json::Value;

/// Writes one document, with a line break at its end.
pub(crate) fn document(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(fields) if !fields.is_empty() => node(&mut out, value, 0),
        Value::Array(items) if !items.is_empty() => node(&mut out, value, 0),
        scalar => {
            out.push_str(&inline(scalar));
            out.push('\n');
        }
    }
    out
}

/// Writes the lines of a list or map, each after `indent` spaces.
fn node(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(fields) => {
            for (name, child) in fields {
                pad(out, indent);
                out.push_str(&text(name));
                out.push(':');
                field(out, child, indent);
            }
        }
        Value::Array(items) => {
            for item in items {
                pad(out, indent);
                out.push('-');
                entry(out, item, indent);
            }
        }
        scalar => out.push_str(&inline(scalar)),
    }
}

/// What follows `name:`.
fn field(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            out.push('\n');
            node(out, value, indent + 2);
        }
        Value::Array(items) if !items.is_empty() => {
            out.push('\n');
            node(out, value, indent + 2);
        }
        Value::String(lines) if is_block(lines) => block(out, lines, indent + 2),
        scalar => {
            out.push(' ');
            out.push_str(&inline(scalar));
            out.push('\n');
        }
    }
}

/// What follows the `-` of a list's entry. A map starts on the same line.
fn entry(out: &mut String, value: &Value, indent: usize) {
    if matches!(value, Value::Object(fields) if !fields.is_empty()) {
        let mut inner = String::new();
        node(&mut inner, value, indent + 2);
        out.push(' ');
        out.push_str(inner.trim_start_matches(' '));
    } else {
        field(out, value, indent);
    }
}

fn pad(out: &mut String, indent: usize) {
    out.extend(std::iter::repeat_n(' ', indent));
}

/// A scalar, or an empty list or map, on one line.
fn inline(value: &Value) -> String {
    match value {
        Value::String(string) => text(string),
        other => other.to_string(),
    }
}

/// A text: plain when no reader could take it for something else, in JSON's quotes otherwise, which are YAML's too.
fn text(string: &str) -> String {
    let plain = string.starts_with(|c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '.'))
        && string.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '.' | '-' | ':' | '+' | '@' | '='))
        && !string.ends_with(':')
        && looks_like(string).is_none()
        // Readers of YAML 1.1 take these for booleans, and 1:20 for a number. Addresses are neither.
        && !matches!(string.to_ascii_lowercase().as_str(), "yes" | "no" | "on" | "off" | "y" | "n")
        && (string.matches('.').count() > 1
            || !string.chars().all(|c| c.is_ascii_digit() || matches!(c, ':' | '_' | '.' | '-')));
    if plain { string.to_owned() } else { Value::from(string).to_string() }
}

/// True for texts that a `|` block gives back exactly.
fn is_block(string: &str) -> bool {
    let body = string.strip_suffix('\n').unwrap_or(string);
    body.contains('\n')
        && !body.ends_with('\n')
        && !body.starts_with([' ', '\n'])
        && body.chars().all(|c| c == '\n' || (c.is_ascii() && !c.is_ascii_control()))
        && body.lines().all(|line| !line.ends_with(' ') && !line.starts_with(' '))
}

fn block(out: &mut String, lines: &str, indent: usize) {
    out.push_str(if lines.ends_with('\n') { " |\n" } else { " |-\n" });
    for line in lines.lines() {
        if !line.is_empty() {
            pad(out, indent);
        }
        out.push_str(line);
        out.push('\n');
    }
}
