//! What the programs of a cluster are started with, compared with the files in `golden/`; `UPDATE=1` writes them anew.

use super::authorities::Authorities;
use super::*;
use components::owners;
use ingot_machine_config::join::JoinToken;
use ingot_machine_config::v1::kubernetes::Component;
use std::fmt::Write as _;

/// A cluster on a small machine.
pub(crate) fn cluster() -> Cluster {
    let nets = |text: &str| vec![text.parse().unwrap()];
    Cluster {
        record: Record {
            id: "0123456789abcdef".into(),
            name: "ingot".into(),
            node: "node-1".into(),
            addresses: vec!["10.0.2.15".parse().unwrap()],
            pod_cidrs: nets("10.244.0.0/16"),
            service_cidrs: nets("10.96.0.0/12"),
            dns_domain: "cluster.local".into(),
            made_at: 1_800_000_000,
            restores: 0,
            restoring: false,
            joined: None,
        },
        section: Section::default(),
        addresses: vec!["10.0.2.15".parse().unwrap()],
        image: "ingot.local/kube:v1.36.3".into(),
        memory_bytes: 1 << 30,
        folder: FOLDER.into(),
        token: None,
    }
}

/// What a control plane gives to workers.
pub(crate) fn join_token() -> JoinToken {
    let Record { id, name, pod_cidrs, service_cidrs, dns_domain, .. } = cluster().record;
    JoinToken {
        cluster_id: id,
        cluster_name: name,
        servers: vec!["10.0.2.15:6443".into()],
        authority: "-----BEGIN CERTIFICATE-----\n".into(),
        secret: Secret::new("abcdef.0123456789abcdef"),
        pod_cidrs,
        service_cidrs,
        dns_domain,
    }
}

/// A worker of that cluster, on a smaller machine.
pub(crate) fn worker() -> Cluster {
    let mut cluster = cluster();
    let token = join_token();
    cluster.record.node = "node-2".into();
    cluster.record.joined =
        Some(record::Joined { servers: token.servers, authority: token.authority });
    cluster.addresses = vec!["10.0.2.16".parse().unwrap()];
    cluster.memory_bytes = 512 << 20;
    cluster.token = Some(token.secret);
    cluster
}

fn assert_golden(name: &str, found: &str) {
    let path = format!("{}/src/kubernetes/golden/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, found).unwrap();
    }
    let wanted = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == wanted, "{name} differs; UPDATE=1 writes it anew:\n{found}");
}

/// Command, environment, mounts and rights of every pod.
fn described(cluster: &Cluster) -> String {
    let mut out = String::new();
    for owner in owners(&cluster.record) {
        let pod = components::pod(cluster, *owner).unwrap();
        let container = &pod.spec.containers[0];
        writeln!(out, "# {}/{}", pod.namespace, pod.name).unwrap();
        for word in &container.command {
            writeln!(out, "{word}").unwrap();
        }
        for variable in &container.env {
            writeln!(out, "env {} {:?}", variable.name, variable.value).unwrap();
        }
        for mount in &container.volume_mounts {
            let volume = pod.spec.volumes.iter().find(|volume| volume.name == mount.name).unwrap();
            let from = volume.host_path.as_ref().map_or("memory", |host| host.path.as_str());
            let how = if mount.read_only { "read-only" } else { "writable" };
            writeln!(
                out,
                "mount {from} at {} {how} {:?}",
                mount.mount_path, mount.mount_propagation
            )
            .unwrap();
        }
        let memory = |list: &ingot_machine_config::v1::pod::ResourceList| {
            list.memory.as_ref().map(ToString::to_string)
        };
        let resources = &container.resources;
        let (promised, most) = (memory(&resources.requests), memory(&resources.limits));
        writeln!(out, "memory {promised:?} to {most:?}").unwrap();
        let rights = &container.security_context;
        writeln!(
            out,
            "user {:?}, privileged {}, read-only root {}, without {:?}\n",
            rights.run_as_user,
            rights.privileged,
            rights.read_only_root_filesystem,
            rights.capabilities.drop
        )
        .unwrap();
    }
    out
}

#[test]
fn programs_are_started_with_these_words() {
    assert_golden("small.txt", &described(&cluster()));
}

