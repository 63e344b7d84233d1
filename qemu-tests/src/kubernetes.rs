//! A cluster of one node as its user sees it: `ingotctl` to make it, kubectl to use it, from outside the node. Knows the two command lines
//! and no suite.

pub mod bare;
pub mod cluster;
pub mod command;
pub mod kubectl;
pub mod pair;
pub mod rest;

pub use cluster::{Cluster, Shape};
pub use command::Ran;
pub use kubectl::Kubectl;
