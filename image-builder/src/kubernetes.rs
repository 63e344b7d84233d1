//! Upstream's Kubernetes in an image: one program under many names, in one bundled container image that is used in place. Compiling
//! it is not done here: `cargo xtask kubernetes` leaves the program and what is known about it in one folder.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::recipe::Kubernetes;
use crate::root::{self, MADE, RootError};
use crate::tools::Package;
use crate::tree::{Content, Tree};

/// File name of the program.
pub const PROGRAM: &str = "kube";
/// File name of what is known about it.
pub const ABOUT: &str = "kube.json";

/// What is known about the program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Digest of all that it was compiled from.
    pub inputs: String,
    /// Version of Kubernetes, e.g. `v1.36.3`.
    pub version: String,
    /// The Go that compiled it, e.g. `go1.26.8`.
    pub go: String,
    /// SHA-256 of the program.
    pub sha256: String,
    /// The programs that it can be.
    pub programs: Vec<String>,
    /// The Go modules that are in it.
    pub modules: Vec<Module>,
}

/// A Go module that is compiled into the program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Module {
    /// Path.
    pub path: String,
    /// Version.
    pub version: String,
    /// What `go.sum` says of its content, e.g. `h1:...`.
    pub sum: String,
}

/// The compiled program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Built {
    /// The file.
    pub program: PathBuf,
    /// What is known about it.
    pub about: About,
}

impl Built {
    /// Reads what `cargo xtask kubernetes` left in `directory`.
    ///
    /// # Errors
    /// A file that is absent, or cannot be read.
    pub fn read(directory: &Path) -> std::io::Result<Self> {
        let program = directory.join(PROGRAM);
        fs_err::metadata(&program)?;
        let text = fs_err::read(directory.join(ABOUT))?;
        Ok(Self { program, about: serde_json::from_slice(&text)? })
    }
}

/// Adds the container image of `built` to the root.
pub(crate) fn add(
    tree: &mut Tree,
    recipe: &Kubernetes,
    built: &Built,
    packages: &[Package],
) -> Result<(), RootError> {
    let directory =
        format!("/usr/share/ingot/images/{}/{}", recipe.repository, built.about.version);
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "Entrypoint": [format!("/usr/bin/{PROGRAM}")],
            "Env": ["PATH=/usr/local/bin:/usr/sbin:/usr/bin"],
            "WorkingDir": "/",
        },
        "rootfs": { "type": "layers", "diff_ids": [] },
    });
    let text = Content::Bytes(format!("{config:#}\n").into_bytes());
    tree.file(&format!("{directory}/config.json"), 0o644, text, MADE)?;
    let inside = format!("{directory}/rootfs");
    for path in &recipe.directories {
        tree.directory(&format!("{inside}{path}"), 0o755)?;
    }
    // As in a root of Debian, whose programs are in here.
    for (path, target) in
        [("bin", "usr/bin"), ("lib", "usr/lib"), ("lib64", "usr/lib64"), ("sbin", "usr/sbin")]
    {
        tree.symlink(&format!("{inside}/{path}"), target)?;
    }
    for (path, text) in root::FILES {
        let content = Content::Bytes(text.as_bytes().to_vec());
        tree.file(&format!("{inside}{path}"), 0o644, content, MADE)?;
    }
    root::add_certificates(tree, &inside, packages)?;
    let program = Content::Path(built.program.clone());
    tree.file(&format!("{inside}/usr/bin/{PROGRAM}"), 0o755, program, PROGRAM)?;
    for name in &built.about.programs {
        tree.symlink(&format!("{inside}/usr/local/bin/{name}"), "../../bin/kube")?;
    }
    for program in &recipe.programs {
        root::add_program(tree, &inside, program, packages)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built() -> Built {
        let about = About {
            inputs: "aa".to_owned(),
            version: "v1.36.3".to_owned(),
            go: "go1.26.8".to_owned(),
            sha256: "bb".to_owned(),
            programs: vec!["etcd".to_owned(), "kubelet".to_owned()],
            modules: Vec::new(),
        };
        Built { program: PathBuf::from("/build/kube"), about }
    }

    #[test]
    fn the_program_is_in_the_image_once_whatever_the_number_of_its_names() {
        let recipe = Kubernetes {
            repository: "ingot.local/kube".to_owned(),
            directories: vec!["/var/lib/kubelet".to_owned()],
            programs: Vec::new(),
            manifests: PathBuf::new(),
        };
        let mut tree = Tree::default();
        add(&mut tree, &recipe, &built(), &[]).expect("added");
        let text = tree.text();
        let image = "/usr/share/ingot/images/ingot.local/kube/v1.36.3";
        assert_eq!(text.matches(&format!("f 0755 {image}")).count(), 1, "{text}");
        for name in ["etcd", "kubelet"] {
            let link =
                format!("l 0777 {image}/rootfs/usr/local/bin/{name} -> ../../bin/{PROGRAM}\n");
            assert!(text.contains(&link), "{text}");
        }
        assert!(tree.contains(&format!("{image}/config.json")));
        assert!(tree.contains(&format!("{image}/rootfs/var/lib/kubelet")));
    }

    #[test]
    fn what_was_compiled_is_read_back_and_its_absence_is_an_error() {
        let directory = tempfile::tempdir().expect("directory");
        assert!(Built::read(directory.path()).is_err());
        let mut expected = built();
        expected.program = directory.path().join(PROGRAM);
        fs_err::write(&expected.program, b"x").expect("program");
        let text = serde_json::to_vec(&expected.about).expect("JSON");
        fs_err::write(directory.path().join(ABOUT), text).expect("about");
        assert_eq!(Built::read(directory.path()).expect("read"), expected);
    }
}
