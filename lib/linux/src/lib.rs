//! Everything we ask of the kernel, wrapped safely, one file per interface. It decides nothing and never logs.
#![deny(unsafe_op_in_unsafe_fn)]

pub mod beneath;
pub mod cgroup;
pub mod clock;
pub mod device_rules;
pub mod dm_verity;
pub mod exec;
pub mod file_lock;
pub mod inherited;
pub mod input;
pub mod inside;
pub mod inspect;
pub mod kmsg;
pub mod landlock;
pub mod module;
pub mod mount;
pub mod nd_options;
pub mod netns;
pub mod packet;
pub mod partition;
pub mod pipe;
pub mod poll;
pub mod process;
pub mod pty;
pub mod reboot;
pub mod seqpacket;
pub mod signal;
pub mod spawn;
pub mod uevent;
pub mod unmount;
pub mod volume;
pub mod watchdog;
pub mod writeback;
