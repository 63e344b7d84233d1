//! What the resize stream carries.

use super::*;
use tokio::io::AsyncWriteExt as _;

async fn last_of(text: &[u8]) -> Option<TerminalSize> {
    let (mut ours, theirs) = tokio::io::duplex(64 * 1024);
    let (mut sizes, reading) = read(Box::new(theirs));
    ours.write_all(text).await.unwrap();
    drop(ours);
    reading.await;
    sizes.next().await
}

#[tokio::test]
async fn the_last_of_several_objects_wins() {
    let text = b"{\"Width\":80,\"Height\":24}\n{\"Width\":132,\"Height\":43}\n";
    assert_eq!(last_of(text).await, Some(TerminalSize { width: 132, height: 43 }));
}

#[tokio::test]
async fn nonsense_is_skipped() {
    let mut text = vec![b'x'; 5000];
    text.extend(b"}{\"Width\":-1,\"Height\":70000}{\"Width\":1,\"Height\":2}{\"Width\"");
    assert_eq!(last_of(&text).await, Some(TerminalSize { width: 1, height: 2 }));
    assert_eq!(last_of(b"}}}}").await, None);
}
