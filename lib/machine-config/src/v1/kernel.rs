//! Section `kernel`: parameters and modules.

use crate::format;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Kernel parameters and modules.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Kernel {
    /// Kernel parameters by name, like `net.core.somaxconn: 4096`. A parameter taken out of the config keeps its value
    /// until the next boot.
    #[schemars(extend("propertyNames" = { "format": "sysctl-name" }))]
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctls: BTreeMap<String, SysctlValue>,
    /// Kernel modules to load, with what they depend on. Drivers of found hardware are loaded without being named.
    #[schemars(length(max = 256))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub modules: Vec<Module>,
}

/// The value of a kernel parameter: a text or a number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SysctlValue(pub String);

impl JsonSchema for SysctlValue {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "SysctlValue".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "number"], "format": "sysctl-value" })
    }
}

/// One kernel module.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Module {
    /// Name of the module, like `br_netfilter`.
    #[schemars(with = "format::ModuleName")]
    pub name: String,
    /// Parameters for the module, like `max_loop=8`. They take effect only when the module is loaded.
    #[schemars(with = "Vec<format::ModuleParameter>", length(max = 64))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<String>,
}
