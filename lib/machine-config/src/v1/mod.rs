//! Version 1 of the config language: one file per section, holding its type, its manual (the doc comments) and defaults.
//!
//! Doc comments here are printed in `docs/reference/config.md` and in the JSON schema: they talk to the person who
//! writes the config. What cannot be said by type, range or format is checked in `check`.

pub mod api;
pub mod data;
pub mod kernel;
pub mod kubernetes;
pub mod machine;
pub mod network;
pub mod pod;
pub mod pods;
pub mod registries;
pub mod time;

/// True for a value that need not be written out.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
