//! What was bootstrapped on this node: on disk before anything else of the cluster is. A cluster is made once.

use crate::durable::replace;
use ingot_machine_config::IpNet;
use ingot_machine_config::v1::kubernetes::{Kubernetes as Section, Role};
use serde::{Deserialize, Serialize};
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Name of the file.
const FILE: &str = "cluster.json";

/// A clock before this has never been set: 2026-01-01. Certificates made by it would be good for nobody.
const CLOCK_FLOOR: Duration = Duration::from_secs(1_767_225_600);

/// A cluster, as it was made. What may not change later is in here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    /// Tells this cluster from every other.
    pub(crate) id: String,
    /// Its name.
    pub(crate) name: String,
    /// Name of this node in it.
    pub(crate) node: String,
    /// The node's addresses when it was made, for a start at which they are not known yet.
    pub(crate) addresses: Vec<IpAddr>,
    /// Networks of pods.
    pub(crate) pod_cidrs: Vec<IpNet>,
    /// Networks of services.
    pub(crate) service_cidrs: Vec<IpNet>,
    /// Domain of services and pods.
    pub(crate) dns_domain: String,
    /// When, in seconds since 1970.
    pub(crate) made_at: u64,
    /// How often its database was restored.
    #[serde(default)]
    pub(crate) restores: u32,
    /// The last restore is not over.
    #[serde(default)]
    pub(crate) restoring: bool,
    /// Where the cluster is, when this node is a worker of one that others made.
    #[serde(default)]
    pub(crate) joined: Option<Joined>,
}

/// A cluster that others made, as a worker finds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Joined {
    /// Its API servers, as `host:port`.
    pub(crate) servers: Vec<String>,
    /// Certificate of its authority, in PEM.
    pub(crate) authority: String,
}

/// The record cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    /// Read it.
    #[error("read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It holds something else.
    #[error("{path} is damaged; restore it, or remove the VAR partition to begin anew")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// Write it.
    #[error("write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Why no cluster is made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    /// No config.
    #[error("the node has no config")]
    NoConfig,
    /// The config does not want one.
    #[error("the config has no section \"kubernetes\"")]
    NotWanted,
    /// It is not the place.
    #[error("this node is a worker; a cluster is bootstrapped on a control plane")]
    Worker,
    /// It was done before.
    #[error("this node was already bootstrapped: it made the cluster \"{name}\" {ago} ago")]
    Already {
        /// Its name.
        name: String,
        /// How long ago, in words.
        ago: String,
    },
    /// It is part of a cluster.
    #[error("this node is a worker of the cluster \"{name}\"")]
    Joined {
        /// Its name.
        name: String,
    },
    /// It holds a cluster's database, and is to be a worker.
    #[error(
        "this node made the cluster \"{name}\" and holds its database, and the config calls it a worker"
    )]
    MadeCluster {
        /// Its name.
        name: String,
    },
    /// It is part of another cluster.
    #[error(
        "this node is a worker of the cluster \"{name}\", and kubernetes.joinToken is of another, \"{other}\""
    )]
    OtherCluster {
        /// Its name.
        name: String,
        /// The token's.
        other: String,
    },
    /// A worker knows no cluster.
    #[error("this worker was not told which cluster to join")]
    NoToken,
    /// The image was built without.
    #[error("the image of this node holds no Kubernetes")]
    NoImage,
    /// There is nowhere to keep it.
    #[error("the VAR partition is not there: {0}")]
    NoVar(String),
    /// The clock is wrong.
    #[error(
        "the clock of the node has no time, so no certificate that the node makes would be good"
    )]
    Clock,
    /// The node has no address.
    #[error("the node has no address yet")]
    NoAddress,
    /// The node has no name.
    #[error("the node has no name yet")]
    NoName,
}

