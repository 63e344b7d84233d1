//! Boots real images in QEMU and talks to them as an operator would.
//!
//! # The five-line test
//!
//! ```no_run
//! # use ingot_qemu_tests::{artifacts::Artifacts, machine::Machine};
//! async fn a_node_keeps_its_name(artifacts: &Artifacts, config: &str) -> anyhow::Result<()> {
//!     let mut machine = Machine::builder(artifacts, "naming").cidata(config).boot().await?;
//!     let before = machine.wait_running().await?.status().await?.node_name;
//!     let mut api = machine.reboot().await?;
//!     anyhow::ensure!(api.status().await?.node_name == before);
//!     Ok(())
//! }
//! ```
//!
//! # What there is
//!
//! | to | use |
//! |---|---|
//! | describe a machine | [`Machine::builder`](machine::Machine::builder): memory, processors, UEFI or direct boot, CIDATA drive, clock |
//! | talk to it | [`api()`](machine::Machine::api) as administrator, [`api_as()`](machine::Machine::api_as) as anybody else |
//! | hurt it | [`crash_agent()`](machine::Machine::crash_agent), [`cut_power()`](machine::Machine::cut_power), [`disk`] while it is off |
//! | wait | [`wait::until`]: a condition, a name, a deadline. Never sleep |
//! | write configs | [`documents`] |
//! | choose by chance | [`faults::Faults`]: by seed, and the seed is printed |
//! | say what was found | [`report::Report::check`]: one line, and an evidence folder when it failed |
//!
//! # Rules
//!
//! - A suite is a file in `suites/`, a line in [`suites::SUITES`], and is one promise. A check is a sentence.
//! - Suites that only ask use the shared node: a boot costs many seconds in emulation. Suites that break things boot their own.
//! - No check asserts how long something took by the host's clock. What is promised in seconds is measured by the guest's
//!   clock, on a machine with [`Clock::Instructions`] where the host's load would show.
//! - Machines are booted from the main thread (a current-thread runtime): the kernel ends each QEMU with the thread that
//!   started it, so that none is ever left behind.
//! - Artifacts are found before a test starts and never built inside it; this crate knows no program of the repository.
#![forbid(unsafe_code)]

pub mod artifacts;
pub mod cidata;
pub mod client;
pub mod console;
pub mod credentials;
pub mod cri;
pub mod cri_node;
pub mod critest;
pub mod disk;
pub mod documents;
mod evidence;
pub mod faults;
pub mod kubernetes;
pub mod leaks;
pub mod machine;
mod ports;
pub mod qemu;
pub mod registry;
pub mod report;
pub mod router;
pub mod suites;
pub mod wait;

pub use qemu::args::Clock;
