//! The environment of a container, and facts about its pod: Kubernetes' rules, pure.

use std::net::IpAddr;

use ingot_machine_config::v1::pod::{
    Container, DataKind, EnvFrom, EnvVar, EnvVarSource, Field, FieldRef, ResourceFieldRef,
    ResourceName,
};

use crate::pod::Pod;
use crate::surroundings::{Keys, Surroundings};

/// Variables in the order in which they are set.
pub(super) type Environment = Vec<(String, Vec<u8>)>;

/// Something that a pod asks for is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Missing {
    /// The whole document.
    #[error("{} \"{name}\" not found", kind.name())]
    Object { kind: DataKind, name: String },
    /// A key of it.
    #[error("couldn't find key {key} in {} {name}", kind.name())]
    Key { kind: DataKind, name: String, key: String },
    /// A field that a pod does not have.
    #[error("a pod has no field {path}")]
    Field { path: String },
    /// A container that the pod does not have.
    #[error("the pod has no container {name}")]
    Container { name: String },
    /// A value that the kernel cannot pass to a program.
    #[error("the value of the variable {name} holds a zero byte")]
    Zero { name: String },
}

/// What the values are taken from.
pub(super) struct Sources<'a> {
    pub(super) pod: &'a Pod,
    pub(super) surroundings: &'a Surroundings,
    /// Addresses of the pod; those of the node with the node's network.
    pub(super) addresses: &'a [IpAddr],
    /// What the node has: what a limit that is not given comes to.
    pub(super) capacity: Capacity,
}

/// What the node has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Capacity {
    pub(super) cpu_millis: u64,
    pub(super) memory_bytes: u64,
    pub(super) storage_bytes: u64,
}

