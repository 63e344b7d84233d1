//! What the compressed image is made of: each part is compressed alone, the way the whole is.

use std::path::Path;

use crate::build::{BuildError, make_erofs};
use crate::formats::qcow2;
use crate::kubernetes;
use crate::manifest::PartSize;
use crate::recipe::Recipe;
use crate::root::{MADE, OWN};
use crate::tools::Tools;
use crate::tree::{Node, Tree};

/// The part of the root a file belongs to.
fn part_of(path: &str, origin: &str) -> &'static str {
    if origin == kubernetes::PROGRAM {
        "Kubernetes"
    } else if path.starts_with("usr/share/ingot/images/") {
        "container images"
    } else if path.starts_with("usr/lib/modules/") {
        "kernel modules"
    } else if origin == OWN {
        "our programs"
    } else if origin == "ca-certificates" {
        "certificates"
    } else if origin == MADE {
        "release and bill of materials"
    } else {
        "programs from Debian"
    }
}

/// Measures every part. `work` holds the deliverables and is used for scratch files.
pub(crate) fn measure(
    tools: &Tools,
    work: &Path,
    tree: &Tree,
    recipe: &Recipe,
) -> Result<Vec<PartSize>, BuildError> {
    let error = |source| BuildError::Write { what: "the size table", source };
    let mut sizes = Vec::new();
    for (name, part) in [("vmlinuz", "kernel"), ("initrd.img", "initrd")] {
        let file = work.join(name);
        let plain = fs_err::metadata(&file).map_err(error)?.len();
        let compressed = compressed(tools, &file, work).map_err(error)?;
        sizes.push(PartSize { part: part.to_owned(), plain, compressed });
    }
    let mut parts: Vec<&str> = tree
        .iter()
        .filter_map(|(path, node)| match node {
            Node::File { origin, .. } => Some(part_of(path, origin)),
            Node::Directory { .. } | Node::Symlink { .. } => None,
        })
        .collect();
    parts.sort_unstable();
    parts.dedup();
    for part in parts {
        let subtree = tree.part(|path, origin| part_of(path, origin) == part);
        let image = work.join("part.img");
        make_erofs(tools, &subtree, recipe, &[0; 16], &image)?;
        let plain = subtree.listing()?.iter().map(|file| file.size).sum();
        let compressed = compressed(tools, &image, work).map_err(error)?;
        fs_err::remove_file(&image).map_err(error)?;
        sizes.push(PartSize { part: part.to_owned(), plain, compressed });
    }
    Ok(sizes)
}

fn compressed(tools: &Tools, file: &Path, work: &Path) -> std::io::Result<u64> {
    let qcow2 = work.join("part.qcow2");
    let command = tools.qemu_img().map_err(std::io::Error::other)?;
    qcow2::convert(command, file, &qcow2)?;
    let size = fs_err::metadata(&qcow2)?.len();
    fs_err::remove_file(&qcow2)?;
    // Tables every image has, whatever is in it: four clusters of 64 KiB.
    Ok(size.saturating_sub(4 * (64 << 10)))
}
