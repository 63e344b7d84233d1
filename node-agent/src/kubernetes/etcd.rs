//! What operators do with etcd, over its HTTP gateway: members, status, snapshot, defragmentation. Restoring is done to the files of a
//! stopped etcd, by the controller.

use super::authorities::Authorities;
use super::client::{Call, Client, Pieces};
use super::{ETCD_PORT, Kubernetes};
use anyhow::Context as _;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use http::StatusCode;
use ingot_pki::Validity;
use ingot_pki::kubernetes::{Subject, Usage};
use serde_json::Value;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

/// For how long the agent's certificate is good; it is never written anywhere.
const LIFETIME: Duration = Duration::from_secs(60 * 60);

/// One member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Member {
    /// In hexadecimal.
    pub(crate) id: String,
    /// Name.
    pub(crate) name: String,
    /// Where other members reach it.
    pub(crate) peer_urls: Vec<String>,
    /// Where clients reach it.
    pub(crate) client_urls: Vec<String>,
    /// It does not vote yet.
    pub(crate) learner: bool,
}

/// How the member on this node is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Status {
    /// Version of etcd.
    pub(crate) version: String,
    /// Bytes of the database on disk.
    pub(crate) size_bytes: u64,
    /// Bytes of it that are in use.
    pub(crate) used_bytes: u64,
    /// It leads.
    pub(crate) leads: bool,
    /// Entries of the log that count.
    pub(crate) raft_index: u64,
    /// What is wrong, in etcd's words.
    pub(crate) errors: Vec<String>,
}

/// A client of the node's own etcd.
///
/// # Errors
/// When the authorities cannot be read.
pub(crate) fn client(kubernetes: &Kubernetes, now: SystemTime) -> anyhow::Result<Client> {
    let authorities = Authorities::ensure(kubernetes.folder(), now)?;
    let subject = Subject {
        common_name: "ingot:agent".to_owned(),
        group: None,
        usage: Usage::Client,
        names: Vec::new(),
    };
    let identity =
        authorities.etcd.issue_kubernetes(&subject, Validity::starting(now, LIFETIME))?;
    let server = SocketAddr::from(([127, 0, 0, 1], ETCD_PORT));
    Client::new(vec![server], &authorities.etcd, &identity)
}

async fn ask(client: &Client, path: &str) -> anyhow::Result<Value> {
    let answer = client.call(Call::post(path, b"{}".to_vec())).await.context("ask etcd")?;
    let value: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    if answer.status != StatusCode::OK {
        let message = value["message"].as_str().unwrap_or("it does not say why");
        anyhow::bail!("etcd says {}: {message}", answer.status.as_u16());
    }
    Ok(value)
}

/// All members.
///
/// # Errors
/// When etcd does not answer.
pub(crate) async fn members(client: &Client) -> anyhow::Result<Vec<Member>> {
    Ok(read_members(&ask(client, "/v3/cluster/member/list").await?))
}

/// How the node's own member is.
///
/// # Errors
/// When etcd does not answer.
pub(crate) async fn status(client: &Client) -> anyhow::Result<Status> {
    Ok(read_status(&ask(client, "/v3/maintenance/status").await?))
}

/// Gives what is unused in the database's file back to the disk. Nothing is answered meanwhile.
///
/// # Errors
/// When etcd does not answer or cannot.
pub(crate) async fn defragment(client: &Client) -> anyhow::Result<()> {
    ask(client, "/v3/maintenance/defragment").await.map(drop)
}

/// Numbers are texts in this dialect, as they may be too large for JavaScript.
fn number(value: &Value) -> u64 {
    value.as_u64().or_else(|| value.as_str()?.parse().ok()).unwrap_or(0)
}

fn read_members(value: &Value) -> Vec<Member> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| value.as_array().into_iter().flatten().map(text).collect();
    let members = value["members"].as_array().into_iter().flatten();
    members
        .map(|member| Member {
            id: format!("{:x}", number(&member["ID"])),
            name: text(&member["name"]),
            peer_urls: list(&member["peerURLs"]),
            client_urls: list(&member["clientURLs"]),
            learner: member["isLearner"].as_bool().unwrap_or(false),
        })
        .collect()
}

