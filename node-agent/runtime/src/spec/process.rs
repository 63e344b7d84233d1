//! The process part of the spec: program, environment, user. Pure.

use serde_json::{Value, json};

use super::capabilities::Capabilities;
use super::{Input, SpecError};

/// What a program finds when neither image nor container sets it.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Files a process may have open: systemd's hard default, so that programs that close all of them stay quick.
const OPEN_FILES: u64 = 524_288;

/// Variables in the order in which the program gets them.
pub(crate) type Environment = Vec<(String, Vec<u8>)>;

/// The `process` object.
pub(super) fn build(
    input: &Input<'_>,
    capabilities: &Capabilities,
    environment: &Environment,
) -> Result<Value, SpecError> {
    let security = &input.config.security;
    let Capabilities { bounding, ambient } = capabilities;
    // A process of another user than root starts with nothing but what is ambient: the others only bound what it may gain.
    let effective = if input.user.uid == 0 { bounding } else { ambient };
    let text = |(name, value): &(String, Vec<u8>)| {
        format!("{name}={}", String::from_utf8_lossy(value).replace('\0', ""))
    };
    let mut process = json!({
        "terminal": input.config.tty,
        "user": {
            "uid": input.user.uid,
            "gid": input.user.gid,
            "additionalGids": input.user.groups,
        },
        "args": arguments(input)?,
        "env": environment.iter().map(text).collect::<Vec<_>>(),
        "cwd": working_dir(input)?,
        "capabilities": {
            "bounding": bounding,
            "effective": effective,
            "permitted": effective,
            "inheritable": ambient,
            "ambient": ambient,
        },
        "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": OPEN_FILES, "soft": OPEN_FILES }],
    });
    // Said also where nothing was asked for: what starts the container is the agent's child, and the kernel spares the agent.
    let score = input.config.resources.oom_score_adj.unwrap_or(0);
    process["oomScoreAdj"] = json!(score.clamp(-1000, 1000));
    if security.no_new_privileges {
        process["noNewPrivileges"] = Value::Bool(true);
    }
    if let Some(profile) = input.apparmor {
        process["apparmorProfile"] = json!(profile);
    }
    Ok(process)
}

/// Where the program starts: the container's folder, the image's, or the root.
///
/// # Errors
/// When it is not absolute, or names a descriptor (CVE-2024-21626).
fn working_dir(input: &Input<'_>) -> Result<String, SpecError> {
    let chosen = [&input.config.working_dir, &input.image.working_dir];
    let chosen = chosen.into_iter().find(|dir| !dir.is_empty());
    let Some(folder) = chosen else { return Ok("/".to_owned()) };
    let folder = super::mounts::normal_path(folder)?;
    if folder == "/proc" || folder.starts_with("/proc/") {
        return Err(SpecError::Path { path: folder });
    }
    Ok(folder)
}

/// The image's environment, then the container's; a later value of a name replaces the earlier one in its place.
pub(super) fn environment(input: &Input<'_>) -> Result<Environment, SpecError> {
    let mut result = Environment::new();
    let mut set = |name: &str, value: &[u8]| -> Result<(), SpecError> {
        if name.is_empty() || name.contains(['=', '\0']) || value.contains(&0) {
            return Err(SpecError::Environment { name: name.to_owned() });
        }
        match result.iter_mut().find(|(n, _)| n == name) {
            Some((_, old)) => *old = value.to_owned(),
            None => result.push((name.to_owned(), value.to_owned())),
        }
        Ok(())
    };
    for line in [DEFAULT_PATH].into_iter().chain(input.image.env.iter().map(String::as_str)) {
        let (name, value) = line.split_once('=').unwrap_or((line, ""));
        set(name, value.as_bytes())?;
    }
    if !input.sandbox.hostname.is_empty() {
        set("HOSTNAME", input.sandbox.hostname.as_bytes())?;
    }
    if !input.image.env.iter().any(|line| line.starts_with("HOME=")) {
        set("HOME", input.user.home.as_bytes())?;
    }
    if input.config.tty && !input.image.env.iter().any(|line| line.starts_with("TERM=")) {
        set("TERM", b"xterm")?;
    }
    for (name, value) in &input.config.env {
        set(name, value)?;
    }
    Ok(result)
}

fn arguments(input: &Input<'_>) -> Result<Vec<String>, SpecError> {
    let (command, args) = (&input.config.command, &input.config.args);
    // Kubernetes' table: a command of the container drops the image's arguments too.
    let (program, arguments) = match (command.is_empty(), args.is_empty()) {
        (true, true) => (&input.image.entrypoint, &input.image.cmd),
        (true, false) => (&input.image.entrypoint, args),
        (false, _) => (command, args),
    };
    let all: Vec<String> = program.iter().chain(arguments).cloned().collect();
    if all.first().is_none_or(String::is_empty) {
        return Err(SpecError::NothingToExecute);
    }
    if all.iter().any(|text| text.contains('\0')) {
        return Err(SpecError::Arguments);
    }
    Ok(all)
}
