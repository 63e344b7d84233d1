//! What stands in the way of another version of Kubernetes: upstream's rules about versions side by side, and what clients still ask
//! for that the new version does not have. Pure, but for reading the API server's metrics.

use super::client::{Call, Client};
use http::StatusCode;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// A kubelet may be this many minor versions behind the API server, and none ahead.
const KUBELET_BEHIND_MAX: u32 = 3;
/// The metric: one for each deprecated kind of object that somebody asked for since the API server started.
const METRIC: &str = "apiserver_requested_deprecated_apis{";
/// Longest line of metrics.
const LINE_MAX: usize = 64 * 1024;
/// Most uses that are told.
const USES_MAX: usize = 200;

/// A version of Kubernetes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    major: u32,
    minor: u32,
    patch: u32,
}

impl FromStr for Version {
    type Err = ();

    /// Reads `v1.37.1` and what vendors put behind it; the patch may be missing.
    fn from_str(text: &str) -> Result<Self, ()> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let text = text.split(['-', '+']).next().unwrap_or_default();
        let numbers: Vec<u32> =
            text.split('.').map(|part| part.parse().map_err(drop)).collect::<Result<_, _>>()?;
        match *numbers.as_slice() {
            [major, minor] => Ok(Self { major, minor, patch: 0 }),
            [major, minor, patch] => Ok(Self { major, minor, patch }),
            _ => Err(()),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// Do not upgrade before this is done.
    Blocks,
    /// Later versions will not do it.
    Warning,
    /// To know.
    Info,
}

impl Level {
    /// Lower-case word.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Blocks => "blocks",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }
}

/// Something to know before an upgrade.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// How much it matters.
    pub(crate) level: Level,
    /// What it is, and what to do.
    pub(crate) message: String,
}

/// A deprecated kind of object that somebody asked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Use {
    /// Group, version and kind as people write them.
    pub(crate) what: String,
    /// The version that has it no more; `None` when that is not decided.
    pub(crate) removed_in: Option<String>,
}

/// Name and version of every node's kubelet.
pub(crate) fn kubelets(nodes: &Value) -> Vec<(String, String)> {
    let nodes = nodes["items"].as_array().into_iter().flatten();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    nodes
        .map(|node| {
            (text(&node["metadata"]["name"]), text(&node["status"]["nodeInfo"]["kubeletVersion"]))
        })
        .collect()
}

/// What deprecated kinds of objects clients asked for since the API server started. Its metrics are long: they are read piece by piece.
///
/// # Errors
/// When it does not answer.
pub(crate) async fn deprecated(client: &Client) -> anyhow::Result<BTreeSet<Use>> {
    let mut pieces = client.open(Call::get("/metrics")).await?;
    anyhow::ensure!(pieces.status == StatusCode::OK, "its metrics: {}", pieces.status.as_u16());
    let mut lines = Lines::default();
    while let Some(piece) = pieces.next().await? {
        lines.take(&piece);
    }
    lines.take(b"\n");
    Ok(lines.uses)
}

/// Uses, from metrics in pieces.
#[derive(Default)]
struct Lines {
    rest: Vec<u8>,
    uses: BTreeSet<Use>,
}

impl Lines {
    fn take(&mut self, piece: &[u8]) {
        for byte in piece {
            if *byte == b'\n' {
                let line = String::from_utf8_lossy(&self.rest);
                if self.uses.len() < USES_MAX {
                    self.uses.extend(used(&line));
                }
                self.rest.clear();
            } else if self.rest.len() < LINE_MAX {
                self.rest.push(*byte);
            }
        }
    }
}

fn used(line: &str) -> Option<Use> {
    let (labels, _) = line.strip_prefix(METRIC)?.split_once('}')?;
    let label = |name: &str| {
        let (_, rest) = labels.split_once(&format!("{name}=\""))?;
        rest.split('"').next().filter(|value| !value.is_empty())
    };
    // The name of this label is the end of another's.
    let resource = labels.split(',').find_map(|label| label.strip_prefix("resource=\""))?;
    let group = label("group").map_or_else(String::new, |group| format!("{group}/"));
    let what = format!("{group}{} {}", label("version")?, resource.trim_end_matches('"'));
    Some(Use { what, removed_in: label("removed_release").map(str::to_owned) })
}

