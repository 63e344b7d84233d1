//! One container: what it executes, its environment and its quotas.

use super::{Finding, duplicates_by, exactly_one, probe, security, volume};
use crate::quantity::Quantity;
use crate::v1::pod::{Container, EnvVar, Field, FieldRef, PodSpec, ResourceFieldRef};
use crate::validate::similar;

pub(super) fn check(
    findings: &mut Vec<Finding>,
    path: &str,
    container: &Container,
    init: bool,
    spec: &PodSpec,
) {
    let words = [("command", &container.command), ("args", &container.args)];
    for (field, words) in words {
        for (index, _) in words.iter().enumerate().filter(|(_, word)| word.contains('\0')) {
            let at = format!("{path}.{field}[{index}]");
            findings.push(Finding::new(at, "holds a zero byte", "remove it"));
        }
    }
    let names: Vec<_> = container.env.iter().map(|variable| &variable.name).collect();
    duplicates_by(findings, &names, |index| format!("{path}.env[{index}].name"));
    for (index, variable) in container.env.iter().enumerate() {
        self::variable(findings, &format!("{path}.env[{index}]"), variable, spec);
    }
    for (index, from) in container.env_from.iter().enumerate() {
        let given = [
            ("configMapRef", from.config_map_ref.is_some()),
            ("secretRef", from.secret_ref.is_some()),
        ];
        let at = format!("{path}.envFrom[{index}]");
        exactly_one(findings, &at, "source", &given);
        if from.prefix.contains(['=', '\0']) {
            let message = "cannot begin the name of a variable";
            findings.push(Finding::new(
                format!("{at}.prefix"),
                message,
                "use letters, digits and underscores",
            ));
        }
    }
    let names: Vec<_> = container.ports.iter().filter_map(|port| port.name.as_deref()).collect();
    duplicates_by(findings, &names, |index| format!("{path}.ports[{index}].name"));
    if container.stdin_once && !container.stdin {
        let message = "there is no standard input to close";
        findings.push(Finding::new(
            format!("{path}.stdinOnce"),
            message,
            "add \"stdin: true\", or remove it",
        ));
    }
    volume::mounts(findings, path, container, &spec.volumes);
    resources(findings, path, container);
    security::container(findings, path, container, spec);
    probe::check(findings, path, container, init);
}

fn variable(findings: &mut Vec<Finding>, path: &str, variable: &EnvVar, spec: &PodSpec) {
    if variable.value.contains('\0') {
        let message = format!("the value of \"{}\" holds a zero byte", variable.name);
        findings.push(Finding::new(format!("{path}.value"), message, "remove it"));
    }
    let Some(from) = &variable.value_from else { return };
    let at = format!("{path}.valueFrom");
    if !variable.value.is_empty() {
        let message = "the variable has a value already";
        findings.push(Finding::new(at.as_str(), message, "remove one of the two"));
    }
    let given = [
        ("fieldRef", from.field_ref.is_some()),
        ("resourceFieldRef", from.resource_field_ref.is_some()),
        ("configMapKeyRef", from.config_map_key_ref.is_some()),
        ("secretKeyRef", from.secret_key_ref.is_some()),
    ];
    exactly_one(findings, &at, "source", &given);
    if let Some(reference) = &from.field_ref {
        field(findings, &format!("{at}.fieldRef.fieldPath"), reference, false);
    }
    if let Some(reference) = &from.resource_field_ref {
        resource(findings, &format!("{at}.resourceFieldRef"), reference, spec);
    }
}

