//! The raw disk image: partition table, EFI system partition, first root slot. Sparse: holes cost nothing.
//!
//! The BIOS partition is empty: booting without UEFI comes with a later boot loader.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use ingot_machine_config::layout;

use crate::digest;
use crate::write::{fat, gpt};

/// What goes in.
#[derive(Clone, Copy, Debug)]
pub struct Disk<'a> {
    /// Names all identifiers of the disk.
    pub seed: &'a str,
    /// Files of the EFI system partition: path with `/`, content.
    pub esp: &'a [(&'a str, &'a [u8])],
    /// File with the root: EROFS and its verity tree.
    pub root: &'a Path,
}

/// Writes the image to `path`.
///
/// # Errors
/// Errors of files; a root larger than its partition.
pub fn write(disk: &Disk<'_>, path: &Path) -> std::io::Result<()> {
    let (placed, size) = gpt::place(layout::SHIPPED, disk.seed);
    let mut file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
    file.set_len(size)?;
    gpt::write(&mut file, &placed, &digest::guid(disk.seed, "disk"))?;
    for part in &placed {
        let name = part.partition.name;
        if name == layout::ESP.name {
            let [a, b, c, d, ..] = digest::guid(disk.seed, "esp serial");
            let window = fat::Window::new(&file, part.offset, part.size);
            fat::format(window, u32::from_le_bytes([a, b, c, d]), disk.esp)?;
        } else if name == layout::ROOT_A.name {
            let mut root = fs_err::File::open(disk.root)?;
            let length = root.metadata()?.len();
            if length > part.size {
                let needs = length >> 20;
                let text = format!(
                    "the root needs {needs} MiB and its partition has {} MiB",
                    part.size >> 20
                );
                return Err(std::io::Error::other(text));
            }
            copy_sparse(&mut root, &mut file, part.offset)?;
        }
    }
    file.sync_all()
}

/// Copies everything from `from` to `to` at `offset`, leaving out blocks of zeros. `to` must read as zeros there.
pub(crate) fn copy_sparse(
    from: &mut impl Read,
    to: &mut (impl Write + Seek),
    offset: u64,
) -> std::io::Result<()> {
    let zeros = vec![0_u8; 64 << 10];
    let mut block = zeros.clone();
    let mut at = offset;
    loop {
        let mut filled = 0;
        while filled < block.len() {
            let read = from.read(&mut block[filled..])?;
            if read == 0 {
                break;
            }
            filled += read;
        }
        if filled == 0 {
            return Ok(());
        }
        if block[..filled] != zeros[..filled] {
            to.seek(SeekFrom::Start(at))?;
            to.write_all(&block[..filled])?;
        }
        at += filled as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(dir: &Path, name: &str) -> std::path::PathBuf {
        let root = dir.join("root.img");
        std::fs::write(&root, [b"root".as_slice(), &[0; 200_000], b"end"].concat()).expect("root");
        let path = dir.join(name);
        let esp: [(&str, &[u8]); 1] = [("loader/loader.conf", b"timeout 0\n")];
        write(&Disk { seed: "test", esp: &esp, root: &root }, &path).expect("disk");
        path
    }

    #[test]
    fn the_root_lies_in_its_partition_and_the_esp_holds_its_files() {
        let dir = tempfile::tempdir().expect("directory");
        let mut disk =
            File::options().read(true).write(true).open(sample(dir.path(), "a")).expect("disk");
        let (offset, _) = gpt::find(&mut disk, "ROOT-A").expect("partition");
        let mut start = [0; 4];
        disk.seek(SeekFrom::Start(offset)).expect("seek");
        disk.read_exact(&mut start).expect("read");
        assert_eq!(&start, b"root");
        disk.seek(SeekFrom::Start(offset + 200_004)).expect("seek");
        disk.read_exact(&mut start[..3]).expect("read");
        assert_eq!(&start[..3], b"end");
        let (offset, size) = gpt::find(&mut disk, "ESP").expect("partition");
        let conf =
            fat::get(fat::Window::new(&disk, offset, size), "loader/loader.conf").expect("file");
        assert_eq!(conf, b"timeout 0\n");
    }

    #[test]
    fn two_disks_from_the_same_parts_are_equal_and_sparse() {
        use std::os::unix::fs::MetadataExt as _;
        let dir = tempfile::tempdir().expect("directory");
        let (a, b) = (sample(dir.path(), "a"), sample(dir.path(), "b"));
        assert_eq!(digest::of_file(&a).expect("digest"), digest::of_file(&b).expect("digest"));
        let metadata = std::fs::metadata(&a).expect("metadata");
        assert!(metadata.blocks() * 512 < metadata.len() / 50, "{} blocks", metadata.blocks());
    }

    #[test]
    fn a_root_that_does_not_fit_is_refused() {
        let dir = tempfile::tempdir().expect("directory");
        let root = dir.path().join("root.img");
        File::create(&root).expect("file").set_len(2 << 30).expect("length");
        let disk = Disk { seed: "test", esp: &[], root: &root };
        assert!(write(&disk, &dir.path().join("a")).is_err());
    }
}
