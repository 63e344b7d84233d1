//! SHA-256 of files and values, in lower-case hex: the one way the builder names content.

use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

/// SHA-256 of `bytes` in hex.
#[must_use]
pub fn of_bytes(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// SHA-256 of a file's content in hex, and its length in bytes.
///
/// # Errors
/// Any error of opening or reading; it names the path.
pub fn of_file(path: &Path) -> std::io::Result<(String, u64)> {
    let mut file = fs_err::File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0_u8; 1 << 20];
    let mut length = 0_u64;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok((hex::encode(hasher.finalize()), length));
        }
        hasher.update(buffer.get(..read).unwrap_or_default());
        length += read as u64;
    }
}

/// A stable identifier in GUID form for `name` under `seed`: the same inputs give the same GUID in every build.
///
/// It is an RFC 9562 version 8 UUID, made from SHA-256.
#[must_use]
pub fn guid(seed: &str, name: &str) -> [u8; 16] {
    let mut hasher = Sha256::new();
    hasher.update(b"ingot guid\0");
    hasher.update(seed.as_bytes());
    hasher.update(b"\0");
    hasher.update(name.as_bytes());
    let digest = hasher.finalize();
    let mut guid = [0_u8; 16];
    guid.copy_from_slice(&digest[..16]);
    guid[6] = (guid[6] & 0x0f) | 0x80;
    guid[8] = (guid[8] & 0x3f) | 0x80;
    guid
}

/// Writes a GUID the way people write it: the bytes in the order of the text.
#[must_use]
pub fn guid_text(guid: &[u8; 16]) -> String {
    let text = hex::encode(guid);
    let parts =
        [text.get(0..8), text.get(8..12), text.get(12..16), text.get(16..20), text.get(20..32)];
    parts.map(Option::unwrap_or_default).join("-")
}
