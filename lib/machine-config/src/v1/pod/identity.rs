//! What identifies a pod: its uid, and a hash of everything in it that a running pod cannot take over without a restart.

use super::Pod;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;

/// The annotation that sets a pod's pids limit; Kubernetes has no field for it in a pod.
pub const PIDS_LIMIT_ANNOTATION: &str = "ingot.dev/pids-limit";

impl Pod {
    /// Identity of the pod: `metadata.uid`, or else a UUID derived from namespace and name, the same for ever.
    ///
    /// Holds only lower-case letters, digits and dashes, so it may be a file name or a cgroup name.
    #[must_use]
    pub fn uid(&self) -> String {
        if let Some(uid) = &self.metadata.uid {
            return uid.clone();
        }
        let digest = Sha256::digest(format!("{}/{}", self.metadata.namespace, self.metadata.name));
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        // RFC 9562: version 8 (our own derivation), variant 10.
        bytes[6] = (bytes[6] & 0x0f) | 0x80;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        let mut uid = hex(&bytes);
        for at in [20, 16, 12, 8] {
            uid.insert(at, '-');
        }
        uid
    }

    /// Name with namespace, for people: `default/web`.
    #[must_use]
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.metadata.namespace, self.metadata.name)
    }

    /// Hash of what the pod runs, in hexadecimal: a pod whose hash changed has to be replaced.
    ///
    /// Labels and annotations are left out, but for the pids limit: they can change while the pod runs.
    #[must_use]
    pub fn spec_hash(&self) -> String {
        let spec = serde_json::to_string(&self.spec).unwrap_or_default();
        let limit = self.metadata.annotations.get(PIDS_LIMIT_ANNOTATION);
        let identity = format!("{}\n{spec}\n{}", self.uid(), limit.map_or("", String::as_str));
        hex(&Sha256::digest(identity))
    }

    /// Most processes and threads the pod may have, where `default` is the machine's `pods.pidsLimit`.
    #[must_use]
    pub fn pids_limit(&self, default: u32) -> u32 {
        let annotation = self.metadata.annotations.get(PIDS_LIMIT_ANNOTATION);
        annotation.and_then(|text| text.parse().ok()).unwrap_or(default)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
