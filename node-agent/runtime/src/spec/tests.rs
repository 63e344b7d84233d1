//! Placeholder for the golden specs.
