//! Rights and user namespaces.

use ingot_runtime::config::{IdMapping, Security, SecurityProfile, UserNamespace};

use crate::check::{Checked, Invalid, absolute, known, number, required, text};
use crate::v1;

/// The rights of a container. `own_users`: its pod has a user namespace.
pub(crate) fn container_security(
    field: &str,
    from: v1::LinuxContainerSecurityContext,
    own_users: bool,
) -> Checked<Security> {
    let at = |name: &str| format!("{field}.{name}");
    if from.run_as_group.is_some() && from.run_as_user.is_none() && from.run_as_username.is_empty()
    {
        let problem = "needs a user: give run_as_user or run_as_username too";
        return Err(Invalid::new(at("run_as_group"), problem));
    }
    let id = |name, value: Option<v1::Int64Value>| {
        value.map(|v| number::<u32>(&at(name), v.value)).transpose()
    };
    let capabilities = from.capabilities.unwrap_or_default();
    // The default when nothing is listed. In a pod with a user namespace, nothing listed means nothing masked: that is how
    // the kubelet asks for `procMount: Unmasked`, which Kubernetes allows in such pods only.
    let paths = |paths: Vec<String>| (own_users || !paths.is_empty()).then_some(paths);
    let policy: v1::SupplementalGroupsPolicy =
        known("supplemental_groups_policy", from.supplemental_groups_policy)?;
    let groups = from.supplemental_groups.into_iter();
    let groups = groups.map(|group| number(&at("supplemental_groups"), group));
    #[expect(deprecated, reason = "older callers send nothing else")]
    let (old_seccomp, old_apparmor) = (from.seccomp_profile_path, from.apparmor_profile);
    Ok(Security {
        privileged: from.privileged,
        run_as_user: id("run_as_user", from.run_as_user)?,
        run_as_group: id("run_as_group", from.run_as_group)?,
        run_as_username: text(&at("run_as_username"), from.run_as_username)?,
        supplemental_groups: groups.collect::<Checked<_>>()?,
        supplemental_groups_strict: policy == v1::SupplementalGroupsPolicy::Strict,
        read_only_root: from.readonly_rootfs,
        capabilities_add: capabilities.add_capabilities,
        capabilities_drop: capabilities.drop_capabilities,
        capabilities_ambient: capabilities.add_ambient_capabilities,
        seccomp: seccomp_or_path(&at("seccomp"), from.seccomp, &old_seccomp)?,
        apparmor: apparmor_or_name(&at("apparmor"), from.apparmor, &old_apparmor)?,
        no_new_privileges: from.no_new_privs,
        masked_paths: paths(from.masked_paths),
        read_only_paths: paths(from.readonly_paths),
    })
}

/// The seccomp profile; the newer field wins over the older. None given means none applied, as the CRI says.
pub(crate) fn seccomp_or_path(
    field: &str,
    profile: Option<v1::SecurityProfile>,
    path: &str,
) -> Checked<SecurityProfile> {
    let file = |path: String| {
        let path = absolute(field, path, false)?;
        Ok(SecurityProfile::Localhost(path.to_string_lossy().into_owned()))
    };
    if let Some(profile) = profile {
        return given(field, profile, file);
    }
    match path {
        "" | "unconfined" => Ok(SecurityProfile::Unconfined),
        "runtime/default" | "docker/default" => Ok(SecurityProfile::RuntimeDefault),
        path => match path.strip_prefix("localhost/") {
            Some(path) => file(format!("/{}", path.trim_start_matches('/'))),
            None => Err(unknown_profile(field, path)),
        },
    }
}

/// The AppArmor profile; the newer field wins over the older. None given means the runtime's, as in Kubernetes.
fn apparmor_or_name(
    field: &str,
    profile: Option<v1::SecurityProfile>,
    name: &str,
) -> Checked<SecurityProfile> {
    // Both fields are seen with and without the word before the name, and containerd takes either.
    let loaded = |name: String| {
        let name = name.strip_prefix("localhost/").unwrap_or(&name).to_owned();
        Ok(SecurityProfile::Localhost(required(field, name)?))
    };
    if let Some(profile) = profile {
        return given(field, profile, loaded);
    }
    match name {
        "" | "runtime/default" => Ok(SecurityProfile::RuntimeDefault),
        "unconfined" => Ok(SecurityProfile::Unconfined),
        name => match name.strip_prefix("localhost/") {
            Some(name) => loaded(name.to_owned()),
            None => Err(unknown_profile(field, name)),
        },
    }
}

fn given(
    field: &str,
    profile: v1::SecurityProfile,
    localhost: impl Fn(String) -> Checked<SecurityProfile>,
) -> Checked<SecurityProfile> {
    use v1::security_profile::ProfileType;
    let kind = known::<ProfileType>(field, profile.profile_type)?;
    if kind != ProfileType::Localhost && !profile.localhost_ref.is_empty() {
        let problem = "localhost_ref is for profile_type Localhost only; leave it empty";
        return Err(Invalid::new(field, problem));
    }
    match kind {
        ProfileType::RuntimeDefault => Ok(SecurityProfile::RuntimeDefault),
        ProfileType::Unconfined => Ok(SecurityProfile::Unconfined),
        ProfileType::Localhost => localhost(profile.localhost_ref),
    }
}

fn unknown_profile(field: &str, value: &str) -> Invalid {
    let problem =
        format!("{value:?} is not known; write runtime/default, unconfined or localhost/<name>");
    Invalid::new(field, problem)
}

/// The user namespace of a pod: one range that begins with id 0 inside.
pub(crate) fn user_namespace(
    field: &str,
    from: Option<v1::UserNamespace>,
) -> Checked<Option<UserNamespace>> {
    let Some(from) = from else { return Ok(None) };
    match known::<v1::NamespaceMode>(field, from.mode)? {
        v1::NamespaceMode::Node if from.uids.is_empty() && from.gids.is_empty() => Ok(None),
        v1::NamespaceMode::Node => {
            Err(Invalid::new(field, "mode NODE has no mappings; leave uids and gids empty"))
        }
        v1::NamespaceMode::Pod => {
            let (uids, gids) = (range(field, &from.uids)?, range(field, &from.gids)?);
            if uids.container_id != 0 || gids.container_id != 0 {
                return Err(Invalid::new(field, "the mappings must begin with container_id 0"));
            }
            Ok(Some(UserNamespace { uids, gids }))
        }
        _ => Err(Invalid::new(field, "mode is POD or NODE")),
    }
}

/// The one range of ids of a mount or a pod.
pub(crate) fn range(field: &str, from: &[v1::IdMapping]) -> Checked<IdMapping> {
    let [one] = from else {
        let problem = format!("has {} mappings; exactly one is supported", from.len());
        return Err(Invalid::new(field, problem));
    };
    let v1::IdMapping { host_id, container_id, length } = *one;
    let fits = |first: u32| first.checked_add(length).is_some();
    if length == 0 || !fits(host_id) || !fits(container_id) {
        let problem = format!("{length} ids from {container_id} on {host_id} are no range");
        return Err(Invalid::new(field, problem));
    }
    Ok(IdMapping { container_id, host_id, length })
}
