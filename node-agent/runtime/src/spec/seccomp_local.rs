//! Seccomp profiles of the operator: the OCI form, read from a file of the node. Pure.

use serde_json::{Map, Value, json};

use super::SpecError;

/// What the helper is told of a profile with this text.
///
/// # Errors
/// When it is not a profile, or wants a listener, which nobody here is.
pub(super) fn parse(text: &str) -> Result<Value, SpecError> {
    let wrong = |problem: String| SpecError::Seccomp { problem };
    let profile: Value = serde_json::from_str(text).map_err(|e| wrong(e.to_string()))?;
    let Some(default_action) = profile.get("defaultAction").and_then(Value::as_str) else {
        return Err(wrong("it has no defaultAction".to_owned()));
    };
    let mut result = Map::new();
    result.insert("defaultAction".to_owned(), json!(default_action));
    for key in ["defaultErrnoRet", "architectures", "flags"] {
        if let Some(value) = profile.get(key).filter(|value| !value.is_null()) {
            result.insert(key.to_owned(), value.clone());
        }
    }
    let mut rules = Vec::new();
    for rule in profile.get("syscalls").and_then(Value::as_array).into_iter().flatten() {
        rules.push(self::rule(rule).ok_or_else(|| wrong(format!("rule {rule}")))?);
    }
    let notify = |action: &str| action == "SCMP_ACT_NOTIFY";
    if notify(default_action) || rules.iter().any(|r| r["action"].as_str().is_some_and(notify)) {
        return Err(wrong("SCMP_ACT_NOTIFY is not supported".to_owned()));
    }
    result.insert("syscalls".to_owned(), Value::Array(rules));
    Ok(Value::Object(result))
}

fn rule(rule: &Value) -> Option<Value> {
    let mut result = Map::new();
    result.insert("names".to_owned(), json!(rule.get("names")?.as_array()?));
    result.insert("action".to_owned(), json!(rule.get("action")?.as_str()?));
    if let Some(errno) = rule.get("errnoRet").filter(|value| !value.is_null()) {
        result.insert("errnoRet".to_owned(), errno.clone());
    }
    let arguments: Vec<Value> = rule
        .get("args")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(argument)
        .collect::<Option<_>>()?;
    if !arguments.is_empty() {
        result.insert("args".to_owned(), Value::Array(arguments));
    }
    Some(Value::Object(result))
}

/// The helper reads value and mask of a masked comparison in the order of the kernel, the OCI spec has the mask first.
fn argument(argument: &Value) -> Option<Value> {
    let mut argument = argument.as_object()?.clone();
    if argument.get("op")? == "SCMP_CMP_MASKED_EQ" {
        let mask = argument.get("value")?.clone();
        let value = argument.get("valueTwo").cloned().unwrap_or_else(|| json!(0));
        argument.insert("value".to_owned(), value);
        argument.insert("valueTwo".to_owned(), mask);
    }
    Some(Value::Object(argument))
}
