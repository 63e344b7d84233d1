//! What plugins answer. Pure.

use std::net::IpAddr;

use serde_json::Value;

/// The addresses that a result gives to the sandbox, IPv4 first. Results of all versions are understood: addresses by
/// `ip4` and `ip6` before 0.3.0, then as a list, where each may say to which interface it belongs; an interface without a
/// `sandbox` is the node's.
pub(super) fn addresses(result: &Value) -> Vec<IpAddr> {
    let mut found: Vec<IpAddr> = Vec::new();
    for old in ["ip4", "ip6"] {
        found.extend(result.get(old).and_then(|ip| ip.get("ip")).and_then(address));
    }
    let entries = result.get("ips").and_then(Value::as_array).into_iter().flatten();
    for entry in entries.filter(|entry| is_inside(result, entry)) {
        found.extend(entry.get("address").and_then(address));
    }
    found.sort_by_key(IpAddr::is_ipv6);
    found
}

fn is_inside(result: &Value, entry: &Value) -> bool {
    let Some(index) = entry.get("interface").and_then(Value::as_u64) else { return true };
    let interface =
        usize::try_from(index).ok().and_then(|index| result.get("interfaces")?.get(index));
    // One that is not listed: the plugin knows better than we do.
    interface.is_none_or(|interface| {
        interface.get("sandbox").and_then(Value::as_str).is_some_and(|sandbox| !sandbox.is_empty())
    })
}

/// An address with or without a prefix length.
fn address(value: &Value) -> Option<IpAddr> {
    let text = value.as_str()?;
    text.split_once('/').map_or(text, |(address, _)| address).parse().ok()
}

/// What a failed plugin says: its message and details if it wrote any, else what it wrote to standard error.
pub(super) fn complaint(stdout: &[u8], stderr: &[u8]) -> String {
    let error: Value = serde_json::from_slice(stdout).unwrap_or_default();
    let text = |key: &str| error.get(key).and_then(Value::as_str).unwrap_or_default().trim();
    let message = match (text("msg"), text("details")) {
        ("", "") => String::from_utf8_lossy(stderr).trim().to_owned(),
        (message, "") => message.to_owned(),
        ("", details) => details.to_owned(),
        (message, details) => format!("{message}; {details}"),
    };
    let message = if message.is_empty() { "it says nothing".to_owned() } else { message };
    message.chars().take(MESSAGE_MAX).collect()
}

/// Characters of a complaint that are kept.
const MESSAGE_MAX: usize = 1000;

#[cfg(test)]
mod tests;
