//! Whether a node may be a worker of the cluster that its token names, what it notes of that, and what it leaves to the cluster. Pure.

use super::record::{Joined, Record, Refused, Situation, able};
use ingot_machine_config::join::JoinToken;
use ingot_machine_config::v1::kubernetes::Kubernetes as Section;
use ingot_machine_config::{IpNet, Ipv4Net};
use std::net::Ipv4Addr;
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

/// Networks of the cluster that a worker has joined or is to join; none on other nodes.
pub(crate) fn networks(record: Option<&Record>, section: Option<&Section>) -> Vec<IpNet> {
    if let Some(record) = record {
        let all = record.pod_cidrs.iter().chain(&record.service_cidrs);
        return all.filter(|_| record.joined.is_some()).copied().collect();
    }
    let token = section.and_then(|section| section.join_token.as_ref());
    let token = token.and_then(|token| JoinToken::parse(token).ok());
    token.map(|token| [token.pod_cidrs, token.service_cidrs].concat()).unwrap_or_default()
}

/// Where the pods of a node's own config get their addresses from: from where the config says, unless that is a part of a network of the
/// cluster, which gives it to another node. Whose pods would then be looked for on this one. The nearest network of the same size is
/// taken instead.
pub(crate) fn own_pods(wanted: Ipv4Net, cluster: &[IpNet]) -> Ipv4Net {
    let taken: Vec<Ipv4Net> = cluster
        .iter()
        .filter_map(|net| match net {
            IpNet::V4(v4) => Some(*v4),
            IpNet::V6(_) => None,
        })
        .collect();
    let is_free = |net: &Ipv4Net| {
        taken.iter().all(|other| !other.contains(&net.network()) && !net.contains(&other.network()))
    };
    if is_free(&wanted) {
        return wanted;
    }
    let beside = |net: &Ipv4Net| {
        let before = u32::from(net.network()).checked_sub(1);
        let behind = u32::from(net.broadcast()).checked_add(1);
        [before, behind].into_iter().flatten().map(Ipv4Addr::from).collect::<Vec<_>>()
    };
    let nearest = taken.iter().flat_map(beside).filter(Ipv4Addr::is_private);
    let mut nearest =
        nearest.filter_map(|at| Some(Ipv4Net::new(at, wanted.prefix_len()).ok()?.trunc()));
    // A cluster that has all private addresses leaves nothing better.
    nearest.find(is_free).unwrap_or(wanted)
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

    #[test]
    fn a_workers_own_pods_leave_the_networks_of_the_cluster_alone() {
        let net = |text: &str| text.parse::<Ipv4Net>().unwrap();
        let cluster = |nets: &[&str]| nets.iter().map(|n| n.parse().unwrap()).collect::<Vec<_>>();
        let usual = cluster(&["10.244.0.0/16", "fd00:244::/56", "10.96.0.0/12"]);
        // The default is the first node's part of the usual pod network.
        assert_eq!(own_pods(net("10.244.0.0/24"), &usual), net("10.243.255.0/24"));
        assert_eq!(own_pods(net("10.100.0.0/20"), &usual), net("10.243.240.0/20"));
        for kept in ["10.9.0.0/24", "192.168.7.0/28"] {
            assert_eq!(own_pods(net(kept), &usual), net(kept));
        }
        assert_eq!(own_pods(net("10.244.0.0/24"), &[]), net("10.244.0.0/24"));
        // Neighbours of what is taken may be taken, or be no addresses for this.
        let close = cluster(&["10.0.0.0/9", "10.128.0.0/16"]);
        assert_eq!(own_pods(net("10.128.7.0/24"), &close), net("10.129.0.0/24"));
        let all = cluster(&["10.0.0.0/8"]);
        assert_eq!(own_pods(net("10.244.0.0/24"), &all), net("10.244.0.0/24"));
    }

    #[test]
    fn a_worker_knows_the_networks_of_its_cluster_before_and_after_it_joins() {
        let (plain, token) = (section(), join_token());
        let given = Section { join_token: Some(token.to_text()), ..section() };
        let both = [token.pod_cidrs.clone(), token.service_cidrs.clone()].concat();
        assert_eq!(networks(None, Some(&given)), both);
        assert_eq!(networks(None, Some(&plain)), []);
        let record = decide(&situation(&plain, &ADDRESS), Some(&token)).unwrap().unwrap();
        assert_eq!(networks(Some(&record), Some(&plain)), both);
        assert_eq!(networks(Some(&cluster().record), None), [], "it made the cluster");
    }
}
