//! What is in the volumes that the config gives, and how they are written.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::super::environment::Capacity;
use super::*;
use crate::pod_task::tests::pod_with;

fn data(colour: &str) -> String {
    format!(
        "---
apiVersion: v1
kind: ConfigMap
metadata: {{name: settings}}
data: {{colour: {colour}, size: '3'}}
---
apiVersion: v1
kind: Secret
metadata: {{name: keys}}
stringData: {{password: hunter2}}
"
    )
}

/// The files of a volume, with what is in them and their modes.
fn files(volume: &str, colour: &str) -> Files {
    let spec = format!(
        "  containers: [{{name: a, image: a, resources: {{limits: {{memory: 2Mi}}}}}}]\n  volumes: [{{name: v, {volume}}}]"
    );
    let (pod, surroundings) = pod_with(&spec, &data(colour));
    let sources = Sources {
        pod: &pod,
        surroundings: &surroundings,
        addresses: &[],
        capacity: Capacity::default(),
    };
    of(&pod.spec.volumes[0], &sources).unwrap().unwrap()
}

fn shown(files: &Files) -> String {
    let line = |(path, file): (&String, &File)| {
        format!("{path} {:04o} {:?}\n", file.mode, String::from_utf8_lossy(&file.bytes))
    };
    files.iter().map(line).collect()
}

#[test]
fn every_source_becomes_files() {
    let all = files("configMap: {name: settings, defaultMode: 0400}", "blue");
    assert_eq!(shown(&all), "colour 0400 \"blue\"\nsize 0400 \"3\"\n");
    let some = files(
        "secret: {secretName: keys, items: [{key: password, path: a//b/./p, mode: 0440}]}",
        "blue",
    );
    assert_eq!(shown(&some), "a/b/p 0440 \"hunter2\"\n");
    let mixed = files(
        "projected: {sources: [{configMap: {name: settings, items: [{key: colour, path: c}]}}, {downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}, {path: note, fieldRef: {fieldPath: metadata.annotations}}, {path: memory, resourceFieldRef: {containerName: a, resource: limits.memory, divisor: 1Mi}}]}}, {secret: {name: gone, optional: true}}]}",
        "blue",
    );
    expect_test::expect![[r#"
        c 0644 "blue"
        labels 0644 "app=\"shop\""
        memory 0644 "2"
        note 0644 "note=\"a\\nb\""
    "#]]
    .assert_eq(&shown(&mixed));
}

fn read(folder: &Path, name: &str) -> String {
    std::fs::read_to_string(folder.join(name)).unwrap()
}

#[test]
fn a_volume_changes_all_at_once_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("v");
    let owner = Owner::default();
    assert!(write(&folder, &files("configMap: {name: settings}", "blue"), owner).unwrap());
    assert!(!write(&folder, &files("configMap: {name: settings}", "blue"), owner).unwrap());
    assert_eq!((read(&folder, "colour"), read(&folder, "size")), ("blue".into(), "3".into()));
    // A reader that holds the folder of the moment goes on seeing it as a whole, until it is gone.
    let before = std::fs::read_link(folder.join("..data")).unwrap();
    assert!(write(&folder, &files("configMap: {name: settings}", "red"), owner).unwrap());
    assert_ne!(std::fs::read_link(folder.join("..data")).unwrap(), before);
    assert_eq!(read(&folder, "colour"), "red");
    let only = "configMap: {name: settings, items: [{key: size, path: deep/size}]}";
    assert!(write(&folder, &files(only, "red"), owner).unwrap());
    assert_eq!(read(&folder, "deep/size"), "3");
    let mut names: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names.len(), 3, "{names:?}");
    assert!(names.contains(&"deep".to_owned()) && !names.contains(&"colour".to_owned()));
}

#[test]
fn what_an_agent_left_half_done_is_done_again() {
    let folder = tempfile::tempdir().unwrap();
    let files = files("secret: {secretName: keys, defaultMode: 0400}", "blue");
    for leftover in ["..1", "..7"] {
        std::fs::create_dir_all(folder.path().join(leftover)).unwrap();
        std::fs::write(folder.path().join(leftover).join("password"), "half").unwrap();
    }
    std::os::unix::fs::symlink("..9", folder.path().join("..data_new")).unwrap();
    std::os::unix::fs::symlink("..1", folder.path().join("..data")).unwrap();
    assert!(write(folder.path(), &files, Owner::default()).unwrap());
    assert_eq!(read(folder.path(), "password"), "hunter2");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3);
    let mode = std::fs::metadata(folder.path().join("password")).unwrap().mode();
    assert_eq!(mode & 0o777, 0o400);
}
