//! Extension headers of POSIX.1-2001: `<length> <key>=<value>\n`, one after the other.

use super::TarError;
use super::sparse::Form;

/// Prefix under which extended attributes are stored.
const XATTR: &[u8] = b"SCHILY.xattr.";
/// Extended attributes of one file.
const XATTRS_MAX: usize = 64;

/// What an extension header says about the next entry.
#[derive(Debug, Default)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<i64>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: Option<Form>,
}

impl Pax {
    pub(super) fn read(mut content: &[u8]) -> Result<Self, TarError> {
        let mut pax = Self::default();
        while !content.is_empty() {
            let (key, value, rest) =
                record(content).ok_or(TarError::Damaged("a broken extension header"))?;
            pax.set(key, value)?;
            content = rest;
        }
        Ok(pax)
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), TarError> {
        let text = |value: &[u8]| {
            let bad = value.contains(&0);
            // An empty value takes back what was said before.
            if bad { Err(TarError::Damaged("a name with a NUL")) } else { Ok(value.to_vec()) }
        };
        let given = !value.is_empty();
        match key {
            b"path" => self.path = given.then(|| text(value)).transpose()?,
            b"linkpath" => self.link = given.then(|| text(value)).transpose()?,
            b"size" => self.size = given.then(|| whole(value)).transpose()?,
            b"uid" => self.uid = given.then(|| whole(value)).transpose()?,
            b"gid" => self.gid = given.then(|| whole(value)).transpose()?,
            b"mtime" => self.mtime = given.then(|| seconds(value)).transpose()?,
            _ => {
                if let Some(name) = key.strip_prefix(XATTR) {
                    if self.xattrs.len() == XATTRS_MAX {
                        return Err(TarError::Damaged("too many extended attributes"));
                    }
                    self.xattrs.push((text(name)?, value.to_vec()));
                } else if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                    self.sparse.get_or_insert_with(Form::default).set(key, value)?;
                }
                // Anything else (names of owners, comments, other times) changes nothing here.
            }
        }
        Ok(())
    }
}

/// Key, value and what follows. A length that does not fit its record is an error, never a guess: two readers that
/// guess differently see different archives.
fn record(content: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = content.iter().take(20).position(|b| *b == b' ')?;
    let length = usize::try_from(whole(&content[..space]).ok()?).ok()?;
    if length <= space + 1 || length > content.len() {
        return None;
    }
    let (record, rest) = content.split_at(length);
    let record = record[space + 1..].strip_suffix(b"\n")?;
    let equals = record.iter().position(|b| *b == b'=')?;
    let (key, value) = (&record[..equals], &record[equals + 1..]);
    (!key.is_empty()).then_some((key, value, rest))
}

/// A number in decimal.
pub(super) fn whole(value: &[u8]) -> Result<u64, TarError> {
    let digits = std::str::from_utf8(value).ok().filter(|v| v.bytes().all(|b| b.is_ascii_digit()));
    digits.and_then(|v| v.parse().ok()).ok_or(TarError::Damaged("a number that is none"))
}

/// Seconds; the fraction is dropped.
fn seconds(value: &[u8]) -> Result<i64, TarError> {
    let text = std::str::from_utf8(value).unwrap_or_default();
    let (text, _) = text.split_once('.').unwrap_or((text, ""));
    text.parse().map_err(|_| TarError::Damaged("a time that is no number"))
}