impl Sources<'_> {
    /// The variables of a container, `envFrom` first.
    pub(super) fn environment(&self, container: &Container) -> Result<Environment, Missing> {
        let mut all = Environment::new();
        for from in &container.env_from {
            self.add_all(&mut all, from)?;
        }
        // Only what is in `env` can be referred to in `env`, as upstream has it.
        let mut own = Environment::new();
        for variable in &container.env {
            let Some(value) = self.value(variable, container, &own)? else { continue };
            if value.contains(&0) {
                return Err(Missing::Zero { name: variable.name.clone() });
            }
            set(&mut own, &variable.name, value.clone());
            set(&mut all, &variable.name, value);
        }
        Ok(all)
    }

    fn add_all(&self, all: &mut Environment, from: &EnvFrom) -> Result<(), Missing> {
        let map = from.config_map_ref.as_ref().map(|r| (DataKind::ConfigMap, r));
        let secret = from.secret_ref.as_ref().map(|r| (DataKind::Secret, r));
        for (kind, reference) in map.into_iter().chain(secret) {
            let Some(keys) = self.keys(kind, &reference.name, reference.optional)? else {
                continue;
            };
            for (key, value) in keys {
                let name = format!("{}{key}", from.prefix);
                if value.contains(&0) {
                    return Err(Missing::Zero { name });
                }
                set(all, &name, value.clone());
            }
        }
        Ok(())
    }

    fn value(
        &self,
        variable: &EnvVar,
        container: &Container,
        own: &Environment,
    ) -> Result<Option<Vec<u8>>, Missing> {
        let Some(from) = &variable.value_from else {
            return Ok(Some(expand(variable.value.as_bytes(), own)));
        };
        let EnvVarSource { field_ref, resource_field_ref, config_map_key_ref, secret_key_ref } =
            from;
        if let Some(reference) = field_ref {
            return self.field(reference).map(|text| Some(text.into_bytes()));
        }
        if let Some(reference) = resource_field_ref {
            return self.resource(reference, container).map(|text| Some(text.into_bytes()));
        }
        let map = config_map_key_ref.as_ref().map(|r| (DataKind::ConfigMap, r));
        let secret = secret_key_ref.as_ref().map(|r| (DataKind::Secret, r));
        let Some((kind, reference)) = map.or(secret) else { return Ok(None) };
        let Some(keys) = self.keys(kind, &reference.name, reference.optional)? else {
            return Ok(None);
        };
        match keys.get(&reference.key) {
            Some(value) => Ok(Some(value.clone())),
            None if reference.optional => Ok(None),
            None => {
                Err(Missing::Key { kind, name: reference.name.clone(), key: reference.key.clone() })
            }
        }
    }

    /// The keys of a ConfigMap or Secret; `None` when it is not there and need not be.
    pub(super) fn keys(
        &self,
        kind: DataKind,
        name: &str,
        optional: bool,
    ) -> Result<Option<&Keys>, Missing> {
        match self.surroundings.keys(kind, &self.pod.namespace, name) {
            Some(keys) => Ok(Some(keys)),
            None if optional => Ok(None),
            None => Err(Missing::Object { kind, name: name.to_owned() }),
        }
    }

    /// A field of the pod as a text.
    pub(super) fn field(&self, reference: &FieldRef) -> Result<String, Missing> {
        let path = || Missing::Field { path: reference.field_path.clone() };
        let join = |addresses: &[IpAddr]| {
            addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
        };
        let first =
            |addresses: &[IpAddr]| addresses.first().map(ToString::to_string).unwrap_or_default();
        let lines = |map: &std::collections::BTreeMap<String, String>| {
            map.iter().map(|(key, value)| format!("{key}={value:?}")).collect::<Vec<_>>().join("\n")
        };
        let (pod, node) = (self.pod, &self.surroundings.node);
        Ok(match reference.field().ok_or_else(path)? {
            Field::Name => pod.name.clone(),
            Field::Namespace => pod.namespace.clone(),
            Field::Uid => pod.uid.clone(),
            Field::Labels => lines(&pod.labels),
            Field::Annotations => lines(&pod.annotations),
            Field::Label(key) => pod.labels.get(&key).cloned().unwrap_or_default(),
            Field::Annotation(key) => pod.annotations.get(&key).cloned().unwrap_or_default(),
            Field::NodeName => node.name.clone(),
            Field::ServiceAccountName => String::new(),
            Field::HostIp => first(&node.addresses),
            Field::HostIps => join(&node.addresses),
            Field::PodIp => first(self.addresses),
            Field::PodIps => join(self.addresses),
        })
    }

    /// A limit or request as a whole number, rounded up.
    pub(super) fn resource(
        &self,
        reference: &ResourceFieldRef,
        own: &Container,
    ) -> Result<String, Missing> {
        let container = match &reference.container_name {
            None => own,
            Some(name) => self
                .pod
                .all_containers()
                .find(|container| container.name == *name)
                .ok_or_else(|| Missing::Container { name: name.clone() })?,
        };
        let (limits, requests) = (&container.resources.limits, &container.resources.requests);
        let millis = |q: &ingot_machine_config::Quantity| q.millis();
        let units = |q: &ingot_machine_config::Quantity| q.units();
        let Capacity { cpu_millis, memory_bytes, storage_bytes } = self.capacity;
        let storage = &limits.ephemeral_storage;
        use ResourceName::{
            LimitsCpu, LimitsEphemeralStorage, LimitsMemory, RequestsCpu, RequestsEphemeralStorage,
            RequestsMemory,
        };
        let (amount, unit) = match reference.resource {
            LimitsCpu => (limits.cpu.as_ref().map_or(cpu_millis, millis), 1000),
            RequestsCpu => (requests.cpu.as_ref().or(limits.cpu.as_ref()).map_or(0, millis), 1000),
            LimitsMemory => (limits.memory.as_ref().map_or(memory_bytes, units), 1),
            RequestsMemory => {
                (requests.memory.as_ref().or(limits.memory.as_ref()).map_or(0, units), 1)
            }
            LimitsEphemeralStorage => (storage.as_ref().map_or(storage_bytes, units), 1),
            RequestsEphemeralStorage => {
                let request = requests.ephemeral_storage.as_ref().or(storage.as_ref());
                (request.map_or(0, units), 1)
            }
        };
        let divisor = match &reference.divisor {
            Some(divisor) if !divisor.is_zero() && unit == 1000 => divisor.millis(),
            Some(divisor) if !divisor.is_zero() => divisor.units(),
            _ => unit,
        };
        Ok(amount.div_ceil(divisor.max(1)).to_string())
    }
}

fn set(environment: &mut Environment, name: &str, value: Vec<u8>) {
    match environment.iter_mut().find(|(n, _)| n == name) {
        Some((_, old)) => *old = value,
        None => environment.push((name.to_owned(), value)),
    }
}

/// Replaces `$(NAME)` by the variable's value, `$$` by `$`; an unknown name stays as it is. Kubernetes' rule.
pub(super) fn expand(text: &[u8], environment: &Environment) -> Vec<u8> {
    let mut result = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| *byte == b'$') {
        let (before, after) =
            (rest.get(..at).unwrap_or_default(), rest.get(at + 1..).unwrap_or_default());
        result.extend_from_slice(before);
        let known = after.strip_prefix(b"(").and_then(|reference| {
            let end = reference.iter().position(|byte| *byte == b')')?;
            let name = reference.get(..end)?;
            let (_, value) = environment.iter().find(|(n, _)| n.as_bytes() == name)?;
            Some((value, reference.get(end + 1..)?))
        });
        if let Some((value, end)) = known {
            result.extend_from_slice(value);
            rest = end;
        } else {
            result.push(b'$');
            rest = after.strip_prefix(b"$").unwrap_or(after);
        }
    }
    result.extend_from_slice(rest);
    result
}

/// The same for words that have to be texts.
pub(super) fn expand_text(text: &str, environment: &Environment) -> String {
    String::from_utf8_lossy(&expand(text.as_bytes(), environment)).into_owned()
}

#[cfg(test)]
mod tests;
