//! Protobuf of the CRI into the runtime's own words, with every field checked. Pure: it asks nobody and changes nothing.

mod container;
mod resources;
mod sandbox;
mod security;
mod signal;

pub(crate) use container::container;
pub(crate) use resources::resources;
pub(crate) use sandbox::{HANDLERS, sandbox};
pub(crate) use signal::from_number as signal_from_number;

#[cfg(test)]
mod tests;
