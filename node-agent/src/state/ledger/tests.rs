//! What the ledger promises about power cuts and full disks.

use super::*;
use proptest::prelude::*;

fn entry(generation: u64, text: &str) -> Entry {
    Entry { generation, source: "api".into(), text: text.into() }
}

fn file(ledger: &Ledger, generation: u64) -> PathBuf {
    ledger.folder.join(format!("{generation:020}.config"))
}

#[test]
fn a_stored_config_is_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::new(folder.path().join("config"));
    assert!(ledger.load().unwrap().entries.is_empty());
    ledger.store(&entry(1, "kind: Machine\n")).unwrap();
    ledger.store(&entry(2, "kind: Machine # two\n")).unwrap();
    let loaded = ledger.load().unwrap();
    assert_eq!(loaded.entries, [entry(2, "kind: Machine # two\n"), entry(1, "kind: Machine\n")]);
    assert_eq!(ledger.next_generation().unwrap(), 3);
}

#[test]
fn only_the_newest_generations_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::new(folder.path());
    for generation in 1..=10 {
        ledger.store(&entry(generation, "x")).unwrap();
    }
    let generations: Vec<u64> =
        ledger.load().unwrap().entries.iter().map(|entry| entry.generation).collect();
    assert_eq!(generations, [10, 9, 8, 7]);
}

#[test]
fn a_torn_newest_file_leaves_the_one_before() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::new(folder.path());
    ledger.store(&entry(1, "old")).unwrap();
    ledger.store(&entry(2, "new and longer")).unwrap();
    let whole = fs::read(file(&ledger, 2)).unwrap();
    for length in 0..whole.len() {
        fs::write(file(&ledger, 2), &whole[..length]).unwrap();
        let loaded = ledger.load().unwrap();
        assert_eq!(loaded.entries, [entry(1, "old")], "torn at {length}");
        assert_eq!(loaded.damaged.len(), 1);
    }
    assert_eq!(ledger.next_generation().unwrap(), 3, "a damaged generation is not used again");
}

#[test]
fn a_leftover_temporary_file_does_not_count_and_is_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::new(folder.path());
    fs::write(folder.path().join(TEMPORARY), "half a conf").unwrap();
    assert!(ledger.load().unwrap().entries.is_empty());
    ledger.store(&entry(1, "whole")).unwrap();
    assert_eq!(ledger.load().unwrap().entries, [entry(1, "whole")]);
}

#[test]
fn a_config_moved_to_another_generation_is_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::new(folder.path());
    ledger.store(&entry(1, "x")).unwrap();
    fs::rename(file(&ledger, 1), file(&ledger, 9)).unwrap();
    assert!(ledger.load().unwrap().entries.is_empty());
}

proptest! {
    #[test]
    fn any_flipped_byte_is_noticed(text in "[ -~\n]{0,200}", position in 0_usize..300, bit in 0_u8..7) {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::new(folder.path());
        ledger.store(&entry(7, &text)).unwrap();
        let mut bytes = fs::read(file(&ledger, 7)).unwrap();
        let position = position % bytes.len();
        bytes[position] ^= 1 << bit;
        fs::write(file(&ledger, 7), bytes).unwrap();
        prop_assert!(ledger.load().unwrap().entries.is_empty());
    }
}
