//! What `crictl inspect` and `inspectp` show beyond the status: JSON for people and scripts, under the key `info` as other
//! runtimes have it. No promise is made about fields, and no secret is in it: environments are left out.

use std::collections::HashMap;

use ingot_runtime::sandboxes::{Container, Sandbox};
use serde_json::json;

/// About a sandbox.
pub(crate) fn sandbox_info(sandbox: &Sandbox) -> HashMap<String, String> {
    let config = &sandbox.config;
    info(&json!({
        "runtimeHandler": config.runtime_handler,
        "bootId": sandbox.boot_id,
        "phase": format!("{:?}", sandbox.phase),
        "hostname": config.hostname,
        "logDirectory": config.log_directory,
        "cgroupParent": config.cgroup_parent,
        "ips": sandbox.ips,
        "portMappings": config.ports,
        "sysctls": config.sysctls,
        "namespaces": config.namespaces,
        "privileged": config.security.privileged,
        "containers": sandbox.containers.iter().map(|c| c.id.as_str()).collect::<Vec<_>>(),
    }))
}

/// About a container.
pub(crate) fn container_info(container: &Container) -> HashMap<String, String> {
    let config = &container.config;
    let process = container.process();
    info(&json!({
        "sandboxID": container.sandbox_id,
        "pid": process.map_or(0, |process| process.pid),
        "startTimeTicks": process.map(|process| process.start_time),
        "bootId": container.boot_id,
        "phase": format!("{:?}", container.phase),
        "removing": container.removing,
        "image": container.image,
        "command": config.command,
        "args": config.args,
        "workingDir": config.working_dir,
        "mounts": config.mounts,
        "devices": config.devices,
        "cdiDevices": config.cdi_devices,
        "stdin": config.stdin,
        "tty": config.tty,
        "security": config.security,
        "resources": container.resources,
    }))
}

fn info(value: &serde_json::Value) -> HashMap<String, String> {
    HashMap::from([("info".to_owned(), value.to_string())])
}
