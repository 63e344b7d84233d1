//! Tests with plugins that are small shell scripts: they write down what they were asked, and answer what a test wants.

use std::os::unix::fs::PermissionsExt as _;

use crate::config::SandboxConfig;

use super::*;

const KEY: &str = "0123456789abcdef";

/// Writes down the verb, its own name, the variables and the question; then does what a file beside it says.
const PLUGIN: &str = r#"#!/bin/sh
name=${0##*/}
folder=${0%/*}
question=$(cat)
echo "$CNI_COMMAND $name $CNI_CONTAINERID $CNI_NETNS $CNI_IFNAME $CNI_ARGS $question" >> "$folder/../calls"
echo "$CNI_COMMAND $name" >> "$folder/../verbs"
env >> "$folder/../environment"
if [ -f "$folder/$name.$CNI_COMMAND" ]; then . "$folder/$name.$CNI_COMMAND"; fi
"#;

const CHAIN: &str = r#"{ "cniVersion": "1.1.0", "name": "pods", "plugins": [
    { "type": "first" }, { "type": "second", "capabilities": { "portMappings": true } } ] }"#;

struct Node {
    folder: tempfile::TempDir,
    cni: Cni,
}

impl Node {
    fn new(configuration: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths {
            var: folder.path().join("ingot"),
            cgroup: folder.path().join("cgroup"),
            ..Paths::default()
        };
        let cni = Cni::new(&paths);
        cni.make_folders();
        let node = Self { folder, cni };
        std::fs::write(node.cni.configs.join("10-test.conflist"), configuration).unwrap();
        for name in ["first", "second"] {
            let path = node.cni.programs.join(name);
            std::fs::write(&path, PLUGIN).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        node.does(
            "first.ADD",
            r#"echo '{"cniVersion": "1.1.0", "ips": [{"address": "10.9.0.2/24"}]}'"#,
        );
        node.does(
            "second.ADD",
            r#"echo '{"cniVersion": "1.1.0", "ips": [{"address": "10.9.0.2/24"}], "dns": {}}'"#,
        );
        node
    }

    fn does(&self, what: &str, script: &str) {
        std::fs::write(self.cni.programs.join(what), script).unwrap();
    }

    fn log(&self, name: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.folder.path().join("cni/opt").join(name));
        text.unwrap_or_default().lines().map(str::to_owned).collect()
    }

    /// Verbs and plugins in the order of their calls.
    fn verbs(&self) -> Vec<String> {
        self.log("verbs")
    }

    async fn add(&self) -> Result<Vec<IpAddr>, CniError> {
        let about = About::sandbox(KEY, &SandboxConfig::default(), &[]);
        self.cni.add(KEY, Path::new("/proc/self/ns/net"), about).await
    }

    /// The question of the n-th call.
    fn question(&self, n: usize) -> Value {
        let line = self.log("calls")[n].clone();
        serde_json::from_str(&line[line.find('{').unwrap()..]).unwrap()
    }
}

#[tokio::test]
async fn a_chain_is_called_in_order_and_each_plugin_sees_the_answer_before() {
    let node = Node::new(CHAIN);
    let addresses = node.add().await.unwrap();
    assert_eq!(addresses, ["10.9.0.2".parse::<IpAddr>().unwrap()]);
    assert_eq!(node.verbs(), ["ADD first", "ADD second"]);
    assert!(node.question(0).get("prevResult").is_none());
    assert_eq!(node.question(1)["prevResult"]["ips"][0]["address"], "10.9.0.2/24");
    let call = node.log("calls")[0].clone();
    let expected = format!("ADD first {KEY} /proc/self/ns/net eth0 IgnoreUnknown=1;");
    assert!(call.starts_with(&expected), "{call}");
}

#[tokio::test]
async fn plugins_see_nothing_of_the_agents_environment() {
    let node = Node::new(CHAIN);
    node.add().await.unwrap();
    let names: std::collections::BTreeSet<String> = node
        .log("environment")
        .iter()
        .filter_map(|line| Some(line.split_once('=')?.0.to_owned()))
        .filter(|name| !matches!(name.as_str(), "PWD" | "_" | "SHLVL" | "OLDPWD"))
        .collect();
    let expected = [
        "CNI_ARGS",
        "CNI_COMMAND",
        "CNI_CONTAINERID",
        "CNI_IFNAME",
        "CNI_NETNS",
        "CNI_PATH",
        "PATH",
    ];
    assert_eq!(names.iter().collect::<Vec<_>>(), expected.iter().collect::<Vec<_>>());
}

#[tokio::test]
async fn a_sandbox_is_disconnected_in_reverse_by_another_agent_with_the_configuration_of_then() {
    let node = Node::new(CHAIN);
    node.add().await.unwrap();
    std::fs::remove_file(node.cni.configs.join("10-test.conflist")).unwrap();
    let paths = Paths { var: node.folder.path().join("ingot"), ..Paths::default() };
    let after_restart = Cni::new(&paths);
    assert_eq!(after_restart.attached(), [KEY]);
    assert!(after_restart.delete(KEY).await.unwrap());
    assert_eq!(node.verbs()[2..], ["DEL second", "DEL first"]);
    for call in [2, 3] {
        assert!(node.question(call)["prevResult"].get("dns").is_some());
    }
    assert!(!after_restart.delete(KEY).await.unwrap());
    assert_eq!(node.verbs().len(), 4);
}

#[tokio::test]
async fn a_namespace_that_is_gone_is_not_named_to_plugins() {
    let node = Node::new(CHAIN);
    let about = About::sandbox(KEY, &SandboxConfig::default(), &[]);
    node.cni.add(KEY, &node.folder.path().join("gone"), about).await.unwrap();
    node.cni.delete(KEY).await.unwrap();
    let call = node.log("calls")[2].clone();
    assert!(call.starts_with(&format!("DEL second {KEY}  eth0 ")), "{call}");
}

#[tokio::test]
async fn a_failed_add_is_undone_at_once_and_says_why() {
    let node = Node::new(CHAIN);
    node.does(
        "second.ADD",
        r#"echo '{"code": 7, "msg": "no ports", "details": "all taken"}'; exit 1"#,
    );
    let error = chain(&node.add().await.unwrap_err());
    assert!(error.contains("second") && error.contains("no ports; all taken"), "{error}");
    assert_eq!(node.verbs(), ["ADD first", "ADD second", "DEL second", "DEL first"]);
    assert!(node.cni.attached().is_empty());
}

#[tokio::test]
async fn what_could_not_be_undone_stays_written_down() {
    let node = Node::new(CHAIN);
    node.does("second.ADD", "exit 1");
    node.does("second.DEL", "echo stuck >&2; exit 1");
    node.add().await.unwrap_err();
    assert_eq!(node.cni.attached(), [KEY]);
    assert!(chain(&node.cni.delete(KEY).await.unwrap_err()).contains("stuck"));
    node.does("second.DEL", "exit 0");
    assert!(node.cni.delete(KEY).await.unwrap());
}

#[tokio::test]
async fn an_answer_without_address_is_no_success() {
    let node = Node::new(CHAIN);
    node.does("second.ADD", "echo '{}'");
    assert!(matches!(node.add().await, Err(CniError::NoAddress { .. })));
    node.does("second.ADD", "echo nonsense");
    assert!(matches!(node.add().await, Err(CniError::Answer { .. })));
}

#[tokio::test]
async fn an_endless_answer_is_cut_off() {
    let node = Node::new(CHAIN);
    node.does("first.ADD", "exec cat /dev/zero");
    let error = chain(&node.add().await.unwrap_err());
    assert!(error.contains("more than"), "{error}");
}

#[tokio::test]
async fn a_plugin_that_never_ends_is_killed_with_what_it_started_and_named() {
    let node = Node::new(CHAIN);
    node.does("first.STATUS", "sleep 1000 & echo $! > \"$folder/../child\"; wait");
    let call = Call {
        program: node.cni.programs.join("first"),
        environment: vec![("CNI_COMMAND", "STATUS".to_owned())],
        input: Vec::new(),
        limit: Duration::from_secs(2),
        cgroup: PathBuf::from("/nonexistent"),
    };
    let error = exec::run(call).await.unwrap_err().to_string();
    assert!(error.contains("first") && error.contains("2 s"), "{error}");
    let child = node.log("child")[0].clone();
    // Killed with its group; a busy machine gives it its last moment a little later. Gone, or dead and not yet reaped by
    // whoever does that here.
    let ended = || {
        let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z ")
    };
    let wait = async {
        while !ended() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap();
}

#[tokio::test]
async fn somebody_who_keeps_the_pipes_of_a_plugin_does_not_keep_us() {
    let node = Node::new(CHAIN);
    node.does("second.ADD", "sleep 5 & echo '{\"ips\": [{\"address\": \"10.9.0.3/24\"}]}'");
    let addresses = node.add().await.unwrap();
    assert_eq!(addresses, ["10.9.0.3".parse::<IpAddr>().unwrap()]);
}

#[tokio::test]
async fn readiness_is_what_plugins_say_and_what_is_missing_is_named() {
    let node = Node::new(CHAIN);
    node.does("second.STATUS", r#"echo '{"code": 50, "msg": "no daemon"}'; exit 1"#);
    let said = node.cni.ready().await.unwrap_err();
    assert!(said.contains("no daemon"), "{said}");
    // The kubelet asks all the time; plugins are not asked each time.
    let calls = node.verbs().len();
    node.cni.ready().await.unwrap_err();
    assert_eq!(node.verbs().len(), calls);
    std::fs::remove_file(node.cni.programs.join("first")).unwrap();
    assert!(node.cni.ready().await.unwrap_err().contains("first"));
    let old = Node::new(&CHAIN.replace("1.1.0", "0.4.0"));
    old.cni.ready().await.unwrap();
    assert!(old.verbs().is_empty());
}

#[tokio::test]
async fn what_nobody_knows_is_disconnected_and_plugins_hear_who_is_left() {
    let node = Node::new(CHAIN);
    node.add().await.unwrap();
    let about = About::sandbox("other", &SandboxConfig::default(), &[]);
    node.cni.add("other", Path::new("/proc/self/ns/net"), about).await.unwrap();
    node.cni.take_over(vec!["other".to_owned()]).await;
    let expected =
        ["DEL second", "DEL first", "GC first", "GC second", "CHECK first", "CHECK second"];
    assert_eq!(node.verbs()[4..], expected);
    let left = json!([{ "containerID": KEY, "ifname": "eth0" }]);
    assert_eq!(node.question(6)["cni.dev/valid-attachments"], left);
    assert_eq!(node.cni.attached(), [KEY]);
}

#[tokio::test]
async fn a_check_is_passed_on() {
    let node = Node::new(CHAIN);
    node.cni.check(KEY).await.unwrap();
    node.add().await.unwrap();
    node.cni.check(KEY).await.unwrap();
    assert_eq!(node.verbs()[2..], ["CHECK first", "CHECK second"]);
    node.does("first.CHECK", "echo 'link is gone' >&2; exit 1");
    assert!(chain(&node.cni.check(KEY).await.unwrap_err()).contains("link is gone"));
}

#[tokio::test]
async fn a_torn_record_lets_plugins_find_what_is_left() {
    let node = Node::new(CHAIN);
    node.add().await.unwrap();
    std::fs::write(node.cni.attachments.join(format!("{KEY}.json")), b"{\"key\":").unwrap();
    assert!(node.cni.delete(KEY).await.unwrap());
    assert_eq!(node.verbs()[2..], ["DEL second", "DEL first"]);
    assert!(node.cni.attached().is_empty());
}

#[tokio::test]
async fn a_key_that_is_no_name_reaches_no_plugin() {
    let node = Node::new(CHAIN);
    let about = About::sandbox("../x", &SandboxConfig::default(), &[]);
    let refused = node.cni.add("../x", Path::new("/proc/self/ns/net"), about).await;
    assert!(matches!(refused, Err(CniError::Key { .. })));
    assert!(node.verbs().is_empty());
}
