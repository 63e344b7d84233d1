//! The pod engine: takes a list of pods that should run and keeps them running, through any restart of the agent.
//!
//! It must not know protobuf, YAML or who asks; it is not allowed to be the parent of a container, and it never makes
//! a container's process itself (`ingot-runc` does, one process per container, and leaves).
//!
//! - [`Engine`] is the only door. One task per pod does the work; readers get immutable snapshots.
//! - [`Pid1`] is the only code that may ask PID 1 for anything.
//! - [`pod`] says what is wanted, [`status`] what is true, [`event`] what happened.
#![forbid(unsafe_code)]

pub mod config;
pub mod event;
pub mod exec;
pub mod io;
pub mod logs;
pub mod pid1;
pub mod pod;
pub mod port_forward;
pub mod sandboxes;
pub mod stats;
pub mod status;
pub mod surroundings;

mod apparmor;
mod cdi;
mod cgroup;
mod container;
mod context;
mod device;
mod disk;
mod durable;
mod engine;
mod lifecycle;
mod network;
mod pod_task;
mod probe;
mod readiness;
mod record;
mod report;
mod run;
mod runc;
mod sandbox;
mod sandbox_task;
mod signal;
mod spec;
mod sysctl;
mod user_ids;

pub use engine::reach;
pub use engine::{Engine, EngineConfig, EngineError, Paths, Subnet};
pub use pid1::Pid1;
