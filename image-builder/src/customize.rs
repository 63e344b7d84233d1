//! Puts a machine config into a finished image, in seconds and without building anything.
//!
//! The root is verified and cannot change, so the config goes onto the EFI system partition, where the agent looks for
//! it when the node has none of its own yet. It is not encrypted there: whoever holds the image file can read it.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::path::{Path, PathBuf};

use ingot_machine_config::layout;

use crate::formats::raw::copy_sparse;
use crate::write::{fat, gpt};

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CustomizeError {
    /// The config could not be read.
    #[error("cannot read the config {path}")]
    Config {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The config has mistakes; a node would refuse it.
    #[error("the config {path} has mistakes:\n  {}", problems.join("\n  "))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Every mistake, with its line.
        problems: Vec<String>,
    },
    /// The image could not be read, or has no EFI system partition.
    #[error("{path} is not a raw disk image of Ingot")]
    Image {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The image is of another format.
    #[error("{path} is a qcow2 image; convert it first: qemu-img convert -O raw {path} disk.raw")]
    Qcow2 {
        /// The file.
        path: PathBuf,
    },
    /// The result could not be written.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The result would replace the image it is made from.
    #[error("{path} is the image itself; name another file for the result")]
    Same {
        /// The file.
        path: PathBuf,
    },
}

/// Copies the raw disk image `image` to `output` and puts the machine config `config` into it. The config is checked as
/// the node would check it. `output` appears as a whole or not at all.
///
/// # Errors
/// [`CustomizeError`].
pub fn customize(image: &Path, config: &Path, output: &Path) -> Result<(), CustomizeError> {
    let text = checked(config)?;
    if fs_err::canonicalize(image).ok() == fs_err::canonicalize(output).ok() && output.exists() {
        return Err(CustomizeError::Same { path: output.to_owned() });
    }
    let mut partial = output.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let result = copy(image, &partial).and_then(|()| put(image, &partial, text.as_bytes()));
    let write = |source| CustomizeError::Write { path: output.to_owned(), source };
    match result {
        Ok(()) => fs_err::rename(&partial, output).map_err(write),
        Err(error) => {
            // The error that matters is the first one; a file that was never made cannot be removed.
            let _ignored = std::fs::remove_file(&partial);
            Err(error)
        }
    }
}

fn checked(config: &Path) -> Result<String, CustomizeError> {
    let text = std::fs::read_to_string(config)
        .map_err(|source| CustomizeError::Config { path: config.to_owned(), source })?;
    let loaded = ingot_machine_config::load(&text);
    if loaded.problems.is_empty() {
        return Ok(text);
    }
    let problems = loaded.problems.iter().map(ToString::to_string).collect();
    Err(CustomizeError::Invalid { path: config.to_owned(), problems })
}

fn copy(image: &Path, to: &Path) -> Result<(), CustomizeError> {
    let unreadable = |source| CustomizeError::Image { path: image.to_owned(), source };
    let write = |source| CustomizeError::Write { path: to.to_owned(), source };
    let mut from = File::open(image).map_err(unreadable)?;
    let mut magic = [0; 4];
    from.read_exact(&mut magic).map_err(unreadable)?;
    if &magic == b"QFI\xfb" {
        return Err(CustomizeError::Qcow2 { path: image.to_owned() });
    }
    from.rewind().map_err(unreadable)?;
    let mut out = File::create(to).map_err(write)?;
    out.set_len(from.metadata().map_err(unreadable)?.len()).map_err(write)?;
    copy_sparse(&mut from, &mut out, 0).map_err(write)
}

fn put(image: &Path, disk: &Path, text: &[u8]) -> Result<(), CustomizeError> {
    let mut file = File::options()
        .read(true)
        .write(true)
        .open(disk)
        .map_err(|source| CustomizeError::Write { path: disk.to_owned(), source })?;
    let not_ours = |source| CustomizeError::Image { path: image.to_owned(), source };
    let (offset, size) = gpt::find(&mut file, layout::ESP.name).map_err(not_ours)?;
    fat::put(fat::Window::new(&file, offset, size), layout::ESP_CONFIG, text).map_err(not_ours)?;
    file.sync_all().map_err(|source| CustomizeError::Write { path: disk.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::raw::{Disk, write};

    fn stock(dir: &Path) -> PathBuf {
        let root = dir.join("root.img");
        std::fs::write(&root, b"root").expect("root");
        let path = dir.join("disk.raw");
        let esp: [(&str, &[u8]); 1] = [("loader/loader.conf", b"timeout 0\n")];
        write(&Disk { seed: "test", esp: &esp, root: &root }, &path).expect("disk");
        path
    }

    fn minimal() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/machine/minimal.yaml")
    }

    fn esp_file(disk: &Path, path: &str) -> Vec<u8> {
        let mut file = File::options().read(true).write(true).open(disk).expect("disk");
        let (offset, size) = gpt::find(&mut file, "ESP").expect("partition");
        fat::get(fat::Window::new(&file, offset, size), path).expect("file")
    }

    #[test]
    fn a_config_is_in_the_copy_and_the_image_is_as_it_was() {
        let dir = tempfile::tempdir().expect("directory");
        let (image, output) = (stock(dir.path()), dir.path().join("out.raw"));
        let before = crate::digest::of_file(&image).expect("digest");
        customize(&image, &minimal(), &output).expect("customised");
        assert_eq!(
            esp_file(&output, layout::ESP_CONFIG),
            std::fs::read(minimal()).expect("config")
        );
        assert_eq!(esp_file(&output, "loader/loader.conf"), b"timeout 0\n");
        assert_eq!(crate::digest::of_file(&image).expect("digest"), before);
    }

    #[test]
    fn a_wrong_config_is_refused_with_every_mistake_and_nothing_is_written() {
        let dir = tempfile::tempdir().expect("directory");
        let (config, output) = (dir.path().join("node.yaml"), dir.path().join("out.raw"));
        std::fs::write(&config, "kind: Machine\nnonsense: 1\nmore: 2\n").expect("config");
        let error = customize(&stock(dir.path()), &config, &output).expect_err("refused");
        assert!(
            matches!(&error, CustomizeError::Invalid { problems, .. } if problems.len() >= 2),
            "{error}"
        );
        assert!(!output.exists());
    }

    #[test]
    fn something_that_is_no_image_is_refused_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().expect("directory");
        let (image, output) = (dir.path().join("disk.raw"), dir.path().join("out.raw"));
        std::fs::write(&image, vec![7; 4 << 20]).expect("file");
        assert!(matches!(
            customize(&image, &minimal(), &output),
            Err(CustomizeError::Image { .. })
        ));
        assert_eq!(std::fs::read_dir(dir.path()).expect("directory").count(), 1);
        std::fs::write(&image, b"QFI\xfb and so on").expect("file");
        assert!(matches!(
            customize(&image, &minimal(), &output),
            Err(CustomizeError::Qcow2 { .. })
        ));
        assert!(matches!(customize(&image, &minimal(), &image), Err(CustomizeError::Same { .. })));
    }
}