fn read_status(value: &Value) -> Status {
    let errors = value["errors"].as_array().into_iter().flatten();
    Status {
        version: value["version"].as_str().unwrap_or_default().to_owned(),
        size_bytes: number(&value["dbSize"]),
        used_bytes: number(&value["dbSizeInUse"]),
        leads: value["leader"] == value["header"]["member_id"] && !value["leader"].is_null(),
        raft_index: number(&value["raftIndex"]),
        errors: errors.filter_map(|error| error.as_str().map(str::to_owned)).collect(),
    }
}

/// A snapshot as it comes: lines of JSON, each with a piece of the database in base64.
pub(crate) struct Snapshot {
    pieces: Pieces,
    pending: Vec<u8>,
}

/// Longest line: etcd sends pieces of 32 KiB.
const LINE_MAX: usize = 1 << 20;

/// Begins a snapshot.
///
/// # Errors
/// When etcd does not answer or refuses.
pub(crate) async fn snapshot(client: &Client) -> anyhow::Result<Snapshot> {
    let pieces = client.open(Call::post("/v3/maintenance/snapshot", b"{}".to_vec())).await?;
    anyhow::ensure!(pieces.status == StatusCode::OK, "etcd says {}", pieces.status.as_u16());
    Ok(Snapshot { pieces, pending: Vec::new() })
}

impl Snapshot {
    /// The next piece of the database; `None` at the end.
    ///
    /// # Errors
    /// When it breaks off.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<Vec<u8>>> {
        loop {
            if let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.pending.drain(..=end).collect();
                return read_line(&line).map(Some);
            }
            match self.pieces.next().await? {
                Some(piece) => self.pending.extend_from_slice(&piece),
                None if self.pending.is_empty() => return Ok(None),
                None => {
                    let line = std::mem::take(&mut self.pending);
                    return read_line(&line).map(Some);
                }
            }
            anyhow::ensure!(self.pending.len() <= LINE_MAX, "etcd sends what is no snapshot");
        }
    }
}

fn read_line(line: &[u8]) -> anyhow::Result<Vec<u8>> {
    let value: Value = serde_json::from_slice(line).context("read a piece of the snapshot")?;
    if let Some(message) = value["error"]["message"].as_str() {
        anyhow::bail!("etcd says: {message}");
    }
    let blob = value["result"]["blob"].as_str().unwrap_or_default();
    BASE64_STANDARD.decode(blob).context("a piece of the snapshot is no base64")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn answers_of_the_gateway_are_read() {
        let members = read_members(&json!({"members": [{
            "ID": "10276657743932975437", "name": "node-1", "peerURLs": ["https://127.0.0.1:2380"],
            "clientURLs": ["https://127.0.0.1:2379"]
        }]}));
        assert_eq!(members[0].id, "8e9e05c52164694d");
        assert_eq!((members[0].name.as_str(), members[0].learner), ("node-1", false));
        let status = read_status(&json!({
            "header": {"member_id": "5"}, "leader": "5", "version": "3.6.8", "dbSize": "20480",
            "dbSizeInUse": "16384", "raftIndex": "7", "errors": ["NOSPACE"]
        }));
        assert_eq!((status.size_bytes, status.used_bytes, status.leads), (20480, 16384, true));
        assert_eq!(status.errors, ["NOSPACE"]);
    }

    #[test]
    fn pieces_of_a_snapshot_are_decoded_and_errors_in_it_end_it() {
        let text = BASE64_STANDARD.encode([0, 1, 2, 250, 255]);
        let line = format!("{{\"result\":{{\"remaining_bytes\":\"0\",\"blob\":\"{text}\"}}}}\n");
        assert_eq!(read_line(line.as_bytes()).unwrap(), [0, 1, 2, 250, 255]);
        let error = read_line(b"{\"error\":{\"message\":\"no space\"}}").unwrap_err();
        assert!(error.to_string().contains("no space"));
        assert!(read_line(b"{\"result\":{\"blob\":\"!!!!\"}}").is_err());
    }
}
