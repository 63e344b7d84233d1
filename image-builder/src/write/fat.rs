//! The EFI system partition: a FAT32 file system with fixed times, written into a window of a disk image.

use std::io::{Read, Seek, SeekFrom, Write};

use fatfs::{Date, DateTime, FileSystem, FormatVolumeOptions, FsOptions, Time, TimeProvider};

/// The one moment every file carries: FAT's earliest.
#[derive(Debug)]
struct FixedTime;

static FIXED_TIME: FixedTime = FixedTime;

impl TimeProvider for FixedTime {
    fn get_current_date(&self) -> Date {
        Date { year: 1980, month: 1, day: 1 }
    }

    fn get_current_date_time(&self) -> DateTime {
        let time = Time { hour: 0, min: 0, sec: 0, millis: 0 };
        DateTime { date: self.get_current_date(), time }
    }
}

/// A part of a file that looks like a whole device.
#[derive(Debug)]
pub struct Window<F> {
    file: F,
    start: u64,
    length: u64,
    at: u64,
}

impl<F: Seek> Window<F> {
    /// The bytes `start..start + length` of `file`.
    pub fn new(file: F, start: u64, length: u64) -> Self {
        Self { file, start, length, at: 0 }
    }

    fn limit(&self, wanted: usize) -> usize {
        usize::try_from(self.length.saturating_sub(self.at)).unwrap_or(usize::MAX).min(wanted)
    }
}

impl<F: Read + Seek> Read for Window<F> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let take = self.limit(buffer.len());
        self.file.seek(SeekFrom::Start(self.start + self.at))?;
        let read = self.file.read(&mut buffer[..take])?;
        self.at += read as u64;
        Ok(read)
    }
}

impl<F: Write + Seek> Write for Window<F> {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        let take = self.limit(buffer.len());
        self.file.seek(SeekFrom::Start(self.start + self.at))?;
        let written = self.file.write(&buffer[..take])?;
        self.at += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

impl<F: Seek> Seek for Window<F> {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(delta) => self.length.checked_add_signed(delta),
            SeekFrom::Current(delta) => self.at.checked_add_signed(delta),
        };
        self.at =
            at.ok_or_else(|| std::io::Error::other("seek before the start of a partition"))?;
        Ok(self.at)
    }
}

/// Formats `device` as FAT32 and writes `files` (path with `/`, content), in the given order. `serial` is the volume's
/// serial number. Every time stamp is the first of January 1980, the earliest FAT knows.
///
/// # Errors
/// Errors of the device; a full file system.
pub fn format(
    mut device: impl Read + Write + Seek,
    serial: u32,
    files: &[(&str, &[u8])],
) -> std::io::Result<()> {
    let options = FormatVolumeOptions::new()
        .fat_type(fatfs::FatType::Fat32)
        .bytes_per_cluster(4096)
        .volume_id(serial)
        .volume_label(*b"INGOT ESP  ");
    fatfs::format_volume(&mut device, options)?;
    for (path, content) in files {
        put(&mut device, path, content)?;
    }
    device.flush()
}

/// Writes one file into an existing file system, with its directories; an existing file is replaced.
///
/// # Errors
/// Errors of the device; not a FAT file system; a full one.
pub fn put(
    mut device: impl Read + Write + Seek,
    path: &str,
    content: &[u8],
) -> std::io::Result<()> {
    device.seek(SeekFrom::Start(0))?;
    let filesystem = FileSystem::new(device, FsOptions::new().time_provider(&FIXED_TIME))?;
    {
        let mut directory = filesystem.root_dir();
        let (parents, name) = path.rsplit_once('/').unwrap_or(("", path));
        for part in parents.split('/').filter(|part| !part.is_empty()) {
            directory = directory.create_dir(part)?;
        }
        let mut file = directory.create_file(name)?;
        file.truncate()?;
        file.write_all(content)?;
        file.flush()?;
    }
    filesystem.unmount()
}

/// Reads one file.
///
/// # Errors
/// Errors of the device; no such file.
pub fn get(mut device: impl Read + Write + Seek, path: &str) -> std::io::Result<Vec<u8>> {
    device.seek(SeekFrom::Start(0))?;
    let filesystem = FileSystem::new(device, FsOptions::new().time_provider(&FIXED_TIME))?;
    let mut content = Vec::new();
    filesystem.root_dir().open_file(path)?.read_to_end(&mut content)?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 64 << 20;

    fn device() -> std::fs::File {
        let file = tempfile::tempfile().expect("file");
        file.set_len(SIZE + (2 << 20)).expect("length");
        file
    }

    fn window(file: &std::fs::File) -> Window<&std::fs::File> {
        Window::new(file, 1 << 20, SIZE)
    }

    #[test]
    fn a_file_reads_back_with_its_long_name() {
        let file = device();
        format(window(&file), 1, &[("EFI/Linux/ingot-a.efi", b"uki")]).expect("format");
        assert_eq!(get(window(&file), "EFI/Linux/ingot-a.efi").expect("file"), b"uki");
    }

    #[test]
    fn a_file_can_be_added_and_replaced_later() {
        let file = device();
        format(window(&file), 1, &[("loader/loader.conf", b"timeout 0\n")]).expect("format");
        put(window(&file), "ingot/config.yaml", b"a much longer first text").expect("add");
        put(window(&file), "ingot/config.yaml", b"short").expect("replace");
        assert_eq!(get(window(&file), "ingot/config.yaml").expect("file"), b"short");
        assert_eq!(get(window(&file), "loader/loader.conf").expect("file"), b"timeout 0\n");
    }

    #[test]
    fn nothing_outside_the_window_is_written_and_two_runs_are_equal() {
        let bytes = || {
            let mut file = device();
            format(window(&file), 7, &[("a/b/c.txt", b"content")]).expect("format");
            let mut all = Vec::new();
            file.seek(SeekFrom::Start(0)).expect("seek");
            file.read_to_end(&mut all).expect("read");
            all
        };
        let one = bytes();
        assert!(one[..1 << 20].iter().all(|byte| *byte == 0));
        assert!(one[(1 << 20) + (64 << 20)..].iter().all(|byte| *byte == 0));
        assert!(one == bytes());
    }
}
