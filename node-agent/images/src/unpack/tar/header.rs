//! The 512 bytes before each entry.

use std::ops::Range;

use super::{TarError, until_nul};

/// Everything in an archive is a multiple of this, in bytes.
pub(super) const BLOCK: usize = 512;

/// Where the user's number is.
pub(super) const UID: Range<usize> = 108..116;
/// Where the group's number is.
pub(super) const GID: Range<usize> = 116..124;
const NAME: Range<usize> = 0..100;
const MODE: Range<usize> = 100..108;
const SIZE: Range<usize> = 124..136;
const MTIME: Range<usize> = 136..148;
const CHECKSUM: Range<usize> = 148..156;
const KIND: usize = 156;
const LINK: Range<usize> = 157..257;
const MAGIC: Range<usize> = 257..263;
const PREFIX: Range<usize> = 345..500;

/// A header whose sum is right.
pub(super) struct Header<'a>(&'a [u8; BLOCK]);

impl<'a> Header<'a> {
    pub(super) fn new(block: &'a [u8; BLOCK]) -> Result<Self, TarError> {
        let counted = |at: usize, byte: u8| if CHECKSUM.contains(&at) { b' ' } else { byte };
        let bytes = || block.iter().enumerate().map(|(at, byte)| counted(at, *byte));
        let sum: i64 = bytes().map(i64::from).sum();
        // Some old programs took the bytes as signed.
        let signed: i64 = bytes().map(|byte| i64::from(byte.cast_signed())).sum();
        let written =
            number(&block[CHECKSUM]).ok_or(TarError::Damaged("a header without a sum"))?;
        if written != sum && written != signed {
            return Err(TarError::Damaged("a header with a wrong sum"));
        }
        Ok(Self(block))
    }

    pub(super) fn kind(&self) -> u8 {
        self.0[KIND]
    }

    pub(super) fn size(&self) -> Result<u64, TarError> {
        let size = number(&self.0[SIZE]).and_then(|size| u64::try_from(size).ok());
        size.ok_or(TarError::Damaged("a size that is no number"))
    }

    pub(super) fn mode(&self) -> Result<u32, TarError> {
        let mode = number(&self.0[MODE]).ok_or(TarError::Damaged("a mode that is no number"))?;
        // The type of the file is in `kind`; some writers repeat it here.
        Ok(u32::try_from(mode & 0o7777).unwrap_or(0))
    }

    pub(super) fn mtime(&self) -> Result<i64, TarError> {
        number(&self.0[MTIME]).ok_or(TarError::Damaged("a time that is no number"))
    }

    /// A user or group: what the extension header says, else the field. Never cut to fit (CVE-2024-40635): `u32::MAX`
    /// means "leave as it is" to the kernel, so it is no owner either.
    pub(super) fn id(&self, extended: Option<u64>, field: Range<usize>) -> Result<u32, TarError> {
        let id = match extended {
            Some(id) => Some(id),
            None => number(&self.0[field]).and_then(|id| u64::try_from(id).ok()),
        };
        let id = id.and_then(|id| u32::try_from(id).ok()).filter(|id| *id != u32::MAX);
        id.ok_or(TarError::Damaged("an owner that is no user id"))
    }

    pub(super) fn path(&self) -> Vec<u8> {
        let name = until_nul(self.0[NAME].to_vec());
        let prefix = until_nul(self.0[PREFIX].to_vec());
        // GNU's format has other things at the place of the prefix.
        if &self.0[MAGIC] == b"ustar\0" && !prefix.is_empty() {
            [&prefix[..], b"/", &name].concat()
        } else {
            name
        }
    }

    pub(super) fn link(&self) -> Vec<u8> {
        until_nul(self.0[LINK].to_vec())
    }

    pub(super) fn bytes(&self) -> &'a [u8; BLOCK] {
        self.0
    }
}

/// Octal digits between spaces and NULs, or, with the highest bit set, a big-endian number (GNU).
pub(super) fn number(field: &[u8]) -> Option<i64> {
    let (first, rest) = field.split_first()?;
    if first & 0x80 != 0 {
        // The second highest bit is the sign.
        let negative = first & 0x40 != 0;
        let start = i128::from(first & 0x3f) - if negative { 64 } else { 0 };
        let value = rest.iter().try_fold(start, |value, byte| {
            value.checked_mul(256).map(|value| value + i128::from(*byte))
        })?;
        return i64::try_from(value).ok();
    }
    let blank = |b: &u8| matches!(b, b' ' | 0);
    let start = field.iter().position(|b| !blank(b)).unwrap_or(field.len());
    let digits = &field[start..];
    let digits = &digits[..digits.iter().position(blank).unwrap_or(digits.len())];
    digits.iter().try_fold(0_i64, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}
