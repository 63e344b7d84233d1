//! Which modules of the initrd to load: all that are always needed, and of the drivers only those whose hardware is here.
//!
//! `/modules.list` has one line for each module, in an order in which they can be loaded:
//! `<path> always`, or `<path> if-alias <pattern>...`, where a pattern is a module alias with `*` and `?` and matches a
//! `modalias` of any device in /sys. A path that does not open with `/` is in `/modules/`. Lines that open with `#` are
//! comments.

use std::path::{Path, PathBuf};

use ingot_linux::kmsg::{KmsgWriter, Level};
use ingot_linux::module;

use super::InitrdError;

/// Loads what the list says. A module that fails is logged and skipped: whether the machine can go on without it shows
/// when its root is found or not.
///
/// Modules for hardware only until `done` says that nothing more is needed: a controller that does not hold the root can
/// take longer to look at its empty ports than the rest of the boot. The agent loads what is left out here.
///
/// # Errors
/// When the list cannot be read.
pub fn load_all(
    list: &Path,
    log: &KmsgWriter,
    mut done: impl FnMut() -> bool,
) -> Result<(), InitrdError> {
    let text = std::fs::read_to_string(list)
        .map_err(|source| InitrdError::Read { path: list.into(), source })?;
    // Loading a bus driver makes new devices appear, so the aliases are read again after each module that was loaded.
    let mut aliases = None;
    let mut enough = false;
    for (path, patterns) in text.lines().filter_map(parse_line) {
        if let Some(patterns) = patterns {
            enough = enough || done();
            if enough {
                continue;
            }
            let present = aliases.get_or_insert_with(|| device_aliases(Path::new("/sys/bus")));
            if !patterns
                .split_ascii_whitespace()
                .any(|pattern| present.iter().any(|alias| matches(pattern, alias)))
            {
                continue;
            }
            aliases = None;
        }
        match module::load(&path, c"") {
            Err(error) if !error.is_no_hardware() => {
                let cause =
                    std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                log.line(Level::Warning, format_args!("{error}: {cause}, going on without it"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The file, and the patterns when it is wanted only for some hardware.
fn parse_line(line: &str) -> Option<(PathBuf, Option<&str>)> {
    let (path, condition) = line.trim().split_once(' ').unwrap_or((line.trim(), "always"));
    if path.is_empty() || path.starts_with('#') {
        return None;
    }
    // Joining an absolute path replaces the folder.
    let path = Path::new("/modules").join(path);
    let condition = condition.trim();
    Some((path, condition.strip_prefix("if-alias").map(str::trim)))
}

/// The `modalias` of every device on every bus.
fn device_aliases(buses: &Path) -> Vec<String> {
    let entries = |folder: &Path| {
        std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
    };
    entries(buses)
        .flat_map(|bus| entries(&bus.join("devices")))
        .filter_map(|device| std::fs::read_to_string(device.join("modalias")).ok())
        .map(|alias| alias.trim_end().to_owned())
        .collect()
}

/// Whether the alias matches the pattern, where `*` is any text and `?` any character. Linear in practice: on a mismatch
/// only the last star is tried again.
fn matches(pattern: &str, alias: &str) -> bool {
    let (mut pattern, mut alias) = (pattern.as_bytes(), alias.as_bytes());
    let mut star: Option<(&[u8], &[u8])> = None;
    loop {
        match (pattern.split_first(), alias.split_first()) {
            (Some((b'*', rest)), _) => {
                star = Some((rest, alias));
                pattern = rest;
            }
            (Some((wanted, rest)), Some((found, left))) if *wanted == b'?' || wanted == found => {
                (pattern, alias) = (rest, left);
            }
            (None, None) => return true,
            _ => {
                let Some((after, [_, left @ ..])) = star else { return false };
                star = Some((after, left));
                (pattern, alias) = (after, left);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_module_aliases_do() {
        assert!(matches("virtio:d00000002v*", "virtio:d00000002v00001AF4"));
        assert!(!matches("virtio:d00000002v*", "virtio:d00000001v00001AF4"));
        assert!(matches(
            "pci:v*d*sv*sd*bc01sc06i01*",
            "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01"
        ));
        assert!(matches("*", "") && matches("a?c", "abc") && matches("*b*b", "abab"));
        assert!(!matches("a", "ab") && !matches("ab", "a") && !matches("?", ""));
    }

    #[test]
    fn lines_say_file_and_condition() {
        assert_eq!(parse_line("dm-mod.ko always"), Some(("/modules/dm-mod.ko".into(), None)));
        assert_eq!(parse_line("/modules/dm-mod.ko"), Some(("/modules/dm-mod.ko".into(), None)));
        assert_eq!(
            parse_line("virtio_blk.ko if-alias virtio:d00000002v* x"),
            Some(("/modules/virtio_blk.ko".into(), Some("virtio:d00000002v* x")))
        );
        assert_eq!(parse_line("# comment"), None);
        assert_eq!(parse_line(""), None);
    }

    #[test]
    fn aliases_of_all_buses_are_found() {
        let buses = tempfile::tempdir().expect("folder");
        let device = buses.path().join("pci/devices/0000:00:01.0");
        std::fs::create_dir_all(&device).expect("device");
        std::fs::write(device.join("modalias"), "pci:v1\n").expect("modalias");
        std::fs::create_dir_all(buses.path().join("empty")).expect("bus without devices");
        assert_eq!(device_aliases(buses.path()), ["pci:v1"]);
    }
}
