//! Whether a node may be a worker of the cluster that its token names, and what it notes of that. Pure.

use super::record::{Joined, Record, Refused, Situation, able};
use ingot_machine_config::join::JoinToken;
use std::time::SystemTime;

/// What a worker notes: `None` when that is on the disk already.
///
/// # Errors
/// Why it cannot be a worker.
pub(crate) fn decide(
    situation: &Situation<'_>,
    token: Option<&JoinToken>,
) -> Result<Option<Record>, Refused> {
    let joined = |token: &JoinToken| {
        Some(Joined { servers: token.servers.clone(), authority: token.authority.clone() })
    };
    if let Some(record) = situation.record {
        let name = record.name.clone();
        if record.joined.is_none() {
            return Err(Refused::MadeCluster { name });
        }
        let Some(token) = token else { return Ok(None) };
        if token.cluster_id != record.id {
            return Err(Refused::OtherCluster { name, other: token.cluster_name.clone() });
        }
        // A newer token says where the cluster is now.
        let newer = Record { joined: joined(token), ..record.clone() };
        return Ok((newer != *record).then_some(newer));
    }
    let token = token.ok_or(Refused::NoToken)?;
    able(situation)?;
    let since_epoch = situation.now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Ok(Some(Record {
        id: token.cluster_id.clone(),
        name: token.cluster_name.clone(),
        // Node names are host names in lower case.
        node: situation.node.to_ascii_lowercase(),
        addresses: situation.addresses.to_vec(),
        pod_cidrs: token.pod_cidrs.clone(),
        service_cidrs: token.service_cidrs.clone(),
        dns_domain: token.dns_domain.clone(),
        made_at: since_epoch.as_secs(),
        restores: 0,
        restoring: false,
        joined: joined(token),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::record::tests::{ADDRESS, situation};
    use crate::kubernetes::tests::{cluster, join_token};
    use ingot_machine_config::v1::kubernetes::{Kubernetes as Section, Role};

    fn section() -> Section {
        Section { role: Role::Worker, ..Section::default() }
    }

    #[test]
    fn a_worker_notes_its_cluster_once_and_where_it_is_as_the_newest_token_says() {
        let (section, token) = (section(), join_token());
        let first = situation(&section, &ADDRESS);
        let record = decide(&first, Some(&token)).unwrap().unwrap();
        assert_eq!((record.id.as_str(), record.node.as_str()), ("0123456789abcdef", "node-1"));
        let later = Situation { record: Some(&record), ..first };
        assert_eq!(decide(&later, Some(&token)), Ok(None));
        // The token may go once it was used.
        assert_eq!(decide(&later, None), Ok(None));
        let moved = JoinToken { servers: vec!["10.0.2.99:6443".into()], ..token };
        let newer = decide(&later, Some(&moved)).unwrap().unwrap();
        assert_eq!(newer.joined.unwrap().servers, ["10.0.2.99:6443"]);
        assert_eq!((newer.id, newer.made_at), (record.id.clone(), record.made_at));
    }

    #[test]
    fn everything_else_is_refused_with_what_to_do() {
        let (section, token) = (section(), join_token());
        let good = situation(&section, &ADDRESS);
        let made = cluster().record;
        let joined = decide(&good, Some(&token)).unwrap().unwrap();
        let other =
            JoinToken { cluster_id: "x".into(), cluster_name: "other".into(), ..join_token() };
        let name = "ingot".to_owned();
        let cases = [
            (good.clone(), None, Refused::NoToken),
            (
                Situation { record: Some(&made), ..good.clone() },
                Some(&token),
                Refused::MadeCluster { name: name.clone() },
            ),
            (
                Situation { record: Some(&joined), ..good.clone() },
                Some(&other),
                Refused::OtherCluster { name, other: "other".into() },
            ),
            (
                Situation { now: SystemTime::UNIX_EPOCH, ..good.clone() },
                Some(&token),
                Refused::Clock,
            ),
            (Situation { node: "", ..good.clone() }, Some(&token), Refused::NoName),
            (Situation { has_image: false, ..good.clone() }, Some(&token), Refused::NoImage),
        ];
        for (situation, token, wanted) in cases {
            let refused = decide(&situation, token).unwrap_err();
            assert_eq!(refused, wanted);
            assert!(!refused.hint().is_empty());
        }
    }
}
