//! As whom and with which rights a pod and its containers run.

use crate::format;
use crate::v1::is_default;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// As whom and with which rights the containers of a pod run, where they do not say otherwise themselves.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("x-ingot-unsupported" = ["seLinuxChangePolicy", "seLinuxOptions", "windowsOptions"]))]
pub struct PodSecurityContext {
    /// User id of the first processes, instead of the image's.
    #[schemars(range(min = 0, max = 2_147_483_647))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_as_user: Option<u32>,
    /// Group id of the first processes, instead of the image's.
    #[schemars(range(min = 0, max = 2_147_483_647))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_as_group: Option<u32>,
    /// Refuse to start a container whose first process would be root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_as_non_root: Option<bool>,
    /// Group that owns the pod's volumes, and that every container is in.
    #[schemars(range(min = 0, max = 2_147_483_647))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fs_group: Option<u32>,
    /// When the files of a volume that is there already are given to `fsGroup`.
    #[schemars(extend("default" = "Always"))]
    #[serde(skip_serializing_if = "is_default")]
    pub fs_group_change_policy: FsGroupChangePolicy,
    /// More groups that every container is in.
    #[schemars(length(max = 1024), with = "Vec<GroupId>")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub supplemental_groups: Vec<u32>,
    /// Whether the groups that the image's `/etc/group` gives to a user count too.
    #[schemars(extend("default" = "Merge"))]
    #[serde(skip_serializing_if = "is_default")]
    pub supplemental_groups_policy: SupplementalGroupsPolicy,
    /// Which system calls are allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seccomp_profile: Option<SeccompProfile>,
    /// Which AppArmor profile applies, when the kernel has AppArmor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_armor_profile: Option<AppArmorProfile>,
    /// Kernel parameters of the pod's own namespaces.
    #[schemars(length(max = 256))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sysctls: Vec<Sysctl>,
}

/// A group id.
#[derive(JsonSchema)]
#[schemars(inline, transparent)]
struct GroupId(
    #[schemars(range(min = 0, max = 2_147_483_647))]
    #[expect(dead_code, reason = "for the schema")]
    u32,
);

/// When the files of a volume are given to `fsGroup`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FsGroupChangePolicy {
    /// At each start of the pod.
    #[default]
    Always,
    /// When the volume's own folder is not the group's yet.
    OnRootMismatch,
}

/// Which groups of the image count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SupplementalGroupsPolicy {
    /// Those that `/etc/group` of the image gives to the user, too.
    #[default]
    Merge,
    /// Only those that are written in the pod.
    Strict,
}

/// A kernel parameter of the pod's namespaces.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Sysctl {
    /// Name, like `net.ipv4.ip_unprivileged_port_start`.
    #[schemars(with = "format::SysctlName")]
    pub name: String,
    /// Value.
    #[schemars(with = "format::SysctlText")]
    pub value: String,
}

/// As whom and with which rights a container runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("x-ingot-unsupported" = ["seLinuxOptions", "windowsOptions"]))]
pub struct SecurityContext {
    /// User id of the first process, instead of the pod's or the image's.
    #[schemars(range(min = 0, max = 2_147_483_647))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_as_user: Option<u32>,
    /// Group id of the first process, instead of the pod's or the image's.
    #[schemars(range(min = 0, max = 2_147_483_647))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_as_group: Option<u32>,
    /// Refuse to start the container when its first process would be root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_as_non_root: Option<bool>,
    /// The container may write only to its volumes.
    #[schemars(extend("default" = false))]
    #[serde(skip_serializing_if = "is_default")]
    pub read_only_root_filesystem: bool,
    /// Linux capabilities besides or without the default ones.
    #[serde(skip_serializing_if = "is_default")]
    pub capabilities: Capabilities,
    /// All capabilities and all devices: as good as the node itself.
    #[schemars(extend("default" = false))]
    #[serde(skip_serializing_if = "is_default")]
    pub privileged: bool,
    /// Whether set-user-id programs and the like may give a process more rights than its parent. When not given: yes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_privilege_escalation: Option<bool>,
    /// Which system calls are allowed, instead of the pod's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seccomp_profile: Option<SeccompProfile>,
    /// Which AppArmor profile applies, instead of the pod's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_armor_profile: Option<AppArmorProfile>,
    /// What of `/proc` is hidden.
    #[schemars(extend("default" = "Default"))]
    #[serde(skip_serializing_if = "is_default")]
    pub proc_mount: ProcMount,
}

/// What of `/proc` is hidden.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ProcMount {
    /// What tells about, or changes, the node.
    #[default]
    Default,
    /// Nothing. Only with `hostUsers: false`.
    Unmasked,
}

/// Which system calls are allowed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SeccompProfile {
    /// Where the profile comes from.
    #[serde(rename = "type")]
    pub kind: ProfileType,
    /// With `Localhost`: path of the profile in JSON, below `/var/lib/ingot/seccomp`.
    #[schemars(with = "Option<format::RelativePath>")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub localhost_profile: Option<String>,
}

/// Which AppArmor profile applies.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AppArmorProfile {
    /// Where the profile comes from.
    #[serde(rename = "type")]
    pub kind: ProfileType,
    /// With `Localhost`: name of a profile that is loaded on the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub localhost_profile: Option<String>,
}

/// Where a security profile comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ProfileType {
    /// Ingot's own.
    #[default]
    RuntimeDefault,
    /// There is none: everything is allowed.
    Unconfined,
    /// The one that `localhostProfile` names.
    Localhost,
}

/// Changes to the default set of Linux capabilities.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Capabilities {
    /// Capabilities to add, like `NET_ADMIN`, or `ALL`.
    #[schemars(with = "Vec<format::Capability>")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<String>,
    /// Capabilities to take away, or `ALL`. What is also added stays.
    #[schemars(with = "Vec<format::Capability>")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub drop: Vec<String>,
}
