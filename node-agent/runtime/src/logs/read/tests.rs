//! Tails, rotation and new runs, read from files as the writer leaves them.

use tokio_stream::StreamExt as _;

use super::*;

fn write(folder: &Path, name: &str, numbers: std::ops::Range<u32>) {
    let text: String =
        numbers.map(|n| format!("2026-01-01T00:00:00.000000000Z stdout F line {n}\n")).collect();
    std::fs::write(folder.join(name), text).unwrap();
}

async fn read(folder: &Path, tail: u32, all_attempts: bool) -> Vec<String> {
    let (lines, receiver) = mpsc::channel(AHEAD);
    let (_signal, changes) = watch::channel(0);
    let reader = Reader { folder: folder.to_owned(), follow: false, changes, lines };
    tokio::spawn(async move { reader.run(tail, all_attempts).await });
    let lines: Vec<_> = ReceiverStream::new(receiver).collect().await;
    lines.into_iter().map(|line| String::from_utf8(line.unwrap().line).unwrap()).collect()
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|n| format!("line {n}")).collect()
}

#[tokio::test]
async fn rotated_files_are_read_before_the_newest() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "0.log.9", 0..5);
    write(folder.path(), "0.log.10", 5..9);
    write(folder.path(), "0.log", 9..12);
    assert_eq!(read(folder.path(), 0, false).await, numbers(0..12));
}

#[tokio::test]
async fn only_the_newest_run_is_read_unless_all_are_wanted() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "2.log", 0..2);
    write(folder.path(), "10.log", 2..4);
    assert_eq!(read(folder.path(), 0, false).await, numbers(2..4));
    assert_eq!(read(folder.path(), 0, true).await, numbers(0..4));
}

#[tokio::test]
async fn a_tail_reaches_back_over_files_and_chunks() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "0.log.0", 0..3000);
    write(folder.path(), "0.log", 3000..3010);
    for tail in [1, 9, 10, 11, 2000, 3009, 3010] {
        assert_eq!(read(folder.path(), tail, false).await, numbers(3010 - tail..3010), "{tail}");
    }
    assert_eq!(read(folder.path(), 9999, false).await, numbers(0..3010));
}

#[tokio::test]
async fn an_unfinished_line_is_not_given_out() {
    let folder = tempfile::tempdir().unwrap();
    let text = "2026-01-01T00:00:00.000000000Z stdout F whole\n2026-01-01T00:00:00.0000";
    std::fs::write(folder.path().join("0.log"), text).unwrap();
    assert_eq!(read(folder.path(), 0, false).await, ["whole"]);
}

#[tokio::test]
async fn a_follower_goes_on_over_rotation_and_into_the_next_run_and_ends_with_the_pod() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "0.log", 0..3);
    let (lines, receiver) = mpsc::channel(AHEAD);
    let (signal, changes) = watch::channel(0);
    let reader = Reader { folder: folder.path().to_owned(), follow: true, changes, lines };
    tokio::spawn(async move { reader.run(0, false).await });
    let mut lines = ReceiverStream::new(receiver);
    let mut next = async |count: usize| -> Vec<String> {
        let mut texts = Vec::new();
        for _ in 0..count {
            let line = lines.next().await.unwrap().unwrap();
            texts.push(String::from_utf8(line.line).unwrap());
        }
        texts
    };
    assert_eq!(next(3).await, numbers(0..3));
    std::fs::rename(folder.path().join("0.log"), folder.path().join("0.log.0")).unwrap();
    write(folder.path(), "0.log", 3..5);
    signal.send_replace(1);
    assert_eq!(next(2).await, numbers(3..5));
    write(folder.path(), "1.log", 5..6);
    signal.send_replace(2);
    assert_eq!(next(1).await, numbers(5..6));
    drop(signal);
    assert!(lines.next().await.is_none());
}
