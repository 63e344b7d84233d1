//! Names of stored descriptors and services: a fixed array, so that a table of them needs no allocator.
//!
//! What a name means is the agent's affair; nothing here may interpret one.

use core::fmt;

/// A name of 1 to [`Name::LENGTH_MAX`] bytes, for a stored file descriptor or a service.
/// Printable ASCII without space.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    // The bytes come first, so that the derived order is the order of the texts. Bytes past `length` are zero.
    bytes: [u8; Name::LENGTH_MAX],
    length: u8,
}

/// The text cannot be a [`Name`]: it is empty, too long, or has a byte that is not printable ASCII.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidName;

impl fmt::Display for InvalidName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a name is 1 to {} printable ASCII characters without space", Name::LENGTH_MAX)
    }
}

impl core::error::Error for InvalidName {}

impl Name {
    /// Longest name in bytes.
    pub const LENGTH_MAX: usize = 128;

    /// The name with this text.
    ///
    /// # Errors
    /// [`InvalidName`] when the text is empty, too long or not printable ASCII without space.
    pub const fn new(text: &str) -> Result<Self, InvalidName> {
        Self::from_bytes(text.as_bytes())
    }

    /// As [`Name::new`], from bytes not known to be text.
    ///
    /// # Errors
    /// [`InvalidName`], as there.
    pub const fn from_bytes(text: &[u8]) -> Result<Self, InvalidName> {
        if text.is_empty() || text.len() > Self::LENGTH_MAX {
            return Err(InvalidName);
        }
        let mut bytes = [0; Self::LENGTH_MAX];
        let mut at = 0;
        while at < text.len() {
            if !text[at].is_ascii_graphic() {
                return Err(InvalidName);
            }
            bytes[at] = text[at];
            at += 1;
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "at most LENGTH_MAX, which is below 256"
        )]
        let length = text.len() as u8;
        Ok(Self { bytes, length })
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Both fallbacks are unreachable: the constructor admits only short ASCII.
        core::str::from_utf8(self.bytes.get(..usize::from(self.length)).unwrap_or_default())
            .unwrap_or_default()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl TryFrom<&str> for Name {
    type Error = InvalidName;

    fn try_from(text: &str) -> Result<Self, InvalidName> {
        Self::new(text)
    }
}