impl Refused {
    /// What the operator should do.
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::NoConfig => "apply one first: ingotctl apply",
            Self::NotWanted => "apply a config with `kubernetes: {role: control-plane}` first",
            Self::Worker => "call the control plane node; give it with --endpoint",
            Self::Already { .. } => "there is nothing to do; see `ingotctl health`",
            Self::Joined { .. } | Self::MadeCluster { .. } => {
                "write the role of before, or empty the VAR partition, which loses everything on it"
            }
            Self::OtherCluster { .. } => {
                "remove kubernetes.joinToken, or empty the VAR partition, which loses everything on it"
            }
            Self::NoToken => {
                "make a token on a control plane with `ingotctl join-token`, and write it to kubernetes.joinToken"
            }
            Self::NoImage => "build the image with `cargo xtask image --kubernetes`",
            Self::NoVar(_) => "see `ingotctl status`",
            Self::Clock => {
                "set time.servers in the config, or the clock of the machine, and try again"
            }
            Self::NoAddress | Self::NoName => {
                "see the condition \"network\" in `ingotctl status`, and try again"
            }
        }
    }
}

/// What a bootstrap is decided by.
#[derive(Clone, Debug)]
pub(crate) struct Situation<'a> {
    /// There is a config.
    pub(crate) configured: bool,
    /// Its section.
    pub(crate) section: Option<&'a Section>,
    /// What was bootstrapped.
    pub(crate) record: Option<&'a Record>,
    /// The image holds the programs.
    pub(crate) has_image: bool,
    /// VAR is mounted, or why not.
    pub(crate) var: Result<(), String>,
    /// Name of the node.
    pub(crate) node: &'a str,
    /// Its addresses.
    pub(crate) addresses: &'a [IpAddr],
    /// The clock.
    pub(crate) now: SystemTime,
    /// What it says is a guess.
    pub(crate) clock_lost: bool,
}

/// Decides whether a cluster may be made, and how it is laid out. `id` is random.
///
/// # Errors
/// Why not.
pub(crate) fn decide(situation: &Situation<'_>, id: String) -> Result<Record, Refused> {
    if !situation.configured {
        return Err(Refused::NoConfig);
    }
    let section = situation.section.ok_or(Refused::NotWanted)?;
    if section.role == Role::Worker {
        return Err(Refused::Worker);
    }
    let since_epoch = situation.now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    if let Some(record) = situation.record {
        if record.joined.is_some() {
            return Err(Refused::Joined { name: record.name.clone() });
        }
        let ago = since_epoch.as_secs().saturating_sub(record.made_at);
        return Err(Refused::Already { name: record.name.clone(), ago: words(ago) });
    }
    able(situation)?;
    Ok(Record {
        id,
        name: section.cluster_name.clone(),
        // Node names are host names in lower case.
        node: situation.node.to_ascii_lowercase(),
        addresses: situation.addresses.to_vec(),
        pod_cidrs: section.network.pod_cidrs.clone(),
        service_cidrs: section.network.service_cidrs.clone(),
        dns_domain: section.network.dns_domain.clone(),
        made_at: since_epoch.as_secs(),
        restores: 0,
        restoring: false,
        joined: None,
    })
}

/// Whether the node has what it takes to be part of any cluster.
pub(super) fn able(situation: &Situation<'_>) -> Result<(), Refused> {
    if !situation.has_image {
        return Err(Refused::NoImage);
    }
    situation.var.clone().map_err(Refused::NoVar)?;
    if situation.clock_lost || situation.now < SystemTime::UNIX_EPOCH + CLOCK_FLOOR {
        return Err(Refused::Clock);
    }
    if situation.node.is_empty() {
        return Err(Refused::NoName);
    }
    if situation.addresses.is_empty() {
        return Err(Refused::NoAddress);
    }
    Ok(())
}

/// A span in its largest unit.
fn words(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// Whether the clock says a time before the cluster was there: then no certificate of it is good yet, and new ones would be for the past.
pub(crate) fn is_before(record: &Record, now: SystemTime) -> bool {
    let made_at = SystemTime::UNIX_EPOCH + Duration::from_secs(record.made_at);
    now + ingot_pki::CLOCK_SKEW < made_at
}

/// Reads the record; none is fine.
pub(crate) fn read(folder: &Path) -> Result<Option<Record>, RecordError> {
    let path = folder.join(FILE);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(RecordError::Read { path, source }),
    };
    let record = serde_json::from_slice(&bytes);
    record.map(Some).map_err(|source| RecordError::Damaged { path, source })
}