#[test]
fn a_large_dual_stack_machine_has_other_numbers() {
    let mut large = cluster();
    large.memory_bytes = 8 << 30;
    large.record.pod_cidrs.push("fd00:10:244::/56".parse().unwrap());
    large.record.service_cidrs.push("fd00:10:96::/112".parse().unwrap());
    large.addresses.push("fd00::15".parse().unwrap());
    let extra = [("v".to_owned(), "4".to_owned()), ("audit-log-maxage".to_owned(), "7".to_owned())];
    large.section.api_server = Component { extra_args: extra.into_iter().collect() };
    assert_golden("large.txt", &described(&large));
}

#[test]
fn files_hold_what_programs_need_and_no_secret_is_everybodys() {
    let folder = tempfile::tempdir().unwrap();
    let cluster = cluster();
    let authorities = Authorities::ensure(folder.path(), std::time::SystemTime::now()).unwrap();
    let files = files::all(&cluster, &authorities).unwrap();
    assert_golden("files.txt", &shown(files, &authorities.encryption));
}

fn shown(files: Vec<files::File>, key: &str) -> String {
    let mut out = String::new();
    for file in files {
        let secret = file.text.contains("PRIVATE KEY") || file.text.contains(key);
        let shown = if secret { "(a secret)\n" } else { file.text.as_str() };
        let public = shown.contains("-----BEGIN");
        let shown = if public { "(a certificate or public key)\n" } else { shown };
        writeln!(out, "# {}/{}\n{shown}", file.owner.name, file.name).unwrap();
    }
    out
}

#[test]
fn a_worker_runs_a_kubelet_that_asks_for_its_certificates() {
    let worker = worker();
    let secret = worker.token.as_ref().unwrap().expose();
    let files = shown(files::of_worker(&worker), secret);
    assert_golden("worker.txt", &format!("{}{files}", described(&worker)));
    let mut again = worker.clone();
    again.token = Some(Secret::new("ghijkl.0123456789abcdef"));
    let pod = |cluster: &Cluster| components::pod(cluster, components::KUBELET).unwrap().spec;
    assert_ne!(pod(&worker), pod(&again), "it reads a token only when it starts");
    assert!(!described(&worker).contains(secret), "a pod's variables are no secret");
}

#[test]
fn the_newest_image_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(image_below(folder.path()), None);
    for tag in ["v1.36.2", "v1.36.3", "unfinished"] {
        let image = folder.path().join(IMAGE).join(tag);
        std::fs::create_dir_all(&image).unwrap();
        if tag != "unfinished" {
            std::fs::write(image.join("config.json"), "{}").unwrap();
        }
    }
    assert_eq!(image_below(folder.path()).as_deref(), Some("ingot.local/kube:v1.36.3"));
}

#[test]
fn services_have_their_usual_addresses() {
    let cluster = cluster();
    assert_eq!(joined(&cluster.dns_addresses()), "10.96.0.10");
    assert_eq!(joined(&cluster.service_addresses()), "10.96.0.1");
}

#[test]
fn a_restore_unpacks_beside_the_database_of_before_and_everybody_begins_anew() {
    let mut restoring = cluster();
    (restoring.record.restores, restoring.record.restoring) = (2, true);
    let etcd = components::pod(&restoring, components::ETCD).unwrap();
    let [unpack] = etcd.spec.init_containers.as_slice() else { panic!("one init container") };
    assert!(unpack.command.contains(&"--data-dir=/var/lib/etcd/data-2".to_owned()));
    assert!(unpack.command.iter().any(|word| word.starts_with("--bump-revision=")));
    assert!(unpack.readiness_probe.is_none());
    let main = &etcd.spec.containers[0];
    assert!(main.command.contains(&"--data-dir=/var/lib/etcd/data-2".to_owned()));
    let before = components::pod(&cluster(), components::API_SERVER).unwrap();
    let after = components::pod(&restoring, components::API_SERVER).unwrap();
    assert_ne!(before.spec, after.spec, "what it has in memory is from another database");
    restoring.record.restoring = false;
    let etcd = components::pod(&restoring, components::ETCD).unwrap();
    assert!(etcd.spec.init_containers.is_empty());
}
