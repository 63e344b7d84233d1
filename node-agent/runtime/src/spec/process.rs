//! The process part of the spec: program, environment, user. Pure.

use serde_json::{Value, json};

use super::Input;
use crate::pod::{Container, Resources};

/// What a program finds when neither image nor pod sets it. `libcontainer` refuses a container without PATH.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Files a process may have open: systemd's hard default, so that programs that close all of them stay quick.
const OPEN_FILES: u64 = 524_288;

/// Why a container cannot be described.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum ProcessError {
    /// Neither pod nor image says what to execute.
    #[error("neither the pod nor the image says what to execute; set command")]
    NothingToExecute,
    /// The user is a name that the image does not know.
    #[error("the image has no user {user:?}; set securityContext.runAsUser")]
    NoUser { user: String },
    /// The group is a name that the image does not know.
    #[error("the image has no group {group:?}; set securityContext.runAsGroup")]
    NoGroup { group: String },
    /// A mount names a volume that the pod does not have.
    #[error("the pod has no volume {volume:?}")]
    NoVolume { volume: String },
}

/// Who a program runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) additional_gids: Vec<u32>,
    /// Always known: without HOME libcontainer asks libc, which loads NSS modules out of the image.
    pub(crate) home: String,
}

/// The user of a container, from its own settings, the image's `user[:group]` and the image's account files.
pub(crate) fn find_user(
    container: &Container,
    image_user: &str,
    passwd: &str,
    group: &str,
) -> Result<User, ProcessError> {
    let (user, primary) = image_user.split_once(':').unwrap_or((image_user, ""));
    let accounts: Vec<Vec<&str>> = passwd.lines().map(|l| l.split(':').collect()).collect();
    let field = |line: &[&str], at: usize| line.get(at).and_then(|f| f.parse::<u32>().ok());
    let by_name =
        |name: &str| accounts.iter().find(|line| line.first() == Some(&name) && !name.is_empty());
    let uid = match container.security.run_as_user {
        Some(uid) => uid,
        None if user.is_empty() => 0,
        None => match user.parse() {
            Ok(uid) => uid,
            Err(_) => by_name(user)
                .and_then(|line| field(line, 2))
                .ok_or_else(|| ProcessError::NoUser { user: user.to_owned() })?,
        },
    };
    let account = accounts.iter().find(|line| field(line, 2) == Some(uid));
    let gid = match container.security.run_as_group {
        Some(gid) => gid,
        None if primary.is_empty() => account.and_then(|line| field(line, 3)).unwrap_or(0),
        None => match primary.parse() {
            Ok(gid) => gid,
            Err(_) => group
                .lines()
                .map(|line| line.split(':').collect::<Vec<_>>())
                .find(|line| line.first() == Some(&primary))
                .and_then(|line| field(&line, 2))
                .ok_or_else(|| ProcessError::NoGroup { group: primary.to_owned() })?,
        },
    };
    let name = account.and_then(|line| line.first().copied()).unwrap_or_default();
    let mut additional_gids: Vec<u32> = group
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .filter(|line| {
            let members = line.get(3).copied().unwrap_or_default();
            !name.is_empty() && members.split(',').any(|member| member == name)
        })
        .filter_map(|line| field(&line, 2))
        .filter(|additional| *additional != gid)
        .collect();
    additional_gids.sort_unstable();
    let home = account.and_then(|line| line.get(5).copied()).filter(|home| !home.is_empty());
    Ok(User { uid, gid, additional_gids, home: home.unwrap_or("/").to_owned() })
}

/// The `process` object.
pub(super) fn build(input: &Input<'_>, capabilities: &[String]) -> Result<Value, ProcessError> {
    let security = &input.container.security;
    let environment = environment(input);
    // A process of another user than root starts with nothing: capabilities only bound what it may gain.
    let effective: &[String] = if input.user.uid == 0 { capabilities } else { &[] };
    let mut process = json!({
        "terminal": false,
        "user": {
            "uid": input.user.uid,
            "gid": input.user.gid,
            "additionalGids": input.user.additional_gids,
        },
        "args": arguments(input, &environment)?,
        "env": environment.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>(),
        "cwd": working_dir(input),
        "capabilities": {
            "bounding": capabilities,
            "effective": effective,
            "permitted": effective,
        },
        "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": OPEN_FILES, "soft": OPEN_FILES }],
        "oomScoreAdj": oom_score_adj(&input.container.resources, input.node_memory_bytes),
    });
    // Present only when true: libcontainer takes a `false` for "set", and then fails to load the seccomp filter.
    if !security.allow_privilege_escalation && !security.privileged {
        process["noNewPrivileges"] = Value::Bool(true);
    }
    Ok(process)
}