/// A path must be known, and be of use where it stands.
pub(super) fn field(
    findings: &mut Vec<Finding>,
    path: &str,
    reference: &FieldRef,
    in_volume: bool,
) {
    let fits =
        |field: &Field| if in_volume { field.is_for_volumes() } else { field.is_for_variables() };
    let shown: String = reference.field_path.chars().filter(|c| !c.is_control()).take(64).collect();
    match reference.field() {
        Some(field) if fits(&field) => {}
        Some(_) if in_volume => {
            let hint = "use it in an environment variable";
            findings.push(Finding::new(path, format!("\"{shown}\" is not for files"), hint));
        }
        Some(_) => {
            let hint = format!("write a single one, like \"{shown}['KEY']\"");
            findings.push(Finding::new(
                path,
                format!("\"{shown}\" does not fit into a variable"),
                hint,
            ));
        }
        None => {
            let hint = match similar(&shown, Field::paths()) {
                Some(known) => format!("did you mean \"{known}\"?"),
                None => format!("there are {}", Field::paths().collect::<Vec<_>>().join(", ")),
            };
            findings.push(Finding::new(path, format!("a pod has no field \"{shown}\""), hint));
        }
    }
}

/// The container must exist.
pub(super) fn resource(
    findings: &mut Vec<Finding>,
    path: &str,
    reference: &ResourceFieldRef,
    spec: &PodSpec,
) {
    let names = || spec.init_containers.iter().chain(&spec.containers).map(|c| c.name.as_str());
    if let Some(name) =
        reference.container_name.as_deref().filter(|name| !names().any(|known| known == *name))
    {
        let hint = match similar(name, names()) {
            Some(name) => format!("did you mean \"{name}\"?"),
            None => "write the name of one of the pod's containers".to_owned(),
        };
        let message = format!("the pod has no container \"{name}\"");
        findings.push(Finding::new(format!("{path}.containerName"), message, hint));
    }
}

fn resources(findings: &mut Vec<Finding>, path: &str, container: &Container) {
    let resources = &container.resources;
    let (limits, requests) = (&resources.limits, &resources.requests);
    let amounts = [
        ("cpu", &limits.cpu, &requests.cpu),
        ("memory", &limits.memory, &requests.memory),
        ("ephemeral-storage", &limits.ephemeral_storage, &requests.ephemeral_storage),
        ("hugepages-2Mi", &limits.hugepages_2mi, &requests.hugepages_2mi),
        ("hugepages-1Gi", &limits.hugepages_1gi, &requests.hugepages_1gi),
    ];
    for (field, limit, request) in amounts {
        for (list, amount) in [("limits", limit), ("requests", request)] {
            let Some(amount) = amount else { continue };
            let at = format!("{path}.resources.{list}.{field}");
            if amount.is_zero() && list == "limits" {
                findings.push(Finding::new(
                    at,
                    "a limit of nothing lets nothing run",
                    "leave it out for no limit",
                ));
            } else if field != "cpu" && !amount.is_whole() {
                let hint = memory_hint(amount);
                findings.push(Finding::new(
                    at,
                    format!("\"{amount}\" is not a whole number of bytes"),
                    hint,
                ));
            } else if field == "cpu" && !amount.is_whole_in_thousandths() {
                let message = format!("\"{amount}\" is finer than a thousandth of a CPU");
                findings.push(Finding::new(at, message, format!("write \"{}m\"", amount.millis())));
            } else if let Some(page) = page_bytes(field).filter(|page| amount.units() % page != 0) {
                let message = format!("\"{amount}\" is no whole number of huge pages");
                let hint = format!("write a multiple of {}Mi", page >> 20);
                findings.push(Finding::new(at, message, hint));
            }
        }
        if let (Some(limit), Some(request)) = (limit, request)
            && request > limit
        {
            let message = format!("\"{request}\" is more than the limit \"{limit}\"");
            let hint = "write a request of at most the limit";
            findings.push(Finding::new(
                format!("{path}.resources.requests.{field}"),
                message,
                hint,
            ));
        }
    }
}

/// `m` for memory is a thousandth of a byte, and nearly always meant as a mebibyte.
fn memory_hint(amount: &Quantity) -> String {
    match amount.as_str().strip_suffix('m') {
        Some(number) => format!("did you mean \"{number}Mi\"?"),
        None => "write a whole number, or one with a suffix like \"64Mi\"".to_owned(),
    }
}

/// Size of the huge pages a resource counts.
fn page_bytes(resource: &str) -> Option<u64> {
    match resource {
        "hugepages-2Mi" => Some(2 << 20),
        "hugepages-1Gi" => Some(1 << 30),
        _ => None,
    }
}
