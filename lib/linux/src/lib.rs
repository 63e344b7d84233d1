//! Everything we ask of the kernel, wrapped safely, one file per interface. It decides nothing and never logs.
#![deny(unsafe_op_in_unsafe_fn)]

pub mod clock;
pub mod file_lock;
pub mod inspect;
pub mod netns;
pub mod packet;
pub mod partition;
pub mod pipe;
pub mod unmount;
