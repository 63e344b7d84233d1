//! Where the environment of a container comes from.

use crate::format;
use crate::quantity::Quantity;
use crate::v1::is_default;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An environment variable.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EnvVar {
    /// Name of the variable.
    #[schemars(with = "format::EnvName")]
    pub name: String,
    /// Its value; a text, so numbers need quotes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub value: String,
    /// Where the value comes from, instead of `value`. Read when the container starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_from: Option<EnvVarSource>,
}

/// Where the value of a variable comes from: exactly one of these.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-ingot-unsupported" = ["fileKeyRef"]))]
pub struct EnvVarSource {
    /// A field of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field_ref: Option<FieldRef>,
    /// A limit or request of a container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_field_ref: Option<ResourceFieldRef>,
    /// A key of a `kind: ConfigMap` document in the pod's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<KeyRef>,
    /// A key of a `kind: Secret` document in the pod's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<KeyRef>,
}

/// Every key of a ConfigMap or Secret as a variable.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EnvFrom {
    /// Put before each key.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,
    /// The ConfigMap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_ref: Option<ObjectRef>,
    /// The Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<ObjectRef>,
}

/// A ConfigMap or Secret in the pod's namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ObjectRef {
    /// Its name.
    #[schemars(with = "format::PodName")]
    pub name: String,
    /// It may be absent from the config.
    #[schemars(extend("default" = false))]
    #[serde(default, skip_serializing_if = "is_default")]
    pub optional: bool,
}

/// A key of a ConfigMap or Secret in the pod's namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeyRef {
    /// Name of the ConfigMap or Secret.
    #[schemars(with = "format::PodName")]
    pub name: String,
    /// The key in it.
    #[schemars(with = "format::DataKey")]
    pub key: String,
    /// It may be absent: then there is no such variable.
    #[schemars(extend("default" = false))]
    #[serde(default, skip_serializing_if = "is_default")]
    pub optional: bool,
}

/// A field of the pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FieldRef {
    /// Version of the API the path is written in: `v1`.
    #[schemars(extend("default" = "v1"))]
    #[serde(default, skip_serializing_if = "is_default")]
    pub api_version: super::PodApiVersion,
    /// Path of the field, like `metadata.name`, `metadata.labels['app']` or `status.podIP`.
    pub field_path: String,
}

/// A limit or request of a container.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResourceFieldRef {
    /// The container; when not given, the one with this variable. A volume has to give it.
    #[schemars(with = "Option<format::DnsLabel>")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_name: Option<String>,
    /// What is asked for, like `limits.memory`. A limit that is not given is what the node has.
    pub resource: ResourceName,
    /// What counts as one, like `1Mi`; rounded up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub divisor: Option<Quantity>,
}

/// Limits and requests that can be asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ResourceName {
    /// Limit of CPUs.
    #[default]
    #[serde(rename = "limits.cpu")]
    LimitsCpu,
    /// Limit of memory in bytes.
    #[serde(rename = "limits.memory")]
    LimitsMemory,
    /// Limit of disk space in bytes.
    #[serde(rename = "limits.ephemeral-storage")]
    LimitsEphemeralStorage,
    /// Request of CPUs.
    #[serde(rename = "requests.cpu")]
    RequestsCpu,
    /// Request of memory in bytes.
    #[serde(rename = "requests.memory")]
    RequestsMemory,
    /// Request of disk space in bytes.
    #[serde(rename = "requests.ephemeral-storage")]
    RequestsEphemeralStorage,
}