/// Writes the record: old or new after a power cut.
pub(crate) fn write(folder: &Path, record: &Record) -> Result<(), RecordError> {
    let path = folder.join(FILE);
    let failed = |source| RecordError::Write { path: path.clone(), source };
    // Plain values: nothing can fail to print.
    let bytes = serde_json::to_vec_pretty(record).unwrap_or_default();
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    replace(&path, &bytes, 0o600, None).map_err(failed)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::kubernetes) fn situation<'a>(
        section: &'a Section,
        addresses: &'a [IpAddr],
    ) -> Situation<'a> {
        Situation {
            configured: true,
            section: Some(section),
            record: None,
            has_image: true,
            var: Ok(()),
            node: "Node-1",
            addresses,
            now: SystemTime::UNIX_EPOCH + CLOCK_FLOOR + Duration::from_secs(60),
            clock_lost: false,
        }
    }

    pub(in crate::kubernetes) const ADDRESS: [IpAddr; 1] =
        [IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 2, 15))];

    #[test]
    fn a_control_plane_is_bootstrapped_once() {
        let section = Section::default();
        let first = situation(&section, &ADDRESS);
        let record = decide(&first, "id".into()).unwrap();
        assert_eq!((record.name.as_str(), record.node.as_str()), ("ingot", "node-1"));
        let again = Situation {
            record: Some(&record),
            now: first.now + Duration::from_secs(7200),
            ..first
        };
        let refused = decide(&again, "other".into()).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "this node was already bootstrapped: it made the cluster \"ingot\" 2 h ago"
        );
        assert!(refused.hint().contains("ingotctl health"));
    }

    #[test]
    fn everything_else_is_refused_with_what_to_do() {
        let section = Section::default();
        let worker = Section { role: Role::Worker, ..Section::default() };
        let good = situation(&section, &ADDRESS);
        let cases = [
            (Situation { configured: false, ..good.clone() }, Refused::NoConfig),
            (Situation { section: None, ..good.clone() }, Refused::NotWanted),
            (Situation { section: Some(&worker), ..good.clone() }, Refused::Worker),
            (Situation { has_image: false, ..good.clone() }, Refused::NoImage),
            (Situation { var: Err("x".into()), ..good.clone() }, Refused::NoVar("x".into())),
            (Situation { now: SystemTime::UNIX_EPOCH, ..good.clone() }, Refused::Clock),
            // The agent has set it to the least that it may be.
            (Situation { clock_lost: true, ..good.clone() }, Refused::Clock),
            (Situation { node: "", ..good.clone() }, Refused::NoName),
            (Situation { addresses: &[], ..good.clone() }, Refused::NoAddress),
        ];
        for (situation, wanted) in cases {
            let refused = decide(&situation, "id".into()).unwrap_err();
            assert_eq!(refused, wanted);
            assert!(!refused.hint().is_empty());
        }
    }

    #[test]
    fn a_clock_before_the_cluster_was_made_is_noticed() {
        let section = Section::default();
        let record = decide(&situation(&section, &ADDRESS), "id".into()).unwrap();
        let made_at = SystemTime::UNIX_EPOCH + Duration::from_secs(record.made_at);
        assert!(!is_before(&record, made_at));
        assert!(!is_before(&record, made_at - Duration::from_secs(60)), "clocks differ a little");
        assert!(is_before(&record, made_at - Duration::from_secs(24 * 60 * 60)));
        assert!(is_before(&record, SystemTime::UNIX_EPOCH));
    }

    #[test]
    fn a_damaged_record_is_no_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path()).unwrap(), None);
        let section = Section::default();
        let record = decide(&situation(&section, &ADDRESS), "id".into()).unwrap();
        write(folder.path(), &record).unwrap();
        assert_eq!(read(folder.path()).unwrap(), Some(record));
        fs::write(folder.path().join(FILE), b"{\"id\":").unwrap();
        assert!(matches!(read(folder.path()), Err(RecordError::Damaged { .. })));
    }
}
