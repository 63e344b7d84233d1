//! `manifest.json`: what was built, from what, and how large each part is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::digest;
use crate::tools::Locked;

/// File name of the manifest in an image's directory.
pub const FILE: &str = "manifest.json";

/// One deliverable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// SHA-256 in hex.
    pub sha256: String,
    /// Length in bytes.
    pub size: u64,
}

/// One part of the compressed image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartSize {
    /// What it is.
    pub part: String,
    /// Bytes as files.
    pub plain: u64,
    /// Bytes in the compressed disk image, measured by compressing the part alone the same way; parts do not add up
    /// exactly to the whole.
    pub compressed: u64,
}

/// The manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Digest of everything the image was made from: equal inputs, equal bytes.
    pub inputs: String,
    /// Recipe, or name of the variant.
    pub profile: String,
    /// Version of Ingot.
    pub version: String,
    /// Commit the programs were compiled from, with `+changes` for a tree with changes; `unknown` without git.
    pub revision: String,
    /// Kernel release.
    pub kernel: String,
    /// Kernel command line.
    pub command_line: String,
    /// Root hash of the verity tree.
    pub root_hash: String,
    /// Deliverables by file name.
    pub outputs: BTreeMap<String, Output>,
    /// What the compressed disk image is made of.
    pub made_of: Vec<PartSize>,
    /// Sizes in bytes of our own programs.
    pub programs: BTreeMap<String, u64>,
    /// Debian packages whose files are in the image.
    pub packages: Vec<Locked>,
    /// Versions of the tools that ran, one package a line.
    pub tools: Vec<String>,
}

impl Manifest {
    /// Reads the manifest of an image's directory; `None` when there is no usable one.
    #[must_use]
    pub fn read(directory: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(directory.join(FILE)).ok()?).ok()
    }

    /// True when every deliverable is there with the right length.
    #[must_use]
    pub fn outputs_are_there(&self, directory: &Path) -> bool {
        let there = |(name, output): (&String, &Output)| {
            std::fs::metadata(directory.join(name))
                .is_ok_and(|metadata| metadata.len() == output.size)
        };
        !self.outputs.is_empty() && self.outputs.iter().all(there)
    }

    /// Measures the deliverables `names` of `directory`.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn measure(directory: &Path, names: &[&str]) -> std::io::Result<BTreeMap<String, Output>> {
        let one = |name: &&str| -> std::io::Result<(String, Output)> {
            let (sha256, size) = digest::of_file(&PathBuf::from(directory).join(name))?;
            Ok(((*name).to_owned(), Output { sha256, size }))
        };
        names.iter().map(one).collect()
    }
}
