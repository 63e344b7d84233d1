//! The kernel command line: what of it concerns the initrd, parsed strictly. Every other parameter is somebody else's.

use std::path::{Path, PathBuf};

use ingot_linux::dm_verity::OnCorruption;

use super::InitrdError;

/// Bytes of a SHA-256.
pub const HASH_LENGTH: usize = 32;

/// Longest salt in bytes that dm-verity takes.
const SALT_LENGTH_MAX: usize = 256;

/// What the command line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandLine {
    /// Root hash of the hash tree.
    pub root_hash: [u8; HASH_LENGTH],
    /// Data blocks of the root.
    pub data_blocks: u64,
    /// Salt of the hash tree.
    pub salt: Vec<u8>,
    /// What happens on a corrupted block.
    pub on_corruption: OnCorruption,
    /// Name of the partition to try first.
    pub first_choice: &'static str,
    /// The program to hand over to.
    pub init: PathBuf,
    /// Say more.
    pub debug: bool,
}

/// What is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandLineError {
    /// No `ingot.root`.
    #[error("ingot.root is missing")]
    NoRoot,
    /// `ingot.root` is not what it should be.
    #[error("ingot.root is not sha256:<64 hex digits>,<data blocks>,<salt in hex>")]
    Root,
    /// Not a known choice.
    #[error("ingot.verity={0} is not panic, restart or eio")]
    Verity(String),
    /// Not a known slot.
    #[error("ingot.slot={0} is not a or b")]
    Slot(String),
}

/// Reads and parses the command line.
///
/// # Errors
/// When the file cannot be read or says nothing usable.
pub fn read(path: &Path) -> Result<CommandLine, InitrdError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| InitrdError::Read { path: path.into(), source })?;
    parse(&text).map_err(InitrdError::CommandLine)
}

/// Parses the command line. As in the kernel, the last of several counts.
///
/// # Errors
/// [`CommandLineError`] for the first thing wrong.
pub fn parse(text: &str) -> Result<CommandLine, CommandLineError> {
    let value = |name: &str| {
        text.split_ascii_whitespace()
            .rev()
            .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    };
    let root = value("ingot.root").ok_or(CommandLineError::NoRoot)?;
    let (root_hash, data_blocks, salt) = parse_root(root).ok_or(CommandLineError::Root)?;
    Ok(CommandLine {
        root_hash,
        data_blocks,
        salt,
        on_corruption: match value("ingot.verity") {
            Some("panic") | None => OnCorruption::Panic,
            Some("restart") => OnCorruption::Restart,
            Some("eio") => OnCorruption::Eio,
            Some(other) => return Err(CommandLineError::Verity(other.into())),
        },
        first_choice: match value("ingot.slot") {
            Some("a") | None => "ROOT-A",
            Some("b") => "ROOT-B",
            Some(other) => return Err(CommandLineError::Slot(other.into())),
        },
        init: value("init").unwrap_or("/usr/sbin/ingot-init").into(),
        debug: text.split_ascii_whitespace().any(|word| word == "ingot.debug"),
    })
}

fn parse_root(text: &str) -> Option<([u8; HASH_LENGTH], u64, Vec<u8>)> {
    let mut parts = text.strip_prefix("sha256:")?.split(',');
    let root_hash = from_hex(parts.next()?)?.try_into().ok()?;
    let data_blocks = parts.next()?.parse().ok().filter(|blocks| *blocks > 0)?;
    let salt =
        from_hex(parts.next().unwrap_or_default()).filter(|salt| salt.len() <= SALT_LENGTH_MAX)?;
    parts.next().is_none().then_some((root_hash, data_blocks, salt))
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    text.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

/// Bytes as lower-case hex digits.
#[must_use]
pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF";

    #[test]
    fn everything_the_builder_writes_is_read() {
        let line = format!(
            "quiet ingot.root=sha256:{HASH},4711,a0b1 ingot.verity=restart ingot.slot=b init=/x ingot.debug console=ttyS0"
        );
        let parsed = parse(&line).expect("valid");
        assert_eq!(to_hex(&parsed.root_hash), HASH.to_lowercase());
        assert_eq!((parsed.data_blocks, parsed.salt), (4711, vec![0xa0, 0xb1]));
        assert_eq!((parsed.on_corruption, parsed.first_choice), (OnCorruption::Restart, "ROOT-B"));
        assert_eq!((parsed.init, parsed.debug), (PathBuf::from("/x"), true));
    }

    #[test]
    fn what_is_not_said_has_a_safe_default() {
        let parsed = parse(&format!("ingot.root=sha256:{HASH},1,")).expect("valid");
        assert_eq!(parsed.on_corruption, OnCorruption::Panic);
        assert_eq!(parsed.init, Path::new("/usr/sbin/ingot-init"));
        assert!(parsed.salt.is_empty() && !parsed.debug);
    }

    #[test]
    fn a_root_that_is_not_exact_is_refused() {
        for wrong in [
            "sha256:00,1,".to_owned(),
            format!("sha1:{HASH},1,"),
            format!("sha256:{HASH},0,"),
            format!("sha256:{HASH},x,"),
            format!("sha256:{HASH},1,abc"),
            format!("sha256:{HASH},1,zz"),
            format!("sha256:{HASH},1,ab,more"),
            format!("sha256:{HASH},1,{}", "00".repeat(257)),
        ] {
            assert_eq!(
                parse(&format!("ingot.root={wrong}")),
                Err(CommandLineError::Root),
                "{wrong}"
            );
        }
        assert_eq!(parse("quiet"), Err(CommandLineError::NoRoot));
    }

    #[test]
    fn unknown_choices_are_named() {
        let verity = parse(&format!("ingot.root=sha256:{HASH},1, ingot.verity=ignore"))
            .expect_err("unknown");
        assert_eq!(verity.to_string(), "ingot.verity=ignore is not panic, restart or eio");
        assert!(parse(&format!("ingot.root=sha256:{HASH},1, ingot.slot=c")).is_err());
    }
}
