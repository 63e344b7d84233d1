//! Fields of a pod that a pod may ask for about itself.

use super::FieldRef;

/// A field of the pod, as `fieldPath` names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// `metadata.name`
    Name,
    /// `metadata.namespace`
    Namespace,
    /// `metadata.uid`
    Uid,
    /// `metadata.labels`: a line `key="value"` for each. For volumes only.
    Labels,
    /// `metadata.annotations`: the same.
    Annotations,
    /// `metadata.labels['KEY']`
    Label(String),
    /// `metadata.annotations['KEY']`
    Annotation(String),
    /// `spec.nodeName`. For variables only, as all below.
    NodeName,
    /// `spec.serviceAccountName`: always empty.
    ServiceAccountName,
    /// `status.hostIP`
    HostIp,
    /// `status.hostIPs`
    HostIps,
    /// `status.podIP`
    PodIp,
    /// `status.podIPs`
    PodIps,
}

/// All paths but those with a key.
const PATHS: [(&str, Field); 11] = [
    ("metadata.name", Field::Name),
    ("metadata.namespace", Field::Namespace),
    ("metadata.uid", Field::Uid),
    ("metadata.labels", Field::Labels),
    ("metadata.annotations", Field::Annotations),
    ("spec.nodeName", Field::NodeName),
    ("spec.serviceAccountName", Field::ServiceAccountName),
    ("status.hostIP", Field::HostIp),
    ("status.hostIPs", Field::HostIps),
    ("status.podIP", Field::PodIp),
    ("status.podIPs", Field::PodIps),
];

impl FieldRef {
    /// The field; `None` when there is none of this path.
    #[must_use]
    pub fn field(&self) -> Option<Field> {
        let path = self.field_path.as_str();
        let key = |prefix: &str| {
            let key = path.strip_prefix(prefix)?.strip_prefix("['")?.strip_suffix("']")?;
            (!key.is_empty() && !key.contains('\'')).then(|| key.to_owned())
        };
        let plain = PATHS.iter().find(|(known, _)| *known == path).map(|(_, field)| field.clone());
        plain
            .or_else(|| key("metadata.labels").map(Field::Label))
            .or_else(|| key("metadata.annotations").map(Field::Annotation))
    }
}

impl Field {
    /// Whether a variable can hold it.
    #[must_use]
    pub fn is_for_variables(&self) -> bool {
        !matches!(self, Self::Labels | Self::Annotations)
    }

    /// Whether a file of a volume can hold it: what does not change while the pod is set up.
    #[must_use]
    pub fn is_for_volumes(&self) -> bool {
        use Field::{Annotation, Annotations, Label, Labels, Name, Namespace, Uid};
        matches!(self, Name | Namespace | Uid | Labels | Annotations | Label(_) | Annotation(_))
    }

    /// The paths there are, for people.
    pub(crate) fn paths() -> impl Iterator<Item = &'static str> {
        PATHS.iter().map(|(path, _)| *path)
    }
}
