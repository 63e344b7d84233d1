//! Commands about the cluster on a node: their flags and texts.

use super::parse_duration;
use clap::{Args, Subcommand};
use std::path::PathBuf;
use std::time::Duration;

/// Make a Kubernetes cluster on this node, once
///
/// The node's config says `kubernetes: {role: control-plane}`. The command returns when the node has noted it; `ingotctl health`
/// shows how the cluster comes up.
///
/// Example: ingotctl bootstrap && ingotctl health
#[derive(Debug, Args)]
pub struct Bootstrap {}

/// Write a kubeconfig for the cluster, good for a while
///
/// Its holder may do everything in the cluster. Ask again when it has expired.
///
/// Example: ingotctl kubeconfig > ~/.kube/config
#[derive(Debug, Args)]
pub struct Kubeconfig {
    /// For how long it is good, e.g. 8h
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "24h")]
    pub lifetime: Duration,
    /// Address of the API server to write into it [default: the config's endpoint, or the node's address]
    #[arg(long, value_name = "URL")]
    pub server: Option<String>,
}

/// Make a token with which workers join the cluster of this node
///
/// Write it to `kubernetes.joinToken` of a config that says `role: worker`. Whoever has it can become a node of the cluster until it
/// expires; the worker needs it once.
///
/// Example: ingotctl join-token --lifetime 1h
#[derive(Debug, Args)]
pub struct JoinToken {
    /// For how long it is good, e.g. 1h
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "24h")]
    pub lifetime: Duration,
    /// Where workers find the API server [default: the config's endpoint, or the node's address]
    #[arg(long, value_name = "HOST:PORT")]
    pub server: Option<String>,
}

/// Show what an upgrade of Kubernetes would change, and what stands in its way
///
/// The version of Kubernetes is that of the node's image: an update of the image is the upgrade. This looks at the cluster as it is now:
/// versions of the API server and of all kubelets, and what clients ask for that the new version does not have. Ends with 1 when
/// something stands in the way.
///
/// Example: ingotctl upgrade-kubernetes --dry-run --to 1.37.1
#[derive(Debug, Args)]
pub struct UpgradeKubernetes {
    /// Look only; nothing else is there
    #[arg(long, required = true)]
    pub dry_run: bool,
    /// The new version [default: that of the node's image]
    #[arg(long, value_name = "VERSION")]
    pub to: Option<String>,
}

/// Show what of the cluster on this node is up, and what is waited for
///
/// Ends with 1 while something is not up.
#[derive(Debug, Args)]
pub struct Health {
    /// Ask again until everything is up, for at most this long, e.g. 5m
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub wait: Option<Duration>,
}

/// See to the cluster's database
#[derive(Debug, Args)]
pub struct Etcd {
    /// What to do.
    #[command(subcommand)]
    pub command: EtcdCommand,
}

/// What to do with the database.
#[derive(Debug, Subcommand)]
pub enum EtcdCommand {
    /// List its members
    Members,
    /// Show how the member on this node is
    Status,
    /// Write the whole database to a file
    Snapshot {
        /// The file; it must not be there
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Put the database of a snapshot in the place of the cluster's: everything since then is lost
    Restore {
        /// The snapshot
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Yes, everything since the snapshot may be lost
        #[arg(long)]
        yes: bool,
    },
    /// Give unused space back to the disk
    Defrag,
}
