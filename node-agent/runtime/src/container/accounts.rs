//! The account files of an image: read as a program in it would find them, and no further.
//!
//! Blocks.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use ingot_linux::beneath::{self, Kind};

use super::ContainerError;

/// Longest account file: tens of thousands of users (CVE-2025-4437, CVE-2026-47262).
const LENGTH_MAX: usize = 1 << 20;

/// The text of `etc/passwd` or `etc/group` of an image with these layers, the topmost first; empty when it has none, as an
/// image without account files has only the users it names by number.
pub(super) fn read(layers: &[PathBuf], file: &'static str) -> Result<String, ContainerError> {
    let failed = |source| ContainerError::Accounts { file, source };
    for layer in layers {
        let layer = beneath::folder(layer).map_err(failed)?;
        match beneath::resolve(&layer, Path::new(file)) {
            Ok(found) => match beneath::kind(&found).map_err(failed)? {
                Kind::Special { whiteout: true } => return Ok(String::new()),
                _ => {
                    let bytes = beneath::read(&layer, Path::new(file), LENGTH_MAX);
                    return Ok(String::from_utf8_lossy(&bytes.map_err(failed)?).into_owned());
                }
            },
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
            Err(e) => return Err(failed(e)),
        }
        // A folder that hides those below it hides their files, too.
        if let Ok(etc) = beneath::resolve(&layer, Path::new("etc"))
            && (beneath::kind(&etc).is_ok_and(|kind| kind != Kind::Folder)
                || beneath::attribute(&etc, "trusted.overlay.opaque") == b"y")
        {
            break;
        }
    }
    Ok(String::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers(names: &[&str]) -> (tempfile::TempDir, Vec<PathBuf>) {
        let folder = tempfile::tempdir().unwrap();
        let layers: Vec<PathBuf> = names.iter().map(|name| folder.path().join(name)).collect();
        for layer in &layers {
            std::fs::create_dir_all(layer.join("etc")).unwrap();
        }
        (folder, layers)
    }

    #[test]
    fn the_topmost_layer_that_has_the_file_counts() {
        let (_folder, layers) = layers(&["top", "middle", "bottom"]);
        assert_eq!(read(&layers, "etc/passwd").unwrap(), "");
        std::fs::write(layers[2].join("etc/passwd"), "bottom").unwrap();
        assert_eq!(read(&layers, "etc/passwd").unwrap(), "bottom");
        std::fs::write(layers[1].join("etc/passwd"), "middle").unwrap();
        assert_eq!(read(&layers, "etc/passwd").unwrap(), "middle");
    }

    #[test]
    fn cve_2024_5154_a_link_in_the_image_does_not_lead_to_files_of_the_node() {
        let (folder, layers) = layers(&["top"]);
        std::fs::write(folder.path().join("shadow"), "of the node").unwrap();
        std::os::unix::fs::symlink("../../shadow", layers[0].join("etc/passwd")).unwrap();
        assert_eq!(read(&layers, "etc/passwd").unwrap(), "");
    }

    #[test]
    fn cve_2025_4437_cve_2026_47262_an_account_file_without_end_is_refused() {
        let (_folder, layers) = layers(&["top"]);
        let file = std::fs::File::create(layers[0].join("etc/group")).unwrap();
        // Sparse: as cheap for the attacker as that.
        file.set_len(1 << 40).unwrap();
        assert!(matches!(read(&layers, "etc/group"), Err(ContainerError::Accounts { .. })));
    }
}
