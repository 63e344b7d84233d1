//! Which container a name means.

use super::*;

fn info(id: &str, pod: &str, container: &str, state: InfoState) -> ContainerInfo {
    ContainerInfo {
        id: id.to_owned(),
        namespace: "default".to_owned(),
        pod: pod.to_owned(),
        container: container.to_owned(),
        source: Source::Config,
        image: String::new(),
        state,
        pid: 1,
        started_at: None,
        cgroup: String::new(),
        restarts: 0,
        exit_code: 0,
        sandbox: String::new(),
    }
}

fn all() -> Vec<ContainerInfo> {
    vec![
        info("aaaa1111", "web", "app", InfoState::Running),
        info("aaaa2222", "web", "init", InfoState::Ended),
        info("bbbb1111", "db", "one", InfoState::Running),
        info("bbbb2222", "db", "two", InfoState::Running),
    ]
}

fn by_name(pod: &str, container: &str) -> Result<String, ReachError> {
    let name = ContainerName {
        namespace: "default".to_owned(),
        pod: pod.to_owned(),
        container: container.to_owned(),
        id: String::new(),
    };
    pick(all(), &name).map(|info| info.id)
}

fn by_id(id: &str) -> Result<String, ReachError> {
    pick(all(), &ContainerName { id: id.to_owned(), ..ContainerName::default() }).map(|i| i.id)
}

#[test]
fn the_only_running_container_of_a_pod_needs_no_name() {
    assert_eq!(by_name("web", "").unwrap(), "aaaa1111");
    assert_eq!(by_name("web", "init").unwrap(), "aaaa2222");
    assert!(matches!(by_name("db", ""), Err(ReachError::Ambiguous { .. })));
}

#[test]
fn what_is_not_there_is_named() {
    assert_eq!(by_name("web", "x").unwrap_err().to_string(), "there is no container default/web/x");
    assert_eq!(by_name("x", "").unwrap_err().to_string(), "there is no pod default/x");
}

#[test]
fn an_id_may_be_cut_as_long_as_only_one_begins_that_way() {
    assert_eq!(by_id("aaaa1").unwrap(), "aaaa1111");
    assert!(matches!(by_id("bbbb"), Err(ReachError::Ambiguous { .. })));
    assert!(matches!(by_id("aaa"), Err(ReachError::NoContainer { .. })));
    assert!(matches!(by_id("cccc"), Err(ReachError::NoContainer { .. })));
}

#[test]
fn the_owner_is_read_from_the_effective_ids() {
    let status = "Name:\tx\nUid:\t0\t1000\t0\t0\nGid:\t0\t1001\t0\t0\n";
    assert_eq!(owner_of(status), Some((1000, 1001)));
    assert_eq!(owner_of("Name: x"), None);
}
