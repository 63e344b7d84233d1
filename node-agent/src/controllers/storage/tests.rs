//! In which order volumes come about, and what is never touched.

use super::*;
use std::path::PathBuf;

fn part(name: &str, number: u32) -> Part {
    Part {
        name: name.into(),
        number,
        start: 0,
        length: 0,
        device: PathBuf::from(format!("/dev/vda{number}")),
        known: true,
        has_ext4: true,
        foreign: None,
    }
}

fn disk(parts: Vec<Part>) -> Have {
    Have { mounted: [None, None], disk: Some(DiskView { parts, settled: true }) }
}

fn complete() -> Vec<Part> {
    ["ESP", "BIOS", "ROOT-A", "ROOT-B", "STATE", "VAR"]
        .iter()
        .zip(1..)
        .map(|(name, number)| part(name, number))
        .collect()
}

fn words(have: &Have) -> Vec<String> {
    let word = |step: &Step| match step {
        Step::Partition => "partition".to_owned(),
        Step::Repair => "repair".to_owned(),
        Step::Announce(part) => format!("announce {}", part.name),
        Step::Format(_, part) => format!("format {}", part.name),
        Step::Mount(_, part) => format!("mount {}", part.name),
    };
    plan(have).iter().map(word).collect()
}

#[test]
fn a_first_boot_partitions_and_nothing_else() {
    let have = disk(complete().into_iter().take(3).collect());
    assert_eq!(words(&have), ["partition"]);
}

#[test]
fn new_partitions_are_announced_formatted_and_mounted_state_first() {
    let mut parts = complete();
    for part in &mut parts[3..] {
        part.known = false;
        part.has_ext4 = false;
    }
    let expected = [
        "announce STATE",
        "format STATE",
        "mount STATE",
        "announce VAR",
        "format VAR",
        "mount VAR",
    ];
    assert_eq!(words(&disk(parts)), expected);
}

#[test]
fn a_later_boot_only_mounts() {
    assert_eq!(words(&disk(complete())), ["mount STATE", "mount VAR"]);
}

#[test]
fn a_cut_between_the_two_formats_goes_on_where_it_was() {
    let mut parts = complete();
    parts[5].has_ext4 = false;
    assert_eq!(words(&disk(parts)), ["mount STATE", "format VAR", "mount VAR"]);
}

#[test]
fn what_carries_a_file_system_is_never_formatted() {
    for known in [true, false] {
        let mut parts = complete();
        parts[4].known = known;
        assert!(!words(&disk(parts)).iter().any(|word| word.starts_with("format")));
    }
}

#[test]
fn a_damaged_table_is_repaired_after_the_volumes_are_there() {
    let mut have = disk(complete());
    have.disk.as_mut().unwrap().settled = false;
    assert_eq!(words(&have), ["mount STATE", "mount VAR", "repair"]);
}

#[test]
fn an_agent_that_comes_back_finds_nothing_to_do() {
    let have = Have { mounted: [Some("a".into()), Some("b".into())], disk: None };
    assert_eq!(words(&have), [""; 0]);
}

#[tokio::test]
async fn a_partition_with_foreign_data_is_refused() {
    let mut part = part("STATE", 5);
    part.has_ext4 = false;
    part.foreign = Some("an XFS file system");
    let error = format("STATE", &part).await.unwrap_err().to_string();
    assert!(error.contains("XFS") && error.contains("not overwritten"), "{error}");
}
