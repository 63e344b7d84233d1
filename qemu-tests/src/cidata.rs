//! A `CIDATA` drive: a small FAT volume with the machine config as user data, as hypervisors attach it.

use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use fatfs::{FileSystem, FormatVolumeOptions, FsOptions};

/// A FAT volume of this size holds any config (at most 4 MiB).
const SIZE_BYTES: u64 = 8 << 20;

/// Writes a drive whose `user-data` is `config` to `path`.
pub fn write(path: &Path, config: &str) -> anyhow::Result<()> {
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
        .with_context(|| format!("create {}", path.display()))?;
    file.set_len(SIZE_BYTES).with_context(|| format!("grow {}", path.display()))?;
    let options = FormatVolumeOptions::new().volume_label(*b"CIDATA     ");
    fatfs::format_volume(&file, options).context("format the CIDATA drive")?;
    let volume = FileSystem::new(&file, FsOptions::new()).context("open the CIDATA drive")?;
    {
        let root = volume.root_dir();
        for (name, text) in [("meta-data", "instance-id: ingot-test\n"), ("user-data", config)] {
            let mut entry = root.create_file(name).with_context(|| format!("create {name}"))?;
            entry.write_all(text.as_bytes()).with_context(|| format!("write {name}"))?;
        }
    }
    volume.unmount().context("finish the CIDATA drive")
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    #[test]
    fn the_drive_carries_the_label_and_the_config() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("cidata.img");
        super::write(&path, "kind: Machine\n").expect("write the drive");
        let file =
            fs_err::OpenOptions::new().read(true).write(true).open(&path).expect("open the drive");
        let volume = fatfs::FileSystem::new(file, fatfs::FsOptions::new()).expect("read the drive");
        assert_eq!(volume.volume_label(), "CIDATA");
        let mut text = String::new();
        let mut entry = volume.root_dir().open_file("user-data").expect("user-data");
        entry.read_to_string(&mut text).expect("read user-data");
        assert_eq!(text, "kind: Machine\n");
    }
}
