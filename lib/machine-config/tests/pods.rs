//! What identifies a pod.

use ingot_machine_config::{Pod, load};

fn pod(metadata: &str, spec: &str) -> Pod {
    let machine = include_str!("../../../configs/machine/minimal.yaml");
    let loaded = load(&format!(
        "{machine}---\napiVersion: v1\nkind: Pod\nmetadata: {metadata}\nspec: {spec}\n"
    ));
    assert!(loaded.problems.is_empty(), "{:?}", loaded.problems);
    loaded.config.expect("sound").pods.remove(0)
}

const SPEC: &str = "{containers: [{name: a, image: b}]}";

#[test]
fn a_uid_is_derived_from_the_name_and_never_changes() {
    // Directories on disk carry this uid: another one would orphan every pod of an updated node.
    assert_eq!(pod("{name: web}", SPEC).uid(), "82b3ade9-d00c-8164-aa4d-420e670d6cd9");
    assert_eq!(
        pod("{name: web}", SPEC).uid(),
        pod("{name: web}", "{containers: [{name: c, image: d}]}").uid()
    );
    assert_ne!(pod("{name: web}", SPEC).uid(), pod("{name: web, namespace: other}", SPEC).uid());
    assert_eq!(pod("{name: web, uid: abc-1}", SPEC).uid(), "abc-1");
}

#[test]
fn the_hash_changes_with_what_a_running_pod_cannot_take_over() {
    let hash = |metadata: &str, spec: &str| pod(metadata, spec).spec_hash();
    let base = hash("{name: web}", SPEC);
    assert_eq!(base, hash("{name: web, labels: {a: b}, annotations: {c: d}}", SPEC));
    assert_eq!(
        base,
        hash("{name: web}", "{restartPolicy: Always, containers: [{image: b, name: a, args: []}]}")
    );
    assert_ne!(base, hash("{name: web}", "{containers: [{name: a, image: c}]}"));
    assert_ne!(base, hash("{name: web, annotations: {ingot.dev/pids-limit: \"5\"}}", SPEC));
    assert_ne!(base, hash("{name: web, uid: abc}", SPEC));
}

#[test]
fn the_pids_limit_comes_from_the_annotation_or_the_machine() {
    assert_eq!(pod("{name: web}", SPEC).pids_limit(1024), 1024);
    assert_eq!(
        pod("{name: web, annotations: {ingot.dev/pids-limit: \"5\"}}", SPEC).pids_limit(1024),
        5
    );
}

#[test]
fn cve_2024_10220_cve_2025_1767_a_volume_that_runs_git_is_refused() {
    let machine = include_str!("../../../configs/machine/minimal.yaml");
    let loaded = load(&format!(
        "{machine}---\napiVersion: v1\nkind: Pod\nmetadata: {{name: web}}\nspec:\n  containers: [{{name: a, image: b}}]\n  \
         volumes: [{{name: code, gitRepo: {{repository: /etc, directory: ../..}}}}]\n"
    ));
    assert!(loaded.config.is_none());
    assert!(
        loaded.problems.iter().any(|p| format!("{p:?}").contains("gitRepo")),
        "{:?}",
        loaded.problems
    );
}