/// Everything to know. `image` is the version in the node's image.
pub(crate) fn findings(
    from: Version,
    to: Version,
    image: Option<Version>,
    kubelets: &[(String, String)],
    uses: &BTreeSet<Use>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |level, message: String| findings.push(Finding { level, message });
    if to < from {
        add(
            Level::Blocks,
            format!(
                "Kubernetes does not go back from {from} to {to}: restore a snapshot of before with `ingotctl etcd restore`"
            ),
        );
    } else if to == from {
        add(Level::Info, format!("the cluster runs {to} already"));
    } else if to.major != from.major || to.minor > from.minor + 1 {
        let next = Version { minor: from.minor + 1, patch: 0, ..from };
        add(
            Level::Blocks,
            format!(
                "from {from} the way to {to} leads over each minor version: first to {next} or a later patch of it"
            ),
        );
    }
    for (node, version) in kubelets {
        let Ok(kubelet) = version.parse::<Version>() else {
            add(Level::Warning, format!("node {node}: its version \"{version}\" cannot be read"));
            continue;
        };
        if (kubelet.major, kubelet.minor) > (to.major, to.minor) {
            add(Level::Blocks, format!("node {node}: its kubelet {kubelet} is newer than {to}"));
        } else if kubelet.minor + KUBELET_BEHIND_MAX < to.minor {
            add(
                Level::Blocks,
                format!(
                    "node {node}: its kubelet {kubelet} is more than {KUBELET_BEHIND_MAX} minor versions behind {to}; give the node a newer image first"
                ),
            );
        }
    }
    for Use { what, removed_in } in uses {
        let removed = removed_in.as_deref().and_then(|text| text.parse::<Version>().ok());
        match removed {
            Some(removed) if (removed.major, removed.minor) <= (to.major, to.minor) => add(
                Level::Blocks,
                format!(
                    "clients ask for {what}, which {to} does not have; let them use a newer version of it"
                ),
            ),
            Some(removed) => {
                add(Level::Warning, format!("clients ask for {what}, which goes with {removed}"));
            }
            None => add(Level::Warning, format!("clients ask for {what}, which is deprecated")),
        }
    }
    if to != from && image != Some(to) {
        let image = image.map_or_else(|| "no Kubernetes".to_owned(), |image| image.to_string());
        add(
            Level::Info,
            format!("the image of this node holds {image}; {to} comes with an image that holds it"),
        );
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    fn said(from: &str, to: &str, kubelet: &str, uses: &[Use]) -> Vec<(Level, String)> {
        let kubelets = [("two".to_owned(), kubelet.to_owned())];
        let image = Some(version("v1.36.3"));
        let uses = uses.iter().cloned().collect();
        let findings = findings(version(from), version(to), image, &kubelets, &uses);
        findings.into_iter().map(|finding| (finding.level, finding.message)).collect()
    }

    #[test]
    fn versions_are_read_and_ordered() {
        assert_eq!(version("v1.36.3-rc.1+x"), version("1.36.3"));
        assert_eq!(version("1.37").to_string(), "v1.37.0");
        assert!(version("1.9.9") < version("1.10.0"));
        for wrong in ["", "1", "1.x", "1.2.3.4", "latest"] {
            assert_eq!(wrong.parse::<Version>(), Err(()), "{wrong}");
        }
    }

    #[test]
    fn one_minor_version_at_a_time_and_never_back() {
        assert_eq!(
            said("v1.36.3", "v1.36.3", "v1.36.3", &[]),
            [(Level::Info, "the cluster runs v1.36.3 already".to_owned())]
        );
        let levels = |to: &str| {
            let said = said("v1.36.3", to, "v1.36.3", &[]);
            said.into_iter().map(|(level, _)| level).collect::<Vec<_>>()
        };
        assert_eq!(levels("v1.36.4"), [Level::Info]);
        assert_eq!(levels("v1.37.0"), [Level::Info]);
        assert_eq!(levels("v1.38.0"), [Level::Blocks, Level::Info]);
        assert_eq!(levels("v1.36.2")[0], Level::Blocks);
    }

    #[test]
    fn kubelets_may_be_three_minor_versions_behind_and_not_ahead() {
        assert_eq!(said("1.36.3", "1.36.3", "v1.33.0", &[]).len(), 1);
        let behind = &said("1.36.3", "1.37.0", "v1.33.9", &[])[0];
        assert!(behind.0 == Level::Blocks && behind.1.contains("node two"), "{behind:?}");
        let ahead = said("1.36.3", "1.36.3", "v1.37.0", &[]);
        assert_eq!(ahead[1].0, Level::Blocks);
    }

    #[test]
    fn what_clients_ask_for_is_found_in_the_metrics_however_they_are_cut() {
        let text = "# HELP x\n\
            apiserver_requested_deprecated_apis{group=\"flowcontrol.apiserver.k8s.io\",removed_release=\"1.37\",resource=\"flowschemas\",subresource=\"status\",version=\"v1beta3\"} 1\n\
            apiserver_requested_deprecated_apis{group=\"\",removed_release=\"\",resource=\"componentstatuses\",subresource=\"\",version=\"v1\"} 1\n\
            apiserver_requests_total{resource=\"pods\"} 7\n";
        for size in [1, 7, 4096] {
            let mut lines = Lines::default();
            text.as_bytes().chunks(size).for_each(|piece| lines.take(piece));
            let uses: Vec<_> = lines.uses.into_iter().collect();
            assert_eq!(uses[0].what, "flowcontrol.apiserver.k8s.io/v1beta3 flowschemas");
            assert_eq!(uses[0].removed_in.as_deref(), Some("1.37"));
            assert_eq!(
                (uses[1].what.as_str(), &uses[1].removed_in),
                ("v1 componentstatuses", &None)
            );
            let levels = |to: &str| {
                said("1.36.3", to, "v1.36.3", &uses).iter().map(|one| one.0).collect::<Vec<_>>()
            };
            assert_eq!(levels("1.37.0"), [Level::Blocks, Level::Warning, Level::Info]);
            assert_eq!(levels("1.36.3"), [Level::Info, Level::Warning, Level::Warning]);
        }
    }

    #[test]
    fn versions_of_kubelets_are_in_the_list_of_nodes() {
        let list = json!({"items": [{
            "metadata": {"name": "one"}, "status": {"nodeInfo": {"kubeletVersion": "v1.36.3"}}
        }]});
        assert_eq!(kubelets(&list), [("one".to_owned(), "v1.36.3".to_owned())]);
    }
}
