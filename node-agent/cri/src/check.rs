//! Refusing what makes no sense, in words that say what to write instead. Knows no field of the CRI.

use std::path::{Component, Path, PathBuf};

/// Longest name or path in bytes; longer ones could not be used anyway.
const TEXT_MAX: usize = 4096;

/// Why a request cannot be done as it is written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub(crate) struct Invalid {
    field: String,
    problem: String,
}

impl Invalid {
    /// `problem` says what to write.
    pub(crate) fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }
}

impl From<Invalid> for tonic::Status {
    fn from(invalid: Invalid) -> Self {
        crate::status::new(tonic::Code::InvalidArgument, &invalid.to_string())
    }
}

/// What a check gives back.
pub(crate) type Checked<T> = Result<T, Invalid>;

/// A text that is there.
pub(crate) fn required(field: &str, value: String) -> Checked<String> {
    if value.is_empty() {
        return Err(Invalid::new(field, "is empty; it has to be given"));
    }
    text(field, value)
}

/// A text without NUL and of bounded length.
pub(crate) fn text(field: &str, value: String) -> Checked<String> {
    if value.len() > TEXT_MAX {
        return Err(Invalid::new(field, format!("has more than {TEXT_MAX} bytes")));
    }
    if value.contains('\0') {
        return Err(Invalid::new(field, "contains a NUL byte"));
    }
    Ok(value)
}

/// An absolute path without `..`; `/` itself is refused unless `root` is fine.
pub(crate) fn absolute(field: &str, value: String, root: bool) -> Checked<PathBuf> {
    let value = PathBuf::from(required(field, value)?);
    if !value.is_absolute() {
        return Err(Invalid::new(field, format!("{} is relative; begin with /", value.display())));
    }
    if value.components().any(|part| part == Component::ParentDir) {
        return Err(Invalid::new(field, format!("{} contains ..", value.display())));
    }
    if !root && value == Path::new("/") {
        return Err(Invalid::new(field, "is the root of the node; name a folder below it"));
    }
    Ok(value)
}

/// A relative path that stays below where it begins; may be empty.
pub(crate) fn inside(field: &str, value: String) -> Checked<String> {
    let value = text(field, value)?;
    let stays = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    if Path::new(&value).components().all(stays) {
        return Ok(value);
    }
    Err(Invalid::new(field, format!("{value} leaves its folder; write a relative path without ..")))
}

/// A number of this width.
pub(crate) fn number<T: TryFrom<i64>>(field: &str, value: i64) -> Checked<T> {
    T::try_from(value).map_err(|_| Invalid::new(field, format!("{value} is out of range")))
}

/// A known value of an enumeration.
pub(crate) fn known<T: TryFrom<i32>>(field: &str, value: i32) -> Checked<T> {
    T::try_from(value).map_err(|_| Invalid::new(field, format!("{value} is not a known value")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_leaves_its_folder_is_refused() {
        assert!(inside("p", "a/../../b".to_owned()).is_err());
        assert!(inside("p", "/a".to_owned()).is_err());
        assert_eq!(inside("p", "a/0.log".to_owned()).as_deref(), Ok("a/0.log"));
    }

    #[test]
    fn the_root_of_the_node_is_no_log_folder() {
        assert!(absolute("p", "/".to_owned(), false).is_err());
        assert!(absolute("p", "var/log".to_owned(), false).is_err());
        assert!(absolute("p", "/var/../etc".to_owned(), false).is_err());
        assert!(absolute("p", "/var/log/pods/x".to_owned(), false).is_ok());
    }
}
