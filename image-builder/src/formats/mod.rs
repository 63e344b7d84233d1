//! How parts become deliverables: one file for each form.

pub mod qcow2;
pub mod raw;
pub mod uki;