/// Who goes first when the node, not a container, is out of memory: the kubelet's three classes. A container that asked
/// for nothing goes first, one whose limits are all requested goes last, between them those that asked for less.
fn oom_score_adj(resources: &Resources, node_memory_bytes: u64) -> i64 {
    let Resources {
        cpu_limit_millis,
        cpu_request_millis,
        memory_limit_bytes,
        memory_request_bytes,
    } = *resources;
    let guaranteed = cpu_limit_millis.is_some()
        && memory_limit_bytes.is_some()
        && cpu_request_millis == cpu_limit_millis
        && memory_request_bytes == memory_limit_bytes;
    if guaranteed {
        return -997;
    }
    if cpu_request_millis.is_none() && memory_request_bytes.is_none() {
        return 1000;
    }
    let share = u128::from(memory_request_bytes.unwrap_or(0)) * 1000;
    let permille = share.checked_div(node_memory_bytes.into()).unwrap_or(0);
    (1000 - i64::try_from(permille).unwrap_or(1000)).clamp(3, 999)
}

fn working_dir(input: &Input<'_>) -> String {
    let chosen = [&input.container.working_dir, &input.image.working_dir];
    chosen.into_iter().find(|dir| !dir.is_empty()).map_or_else(|| "/".to_owned(), Clone::clone)
}

/// The image's environment, then the pod's; a later value of a name replaces the earlier one in its place.
fn environment(input: &Input<'_>) -> Vec<(String, String)> {
    let mut result: Vec<(String, String)> = Vec::new();
    let mut set = |name: &str, value: String| match result.iter_mut().find(|(n, _)| n == name) {
        Some((_, old)) => *old = value,
        None => result.push((name.to_owned(), value)),
    };
    let image = input.image.env.iter().map(String::as_str);
    for line in [DEFAULT_PATH].into_iter().chain(image) {
        let (name, value) = line.split_once('=').unwrap_or((line, ""));
        set(name, value.to_owned());
    }
    set("HOSTNAME", hostname(input).to_owned());
    if !input.image.env.iter().any(|line| line.starts_with("HOME=")) {
        set("HOME", input.user.home.clone());
    }
    for (name, value) in &input.container.env {
        let expanded = expand(value, &result);
        match result.iter_mut().find(|(n, _)| n == name) {
            Some((_, old)) => *old = expanded,
            None => result.push((name.clone(), expanded)),
        }
    }
    result
}

fn hostname<'a>(input: &Input<'a>) -> &'a str {
    if input.pod.hostname.is_empty() { &input.pod.name } else { &input.pod.hostname }
}

fn arguments(
    input: &Input<'_>,
    environment: &[(String, String)],
) -> Result<Vec<String>, ProcessError> {
    let Container { command, args, .. } = input.container;
    // Kubernetes' table: a command of the pod drops the image's arguments too.
    let (program, arguments) = match (command.is_empty(), args.is_empty()) {
        (true, true) => (&input.image.entrypoint, &input.image.cmd),
        (true, false) => (&input.image.entrypoint, args),
        (false, _) => (command, args),
    };
    let all: Vec<String> =
        program.iter().chain(arguments).map(|text| expand(text, environment)).collect();
    if all.first().is_none_or(String::is_empty) {
        return Err(ProcessError::NothingToExecute);
    }
    Ok(all)
}

/// Replaces `$(NAME)` by the variable's value, `$$` by `$`; an unknown name stays as it is. Kubernetes' rule.
fn expand(text: &str, environment: &[(String, String)]) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        result.push_str(before);
        let known = after.strip_prefix('(').and_then(|reference| {
            let (name, end) = reference.split_once(')')?;
            let (_, value) = environment.iter().find(|(n, _)| n == name)?;
            Some((value, end))
        });
        if let Some((value, end)) = known {
            result.push_str(value);
            rest = end;
        } else {
            result.push('$');
            rest = after.strip_prefix('$').unwrap_or(after);
        }
    }
    result.push_str(rest);
    result
}
