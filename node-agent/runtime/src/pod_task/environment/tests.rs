//! Variables of a container.

use super::*;
use crate::pod_task::tests::pod_with;

const DATA: &str = "---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {colour: blue, size: '3'}
---
apiVersion: v1
kind: Secret
metadata: {name: keys}
data: {binary: /w==}
stringData: {password: hunter2}
";

const CAPACITY: Capacity =
    Capacity { cpu_millis: 2000, memory_bytes: 1 << 30, storage_bytes: 1 << 40 };

fn environment(fields: &str) -> Result<Vec<(String, String)>, Missing> {
    let spec = format!("  containers: [{{name: a, image: a, {fields}}}]");
    let (pod, surroundings) = pod_with(&spec, DATA);
    let sources = Sources {
        pod: &pod,
        surroundings: &surroundings,
        addresses: &["10.1.0.5".parse().unwrap(), "fd00::5".parse().unwrap()],
        capacity: CAPACITY,
    };
    let all = sources.environment(&pod.spec.containers[0])?;
    let text = |(name, value): (String, Vec<u8>)| {
        (name, value.iter().map(|byte| char::from(*byte)).collect())
    };
    Ok(all.into_iter().map(text).collect())
}

/// The value of the variable `A` that comes from there.
fn value(from: &str) -> Result<String, Missing> {
    let all = environment(&format!("env: [{{name: A, valueFrom: {{{from}}}}}]"))?;
    Ok(all.into_iter().next().map(|(_, value)| value).unwrap_or_default())
}

#[test]
fn references_are_expanded_by_what_was_set_before() {
    let all = environment(
        "env: [{name: MODE, value: pod}, {name: NAME, value: a$(MODE)}, {name: LATER, value: $(NEVER)}, {name: NEVER, value: x}, {name: PLAIN, value: $$(MODE)}]",
    );
    let values: Vec<String> = all.unwrap().into_iter().map(|(_, value)| value).collect();
    assert_eq!(values, ["pod", "apod", "$(NEVER)", "x", "$(MODE)"]);
}

#[test]
fn maps_and_secrets_become_variables_and_single_ones_win() {
    let all = environment(
        "envFrom: [{configMapRef: {name: settings}}, {prefix: S_, secretRef: {name: keys}}, {configMapRef: {name: gone, optional: true}}], env: [{name: colour, value: red}]",
    );
    let pairs =
        [("colour", "red"), ("size", "3"), ("S_binary", "\u{ff}"), ("S_password", "hunter2")];
    let expected: Vec<_> = pairs.map(|(a, b)| (a.to_owned(), b.to_owned())).into();
    assert_eq!(all.unwrap(), expected);
}

#[test]
fn fields_of_the_pod_are_texts() {
    for (path, expected) in [
        ("metadata.name", "web"),
        ("metadata.namespace", "default"),
        ("metadata.labels['app']", "shop"),
        ("metadata.labels['gone']", ""),
        ("spec.nodeName", "node-1"),
        ("status.hostIP", "192.0.2.10"),
        ("status.podIP", "10.1.0.5"),
        ("status.podIPs", "10.1.0.5,fd00::5"),
    ] {
        let found = value(&format!("fieldRef: {{fieldPath: \"{path}\"}}"));
        assert_eq!(found, Ok(expected.to_owned()), "{path}");
    }
}

#[test]
fn resources_are_rounded_up_and_default_to_what_the_node_has() {
    let value = |resources: &str, reference: &str| {
        let all = environment(&format!(
            "resources: {resources}, env: [{{name: A, valueFrom: {{resourceFieldRef: {{{reference}}}}}}}]"
        ));
        all.unwrap()[0].1.clone()
    };
    assert_eq!(value("{}", "resource: limits.cpu"), "2");
    assert_eq!(value("{limits: {cpu: 1500m}}", "resource: limits.cpu"), "2");
    assert_eq!(value("{limits: {cpu: 1500m}}", "resource: limits.cpu, divisor: 1m"), "1500");
    assert_eq!(value("{}", "resource: requests.cpu"), "0");
    assert_eq!(value("{limits: {memory: 65Mi}}", "resource: requests.memory, divisor: 64Mi"), "2");
    assert_eq!(value("{}", "resource: limits.memory, divisor: 1Mi"), "1024");
}

#[test]
fn a_key_that_is_not_there_is_missed_unless_it_is_optional() {
    assert_eq!(value("configMapKeyRef: {name: settings, key: colour}"), Ok("blue".into()));
    assert_eq!(value("secretKeyRef: {name: keys, key: password}"), Ok("hunter2".into()));
    assert_eq!(value("secretKeyRef: {name: keys, key: gone, optional: true}"), Ok(String::new()));
    assert_eq!(value("secretKeyRef: {name: gone, key: x, optional: true}"), Ok(String::new()));
    let (pod, _) = pod_with("  containers: [{name: a, image: a}]", DATA);
    let nothing = Surroundings::default();
    let sources = Sources { pod: &pod, surroundings: &nothing, addresses: &[], capacity: CAPACITY };
    let missing = sources.keys(DataKind::Secret, "keys", false).unwrap_err();
    assert_eq!(missing.to_string(), "Secret \"keys\" not found");
}

#[test]
fn nothing_secret_is_printed() {
    let (_, surroundings) = pod_with("  containers: [{name: a, image: a}]", DATA);
    assert!(!format!("{surroundings:?}").contains("hunter2"));
}
