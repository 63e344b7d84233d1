//! Every command against a node with real TLS: what it prints in each form, and how it fails.

use crate::fake::{Fake, a_year, expired};
use crate::transcript::{Shell, golden};
use ingot_ctl::contexts::{Context, Contexts};
use ingot_pki::pairing::PairingCode;
use ingot_pki::{Ca, Identity, Role};
use std::os::unix::fs::PermissionsExt;

/// A shell with a contexts file that has one context per role, and more as the test likes.
fn shell(fake: &Fake, more: &[(&str, &Ca, Option<Identity>)]) -> Shell {
    let mut shell = Shell::new();
    let mut contexts = Contexts { current: Some("admin".into()), ..Default::default() };
    let endpoint = Some(fake.endpoint().to_string());
    for role in Role::ALL {
        let identity = fake.ca.issue_client("anna", role, a_year()).unwrap();
        let context = Context::new(endpoint.clone(), fake.ca.certificate(), &identity);
        contexts.contexts.insert(role.name().into(), context);
    }
    for (name, ca, identity) in more {
        let context = Context {
            endpoint: endpoint.clone(),
            ca: ca.certificate().to_pem(),
            certificate: identity.as_ref().map(|identity| identity.certificate.to_pem()),
            key: identity.as_ref().map(|identity| identity.key.to_pem()),
        };
        contexts.contexts.insert((*name).into(), context);
    }
    contexts.write(&shell.path(".config/ingot/config.yaml")).unwrap();
    shell.replace(fake.address.to_string(), "NODE");
    shell.replace(fake.fingerprint.to_string(), "FINGERPRINT");
    shell
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_is_shown_in_every_form() {
    let fake = Fake::configured().await;
    let shell = shell(&fake, &[]);
    std::fs::write(shell.path("archive.tar"), [7; 100_000]).unwrap();
    for (name, arguments) in [
        ("status", &["status"][..]),
        ("version", &["version"]),
        ("get-config", &["get-config"]),
        ("pods", &["pods"]),
        ("stats", &["stats"]),
        ("top", &["top", "--interval", "1ms"]),
        ("containers", &["containers", "--all"]),
        ("images-list", &["images", "list"]),
        ("images-pull", &["images", "pull", "registry.example/web:1"]),
        ("images-import", &["images", "import", "archive.tar"]),
        ("images-export", &["images", "export", "web", "-"]),
        ("images-rm", &["images", "rm", "web"]),
        ("images-gc", &["images", "gc", "--unused"]),
        ("bootstrap", &["bootstrap"]),
        ("kubeconfig", &["kubeconfig", "--lifetime", "8h", "--server", "https://127.0.0.1:6443"]),
        ("join-token", &["join-token", "--lifetime", "1h", "--server", "192.0.2.10:6443"]),
        ("upgrade-kubernetes", &["upgrade-kubernetes", "--dry-run", "--to", "1.37.0"]),
        ("upgrade-kubernetes-ok", &["upgrade-kubernetes", "--dry-run", "--to", "1.36.4"]),
        ("health", &["health"]),
        ("etcd-members", &["etcd", "members"]),
        ("etcd-status", &["etcd", "status"]),
        ("etcd-snapshot", &["etcd", "snapshot", "/proc/there/is/no/such/folder"]),
        ("etcd-restore", &["etcd", "restore", "archive.tar", "--yes"]),
        ("etcd-restore-no", &["etcd", "restore", "archive.tar"]),
        ("etcd-defrag", &["etcd", "defrag"]),
        ("cgroups", &["cgroups"]),
        ("services", &["services"]),
        ("logs", &["logs", "web/app", "--timestamps"]),
        ("dmesg", &["dmesg"]),
        ("events", &["events"]),
        ("ls", &["ls", "-l", "-R", "/"]),
        ("service-restart", &["service", "restart", "ingotd", "--kill"]),
        ("reboot", &["reboot", "--grace", "5s"]),
        ("shutdown", &["shutdown"]),
    ] {
        let mut text = String::new();
        for form in ["table", "json", "yaml"] {
            let arguments = [arguments, &["-o", form]].concat();
            text += &shell.run(&arguments);
            text.push('\n');
        }
        golden(&format!("commands/{name}.txt"), &text);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_pass_through_a_pipe_as_they_are() {
    let fake = Fake::configured().await;
    let shell = shell(&fake, &[]);
    assert_eq!(
        shell.run(&["cat", "/proc/version"]),
        "$ ingotctl cat /proc/version\n6.12.107\nsecond part\n--- exit 0\n"
    );
    let log = shell.run(&["logs", "web", "--tail", "1"]);
    assert!(log.contains("that was cut \u{1b}[31m"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_in_a_container_has_these_pipes_and_gives_its_exit_code() {
    let fake = Fake::configured().await;
    let shell = shell(&fake, &[]);
    let mut text = String::new();
    for arguments in [
        &["exec", "-i", "web/app", "--", "cat"][..],
        &["exec", "-e", "A=b", "id:4f2a4f2a", "--", "show"],
        &["exec", "web", "--", "lost"],
        &["exec", "nowhere", "--", "show"],
        &["exec", "-it", "web", "--", "show"],
        &["exec", "web", "--context", "operator", "--", "show"],
        &["attach", "web/app"],
        &["cp", "a", "b"],
        &["cp", "web:/a", "web:/b"],
        &["cp", "absent", "web:/b"],
        &["images", "pull", "x", "--username", "anna"],
        &["port-forward", "web", "0"],
    ] {
        text += &shell.run_with(arguments, "from here\n");
        text.push('\n');
    }
    golden("commands/exec.txt", &text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_come_back_as_they_were_copied() {
    let fake = Fake::configured().await;
    let shell = shell(&fake, &[]);
    std::fs::create_dir_all(shell.path("folder/sub")).unwrap();
    let bytes: Vec<u8> = (0..300_000_u32).map(|number| number.to_le_bytes()[0]).collect();
    std::fs::write(shell.path("folder/sub/file"), &bytes).unwrap();
    std::os::unix::fs::symlink("sub/file", shell.path("folder/link")).unwrap();
    let there = shell.run(&["cp", "folder", "web/app:/tmp"]);
    assert!(there.ends_with("--- exit 0\n"), "{there}");
    let back = shell.run(&["cp", "web/app:/tmp/folder", "copy"]);
    assert!(back.ends_with("--- exit 0\n"), "{back}");
    assert_eq!(std::fs::read(shell.path("copy/sub/file")).unwrap(), bytes);
    assert_eq!(std::fs::read_link(shell.path("copy/link")).unwrap().to_str(), Some("sub/file"));
    let full = shell.run(&["cp", "folder", "web/app:/full"]);
    assert!(full.contains("no space left") && full.ends_with("--- exit 1\n"), "{full}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_is_not_complete_replaces_no_file() {
    let fake = Fake::configured().await;
    let shell = shell(&fake, &[]);
    let read = || std::fs::read_to_string(shell.path("web.tar")).unwrap();
    let done = shell.run(&["images", "export", "web", "web.tar"]);
    assert!(done.ends_with("--- exit 0\n"), "{done}");
    assert_eq!(read(), "first second\n");
    for (image, why) in [("cut", "the disk of the node failed"), ("gone", "gone is not here")] {
        let failed = shell.run(&["images", "export", image, "web.tar"]);
        assert!(failed.contains(why) && !failed.contains("--- exit 0"), "{failed}");
        assert_eq!(read(), "first second\n");
        assert!(!shell.path("web.tar.part").exists());
    }
    let nowhere = shell.run(&["images", "export", "web", "nowhere/web.tar"]);
    assert!(nowhere.contains("cannot write nowhere/web.tar.part"), "{nowhere}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_here_leads_to_the_pod() {
    use std::io::{BufRead, BufReader, Read, Write};
    let fake = Fake::configured().await;
    let shell = shell(&fake, &[]);
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_ingotctl"))
        .args(["port-forward", "web", ":80", ":81", "-o", "json"])
        .current_dir(shell.directory.path())
        .env_clear()
        .env("HOME", shell.directory.path())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let (said, closed) = tokio::task::spawn_blocking(move || {
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut local = || {
            let line: serde_json::Value =
                serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
            std::net::TcpStream::connect(line["local"].as_str().unwrap()).unwrap()
        };
        let (mut open, mut closed) = (local(), local());
        open.write_all(b"ping").unwrap();
        open.shutdown(std::net::Shutdown::Write).unwrap();
        let mut said = String::new();
        open.read_to_string(&mut said).unwrap();
        let closed = closed.read(&mut [0; 1]).unwrap_or(0);
        child.kill().unwrap();
        child.wait().unwrap();
        (said, closed)
    })
    .await
    .unwrap();
    assert_eq!((said.as_str(), closed), ("PING", 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_config_is_applied_refused_or_left_alone() {
    let fake = Fake::configured().await;
    let shell = shell(&fake, &[]);
    let mut text = String::new();
    for config in ["good", "same-as-before", "refuse-me"] {
        for more in [&[][..], &["--dry-run"], &["-o", "json"]] {
            let arguments = [&["apply", "-f", "-"], more].concat();
            text += &shell.run_with(&arguments, config);
            text.push('\n');
        }
    }
    golden("commands/apply.txt", &text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_is_told_why_and_what_to_do() {
    let fake = Fake::configured().await;
    let other = Ca::generate("another installation", a_year()).unwrap();
    let stranger = other.issue_client("anna", Role::Admin, a_year()).unwrap();
    let late = fake.ca.issue_client("anna", Role::Admin, expired()).unwrap();
    let mut shell = shell(
        &fake,
        &[
            ("nobody", &fake.ca, None),
            ("stranger", &fake.ca, Some(stranger.clone())),
            ("elsewhere", &other, Some(stranger)),
            ("late", &fake.ca, Some(late)),
        ],
    );
    shell.replace("os error 111", "os error N");
    let mut text = String::new();
    for arguments in [
        &["status", "--context", "nobody"][..],
        &["status", "--context", "stranger"],
        &["status", "--context", "elsewhere"],
        &["status", "--context", "late"],
        &["get-config", "--context", "reader"],
        &["reboot", "--context", "reader"],
        &["apply", "-f", "/dev/null", "--context", "operator"],
        &["apply", "-f", "/dev/null", "--pairing-code", "0123-4567-89AB-CDEF"],
        &["apply", "-f", "/dev/null", "--pairing-code", "0123"],
        &["logs", "absent"],
        &["status", "--endpoint", "127.0.0.1:1"],
    ] {
        text += &shell.run(arguments);
        text.push('\n');
    }
    golden("errors.txt", &text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_config_is_told_apart_and_paired_with() {
    let code = PairingCode::parse("0123-4567-89AB-CDEF").unwrap();
    let fake = Fake::maintenance(&code).await;
    let shell = shell(&fake, &[]);
    let mut text = String::new();
    for arguments in [
        &["status"][..],
        &["version"],
        &["apply", "-f", "-"],
        &["apply", "-f", "-", "--pairing-code", "FFFF-4567-89AB-CDEF"],
        &["apply", "-f", "-", "--pairing-code", "o123-4567-89ab-cdef"],
    ] {
        text += &shell.run_with(arguments, "kind: Machine");
        text.push('\n');
    }
    golden("maintenance.txt", &text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_config_needs_no_context() {
    let code = PairingCode::parse("0123-4567-89AB-CDEF").unwrap();
    let fake = Fake::maintenance(&code).await;
    let shell = Shell::new();
    let endpoint = fake.endpoint().to_string();
    let version = shell.run(&["version", "--endpoint", &endpoint]);
    assert!(version.ends_with("--- exit 0\n"), "{version}");
    let arguments =
        ["apply", "-f", "-", "--endpoint", &endpoint, "--pairing-code", "0123-4567-89AB-CDEF"];
    let applied = shell.run_with(&arguments, "kind: Machine");
    assert!(applied.ends_with("--- exit 0\n"), "{applied}");
}

#[test]
fn an_installation_is_made_and_grows_by_a_node() {
    let shell = Shell::new();
    let mut text = String::new();
    for arguments in [
        &[
            "gen",
            "home",
            "--output-dir",
            "home",
            "--hostname",
            "node-1",
            "--address",
            "192.0.2.10/24",
            "--gateway",
            "192.0.2.1",
            "--dns",
            "192.0.2.1",
            "--with-pod",
        ][..],
        &["validate", "-f", "home/node-1.yaml"],
        &["gen", "home", "--output-dir", "home", "--hostname", "node-2", "--without-ca-key"],
        &["validate", "-f", "home/node-2.yaml"],
        &["gen", "home", "--output-dir", "home", "--hostname", "node-2"],
        &["gen", "home", "--output-dir", "elsewhere"],
        &["gen", "bad", "--output-dir", "bad", "--address", "192.0.2.10"],
        &["gen", "bad", "--output-dir", "bad", "--hostname", "../x"],
        &["config", "add", "home-reader", "--ca-dir", "home"],
        &["config", "endpoint", "home-reader", "node-2.example"],
        &["config", "use", "home-reader"],
        &["config", "renew", "home-reader", "--ca-dir", "home", "--days", "10"],
        &["config", "remove", "home"],
    ] {
        text += &shell.run(arguments);
        text.push('\n');
    }
    golden("gen.txt", &text);
    assert!(!shell.path("bad").exists(), "a mistake leaves nothing behind");

    let mode = |name: &str| shell.path(name).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("home/ca.key"), 0o600);
    assert_eq!(mode("home/node-1.yaml"), 0o600);
    assert_eq!(mode(".config/ingot/config.yaml"), 0o600);
    let second = std::fs::read_to_string(shell.path("home/node-2.yaml")).unwrap();
    let ca_key = std::fs::read_to_string(shell.path("home/ca.key")).unwrap();
    assert!(!second.contains(ca_key.lines().nth(1).unwrap()), "the authority's key stays here");

    let listed = shell.run(&["config", "contexts"]);
    let row = listed.lines().nth(2).unwrap().split_whitespace().collect::<Vec<_>>();
    assert_eq!(row[..4], ["*", "home-reader", "node-2.example:50000", "reader"]);
}

#[test]
fn a_wrong_config_is_refused_with_every_problem() {
    let shell = Shell::new();
    let config = "apiVersion: ingot/v1\nkind: Machine\nnetwork:\n  hostnme: a\n  links:\n    - name: eth0\n      mtu: 3\n";
    std::fs::write(shell.path("wrong.yaml"), config).unwrap();
    let refused = shell.run(&["validate", "-f", "wrong.yaml"]);
    assert!(refused.contains("wrong.yaml:4:") && refused.contains("wrong.yaml:7:"), "{refused}");
    assert!(refused.ends_with("--- exit 3\n"), "{refused}");
    let json = shell.run(&["validate", "-f", "wrong.yaml", "-o", "json"]);
    assert!(json.contains("\"line\": 7"), "{json}");
}

#[test]
fn a_damaged_contexts_file_is_named_without_its_contents() {
    let shell = Shell::new();
    std::fs::write(shell.path("c.yaml"), "contexts:\n  a:\n    kez: SECRET\n    ca: x\n").unwrap();
    let text = shell.run(&["status", "--config", "c.yaml"]);
    assert!(text.contains("c.yaml:") && !text.contains("SECRET"), "{text}");
    assert!(text.contains("--- exit 2"), "{text}");
}
